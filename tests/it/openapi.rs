//! The API's description of itself: OpenAPI 3.1, of what is really served.

use http::{Method, StatusCode, header};
use serde_json::Value;

use crate::support::api::Setup;

#[tokio::test]
async fn the_description_changes_only_on_purpose() {
    let api = Setup::without_auth().start();
    let answer = api.get("/api/v1/openapi.json").await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    let mut document = answer.expect(StatusCode::OK);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    document["info"]["version"] = Value::Null;
    insta::assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}

#[tokio::test]
async fn every_operation_that_is_described_is_served() {
    let api = Setup::without_auth().start();
    let document = api.get("/api/v1/openapi.json").await.expect(StatusCode::OK);
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let request = api.request(method.clone(), &path.replace("{id}", "x").replace("{id}", "x"));
            let answer = api.send(request.body(String::new().into()).unwrap()).await;
            assert!(![404, 405].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.status);
            let described = operation["responses"].as_object().unwrap();
            assert!(
                described.contains_key(answer.status.as_str()),
                "{method} {path}: {} is not described",
                answer.status
            );
            operations += 1;
        }
    }
    assert_eq!(operations, 13);
}
