//! Paths against the grammar of the distribution specification's endpoints.

use proptest::prelude::*;

use super::*;
use crate::oci::grammar::{self, DIGEST, NAME, TAG, near};

fn canonical() -> RegistryName {
    RegistryName::DOCKER_HUB.parse().unwrap()
}

/// None where it is no URI.
fn get(target: &str) -> Option<Request<()>> {
    Request::builder().uri(target).header("host", "mirror.example").body(()).ok()
}

fn target_of<'a>(route: &'a Route<'_>) -> Option<&'a Target<'a>> {
    match route {
        Route::Manifest { target, .. }
        | Route::Blob { target, .. }
        | Route::Tags { target, .. }
        | Route::Referrers { target, .. }
        | Route::StartUpload { target, .. }
        | Route::Upload { target, .. }
        | Route::PutManifest { target, .. } => Some(target),
        Route::Base | Route::TooOld | Route::Discover => None,
    }
}

/// `/v2/<name>/<kind>/<last>`, each part nearly right.
fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        4 => near(NAME),
        1 => near(NAME).prop_map(|name| format!("ghcr.io/{name}")),
        1 => Just("a/../b".to_owned()),
        1 => Just("a%2fb".to_owned()),
        1 => Just("manifests/manifests".to_owned()),
        1 => Just("blobs/tags/list".to_owned()),
    ];
    let kind =
        prop::sample::select(vec!["manifests", "blobs", "referrers", "tags", "Manifests", "manifests/", "%6danifests"]);
    let last = prop_oneof![
        near(TAG),
        near(DIGEST),
        Just("list".to_owned()),
        near(DIGEST).prop_map(|it| it.replace(':', "%3A"))
    ];
    (prop::sample::select(vec!["/v2/", "/v2", "//v2/", "/V2/"]), name, kind, last)
        .prop_map(|(root, name, kind, last)| format!("{root}{name}/{kind}/{last}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_routed_is_what_the_grammar_allows(path in path()) {
        let Some(request) = get(&path) else { return Ok(()) };
        let routed = Route::parse(&request, &canonical());
        let mut parts = path.strip_prefix("/v2/").unwrap_or_default().rsplitn(3, '/');
        let (last, kind, name) = (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default());
        // A query or a fragment is no part of the path.
        prop_assume!(!path.contains(['?', '#']));
        let bare = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                if grammar::registry().matches(first) { rest } else { "" }
            }
            _ => name,
        };
        let last = last.replacen("%3A", ":", 1);
        let named = grammar::name().matches(bare) && bare.len() <= 255;
        let (tag, digest) = (grammar::tag().matches(&last), grammar::digest().matches(&last));
        let expected = named && match kind {
            Some("manifests") => tag || digest,
            Some("blobs" | "referrers") => digest,
            Some("tags") => last == "list",
            _ => false,
        };
        prop_assert_eq!(routed.as_ref().is_ok_and(|route| target_of(route).is_some()), expected, "{:?}: {:?}", path, routed);
        if let Ok(route) = &routed && let Some(target) = target_of(route) {
            prop_assert!(grammar::name().matches(target.repository.path()));
            prop_assert!(target.repository.as_str().ends_with(bare));
        }
    }

    #[test]
    fn every_spelling_of_an_image_is_one_route(name in NAME, reference in prop_oneof![TAG, "sha256:[a-f0-9]{64}"]) {
        prop_assume!(name.split_once('/').is_none_or(|(first, _)| !RegistryName::is_named_by(first)));
        let repository = Repository::new(&canonical(), &name).unwrap();
        let expected: Reference = reference.parse().unwrap();
        let escaped = reference.replace(':', "%3a");
        let bare = repository.path().to_owned();
        for path in [
            format!("/v2/{name}/manifests/{reference}"),
            format!("/v2/{bare}/manifests/{reference}?ns=docker.io"),
            format!("/v2/{bare}/manifests/{escaped}?ns=Registry-1.docker.io"),
            format!("/v2/{name}/manifests/{reference}?ns=mirror.example"),
            format!("/v2/docker.io/{name}/manifests/{escaped}"),
            format!("/v2/index.docker.io/{bare}/manifests/{reference}"),
        ] {
            let request = get(&path).unwrap();
            let Ok(Route::Manifest { target, reference }) = Route::parse(&request, &canonical()) else { panic!("{path}") };
            prop_assert_eq!((&target.repository, &reference), (&repository, &expected), "{}", path);
        }
    }

    #[test]
    fn a_query_carries_nothing_else_upstream(name in NAME, n in "[0-9]{0,6}", last in any::<String>(), other in any::<String>()) {
        prop_assume!(name.split_once('/').is_none_or(|(first, _)| !RegistryName::is_named_by(first)));
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        pairs.append_pair("n", &n).append_pair("token", &other).append_pair("last", &last).append_pair(&format!("x{other}"), &n);
        let request = get(&format!("/v2/{name}/tags/list?{}", pairs.finish())).unwrap();
        let Ok(Route::Tags { query, .. }) = Route::parse(&request, &canonical()) else { panic!("{name}") };
        let read: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        prop_assert_eq!(read, [("n".to_owned(), n), ("last".to_owned(), last)]);
    }

    #[test]
    fn no_path_is_too_strange(path in "/(v1|v2|v2/_oci)?[ -~]{0,60}") {
        // What is no URI is refused before this.
        let Some(request) = get(&path) else { return Ok(()) };
        if let Ok(route) = Route::parse(&request, &canonical()) && let Some(target) = target_of(&route) {
            prop_assert!(grammar::name().matches(target.repository.path()), "{}", path);
        }
    }

    #[test]
    fn nothing_but_reading_and_putting_manifests_is_routed(path in path(), method in prop_oneof!["[A-Z]{1,8}", "PUT|POST|PATCH|DELETE"]) {
        prop_assume!(method != "GET" && method != "HEAD");
        let Ok(request) = Request::builder().method(method.as_str()).uri(&path).body(()) else { return Ok(()) };
        let put = method == "PUT" && path.split('?').next().unwrap_or_default().rsplit('/').nth(1) == Some("manifests");
        match Route::parse(&request, &canonical()) {
            Ok(Route::PutManifest { target, .. }) => {
                prop_assert!(put && grammar::name().matches(target.repository.path()), "{method} {path}");
            }
            Ok(other) => prop_assert!(false, "{method} {path}: {other:?}"),
            Err(RouteError::Method | RouteError::NotFound) => {}
            Err(other) => prop_assert!(put, "{method} {path}: {other:?}"),
        }
    }

    #[test]
    fn an_upload_is_of_a_repository_and_has_a_name_that_we_give(name in near(NAME), upload in "[0-9a-f]{0,40}|[ -~]{1,8}") {
        let Ok(request) = Request::builder().method("PATCH").uri(format!("/v2/{name}/blobs/uploads/{upload}")).body(()) else {
            return Ok(());
        };
        if let Ok(routed) = Route::parse(&request, &canonical()) {
            let Route::Upload { target, name } = routed else { panic!("{routed:?}") };
            prop_assert!(grammar::name().matches(target.repository.path()));
            prop_assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
