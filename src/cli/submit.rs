//! Submits a signature, one that was made elsewhere or one made on the spot.

mod private_key;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use self::private_key::PrivateKey;
use super::{
    image::{DOCKER_HUB, Image},
    server::{Server, ServerOptions},
};
use crate::{
    config,
    oci::{Digest, Repository, Tag},
};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// [REPOSITORY[:TAG]@]DIGEST, such as docker.io/library/nginx:preview-1@sha256:...; a repository narrows the
    /// signature to it
    #[arg(value_parser = image)]
    image: Image,

    /// The tag that the signature is for, where IMAGE names none
    #[arg(long)]
    tag: Option<Tag>,

    /// Sign now, with a private key in PEM form or a cosign.key (its password is read from COSIGN_PASSWORD)
    #[arg(long, value_name = "KEY", conflicts_with = "signature", required_unless_present = "signature")]
    sign_with: Option<PathBuf>,

    /// The signature: raw, a sigstore bundle, notation's, OpenPGP's; - is standard input
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,

    /// The simple-signing payload that a raw signature was made over
    #[arg(long, value_name = "FILE", requires = "signature")]
    payload: Option<PathBuf>,

    /// How the signature is to be read, where its content does not tell rightly
    #[arg(long, requires = "signature")]
    format: Option<String>,

    /// The certificate of the key that made a raw signature, in PEM
    #[arg(long, value_name = "FILE", requires = "signature")]
    certificate: Option<PathBuf>,

    /// What vouches for the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "signature")]
    chain: Option<PathBuf>,

    /// The transparency log's entry for a raw signature, as cosign's annotation has it
    #[arg(long, value_name = "FILE", requires = "signature")]
    bundle: Option<PathBuf>,

    /// A timestamp of a raw signature, as cosign's annotation has it
    #[arg(long, value_name = "FILE", requires = "signature")]
    rfc3161timestamp: Option<PathBuf>,

    /// preview or internal, where the tag does not say it
    #[arg(long)]
    tag_type: Option<String>,

    /// Who is said to have signed: a label
    #[arg(long)]
    signer: Option<String>,

    /// Kept with the signature; may be given often
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,

    /// Classes the signature, as in test-prod
    #[arg(long)]
    environment: Option<String>,

    /// When the signature ends (RFC 3339)
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,

    #[command(flatten)]
    server: ServerOptions,
}

/// Says what became of it on standard output.
pub(super) fn run(options: &Options) -> Result<(), anyhow::Error> {
    let submission = submission(options)?;
    let server = Server::new(&options.server)?;
    let record = super::block_on(server.post("signatures", &submission))?;
    super::print(&options.server, &record, |record| {
        let text = |member: &str| record[member].as_str().unwrap_or_default();
        match record["verified_by"]["name"].as_str() {
            Some(name) => format!("{} verified by {name:?}", text("id")),
            None => format!("{} kept, and not valid: {} ({})", text("id"), text("detail"), text("reason")),
        }
    })
}

fn submission(options: &Options) -> anyhow::Result<Value> {
    let Image { tag, .. } = &options.image;
    let digest = &options.image.digest.expect("it was looked for");
    let repository = options.image.repository(&DOCKER_HUB.parse()?);
    let tag =
        options.tag.as_ref().or(tag.as_ref()).context("the signature is for a tag: name one in IMAGE or by --tag")?;
    let (signature, payload) = match (&options.sign_with, &options.signature) {
        (Some(key), _) => {
            let key = PrivateKey::read(key, cosign_password)?;
            let payload = payload(repository.as_ref(), digest);
            (key.sign(&payload)?, Some(payload))
        }
        (None, Some(file)) => {
            let payload = options.payload.as_deref().map(|file| read("--payload", file)).transpose()?;
            (read("--signature", file)?, payload)
        }
        (None, None) => unreachable!("one of them is required"),
    };
    let beside = |option: &str, file: &Option<PathBuf>| {
        let text = file.as_deref().map(|file| read(option, file)).transpose()?;
        text.map(|text| String::from_utf8(text).with_context(|| format!("{option}: it is not text"))).transpose()
    };
    let metadata: BTreeMap<_, _> = options.metadata.iter().cloned().collect();
    ensure!(metadata.len() == options.metadata.len(), "--metadata: a key is there more than once");
    Ok(json!({
        "image_digest": digest, "tag": tag, "tag_type": options.tag_type, "repository": repository,
        "signature": STANDARD.encode(signature), "payload": payload.map(|payload| STANDARD.encode(payload)),
        "format": options.format,
        "certificate": beside("--certificate", &options.certificate)?,
        "chain": beside("--chain", &options.chain)?,
        "bundle": beside("--bundle", &options.bundle)?,
        "rfc3161timestamp": beside("--rfc3161timestamp", &options.rfc3161timestamp)?,
        "signer": options.signer, "metadata": metadata,
        "environment": options.environment, "expires_at": options.expires_at,
    }))
}

/// As cosign reads it: a key without a password has the empty one, which has to be said.
fn cosign_password() -> anyhow::Result<String> {
    let password = config::even_empty_variable_of_process("COSIGN_PASSWORD").context("it needs COSIGN_PASSWORD")?;
    password.into_string().map_err(|_| anyhow!("COSIGN_PASSWORD is not text"))
}

/// What `cosign sign` signs for this image, so that `cosign verify` can read it back.
fn payload(repository: Option<&Repository>, digest: &Digest) -> Vec<u8> {
    let reference = repository.map(ToString::to_string).unwrap_or_default();
    let identity = json!({ "docker-reference": reference });
    let image = json!({ "docker-manifest-digest": digest });
    let critical = json!({ "identity": identity, "image": image, "type": "cosign container image signature" });
    json!({ "critical": critical, "optional": null }).to_string().into_bytes()
}

fn read(option: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).with_context(|| format!("{option} -"))?;
        return Ok(bytes);
    }
    fs::read(path).with_context(|| format!("{option} {}", path.display()))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn image(text: &str) -> Result<Image, String> {
    let image: Image = text.parse()?;
    match image.digest {
        Some(_) => Ok(image),
        None => Err("expected [REPOSITORY[:TAG]@]DIGEST: what is signed is a digest".to_owned()),
    }
}

const AFTER_HELP: &str = "\
Sign and submit in one step, as a CI job would:
  sig-repo submit --sign-with cosign.key docker.io/library/nginx:preview-1.2@sha256:...

A signature that no trusted signer made is kept and counts for nothing; the answer says so.";
