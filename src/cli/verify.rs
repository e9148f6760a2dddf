//! Whether an image is signed by somebody trusted: the question that the server asks, asked by hand.

use std::{path::PathBuf, process::ExitCode, str::FromStr};

use anyhow::{Context as _, anyhow, ensure};
use serde_json::{Value, json};

use super::{
    image::Image,
    layout::{Address, Layout, LayoutRegistry},
};
use crate::{
    app::{self, Explanation, Refused},
    clock::Clock,
    config::Config,
    oci::{Reference, RegistryName, Repository},
    policy::{Decision, Reason},
    trust::Outcome,
};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// REPOSITORY[:TAG][@DIGEST], or an OCI image layout: oci:PATH[:REF|@DIGEST], where PATH is a directory or a tar
    /// file; oci: may be left out before a path that begins with / or .
    #[arg(value_name = "IMAGE|LAYOUT")]
    image: Asked,

    /// Verify the image of a layout as one of this repository, under this tag where one is named
    #[arg(long = "as", value_name = "REPOSITORY[:TAG]")]
    image_as: Option<Image>,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// What there is to verify.
#[derive(Debug, Clone)]
enum Asked {
    Image(Image),
    Layout(Address),
}

/// An image by its full name; for one of a layout, with what answers for it.
struct Subject {
    repository: Repository,
    reference: Reference,
    registry: Option<LayoutRegistry>,
}

/// Says what it found on standard output; the exit code says it too.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(file: Option<PathBuf>, options: &Options) -> Result<ExitCode, anyhow::Error> {
    let config = super::configuration(file)?;
    let Subject { repository, reference, registry } = options.subject(&config.upstream.default.name)?;
    let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
    let image = format!("{repository}{separator}{reference}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let explained = runtime.block_on(explain(config, repository, reference, registry))?;
    let answer = Answer::new(&image, explained)?;
    match options.json {
        true => println!("{}", serde_json::to_string_pretty(&answer.json)?),
        false => println!("{}", super::printable(&answer.words())),
    }
    Ok(answer.code)
}

async fn explain(
    config: Config,
    repository: Repository,
    reference: Reference,
    registry: Option<LayoutRegistry>,
) -> anyhow::Result<Result<Explanation, Refused>> {
    let clock = Clock::system();
    Ok(match registry {
        None => app::explain(config, repository, reference, clock).await?,
        Some(registry) => {
            let path = registry.path().to_owned();
            app::explain_from(registry, &path, config, repository, reference, clock).await?
        }
    })
}

impl Options {
    fn subject(&self, default: &RegistryName) -> anyhow::Result<Subject> {
        match &self.image {
            Asked::Image(image) => {
                ensure!(self.image_as.is_none(), "--as is for the image of a layout; an image has its name");
                let repository = image.repository(default);
                let repository =
                    repository.context("IMAGE: a digest alone says of no repository; expected REPOSITORY@DIGEST")?;
                Ok(Subject { repository, reference: image.reference(), registry: None })
            }
            Asked::Layout(address) => self.subject_in(address, default),
        }
    }

    /// The image is what the layout calls it, unless we are told what it is to be.
    fn subject_in(&self, address: &Address, default: &RegistryName) -> anyhow::Result<Subject> {
        let (path, wanted) = address.resolve()?;
        let layout = Layout::open(&path)?;
        let chosen = layout.choose(&wanted).with_context(|| format!("the layout {}", path.display()))?;
        layout.check(&chosen.digest).with_context(|| format!("the layout {}", path.display()))?;
        if let [_, ..] = layout.unattributed() {
            let count = layout.unattributed().len();
            eprintln!("sig-repo: {count} entries of its index.json are of no image that is named there");
        }
        let named = chosen.named()?;
        let repository = self.image_as.as_ref().or(named.as_ref()).and_then(|image| image.repository(default));
        let repository = repository
            .unwrap_or(NAMELESS.parse::<Image>().map_err(anyhow::Error::msg)?.repository(default).expect("it has one"));
        let tag = self.image_as.as_ref().and_then(|image| image.tag.clone());
        let tag = tag.or_else(|| named.as_ref().and_then(|image| image.tag.clone())).or_else(|| chosen.tag());
        let registry = LayoutRegistry::new(layout, chosen.digest, tag.clone(), &repository)?;
        let reference = tag.map_or(Reference::Digest(chosen.digest), Reference::Tag);
        Ok(Subject { repository, reference, registry: Some(registry) })
    }
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Address::of(text).map_or_else(|| text.parse().map(Self::Image), |address| Ok(Self::Layout(address)))
    }
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

/// The repository of an image that nobody has named.
const NAMELESS: &str = "localhost/layout";

const NOT_VERIFIED: u8 = 1;
const COULD_NOT_TELL: u8 = 2;

const AFTER_HELP: &str = "\
Exit code: 0 if a trusted signer signed it, 1 if not, 2 if it could not be told.

Settings are those of the server: TRUST_DIR says who is trusted, POLICY_DEFAULT, POLICY_THRESHOLD and
the tag what is demanded.
Signatures are looked for where the image is. A server's own are there too for whoever names the server as
the registry, as in  PROXY_REMOTEURL=http://localhost:8080 sig-repo verify library/nginx:1.2
In a layout they are looked for where cosign save, oras and the referrers of the specification put them, and
every blob of the image is hashed; no registry is asked.";
