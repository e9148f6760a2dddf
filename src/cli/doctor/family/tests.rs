use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;

const REFUSED: &str = "sig-repo: sig-repo/doctor:internal-x refused: refused or not found (policy internal)";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn answer(status: u16, phrase: &str, content_type: &str, body: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        phrase: phrase.to_owned(),
        headers,
        body: Bytes::from(body.to_owned()),
        redirected: None,
    }
}

fn with(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    answer.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    answer
}

/// As sig-repo marks each refusal.
fn warned(answer: Answer) -> Answer {
    with(answer, "warning", &format!("299 - \"{REFUSED}\""))
}

fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap()
}

fn made_up(code: u16, content_type: &str) -> Answer {
    let body = format!(r#"{{"schemaVersion":2,"mediaType":"{REFUSED} (no such process)"}}"#);
    warned(answer(code, "", content_type, &body))
}

fn for_docker(phrase: &str) -> Answer {
    let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"{REFUSED} (no such process)","detail":null}}]}}"#);
    warned(answer(500, phrase, "application/json", &body))
}

fn taken(family: Family, of: &Answer) -> Taken {
    let answers: Vec<_> = family.methods().iter().map(|_| Ok(of.clone())).collect();
    family.takes(&answers)
}

#[test]
fn each_family_stops_at_its_own_forms_and_at_no_others() {
    use Family::{Containerd, Containers, Docker as Dockerd, DockerContainerd};
    use Form::{MadeUpManifest, NoRedirect, StatusLine};
    let phrase = format!("{REFUSED} (no such process)");
    let real =
        answer(200, "OK", OCI, r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#);
    for (name, answer, held) in [
        ("500 with the phrase", for_docker(&phrase), vec![(Dockerd, StatusLine(status(500)))]),
        ("500 without", for_docker("Internal Server Error"), vec![]),
        (
            "300 with a body",
            made_up(300, OCI),
            vec![
                (Dockerd, MadeUpManifest(status(300))),
                (DockerContainerd, NoRedirect(status(300))),
                (Containerd, NoRedirect(status(300))),
            ],
        ),
        (
            "300 with another body",
            warned(answer(300, "", "text/html", "<html>")),
            vec![(DockerContainerd, NoRedirect(status(300))), (Containerd, NoRedirect(status(300)))],
        ),
        (
            "200 with a made-up manifest",
            made_up(200, DOCKER),
            vec![(Dockerd, MadeUpManifest(status(200))), (Containers, MadeUpManifest(status(200)))],
        ),
        // The words in a body that dockerd takes for an error of the mirror's say nothing to it.
        ("403", warned(answer(403, &phrase, "application/json", &phrase)), vec![]),
        ("401", answer(401, "Unauthorized", "text/html", ""), vec![]),
        ("404", answer(404, "Not Found", "text/html", "not found"), vec![]),
        ("a page", answer(200, "OK", "text/html", "<html>welcome</html>"), vec![]),
        ("a manifest", real, vec![]),
        ("301 to nowhere", answer(301, "Moved Permanently", "text/html", ""), vec![]),
    ] {
        for family in Family::ALL {
            let expected = held.iter().find(|(held, _)| *held == family).map(|(_, form)| *form);
            let found = match taken(family, &answer) {
                Taken::Held(form) => Some(form),
                Taken::Round(_) => None,
            };
            assert_eq!(found, expected, "{name} for {}", family.name());
        }
    }
}

#[test]
fn what_lets_a_client_round_is_told_by_what_arrives() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (family, answer, cause) in [
        (Family::Docker, for_docker("Internal Server Error"), Cause::PhraseLost),
        (Family::Docker, for_docker(""), Cause::PhraseLost),
        (Family::Docker, warned(answer(300, "", "text/html", "<html>")), Cause::BodyReplaced),
        (Family::Docker, made_up(300, "text/html"), Cause::BodyReplaced),
        (Family::Docker, answer(401, "", "text/html", ""), Cause::Challenged),
        (Family::Docker, answer(404, "", "text/html", ""), Cause::NotFound),
        (Family::Docker, answer(502, "", "text/html", ""), Cause::HopError(status(502))),
        (Family::Docker, with(answer(200, "", OCI, "{}"), "docker-content-digest", &digest), Cause::Served),
        (Family::Containers, made_up(300, OCI), Cause::OtherForm { status: status(300), cached: false }),
        (
            Family::Containers,
            with(for_docker(&format!("{REFUSED} (no such process)")), "age", "3"),
            Cause::OtherForm { status: status(500), cached: true },
        ),
        (
            Family::Containerd,
            with(made_up(200, DOCKER), "x-cache", "HIT from edge"),
            Cause::OtherForm { status: status(200), cached: true },
        ),
        (Family::Containers, warned(answer(200, "OK", "text/html", "<html>")), Cause::BodyReplaced),
        (Family::Containerd, answer(429, "", "text/html", ""), Cause::Ordinary(status(429))),
    ] {
        assert_eq!(taken(family, &answer), Taken::Round(cause), "{} and {answer:?}", family.name());
    }
}

#[test]
fn no_answer_lets_everybody_round() {
    for family in Family::ALL {
        let answers: Vec<_> = family.methods().iter().map(|_| Err("reset".to_owned())).collect();
        assert_eq!(family.takes(&answers), Taken::Round(Cause::NoAnswer("reset".to_owned())));
    }
}

#[test]
fn who_asks_for_the_base_first_may_leave_at_it() {
    for (code, containers) in
        [(200, None), (401, None), (404, Some(Cause::Base(status(404)))), (503, Some(Cause::Base(status(503))))]
    {
        let answer = answer(code, "", "text/plain", "");
        assert_eq!(Family::Containers.leaves_at_base(&answer), containers, "{code}");
        for family in [Family::Docker, Family::DockerContainerd, Family::Containerd] {
            assert_eq!(family.leaves_at_base(&answer), None, "{code}");
        }
    }
}

#[test]
fn a_hop_that_speaks_for_a_mirror_that_is_down_is_told_apart() {
    let down = with(made_up(300, OCI), "warning", "299 - \"sig-repo: refused: the mirror is down\"");
    assert!(says_mirror_is_down(&down) && is_signed_by_us(&down));
    assert!(!says_mirror_is_down(&made_up(300, OCI)));
    assert!(!is_signed_by_us(&answer(404, "Not Found", "text/html", "nothing here")));
}
