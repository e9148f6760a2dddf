//! Whether an image is signed by somebody trusted: the question that the server asks, asked by hand.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::{image::Image, workspace::Workspace};
use crate::{
    app::{self, Explanation, Refused},
    clock::Clock,
    oci::Reference,
    policy::{Decision, Reason},
    trust::Outcome,
};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// REPOSITORY[:TAG][@DIGEST]
    image: Image,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Says what it found on standard output; the exit code says it too.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(file: Option<PathBuf>, options: &Options) -> Result<ExitCode, anyhow::Error> {
    let config = super::configuration(file)?;
    let repository = options.image.repository(&config.upstream.default.name);
    let repository = repository.context("IMAGE: a digest alone says of no repository; expected REPOSITORY@DIGEST")?;
    let reference = options.image.reference();
    let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
    let image = format!("{repository}{separator}{reference}");
    let workspace = Workspace::create("verify")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let explained =
        runtime.block_on(app::explain(config, repository, reference, &workspace.data(), Clock::system()))?;
    let answer = Answer::new(&image, explained)?;
    match options.json {
        true => println!("{}", serde_json::to_string_pretty(&answer.json)?),
        false => println!("{}", super::printable(&answer.words())),
    }
    Ok(answer.code)
}

struct Answer {
    json: Value,
    code: ExitCode,
}

impl Answer {
    fn new(image: &str, explained: Result<Explanation, Refused>) -> anyhow::Result<Self> {
        let Explanation { digest, statement, decision, signatures } =
            explained.map_err(|refused| anyhow!("{image}: {} ({})", refused.reason, refused.reason.code()))?;
        let (verdict, code) = match &decision {
            Decision::Verified(_) => ("verified", ExitCode::SUCCESS),
            Decision::Skipped => ("skipped", ExitCode::from(NOT_VERIFIED)),
            Decision::Unverified(Reason::Unknown(_)) | Decision::Refused(Reason::Unknown(_)) => {
                ("unknown", ExitCode::from(COULD_NOT_TELL))
            }
            Decision::Unverified(_) | Decision::Refused(_) => ("rejected", ExitCode::from(NOT_VERIFIED)),
        };
        let verified_by = match &decision {
            Decision::Verified(signers) => signers,
            _ => &[][..],
        };
        let json = json!({
            "image": image, "digest": digest, "verdict": verdict, "verified_by": verified_by,
            "reason": decision.reason().map(Reason::code),
            "detail": decision.reason().map(ToString::to_string),
            "served": !matches!(decision, Decision::Refused(_)),
            "statement": statement.name, "level": statement.level,
            "signatures": signatures.iter().map(|judged| described(&judged.outcome)).collect::<Vec<_>>(),
        });
        Ok(Self { json, code })
    }

    fn words(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let Self { json, .. } = self;
        let signers: Vec<_> = json["verified_by"].as_array().into_iter().flatten().collect();
        let verdict = match signers.is_empty() {
            false => {
                let names: Vec<_> = signers.iter().map(|signer| signer["name"].to_string()).collect();
                format!("verified: signed by {}", names.join(" and "))
            }
            true => format!("{}: {}", text(&json["verdict"]), text(&json["detail"])),
        };
        let served = if json["served"] == true { "served" } else { "refused" };
        let mut lines = vec![
            format!("{} is {}", text(&json["image"]), text(&json["digest"])),
            verdict,
            format!("{served} by the statement {} ({})", text(&json["statement"]), text(&json["level"])),
        ];
        for signature in json["signatures"].as_array().into_iter().flatten() {
            match signature["verified_by"]["name"].as_str() {
                Some(name) => lines.push(format!("- a signature by {name:?}")),
                None => lines.push(format!("- a signature that does not count: {}", text(&signature["detail"]))),
            }
            let links = signature["evidence"].as_array().into_iter().flatten();
            lines.extend(links.map(|link| format!("    {}", text(link))));
        }
        lines.join("\n")
    }
}

fn described(outcome: &Outcome) -> Value {
    let (signer, evidence, signed_at) = match outcome {
        Outcome::Verified(verified) => {
            (Some(&verified.signer), verified.evidence.links.clone(), verified.evidence.signed_at)
        }
        Outcome::Rejected(_) | Outcome::Unknown(_) => (None, Vec::new(), None),
    };
    let detail = match outcome {
        Outcome::Verified(_) => None,
        Outcome::Rejected(rejection) => Some(rejection.to_string()),
        Outcome::Unknown(unknown) => Some(unknown.to_string()),
    };
    json!({
        "outcome": outcome.as_str(), "reason": outcome.code(), "detail": detail,
        "verified_by": signer, "signed_at": signed_at, "evidence": evidence,
    })
}

const NOT_VERIFIED: u8 = 1;
const COULD_NOT_TELL: u8 = 2;

const AFTER_HELP: &str = "\
Exit code: 0 if a trusted signer signed it, 1 if not, 2 if it could not be told.

Settings are those of the server: TRUST_DIR says who is trusted, POLICY_DEFAULT, POLICY_THRESHOLD and
the tag what is demanded.
Signatures are looked for where the image is. A server's own are there too for whoever names the server as
the registry, as in  PROXY_REMOTEURL=http://localhost:8080 sig-repo verify library/nginx:1.2";
