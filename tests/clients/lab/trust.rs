//! What cosign is told about the servers: whom to believe, and where to sign.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Lab,
    cosign::Build,
    issuer::Identity,
    keys::{self, Algorithm},
    servers::{REKOR_1, REKOR_2},
};
use crate::{process::run, world::World};

/// Who else takes part in a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Witnesses {
    pub(crate) log: Option<Log>,
    pub(crate) timestamp: bool,
}

/// The generations of Rekor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Log {
    First,
    Second,
}

impl Lab {
    /// The file that names all that this sigstore is made of. None of its addresses has to answer, only the second
    /// Rekor's has to be the name that the log signs under.
    pub(super) fn write_trusted_root(&self, world: &World) {
        let mut command = Build::Three.command(world, &self.directory);
        command.args(["trusted-root", "create", "--out", TRUSTED_ROOT]);
        for (flag, name, rest) in [
            ("--fulcio", "fulcio.lab.example", format!("certificate-chain={}", keys::FULCIO_CHAIN)),
            ("--tsa", "tsa.lab.example", format!("certificate-chain={}", keys::TSA_CHAIN)),
            ("--ctfe", "ct.lab.example", format!("public-key={},{SINCE}", keys::CT_PUBLIC)),
            ("--rekor", REKOR_1, format!("public-key={},{SINCE}", keys::REKOR_1_PUBLIC)),
            ("--rekor", REKOR_2, format!("public-key={},{SINCE},origin={REKOR_2}", keys::REKOR_2_PUBLIC)),
        ] {
            command.args([flag, &format!("url=https://{name},{rest}")]);
        }
        run(&mut command).expect("cosign trusted-root create");
    }

    /// What it takes to verify, and nothing that it takes to sign.
    pub(super) fn write_public_parts(&self, directory: &Path) {
        let keys = directory.join("keys");
        fs::create_dir_all(&keys).unwrap();
        for algorithm in Algorithm::ALL {
            fs::copy(self.directory.join(algorithm.public()), keys.join(algorithm.public())).unwrap();
        }
        let root: serde_json::Value = serde_json::from_slice(&fs::read(self.trusted_root()).unwrap()).unwrap();
        fs::write(directory.join(TRUSTED_ROOT), serde_json::to_vec_pretty(&root).unwrap()).unwrap();
    }

    pub(crate) fn trusted_root(&self) -> PathBuf {
        self.directory.join(TRUSTED_ROOT)
    }

    /// A file that has cosign sign with these witnesses. Its addresses have to answer.
    pub(super) fn signing_config(&self, world: &World, witnesses: Witnesses, logged: bool) -> PathBuf {
        let servers = &self.servers;
        let fulcio = if logged { servers.fulcio } else { servers.fulcio_unlogged };
        let out = self.directory.join("signing_config.json");
        let mut command = Build::Three.command(world, &self.directory);
        command.args(["signing-config", "create"]).arg("--out").arg(&out);
        let service = |url: String, version: u8| format!("url={url},api-version={version},{SINCE},operator=lab");
        command.args(["--fulcio", &service(format!("http://{fulcio}"), 1)]);
        command.args(["--oidc-provider", &service(Identity::Person("").issuer(), 1)]);
        if let Some(log) = witnesses.log {
            let (address, version) = match log {
                Log::First => (servers.rekor_1, 1),
                Log::Second => (servers.rekor_2, 2),
            };
            command.args(["--rekor", &service(format!("http://{address}"), version), "--rekor-config=ANY"]);
        }
        if witnesses.timestamp {
            command.args(["--tsa", &service(self.timestamp_url(), 1), "--tsa-config=ANY"]);
        }
        run(&mut command).expect("cosign signing-config create");
        out
    }

    pub(crate) fn timestamp_url(&self) -> String {
        format!("http://{}/api/v1/timestamp", self.servers.tsa)
    }
}

pub(super) const TRUSTED_ROOT: &str = "trusted_root.json";
/// Before anything was signed.
const SINCE: &str = "start-time=2025-01-01T00:00:00Z";
