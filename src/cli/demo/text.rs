//! What the demo says. Every fact in it is one that the mirror, Docker or the file system gave.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::Path,
};

use super::{Pulled, images::SampleImage, registry::REPOSITORY, workspace::Workspace};
use crate::trust::SignerId;

pub(super) struct Page<'a> {
    out: &'a mut dyn Write,
    step: u8,
}

impl<'a> Page<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, step: 0 }
    }

    pub(super) fn begin(&mut self, upstream: SocketAddr, images: &[SampleImage]) -> io::Result<()> {
        writeln!(self.out, "sig-repo demo: two images, one of them signed, pulled through the mirror.")?;
        self.step(&format!("A sample registry runs at {upstream}. Here it stands for Docker Hub. It has two images:"))?;
        for image in images {
            writeln!(self.out, "       {REPOSITORY}:{:17} {}", image.tag, image.digest)?;
        }
        self.lines(&[
            "Their tags begin with preview-, so the mirror lets them out only with a valid signature",
            "(policy \"preview\").",
        ])
    }

    pub(super) fn mirror(&mut self, mirror: SocketAddr, workspace: &Workspace) -> io::Result<()> {
        self.step(&format!("The mirror runs at {mirror}, in front of that registry. It holds no signature yet."))?;
        self.lines(&[&format!("Its records are kept in {}.", workspace.data().display())])
    }

    pub(super) fn key(&mut self, private: &Path, public: &Path, id: SignerId) -> io::Result<()> {
        self.step(&format!("A key pair was made: {} signs, and", private.display()))?;
        self.lines(&[
            &format!("{} is trusted, because it lies in the trust directory.", public.display()),
            &format!("Its id is {id}."),
        ])
    }

    pub(super) fn submitted(&mut self, record: &serde_json::Value) -> io::Result<()> {
        self.step("preview-signed was signed with that key, and the signature sent to the mirror:")?;
        self.lines(&["POST /api/v1/signatures  ->  201 Created, with this record:"])?;
        for field in ["id", "tag", "repository", "format", "is_valid", "verified_by", "expires_at"] {
            if !record[field].is_null() {
                writeln!(self.out, "         {field:12} {}", record[field])?;
            }
        }
        Ok(())
    }

    pub(super) fn who_pulls(&mut self, daemon: Option<&str>) -> io::Result<()> {
        match daemon {
            Some(version) => self.step(&format!("Both are pulled with this machine's Docker ({version}).")),
            None => self.step(
                "Both are pulled. No Docker daemon answers here, so the demo itself sends the requests that Docker sends.",
            ),
        }
    }

    pub(super) fn pull(&mut self, name: &str, said: &[String]) -> io::Result<()> {
        writeln!(self.out, "\n     docker pull {name}")?;
        for line in said {
            writeln!(self.out, "       | {line}")?;
        }
        Ok(())
    }

    pub(super) fn docker_cannot(&mut self) -> io::Result<()> {
        self.lines(&[
            "That was no answer of the mirror's: this Docker does not reach it. The demo itself asks instead,",
        ])?;
        self.lines(&["with the requests that Docker sends:"])
    }

    pub(super) fn outcome(&mut self, image: &SampleImage, outcome: Pulled) -> io::Result<()> {
        let text = match outcome {
            Pulled::Came => "VERIFIED, and so it came",
            Pulled::Refused => "REFUSED, for the reason that the mirror gives above",
        };
        writeln!(self.out, "     {}: {text}.", image.tag)
    }

    pub(super) fn end(&mut self, good: bool) -> io::Result<()> {
        let text = match good {
            true => "As it should be: the signed image came, and the unsigned one was refused.",
            false => "NOT as it should be: the signed image should have come, and the unsigned one been refused.",
        };
        writeln!(self.out, "\n{text}")
    }

    pub(super) fn try_next(
        &mut self,
        mirror: SocketAddr,
        upstream: SocketAddr,
        images: &[SampleImage],
        workspace: &Workspace,
    ) -> io::Result<()> {
        let [signed, unsigned] = images else { return Ok(()) };
        let key = workspace.dir().join("demo.key");
        write!(
            self.out,
            r#"
Both run until Ctrl-C. To try next, in another terminal:

  What the mirror knows of the signed image:
    curl 'http://{mirror}/api/v1/signatures?digest={signed_digest}'

  The refusal as a client sees it:
    curl -i http://{mirror}/v2/docker.io/{REPOSITORY}/manifests/{unsigned_tag}

  Sign the other image as well, its manifest fetched from the registry behind, and send the signature:
    curl -s http://{upstream}/v2/{REPOSITORY}/manifests/{unsigned_tag} |
      openssl dgst -sha256 -sign {key} | openssl base64 -A > {dir}/signature
    curl http://{mirror}/api/v1/signatures -H 'Content-Type: application/json' -d '{{
      "image_digest": "{unsigned_digest}",
      "tag": "{unsigned_tag}", "signature": "'$(cat {dir}/signature)'" }}'

  And pull it again:
    docker pull {mirror}/docker.io/{REPOSITORY}:{unsigned_tag}

  Withdraw the trust in the key, and pull once more:
    rm {public}
"#,
            signed_digest = signed.digest,
            unsigned_tag = unsigned.tag,
            unsigned_digest = unsigned.digest,
            key = key.display(),
            dir = workspace.dir().display(),
            public = workspace.trust().join("demo.pub").display(),
        )?;
        self.out.flush()
    }

    pub(super) fn goodbye(&mut self, workspace: &Workspace) -> io::Result<()> {
        writeln!(self.out, "\nEnding, and removing {}.", workspace.dir().display())
    }

    fn step(&mut self, text: &str) -> io::Result<()> {
        self.step += 1;
        writeln!(self.out, "\n{:3}. {text}", self.step)
    }

    fn lines(&mut self, lines: &[&str]) -> io::Result<()> {
        for line in lines {
            writeln!(self.out, "     {line}")?;
        }
        Ok(())
    }
}
