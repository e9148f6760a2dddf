use std::{net::Ipv4Addr, path::Path};

use crate::{
    clock::Clock,
    config::Config,
    oci::{Reference, Repository},
    pull::{Ask, Asker},
    telemetry::Metrics,
};

pub use crate::pull::{Explanation, Refused};

use super::{Parts, StartError, TrustFiles};

/// What a server with these settings would make of an image, from the signatures that the image's registry
/// has: the parts of a server over a new store in `directory`, which nobody but the caller asks.
pub async fn explain(
    mut config: Config,
    repository: Repository,
    reference: Reference,
    directory: &Path,
    clock: Clock,
) -> Result<Result<Explanation, Refused>, StartError> {
    config.store.data_dir = directory.to_owned();
    let files = TrustFiles::read(&config.trust_dir)?;
    let parts = Parts::build(&config, files, &Metrics::new(), clock)?;
    // Whoever may run this may see what the server would hide from strangers.
    let account = Some("operator".into());
    let asker =
        Asker { address: Ipv4Addr::LOCALHOST.into(), user_agent: "sig-repo".into(), account, by_our_name: false };
    let explained = parts.puller.explain(&Ask { repository, reference, asker }).await;
    parts.store.close();
    Ok(explained)
}
