//! Basic authentication: every route of the API, one account, and nothing said to whoever has none.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Method, Request, StatusCode, header};

use crate::support::api::{Api, Setup};

const ROUTES: [(Method, &str); 14] = [
    (Method::GET, "/api/v1/signatures"),
    (Method::POST, "/api/v1/signatures"),
    (Method::DELETE, "/api/v1/signatures/00000000000000000000000000000000"),
    (Method::GET, "/api/v1/tags"),
    (Method::GET, "/api/v1/signers"),
    (Method::POST, "/api/v1/signers"),
    (Method::DELETE, "/api/v1/signers/x"),
    (Method::GET, "/api/v1/audit"),
    (Method::GET, "/api/v1/cache"),
    (Method::DELETE, "/api/v1/cache"),
    (Method::POST, "/api/v1/cache/prefetch"),
    (Method::GET, "/api/v1/openapi.json"),
    (Method::GET, "/api/v1/nothing"),
    (Method::PUT, "/api/v1/tags"),
];

async fn ask(api: &Api, method: Method, path: &str, authorization: Option<&str>) -> crate::support::api::Answer {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    api.send(request.body(String::new().into()).unwrap()).await
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}

#[tokio::test]
async fn every_route_needs_the_account() {
    let api = Setup::default().start();
    for (method, path) in ROUTES {
        for authorization in [None, Some(basic("admin:wrong")), Some(basic("admin:")), Some("Bearer x".to_owned())] {
            let answer = ask(&api, method.clone(), path, authorization.as_deref()).await;
            answer.problem(StatusCode::UNAUTHORIZED, "not-authenticated");
            assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Basic realm=\"sig-repo\"", "{path}");
        }
        let answer = ask(&api, method, path, Some(&basic("admin:secure-pass"))).await;
        assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(!answer.headers.contains_key(header::WWW_AUTHENTICATE), "{path}");
    }
}

#[tokio::test]
async fn nothing_is_read_of_a_body_before_the_account_is_known() {
    let api = Setup::default().start();
    let endless = futures_util::stream::pending::<Result<bytes::Bytes, std::convert::Infallible>>();
    let request = Request::post("/api/v1/signatures").header(header::CONTENT_TYPE, "application/json");
    let request = request.body(axum::body::Body::from_stream(endless)).unwrap();
    api.send(request).await.problem(StatusCode::UNAUTHORIZED, "not-authenticated");
}

#[tokio::test]
async fn without_authentication_nobody_is_challenged() {
    let api = Setup::without_auth().start();
    for (method, path) in ROUTES {
        for authorization in [None, Some("Basic !"), Some("Bearer x")] {
            let answer = ask(&api, method.clone(), path, authorization).await;
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(!answer.headers.contains_key(header::WWW_AUTHENTICATE), "{path}");
        }
    }
}

#[tokio::test]
async fn what_the_account_did_is_under_its_name() {
    let api = Setup::default().start();
    let digest = sig_repo::oci::Digest::sha256(b"image");
    let body = serde_json::json!({"image_digest": digest, "tag": "v1", "signature": "Z2FyYmFnZQ=="});
    let record = api.post("/api/v1/signatures", &body).await.expect(StatusCode::CREATED);
    api.delete(&format!("/api/v1/signatures/{}", record["id"].as_str().unwrap())).await;
    let list = api.get("/api/v1/audit").await.expect(StatusCode::OK);
    let events: Vec<_> =
        list["events"].as_array().unwrap().iter().map(|event| (&event["action"], &event["account"])).collect();
    assert_eq!(events, [(&"withdrawn".into(), &"admin".into()), (&"submitted".into(), &"admin".into())]);
}

#[tokio::test]
async fn whoever_guesses_is_told_to_wait_and_nobody_else_is() {
    let api = Setup::default().start();
    let from = async |peer: &str, password: &str| {
        let request = Request::get("/api/v1/tags").header(header::AUTHORIZATION, basic(&format!("admin:{password}")));
        api.send_from(&format!("{peer}:1"), request.body(axum::body::Body::empty()).unwrap()).await
    };
    assert_eq!(from("192.0.2.1", "secure-pass").await.status, StatusCode::OK);
    for peer in ["192.0.2.1", "192.0.2.2"] {
        for guess in 0..10 {
            from(peer, &guess.to_string()).await.problem(StatusCode::UNAUTHORIZED, "not-authenticated");
        }
        let answer = from(peer, "10").await;
        answer.problem(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts");
        assert_eq!(answer.headers[header::RETRY_AFTER], "30");
        assert!(!answer.headers.contains_key(header::WWW_AUTHENTICATE));
    }
    // From the one the right password had come before, from the other it is no longer looked at.
    assert_eq!(from("192.0.2.1", "secure-pass").await.status, StatusCode::OK);
    from("192.0.2.2", "secure-pass").await.problem(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts");
    assert_eq!(from("192.0.2.3", "secure-pass").await.status, StatusCode::OK);
    // Who presents nothing guesses nothing, and is asked as ever.
    let nothing = Request::get("/api/v1/tags").body(axum::body::Body::empty()).unwrap();
    api.send_from("192.0.2.2:1", nothing).await.problem(StatusCode::UNAUTHORIZED, "not-authenticated");
    api.clock.advance(std::time::Duration::from_secs(30));
    assert_eq!(from("192.0.2.2", "secure-pass").await.status, StatusCode::OK);
}
