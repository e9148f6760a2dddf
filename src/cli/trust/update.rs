//! The trusted root of sigstore, fetched when somebody says so.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use url::Url;

use super::{
    installed::Installed,
    report::{Before, Report},
};
use crate::{
    app::{self, TufRepository, TufRepositoryError},
    clock::Clock,
    config::Config,
    trust::{SigstoreRoot, TufUpdate},
};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// Change nothing; say what would change
    #[arg(long, visible_alias = "dry-run")]
    check: bool,

    /// The TUF repository: of a sigstore of your own, or a mirror of the public one
    #[arg(long, value_name = "URL", default_value = PUBLIC_GOOD)]
    url: Url,

    /// The first root.json of a repository of your own, which you had from somewhere safe
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,

    /// What the file in TRUST_DIR is called: NAME.trusted_root.json; by default public-good, with --root the host of --url
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Certificates in PEM form to believe beside the platform's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Says what it found on standard output; the exit code says it too.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(file: Option<PathBuf>, options: &Options) -> Result<ExitCode, anyhow::Error> {
    let config = crate::cli::configuration(file)?;
    let report = options.update(&config)?;
    match options.json {
        true => println!("{}", serde_json::to_string_pretty(&report.json())?),
        false => println!("{}", crate::cli::printable(&report.words())),
    }
    match options.check && report.is_new {
        true => Ok(ExitCode::from(WOULD_CHANGE)),
        false => Ok(ExitCode::SUCCESS),
    }
}

impl Options {
    fn update(&self, config: &Config) -> anyhow::Result<Report> {
        let first_root = match &self.root {
            Some(path) => fs::read(path).with_context(|| format!("--root {}", path.display()))?,
            None => TufUpdate::PUBLIC_GOOD_ROOT.to_vec(),
        };
        let repository = self.repository(config)?;
        let installed = Installed::open(&config.trust_dir, &self.name()?, !self.check)?;
        let before = self.before(config, &installed)?;
        let state = installed.state()?;
        let state_file = installed.state_file().display().to_string();
        let mut update = TufUpdate::begin(&first_root, state.clone(), &state_file, Clock::system().now())?;
        let fetched = crate::cli::block_on(async { Ok(app::fetch_trusted_root(&repository, &mut update).await) })?;
        // Also after an error: what was verified until then is not gone back behind.
        if !self.check && *update.state() != state {
            installed.keep(update.state())?;
        }
        fetched.with_context(|| self.url.to_string())?;
        let found = update.found().context("the update ended before its end")?;
        let root = SigstoreRoot::parse(&found.content)
            .with_context(|| format!("{}: the trusted root is not put in force", self.url))?;
        let is_new = installed.root() != Some(&found.content);
        if is_new && !self.check {
            installed.install(&found.content)?;
        }
        let changes = root.changes_since(before.root());
        Ok(Report {
            file: installed.root_file(),
            url: self.url.clone(),
            is_new,
            is_installed: !self.check,
            before,
            changes,
            versions: found.versions,
            beside: others(config, &installed)?,
        })
    }

    /// What is in force of this name now.
    fn before(&self, config: &Config, installed: &Installed) -> anyhow::Result<Before> {
        match installed.root().map(|json| SigstoreRoot::parse(json)) {
            Some(Ok(root)) => Ok(Before::File { root, since: installed.since() }),
            Some(Err(_)) => Ok(Before::Unusable),
            None if self.root.is_none() && others(config, installed)?.is_empty() => {
                Ok(Before::Shipped(SigstoreRoot::public_good()))
            }
            None => Ok(Before::Nothing),
        }
    }

    fn repository(&self, config: &Config) -> anyhow::Result<TufRepository> {
        let ca = self.ca.as_ref();
        let ca = ca.map(|path| fs::read(path).with_context(|| format!("--ca {}", path.display()))).transpose()?;
        let of_operator = self.url.as_str().trim_end_matches('/') != PUBLIC_GOOD;
        let proxies = config.upstream.proxies.clone();
        TufRepository::new(self.url.clone(), of_operator, ca.as_deref(), proxies).map_err(|error| {
            match (&error, &self.ca) {
                (TufRepositoryError::Ca, Some(path)) => {
                    anyhow::Error::new(error).context(format!("--ca {}", path.display()))
                }
                // Not the URL itself: what is wrong with it may be a password.
                _ => anyhow::Error::new(error).context("--url"),
            }
        })
    }

    /// Roots of different repositories lie side by side; a mirror's is that of what it mirrors.
    fn name(&self) -> anyhow::Result<String> {
        let name = match (&self.name, &self.root) {
            (Some(name), _) => name.clone(),
            (None, None) => "public-good".to_owned(),
            (None, Some(_)) => self.url.host_str().unwrap_or_default().replace(['[', ']', ':'], "-"),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(is_plain) {
            bail!("--name {name:?}: expected at most {MAX_NAME} letters, digits, '.', '-' and '_', not '.' first");
        }
        Ok(name)
    }
}

/// The other trusted roots in the directory, which count as well.
fn others(config: &Config, installed: &Installed) -> anyhow::Result<Vec<String>> {
    let mut files = app::sigstore_root_files(config)?;
    files.retain(|file| installed.root_file().file_name().is_none_or(|own| own != file.as_str()));
    Ok(files)
}

const PUBLIC_GOOD: &str = "https://tuf-repo-cdn.sigstore.dev";
const MAX_NAME: usize = 64;
const WOULD_CHANGE: u8 = 1;

const AFTER_HELP: &str = "\
Exit code: 0 if the repository's trusted root is in force now; with --check 0 if it was, 1 if an update would
install it; 2 if it could not be told, and then everything is as it was.

The file in TRUST_DIR is replaced as a whole, and a server that runs takes it over within a second. What the
repository's metadata said is kept beside it, so that no later update goes back behind it. An update happens
only by this command.";
