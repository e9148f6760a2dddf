//! A way through a proxy: `CONNECT`, RFC 9110, section 9.3.6.

use std::{error::Error, pin::pin};

use bytes::Bytes;
use futures_util::future::{Either, join, select};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{
    client::conn::http1,
    rt::{Read, Write},
};

use super::ProxyRefusal;

/// Why a proxy opened no way.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {reason}")]
pub(super) struct NoTunnel {
    pub(super) reason: ProxyRefusal,
    pub(super) source: Option<Box<dyn Error + Send + Sync>>,
}

/// Makes of a connection to a proxy one to `host`, a name or an address, and a port.
pub(super) async fn open<T>(proxy: T, host: &str, authorization: Option<&HeaderValue>) -> Result<T, NoTunnel>
where
    T: Read + Write + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| NoTunnel { reason: ProxyRefusal::Malformed, source: Some(error.into()) };
    let (mut sender, connection) = http1::handshake(proxy).await.map_err(broken)?;
    let connection = pin!(connection.with_upgrades());
    let asked = pin!(sender.send_request(request(host, authorization)?));
    let (answer, connection) = match select(asked, connection).await {
        Either::Left((answer, connection)) => (answer, Some(connection)),
        Either::Right((_, asked)) => (asked.await, None),
    };
    let answer = answer.map_err(broken)?;
    let reason = match answer.status() {
        status if status.is_success() => None,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(ProxyRefusal::Credentials),
        status => Some(ProxyRefusal::Status { status: status.as_u16() }),
    };
    if let Some(reason) = reason {
        return Err(NoTunnel { reason, source: None });
    }
    let upgraded = match connection {
        Some(connection) => join(hyper::upgrade::on(answer), connection).await.0,
        None => hyper::upgrade::on(answer).await,
    };
    let parts = upgraded.map_err(broken)?.downcast::<T>();
    match parts {
        // Nobody behind it speaks before he is spoken to.
        Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io),
        _ => Err(NoTunnel { reason: ProxyRefusal::Malformed, source: None }),
    }
}

fn request(host: &str, authorization: Option<&HeaderValue>) -> Result<Request<Empty<Bytes>>, NoTunnel> {
    let malformed = || NoTunnel { reason: ProxyRefusal::Malformed, source: None };
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::builder().authority(host).build().map_err(|_| malformed())?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| malformed())?);
    headers.insert(header::USER_AGENT, super::requests::USER_AGENT);
    if let Some(authorization) = authorization {
        headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}
