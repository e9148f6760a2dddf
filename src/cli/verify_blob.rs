//! Whether a file is signed by a bundle that comes with it: cosign's question, with its flags.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, anyhow, bail};

use crate::{
    clock::Clock,
    oci::Digest,
    trust::{
        Annotations, Credential, Demands, Envelope, Keyless, Matcher, Outcome, PublicKey, Signer, SignerOrigin,
        SigstoreRoot, Subject, TrustRoot, verify,
    },
};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// The file, or its digest (sha256:...)
    blob: String,

    /// The sigstore bundle
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,

    /// The public key that signed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_identity", "certificate_identity_regexp"])]
    key: Option<PathBuf>,

    /// Whom the certificate names
    #[arg(long, value_name = "IDENTITY", conflicts_with = "certificate_identity_regexp")]
    certificate_identity: Option<String>,

    /// The same as a regular expression, which must match all of it
    #[arg(long, value_name = "PATTERN")]
    certificate_identity_regexp: Option<String>,

    /// Who vouched for the identity
    #[arg(long, value_name = "URL", conflicts_with = "certificate_oidc_issuer_regexp")]
    certificate_oidc_issuer: Option<String>,

    /// The same as a regular expression, which must match all of it
    #[arg(long, value_name = "PATTERN")]
    certificate_oidc_issuer_regexp: Option<String>,

    /// Trusted roots to verify by, in place of the public instance's; may be given often
    #[arg(long, value_name = "FILE")]
    trusted_root: Vec<PathBuf>,
}

/// Says on standard output that it is verified; everything else is an error.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(options: &Options) -> Result<(), anyhow::Error> {
    let (digest, blob) = match options.blob.parse::<Digest>() {
        Ok(digest) => (digest, None),
        Err(_) => {
            let blob = fs::read(&options.blob).with_context(|| options.blob.clone())?;
            (Digest::sha256(&blob), Some(blob))
        }
    };
    let bundle = fs::read(&options.bundle).with_context(|| format!("--bundle {}", options.bundle.display()))?;
    let envelope = Envelope::recognise(&bundle, None, &Annotations::new())
        .with_context(|| format!("--bundle {}", options.bundle.display()))?;
    let clock = Clock::system();
    // An attestation of a file is a bundle as good as its signature; whether its predicate is true is not asked.
    let demands = Demands { attestations: true, ..Demands::default() };
    let signer = Signer {
        name: "the command line".to_owned(),
        credential: options.credential()?,
        origin: SignerOrigin::File,
        added: clock.now(),
        not_before: None,
        not_after: None,
        revoked: None,
    };
    let root = TrustRoot::new(vec![signer]).with_sigstore(options.roots()?.into(), demands);
    let subject = Subject { digest: &digest, manifest: blob.as_deref(), repository: None };
    match verify(&envelope, &subject, &root, clock.now()) {
        Outcome::Verified(verified) => {
            println!("Verified OK");
            verified.evidence.links.iter().for_each(|link| println!("  {}", super::printable(link)));
            Ok(())
        }
        Outcome::Rejected(rejection) => Err(anyhow!("{rejection} ({})", rejection.code())),
        Outcome::Unknown(unknown) => Err(anyhow!("{unknown} ({})", unknown.code())),
    }
}

impl Options {
    fn credential(&self) -> anyhow::Result<Credential> {
        if let Some(path) = &self.key {
            let pem = fs::read_to_string(path).with_context(|| format!("--key {}", path.display()))?;
            let key = PublicKey::from_pem(&pem).with_context(|| format!("--key {}", path.display()))?;
            return Ok(Credential::PublicKey(key));
        }
        let matcher = |exact: &Option<String>, pattern: &Option<String>, name| match (exact, pattern) {
            (Some(text), _) => Ok(Some(Matcher::exact(text, name)?)),
            (None, Some(text)) => Ok(Some(Matcher::pattern(text, name)?)),
            (None, None) => anyhow::Ok(None),
        };
        let subject = matcher(&self.certificate_identity, &self.certificate_identity_regexp, "subject")?;
        let issuer = matcher(&self.certificate_oidc_issuer, &self.certificate_oidc_issuer_regexp, "issuer")?;
        match (issuer, subject) {
            (Some(issuer), Some(subject)) => Ok(Credential::Keyless(Keyless::new(issuer, subject, Default::default()))),
            _ => bail!("expected --key, or --certificate-identity and --certificate-oidc-issuer"),
        }
    }

    fn roots(&self) -> anyhow::Result<Vec<SigstoreRoot>> {
        if self.trusted_root.is_empty() {
            return Ok(vec![SigstoreRoot::public_good()]);
        }
        let root = |path: &PathBuf| {
            let json = fs::read(path).with_context(|| format!("--trusted-root {}", path.display()))?;
            SigstoreRoot::parse(&json).with_context(|| format!("--trusted-root {}", path.display()))
        };
        self.trusted_root.iter().map(root).collect()
    }
}

const AFTER_HELP: &str = "\
Exit code: 0 if it is verified, 1 if not. Nothing is asked of any server.";
