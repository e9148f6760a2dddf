//! What a mirror setting lets through, found out from the client's side: a test refusal is pulled through the public
//! name as each family of clients pulls, and the clients' own settings are read for what goes round the mirror.
//!
//! Nothing is changed, no credentials are sent, and no image is pulled. Nothing but the mirrors' URLs is asked: whether
//! this machine could reach a registry past them is not tried.

mod address;
mod exchange;
mod family;
mod files;
mod probe;
mod report;
mod settings;
mod verdict;
mod words;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use self::{
    address::Address,
    files::Files,
    probe::{TestImage, probe},
    report::Report,
    settings::{Machine, Setting},
    verdict::{Probes, Verdict},
};
use super::roots::Roots;
use crate::{
    clock::Clock,
    oci::{RegistryName, Repository, Tag},
};

/// What to look at.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// The mirror as clients are told of it: http(s)://HOST[:PORT][/BASE]. Without it, the URLs in their settings
    url: Option<Address>,

    /// Read the clients' settings below this directory, a mounted image for one
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    /// Ask the URL alone, and read no settings
    #[arg(long, requires = "url", conflicts_with = "root")]
    no_settings: bool,

    /// Certificates in PEM form to believe beside the platform's
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,

    /// An image that the mirror's policy enforces and that has no signature, where internal tags are not enforced
    #[arg(long, value_name = "REPOSITORY:TAG", value_parser = test_image)]
    image: Option<TestImage>,
}

/// Says what it found on standard output; the exit code is the worst of it.
pub(super) fn run(options: &Options) -> Result<ExitCode, anyhow::Error> {
    let roots = Roots::with(&options.ca)?;
    let machine = match options.no_settings {
        true => None,
        false => Some(settings::read(&Files::under(&options.root)?)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verdict = runtime.block_on(examine(options, &roots, machine, &mut io::stdout().lock()))?;
    Ok(ExitCode::from(match verdict {
        Verdict::Held => 0,
        Verdict::Round => 1,
        Verdict::Unknown => 2,
    }))
}

async fn examine(
    options: &Options,
    roots: &Roots,
    machine: Option<Machine>,
    out: &mut dyn Write,
) -> anyhow::Result<Verdict> {
    let image = options.image.clone().unwrap_or_else(TestImage::fresh);
    let clock = Clock::system();
    let mut report = Report::new(out);
    let mut probes = Probes::new();
    if let Some(url) = &options.url {
        let found = probe(roots, url, &image, &clock).await;
        report.url(url, &found, &image)?;
        probes.insert(url.clone(), found);
    }
    let Some(mut machine) = machine else { return Ok(report.end()?) };
    for mirror in machine.settings.iter_mut().flat_map(Setting::mirrors_mut) {
        let mut believed = roots.clone();
        for pem in &mirror.authorities {
            if believed.add(pem).is_err() {
                machine.notes.push(format!("{}: a file of certificates for it holds none", mirror.address));
            }
        }
        let addresses = [Some(mirror.address.clone()), mirror.plain()];
        for address in addresses.into_iter().flatten() {
            if !probes.contains_key(&address) {
                probes.insert(address.clone(), probe(&believed, &address, &image, &clock).await);
            }
            // A client that minds no certificate takes plain HTTP where there is no TLS.
            if probes[&address].found.is_ok() {
                mirror.address = address;
                break;
            }
        }
    }
    let mut shown: BTreeSet<_> = options.url.iter().cloned().collect();
    for mirror in machine.settings.iter().flat_map(Setting::mirrors) {
        if shown.insert(mirror.address.clone()) {
            report.url(&mirror.address, &probes[&mirror.address], &image)?;
        }
    }
    let named = |url: &Address| machine.settings.iter().flat_map(Setting::mirrors).any(|mirror| mirror.address == *url);
    if let Some(url) = options.url.as_ref().filter(|url| !machine.settings.is_empty() && !named(url)) {
        machine.notes.push(format!("{url} is not among the mirrors of any setting here"));
    }
    let judged: Vec<_> =
        machine.settings.iter().map(|setting| verdict::of_setting(setting, &probes, options.url.as_ref())).collect();
    report.looked(&machine)?;
    report.settings(&machine, &judged)?;
    Ok(report.end()?)
}

/// `REPOSITORY:TAG`, as it is pulled through the mirror.
fn test_image(text: &str) -> Result<TestImage, String> {
    let wanted = "expected REPOSITORY:TAG, such as team/app:v1";
    let (repository, tag) = text.rsplit_once(':').ok_or(wanted)?;
    let hub: RegistryName = settings::DOCKER_HUB.parse().map_err(|_| wanted)?;
    let named = Repository::new(&hub, repository).map_err(|error| format!("{wanted}: {error}"))?;
    tag.parse::<Tag>().map_err(|error| format!("{wanted}: {error}"))?;
    Ok(TestImage { repository: named.path().to_owned(), tag: tag.to_owned() })
}

const AFTER_HELP: &str = "\
Exit code: 0 if everything is held, 1 if something would be walked round, 2 if it could not be told.

What is read, where it is there: /etc/docker/daemon.json, /etc/docker/certs.d/*/hosts.toml,
/etc/containerd/config.toml, the hosts.toml of each registry in its config_path,
/etc/containers/registries.conf and registries.conf.d/*.conf.

It asks nobody but the mirrors, changes nothing, and sends no credentials.";
