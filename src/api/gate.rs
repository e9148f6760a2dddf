//! What every request of the API passes: who asks, a panic as an answer, and the headers of all
//! answers.

use std::{
    net::{IpAddr, Ipv4Addr},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, USER_AGENT, X_CONTENT_TYPE_OPTIONS},
};

use crate::{access::Presented, audit::Who, telemetry::Peer};

use super::{
    Api,
    problem::{Problem, ProblemKind},
};

/// What is kept of a User-Agent.
const MAX_USER_AGENT_CHARS: usize = 200;

pub(super) async fn pass(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let mut response = match asker(&api, &request) {
        Ok(who) => answer(request, who, next).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Metadata is a stranger's text: no browser may take an answer for a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn answer(mut request: Request, who: Who, next: Next) -> Response {
    request.extensions_mut().insert(who);
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a request of the API panicked");
        Problem::new(ProblemKind::InternalError, "the request failed by a fault of this program").into_response()
    })
}

/// Who asks. With authentication off credentials mean nothing, and nobody has an account.
fn asker(api: &Api, request: &Request) -> Result<Who, Problem> {
    let address = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.client);
    let account = match &api.config.auth {
        None => None,
        Some(auth) => match auth.presented(request.headers(), address) {
            Presented::Account(account) => Some(account.to_owned()),
            Presented::TooMany { retry_after } => return Err(Problem::too_many_attempts(retry_after)),
            Presented::Nothing | Presented::Wrong => {
                let detail = "expected the user and the password by HTTP Basic";
                return Err(Problem::new(ProblemKind::NotAuthenticated, detail));
            }
        },
    };
    let user_agent = request.headers().get(USER_AGENT);
    Ok(Who {
        account,
        address,
        user_agent: user_agent
            .map(|value| String::from_utf8_lossy(value.as_bytes()).chars().take(MAX_USER_AGENT_CHARS).collect()),
    })
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware, routing::get};
    use http::StatusCode;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_and_says_nothing_of_itself() {
        let who = || Who { account: None, address: IpAddr::V4(Ipv4Addr::LOCALHOST), user_agent: None };
        let router = Router::new()
            .route("/", get(async || -> StatusCode { panic!("a secret of the inside") }))
            .layer(middleware::from_fn(move |request, next| answer(request, who(), next)));
        let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["type"], "urn:sig-repo:problem:internal-error");
        assert_eq!(problem["detail"], "the request failed by a fault of this program");
    }
}
