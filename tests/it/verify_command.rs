//! `sig-repo verify`: the server's question asked by hand.

use std::{fs, process::Output};

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::support::{key::Key, process::run, registry::Registry};

const REPOSITORY: &str = "team/app";

struct Desk {
    trust: TempDir,
    registry: Registry,
}

impl Desk {
    async fn new() -> Self {
        Self { trust: tempfile::tempdir().unwrap(), registry: Registry::start().await }
    }

    /// Exit code, and the answer in JSON or what was said.
    async fn verify(&self, image: &str, level: &str) -> (i32, Result<Value, String>) {
        let (image, level) = (image.to_owned(), level.to_owned());
        let (trust, remote) = (self.trust.path().to_str().unwrap().to_owned(), self.registry.url().to_string());
        let output = spawn_blocking(move || {
            let settings = [("TRUST_DIR", trust.as_str()), ("PROXY_REMOTEURL", &remote), ("POLICY_DEFAULT", &level)];
            run(&["verify", &image, "--json"], &settings)
        });
        let Output { status, stdout, stderr } = output.await.unwrap();
        let answer = serde_json::from_slice(&stdout).map_err(|_| String::from_utf8(stderr).unwrap());
        (status.code().unwrap(), answer)
    }

    fn trust(&self, key: &Key) {
        fs::write(self.trust.path().join("release.pub"), key.pem()).unwrap();
    }
}

#[tokio::test]
async fn an_image_is_verified_as_the_server_would() {
    let desk = Desk::new().await;
    let key = Key::generate();
    let image = desk.registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let name = format!("{REPOSITORY}:v1");
    let (code, answer) = desk.verify(&name, "audit").await;
    let answer = answer.unwrap();
    assert_eq!((code, &answer["verdict"], &answer["served"]), (1, &"rejected".into(), &true.into()), "{answer}");
    let (code, answer) = desk.verify(&name, "enforce").await;
    assert_eq!((code, &answer.unwrap()["served"]), (1, &false.into()));

    let payload = payload(&image.digest.to_string());
    let signature = key.sign_base64(payload.as_bytes());
    desk.registry.push_cosign_signatures(REPOSITORY, &image.digest, &[(payload.as_bytes(), &signature)]);
    let (code, answer) = desk.verify(&name, "enforce").await;
    assert_eq!((code, &answer.unwrap()["signatures"][0]["reason"]), (1, &"no-trusted-key".into()));
    desk.trust(&key);
    for (name, level) in [(&name, "enforce"), (&name, "audit"), (&format!("{REPOSITORY}@{}", image.digest), "enforce")]
    {
        let (code, answer) = desk.verify(name, level).await;
        let answer = answer.unwrap();
        assert_eq!((code, &answer["verdict"]), (0, &"verified".into()), "{answer}");
        assert_eq!((&answer["digest"], &answer["level"]), (&image.digest.to_string().into(), &level.into()));
        assert_eq!(answer["verified_by"][0]["name"], "release");
        assert!(answer["signatures"][0]["evidence"][0].as_str().unwrap().contains("over the payload"), "{answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_told_is_not_called_unsigned() {
    let desk = Desk::new().await;
    let (code, answer) = desk.verify(&format!("{REPOSITORY}:none"), "enforce").await;
    assert!(code == 2 && answer.unwrap_err().contains("team/app:none: refused or not found (absent)"));
    desk.registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let (code, answer) = desk.verify(&format!("registry.example.com/{REPOSITORY}:v1"), "enforce").await;
    assert!(code == 2 && answer.unwrap_err().contains("(unknown-registry)"));
    let (code, answer) = desk.verify("Not An Image", "enforce").await;
    assert!(code == 2 && answer.unwrap_err().contains("is no repository"));
}

#[tokio::test]
async fn an_image_in_a_layout_is_verified_without_a_registry() {
    let desk = Desk::new().await;
    let key = Key::generate();
    let image = desk.registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let payload = payload(&image.digest.to_string());
    let signature = key.sign_base64(payload.as_bytes());
    desk.registry.push_cosign_signatures(REPOSITORY, &image.digest, &[(payload.as_bytes(), &signature)]);
    let saved = tempfile::tempdir().unwrap();
    let layout = saved.path().join("image");
    desk.registry.save(REPOSITORY, &image, &layout);
    let asked = desk.registry.requests().len();
    let address = format!("oci:{}", layout.display());
    let (code, answer) = desk.verify(&address, "enforce").await;
    let answer = answer.unwrap();
    assert_eq!((code, &answer["signatures"][0]["reason"]), (1, &"no-trusted-key".into()), "{answer}");
    desk.trust(&key);
    let tar = saved.path().join("image.tar");
    let packed = std::process::Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&layout).arg(".").status();
    assert!(packed.unwrap().success());
    for address in [address, format!("oci-archive:{}", tar.display()), format!("{}@{}", layout.display(), image.digest)]
    {
        let (code, answer) = desk.verify(&address, "enforce").await;
        let answer = answer.unwrap();
        assert_eq!((code, &answer["verdict"], &answer["level"]), (0, &"verified".into(), &"enforce".into()));
        assert_eq!(answer["digest"], image.digest.to_string());
        assert_eq!(answer["image"], format!("localhost/layout@{}", image.digest));
    }
    assert_eq!(desk.registry.requests().len(), asked, "the layout says it all");
    // A layer that is not what it was spoils the image, however well its manifest is signed.
    fs::write(layout.join("blobs/sha256").join(image.children[1].encoded()), "LAYER").unwrap();
    let (code, answer) = desk.verify(layout.to_str().unwrap(), "audit").await;
    assert_eq!(code, 2);
    assert!(answer.unwrap_err().contains("has other bytes than its digest says"));
}

fn payload(digest: &str) -> String {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
}
