use serde_json::{Value, json};

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(body: &Value) -> Result<NewSignature, Problem> {
    NewSignature::parse(body.to_string().as_bytes(), &"docker.io".parse().unwrap())
}

fn good() -> Value {
    json!({ "image_digest": DIGEST, "tag": "preview-v1.2.3-rc1", "signature": "c2lnbmF0dXJl" })
}

/// The good body with one field changed.
fn with(field: &str, value: Value) -> Value {
    let mut body = good();
    body[field] = value;
    body
}

fn problem(body: &Value) -> Value {
    serde_json::to_value(parse(body).unwrap_err()).unwrap()
}

#[test]
fn the_body_of_the_contract_is_read() {
    let body = json!({
        "image_digest": DIGEST, "tag": "preview-v1.2.3-rc1", "tag_type": "preview", "signature": "c2lnbmF0dXJl",
        "signer": "ci", "metadata": {"git_commit": "a1b2c3d"},
    });
    let read = parse(&body).unwrap();
    assert_eq!(read.image_digest.to_string(), DIGEST);
    assert_eq!((read.tag.as_str(), read.tag_type), ("preview-v1.2.3-rc1", Some(TagType::Preview)));
    assert_eq!((read.signature.as_slice(), read.payload), (&b"signature"[..], None));
    assert_eq!(read.signer.as_deref(), Some("ci"));
    assert_eq!(read.metadata, BTreeMap::from([("git_commit".to_owned(), "a1b2c3d".to_owned())]));
    assert_eq!((read.repository, read.environment, read.expires_at), (None, None, None));
}

#[test]
fn the_tag_decides_the_type_where_none_is_said() {
    for (tag, said, expected) in [
        ("preview-1", Value::Null, Some(TagType::Preview)),
        ("Internal.1", Value::Null, Some(TagType::Internal)),
        ("v1.2.3", Value::Null, None),
        ("v1.2.3", json!("internal"), Some(TagType::Internal)),
        ("preview-internal-1", json!("preview"), Some(TagType::Preview)),
    ] {
        let mut body = with("tag", json!(tag));
        body["tag_type"] = said;
        assert_eq!(parse(&body).unwrap().tag_type, expected, "{body}");
    }
    let mut body = with("tag", json!("preview-internal-1"));
    body["tag_type"] = json!("internal");
    assert_eq!(
        problem(&body),
        json!({
            "type": "urn:sig-repo:problem:tag-type-contradiction",
            "title": "Tag and tag type contradict each other",
            "status": 422,
            "detail": "tag_type: is internal, but the tag preview-internal-1 says preview by its first word",
            "field": "tag_type",
        })
    );
}

#[test]
fn every_spelling_of_a_repository_is_kept_as_one() {
    for spelling in ["nginx", "library/nginx", "docker.io/nginx", "registry-1.docker.io/library/nginx"] {
        let read = parse(&with("repository", json!(spelling))).unwrap();
        assert_eq!(read.repository.unwrap().as_str(), "docker.io/library/nginx", "{spelling}");
    }
}

#[test]
fn a_wrong_field_is_named_with_what_was_expected() {
    let long_name = "a".repeat(257);
    for (field, value, expected) in [
        ("image_digest", json!(null), "is missing, expected a digest, as in sha256:…"),
        (
            "image_digest",
            json!("sha256:abc"),
            r#""sha256:abc" is none: a sha256 digest has 64 lower-case hexadecimal digits"#,
        ),
        (
            "image_digest",
            json!(DIGEST.to_uppercase()),
            &format!("{:?} is none: the digest algorithm is not sha256 or sha512", DIGEST.to_uppercase()),
        ),
        ("tag", json!(null), "is missing, expected a tag, as in preview-v1.2.3-rc1"),
        (
            "tag",
            json!("a\nb"),
            r#""a\nb" is none: a tag has 1 to 128 letters, digits, '_', '.' and '-', and begins with none of the last two"#,
        ),
        ("tag_type", json!("Preview"), r#""Preview" is not a tag type, expected preview or internal"#),
        ("tag_type", json!(1), "is a number, expected a string"),
        ("signature", json!(null), "is missing, expected a signature in base64"),
        ("signature", json!(""), "is empty"),
        ("signature", json!("a"), "is not standard base64 with padding: 1 characters cannot be all of it"),
        ("signature", json!("c2lnbg"), "is not standard base64 with padding: the padding is wrong"),
        (
            "signature",
            json!("c2lnbh=="),
            "is not standard base64 with padding: the last character, at 5, has bits too many",
        ),
        (
            "signature",
            json!("__-_"),
            "is not standard base64 with padding: the character at offset 0 does not belong there",
        ),
        (
            "signature",
            json!("c2ln\nbmF0"),
            "has line breaks or spaces, expected base64 in one line, as `base64 -w0` and `openssl base64 -A` write it",
        ),
        ("payload", json!(""), "is empty"),
        (
            "signer",
            json!("ci\u{1b}[2J"),
            r#""ci\u{1b}[2J" is not a name, expected 1 to 256 characters without control characters"#,
        ),
        (
            "signer",
            json!(long_name),
            &format!("\"{}\"… is not a name, expected 1 to 256 characters without control characters", "a".repeat(80)),
        ),
        ("metadata", json!({"": "x"}), "has an entry without a key"),
        ("repository", json!("../etc"), "\"../etc\" is none: a registry name is a host name with an optional port"),
        ("expires_at", json!("tomorrow"), r#""tomorrow" is not a time of RFC 3339, as in 2024-05-20T10:30:00Z"#),
        ("expires_at", json!(1716201000), "is a number, expected a string"),
    ] {
        let problem = problem(&with(field, value));
        assert_eq!(problem["field"], field);
        assert_eq!(problem["type"], "urn:sig-repo:problem:invalid-field");
        assert_eq!(problem["detail"], format!("{field}: {expected}"));
    }
}

#[test]
fn an_environment_is_a_short_name() {
    for good in ["a", "test-prod", "0", &"a".repeat(63)] {
        assert_eq!(environment(good.to_owned()).as_deref(), Ok(good));
    }
    for bad in ["", "-a", "A", "a_b", "a b", "ä", "a.b", &"a".repeat(64)] {
        let problem = problem(&with("environment", json!(bad)));
        assert_eq!(problem["field"], "environment", "{bad}");
    }
}

#[test]
fn sizes_are_capped_at_the_byte() {
    let base64_of = |length: usize| json!(BASE64_STANDARD.encode(vec![0; length]));
    for field in ["signature", "payload"] {
        assert_eq!(problem(&with(field, base64_of(MAX_ENVELOPE_BYTES + 1)))["field"], field);
    }
    assert_eq!(parse(&with("signature", base64_of(MAX_ENVELOPE_BYTES))).unwrap().signature.len(), MAX_ENVELOPE_BYTES);

    let entries =
        |count: usize| json!((0..count).map(|n| (n.to_string(), json!(""))).collect::<serde_json::Map<_, _>>());
    assert_eq!(parse(&with("metadata", entries(64))).unwrap().metadata.len(), 64);
    assert_eq!(problem(&with("metadata", entries(65)))["detail"], "metadata: has more than 64 entries");

    assert_eq!(parse(&with("metadata", json!({"k": "v".repeat(1023)}))).unwrap().metadata["k"].len(), 1023);
    assert_eq!(
        problem(&with("metadata", json!({"k": "v".repeat(1024)})))["detail"],
        r#"metadata: the entry "k" is longer than 1024 bytes"#
    );
}
