//! One of the servers that are compared, and the checks that it does what it is measured for.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::Method;

use crate::{
    http::Answer,
    images::{ACCEPT, Image, USER_AGENT},
    program::Program,
    session::Session,
};

pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    pub(crate) program: Program,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Distribution,
    Ours,
}

/// What every answer of a load must be.
#[derive(Clone)]
pub(crate) enum Expected {
    /// These bytes; of ours, admitted every time, of nginx a hit.
    Manifest(Bytes),
    /// A refusal for this reason; of the others, that there is no such image.
    Refusal(&'static str),
    /// Text that holds this.
    Json(String),
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn get(&self, session: &Session, path: &str) -> anyhow::Result<Answer> {
        let headers = [("accept", ACCEPT), ("user-agent", USER_AGENT)];
        session
            .http
            .try_send(Method::GET, &self.url(path), &headers, Bytes::new())
            .with_context(|| format!("{}: no answer to {path}", self.name))
    }

    /// One request like those of the load, and its answer looked at.
    pub(crate) fn check(&self, session: &Session, path: &str, expected: &Expected) -> anyhow::Result<()> {
        let answer = self.get(session, path)?;
        let status = answer.status.as_u16();
        match expected {
            Expected::Manifest(bytes) => {
                ensure!(status == 200, "{}: {status} to {path}", self.name);
                ensure!(answer.body == bytes, "{}: other bytes than the upstream's for {path}", self.name);
                self.is_hit(&answer)?;
            }
            Expected::Refusal(reason) if self.kind == Kind::Ours => {
                ensure!(status >= 400, "{}: {status} to {path}, which was to be refused", self.name);
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                ensure!(text.contains("DENIED"), "{}: refused {path}, but not for being {reason}: {text}", self.name);
            }
            Expected::Refusal(_) => {
                ensure!(status == 404, "{}: {status} to {path}, which nobody has", self.name);
                self.is_hit(&answer)?;
            }
            Expected::Json(text) => {
                ensure!(status == 200, "{}: {status} to {path}", self.name);
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                ensure!(body.contains(text), "{}: no {text} in {body}", self.name);
            }
        }
        Ok(())
    }

    fn is_hit(&self, answer: &Answer) -> anyhow::Result<()> {
        if self.kind != Kind::Nginx {
            return Ok(());
        }
        match answer.headers.get("x-cache").and_then(|value| value.to_str().ok()) {
            Some("HIT") => Ok(()),
            other => bail!("{}: not answered from its cache but {}", self.name, other.unwrap_or("unsaid")),
        }
    }

    /// How often ours has decided so, from its own metrics.
    pub(crate) fn decisions(&self, session: &Session, outcome: &str, reason: &str) -> anyhow::Result<u64> {
        let metrics = self.get(session, "/metrics")?;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let series = format!("sig_repo_decisions_total{{outcome=\"{outcome}\",reason=\"{reason}\"}} ");
        Ok(text.lines().find_map(|line| line.strip_prefix(&series)).map_or(Ok(0), str::parse)?)
    }

    /// That ours let this image through because a signature verified, which its audit says.
    pub(crate) fn verified(&self, session: &Session, image: &Image) -> anyhow::Result<()> {
        session.wait("an event of the audit", crate::mirror::AUDIT_LIMIT, || {
            let answer = self.get(session, "/api/v1/audit?limit=1000")?;
            let list: serde_json::Value = serde_json::from_slice(&answer.body)?;
            let events = list["events"].as_array().context("a list of events")?;
            let mut of_image = events
                .iter()
                .filter(|event| event["digest"] == image.digest.to_string() && event["action"] == "admitted")
                .peekable();
            let known = of_image.peek().is_some();
            ensure!(
                of_image.all(|event| event["verified_by"][0]["name"] == crate::pushing::SIGNER),
                "{}: {} was let through unverified",
                self.name,
                image.digest
            );
            Ok(known)
        })
    }
}
