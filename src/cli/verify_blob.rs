//! Whether a file is signed by a bundle that comes with it: cosign's question, with its flags.

use std::{collections::BTreeMap, fs, io::Read, path::PathBuf};

use anyhow::{Context as _, anyhow, bail};

use crate::{
    app,
    clock::Clock,
    oci::Digest,
    trust::{
        Annotations, Claim, Credential, Demands, Envelope, Keyless, Matcher, Outcome, PublicKey, Signer, SignerOrigin,
        SigstoreRoot, Subject, TrustRoot, verify,
    },
};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// The file, - for standard input, or a digest (sha256:...) that is no file's name
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

    /// Trusted roots to verify by, in place of those in TRUST_DIR or else the shipped one; may be given often
    #[arg(long, value_name = "FILE")]
    trusted_root: Vec<PathBuf>,

    /// Verify also what is in no log: a key's signature, or a certificate's with a timestamp
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_ignore_tlog: Option<bool>,

    /// Verify also a certificate that is in no certificate log
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_ignore_sct: Option<bool>,

    /// Demand a timestamp by an authority of the trusted root
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    use_signed_timestamps: Option<bool>,

    #[command(flatten)]
    workflow: Workflow,
}

/// What GitHub says of the run that signed.
#[derive(Debug, clap::Args)]
struct Workflow {
    /// The event that started the signing workflow of GitHub
    #[arg(long, value_name = "EVENT")]
    certificate_github_workflow_trigger: Option<String>,

    /// The commit that it ran for
    #[arg(long, value_name = "COMMIT")]
    certificate_github_workflow_sha: Option<String>,

    /// Its name
    #[arg(long, value_name = "NAME")]
    certificate_github_workflow_name: Option<String>,

    /// Its repository
    #[arg(long, value_name = "REPOSITORY")]
    certificate_github_workflow_repository: Option<String>,

    /// The branch or tag that it ran for
    #[arg(long, value_name = "REF")]
    certificate_github_workflow_ref: Option<String>,
}

/// Says on standard output that it is verified; everything else is an error.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(file: Option<PathBuf>, options: &Options) -> Result<(), anyhow::Error> {
    let (digest, blob) = options.blob()?;
    let bundle = fs::read(&options.bundle).with_context(|| format!("--bundle {}", options.bundle.display()))?;
    let envelope = Envelope::recognise(&bundle, None, &Annotations::new())
        .with_context(|| format!("--bundle {}", options.bundle.display()))?;
    let clock = Clock::system();
    // An attestation of a file is a bundle as good as its signature; whether its predicate is true is not asked.
    let demands = Demands { attestations: true, ..options.demands() };
    let signer = Signer {
        name: "the command line".to_owned(),
        credential: options.credential()?,
        origin: SignerOrigin::File,
        added: clock.now(),
        not_before: None,
        not_after: None,
        revoked: None,
    };
    let root = TrustRoot::new(vec![signer]).with_sigstore(options.roots(file)?.into(), demands).with_large_files();
    let subject = Subject::new(&digest, blob.as_deref(), None);
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
    /// The digest of what is to be verified, and its bytes if they are here.
    fn blob(&self) -> anyhow::Result<(Digest, Option<Vec<u8>>)> {
        let mut blob = Vec::new();
        if self.blob == "-" {
            std::io::stdin().read_to_end(&mut blob).context("standard input")?;
        } else {
            match self.blob.to_ascii_lowercase().parse() {
                Ok(digest) if !fs::exists(&self.blob).unwrap_or(false) => return Ok((digest, None)),
                Ok(_) | Err(_) => blob = fs::read(&self.blob).with_context(|| self.blob.clone())?,
            }
        }
        Ok((Digest::sha256(&blob), Some(blob)))
    }

    /// Those of cosign: also a key's signature is in a log.
    fn demands(&self) -> Demands {
        let is_set = |flag: Option<bool>| flag.unwrap_or(false);
        Demands {
            logs: if is_set(self.insecure_ignore_tlog) { 0 } else { 1 },
            logs_for_keys: true,
            timestamp: is_set(self.use_signed_timestamps),
            certificate_log: !is_set(self.insecure_ignore_sct),
            ..Demands::default()
        }
    }

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
            (Some(issuer), Some(subject)) => {
                Ok(Credential::Keyless(Keyless::new(issuer, subject, self.workflow.claims()?)))
            }
            _ => bail!("expected --key, or --certificate-identity and --certificate-oidc-issuer"),
        }
    }

    fn roots(&self, file: Option<PathBuf>) -> anyhow::Result<Vec<SigstoreRoot>> {
        if self.trusted_root.is_empty() {
            return Ok(app::sigstore_roots(&super::configuration(file)?)?);
        }
        let root = |path: &PathBuf| {
            let json = fs::read(path).with_context(|| format!("--trusted-root {}", path.display()))?;
            SigstoreRoot::parse(&json).with_context(|| format!("--trusted-root {}", path.display()))
        };
        self.trusted_root.iter().map(root).collect()
    }
}

impl Workflow {
    fn claims(&self) -> anyhow::Result<BTreeMap<Claim, Matcher>> {
        let claims = [
            (Claim::GithubWorkflowTrigger, &self.certificate_github_workflow_trigger),
            (Claim::GithubWorkflowSha, &self.certificate_github_workflow_sha),
            (Claim::GithubWorkflowName, &self.certificate_github_workflow_name),
            (Claim::GithubWorkflowRepository, &self.certificate_github_workflow_repository),
            (Claim::GithubWorkflowRef, &self.certificate_github_workflow_ref),
        ];
        let claims = claims.into_iter().filter_map(|(claim, text)| Some((claim, text.as_ref()?)));
        claims.map(|(claim, text)| Ok((claim, Matcher::exact(text, claim.name())?))).collect()
    }
}

const AFTER_HELP: &str = "\
Exit code: 0 if it is verified, 1 if not or if the command line is wrong, as with cosign. Unlike with cosign a pattern must
match all of a name, and the trusted roots are those of TRUST_DIR, as for the server, or the one that is shipped where there
is none, unless --trusted-root names another: nothing is asked of any server.";
