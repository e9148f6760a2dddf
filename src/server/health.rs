use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use crate::telemetry::{Drain, Metrics};

/// Answers for the process itself: `/healthz`, `/readyz` and `/metrics`.
#[derive(Clone)]
pub struct Health {
    metrics: Metrics,
    drain: Drain,
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
}

/// What the parts say of themselves at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The store was opened at least once. Whatever fails later leaves the process ready: replicas that
    /// turn unready together are a mirror that clients walk round.
    pub opened: bool,
    /// What does not work as it should, one line each.
    pub degraded: Vec<String>,
}

impl Health {
    pub fn new(metrics: Metrics, drain: Drain, readiness: impl Fn() -> Readiness + Send + Sync + 'static) -> Self {
        Self { metrics, drain, readiness: Arc::new(readiness) }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// The answer, if the path is one of the three.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let answer: fn(&Self) -> Response<Full<Bytes>> = match request.uri().path() {
            "/healthz" => |_| respond(StatusCode::OK, JSON, "{\"status\":\"alive\"}\n".to_owned()),
            "/readyz" => Self::ready,
            "/metrics" => Self::counters,
            _ => return None,
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return Some(answer(self));
        }
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        Some(refused)
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let Readiness { opened, degraded } = (self.readiness)();
        let (status, word) = match (self.drain.is_draining(), opened) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "shutting down"),
            (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
            (false, true) => (StatusCode::OK, "ready"),
        };
        respond(status, JSON, format!("{}\n", serde_json::json!({ "status": word, "degraded": degraded })))
    }

    fn counters(&self) -> Response<Full<Bytes>> {
        match self.metrics.encode() {
            Ok(text) => respond(StatusCode::OK, OPENMETRICS, text),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

fn respond(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
