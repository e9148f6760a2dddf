//! Bodies as they come in: of one media type, no longer than the cap, and in time.

use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::{Problem, ProblemKind, quoted};

pub(crate) const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// For the whole body, so that a client cannot hold a request by a byte now and then.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// The body of a request that must be JSON.
pub(super) async fn read_json(request: Request) -> Result<Bytes, Problem> {
    check_type(request.headers())?;
    read(request.into_body(), BODY_TIMEOUT).await
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail: String| Problem::new(ProblemKind::UnsupportedMediaType, detail);
    let value = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some(value) = value else {
        return Err(unsupported("there is no Content-Type, expected application/json".to_owned()));
    };
    let (media_type, parameters) = value.split_once(';').unwrap_or((&value, ""));
    let charset = parameters.trim().to_ascii_lowercase();
    let utf8 = matches!(charset.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"");
    if !media_type.trim().eq_ignore_ascii_case("application/json") || !utf8 {
        return Err(unsupported(format!("the Content-Type is {}, expected application/json", quoted(&value))));
    }
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(unsupported("the body has a Content-Encoding, expected none".to_owned()))
        }
        _ => Ok(()),
    }
}

async fn read(body: axum::body::Body, time: Duration) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(ProblemKind::BodyTooLarge, format!("the body is longer than {MAX_BODY_BYTES} bytes"));
    // Said before the first byte is read, where the client says its length.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(time, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(ProblemKind::MalformedBody, "the body ended before its end")),
        Err(_) => Err(Problem::new(ProblemKind::BodyTimeout, format!("the body took longer than {time:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::stream;
    use http::{HeaderValue, StatusCode};

    use super::*;

    fn kind(problem: Problem) -> String {
        serde_json::to_value(problem).unwrap()["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
    }

    #[test]
    fn only_json_in_utf8_is_read() {
        let check =
            |value: &'static str| check_type(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]));
        for good in ["application/json", "Application/JSON", "application/json; charset=UTF-8", "application/json;"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "application/jsonp",
        ] {
            assert_eq!(kind(check(bad).unwrap_err()), "unsupported-media-type", "{bad}");
        }
        assert_eq!(kind(check_type(&HeaderMap::new()).unwrap_err()), "unsupported-media-type");
        let mut gzip = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        gzip.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(kind(check_type(&gzip).unwrap_err()), "unsupported-media-type");
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_cap() {
        let long = Duration::from_secs(3600);
        assert_eq!(read(Body::from(vec![1; MAX_BODY_BYTES]), long).await.unwrap().len(), MAX_BODY_BYTES);
        assert_eq!(kind(read(Body::from(vec![1; MAX_BODY_BYTES + 1]), long).await.unwrap_err()), "body-too-large");
        let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b' '; 4096])));
        assert_eq!(kind(read(Body::from_stream(endless), long).await.unwrap_err()), "body-too-large");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = stream::pending::<Result<Bytes, Infallible>>();
        let problem = read(Body::from_stream(never), Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(serde_json::to_value(&problem).unwrap()["status"], StatusCode::REQUEST_TIMEOUT.as_u16());
        assert_eq!(kind(problem), "body-timeout");
    }
}
