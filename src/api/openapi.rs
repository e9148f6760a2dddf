//! `GET /api/v1/openapi.json`: the API's own description, made from the code that serves it.

use axum::response::Response;
use http::{HeaderValue, header::CONTENT_TYPE};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

use super::{
    archive, audit, cache,
    problem::{Problem, ProblemKind},
    signatures, signers, tags,
};

/// The description as JSON, OpenAPI 3.1.
pub fn document() -> Result<String, serde_json::Error> {
    Description::openapi().to_pretty_json()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "image-signature-repo",
        description = "Signatures of container images. Errors are `application/problem+json` with a stable `type`; \
                       the word after `urn:sig-repo:problem:` is given with each status. With AUTH_ENABLED=true \
                       everything needs HTTP Basic; after too many wrong passwords from one address \
                       everything answers 429 (`too-many-attempts`) with Retry-After for a while.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        signatures::submit,
        signatures::list,
        signatures::withdraw,
        tags::list,
        archive::list,
        signers::list,
        signers::add,
        signers::revoke,
        audit::list,
        cache::state,
        cache::remove,
        cache::prefetch::prefetch,
        serve,
    ),
    // Without authentication, or with it.
    security((), ("basic" = [])),
    modifiers(&Basic),
)]
struct Description;

struct Basic;

impl Modify for Basic {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let basic = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
        openapi.components.get_or_insert_default().add_security_scheme("basic", basic);
    }
}

/// This description.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "openapi",
    responses(
        (status = 200, description = "OpenAPI 3.1", body = Object),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn serve() -> Result<Response, Problem> {
    let document = document().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the description of the API cannot be written");
        Problem::new(ProblemKind::InternalError, "the description could not be written")
    })?;
    let mut response = Response::new(document.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
