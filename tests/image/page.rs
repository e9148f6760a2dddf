//! The API of the running container, asked with curl as the documentation does, and signatures made with openssl.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

use crate::engine::{Engine, output, succeed};

/// A digest signed by a key of its own.
pub(crate) struct Signed {
    pub(crate) public_key: PathBuf,
    digest: String,
    body: PathBuf,
}

impl Signed {
    /// Signs the digest of a made-up image as a string.
    pub(crate) fn new(engine: &Engine, tag: &str) -> Self {
        let dir = engine.fresh_directory("signed");
        let (key, public_key) = (dir.join("ci.key"), dir.join("ci.pub"));
        succeed(
            Command::new("openssl").args(["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out"]).arg(&key),
        );
        succeed(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key).arg("-out").arg(&public_key));
        let digest = format!("sha256:{}", "5".repeat(64));
        std::fs::write(dir.join("digest"), &digest).unwrap();
        let signature = output(
            Command::new("sh")
                .args(["-c", "openssl dgst -sha256 -sign ci.key digest | base64 --wrap=0"])
                .current_dir(&dir),
        );
        let body = dir.join("body.json");
        let submission = serde_json::json!({
            "image_digest": digest, "tag": tag, "signature": signature, "signer": "ci",
            "metadata": {"git_commit": "a1b2c3d"},
        });
        std::fs::write(&body, submission.to_string()).unwrap();
        Self { public_key, digest, body }
    }
}

impl Engine {
    pub(crate) fn submit(&self, signed: &Signed, options: &[&str]) -> (u16, Value) {
        let body = format!("@{}", signed.body.display());
        let mut arguments = vec!["-H", "Content-Type: application/json", "--data-binary", &body];
        arguments.extend(options);
        self.ask("/api/v1/signatures", &arguments)
    }

    pub(crate) fn signatures(&self, signed: &Signed, options: &[&str]) -> Value {
        let (status, answer) = self.ask(&format!("/api/v1/signatures?digest={}", signed.digest), options);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub(crate) fn wait_for_valid(&self, signed: &Signed, options: &[&str]) -> Value {
        let mut answer = Value::Null;
        self.wait_for("the signature to be valid", || {
            answer = self.signatures(signed, options);
            answer["signatures"][0]["is_valid"] == true
        });
        answer
    }

    pub(crate) fn wait_until_ready(&self) {
        self.wait_for("/readyz", || {
            self.inside(&["sh", "-c", "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/readyz || true"])
                == "200"
        });
    }

    fn ask(&self, path: &str, options: &[&str]) -> (u16, Value) {
        let url = format!("http://127.0.0.1:8080{path}");
        let mut arguments = vec!["curl", "-sS", "-w", "\n%{http_code}", &url];
        arguments.extend(options);
        let answer = self.inside(&arguments);
        let (body, status) = answer.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| panic!("not JSON: {answer}")))
    }
}
