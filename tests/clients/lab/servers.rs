//! The servers' processes, each started when those that it asks answer.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use serde_json::json;

use super::{
    database,
    issuer::{AUDIENCE, Identity},
    keys,
};
use crate::{
    clients::Origin,
    http::Http,
    process::Daemon,
    process::run,
    world::{World, free_address},
};

/// Where they answer.
pub(super) struct Servers {
    pub(super) fulcio: SocketAddr,
    /// The same authority, whose certificates are in no log.
    pub(super) fulcio_unlogged: SocketAddr,
    pub(super) rekor_1: SocketAddr,
    pub(super) rekor_2: SocketAddr,
    pub(super) tsa: SocketAddr,
    _daemons: Vec<Daemon>,
}

/// What they are started with, and kept by.
struct Starter<'a> {
    world: &'a World,
    directory: &'a Path,
    http: Http,
    daemons: Vec<Daemon>,
}

impl Servers {
    /// In a directory that has the keys.
    pub(super) fn start(world: &World, directory: &Path) -> Self {
        let http = Http::new(world.runtime.handle().clone());
        let mut starter = Starter { world, directory, http, daemons: Vec::new() };
        let tsa = starter.timestamp_authority();
        let rekor_2 = starter.second_rekor();
        let trillian = starter.trillian();
        let ct = starter.certificate_log(trillian);
        let rekor_1 = starter.first_rekor(trillian);
        let fulcio = starter.authority(Some(ct));
        let fulcio_unlogged = starter.authority(None);
        Self { fulcio, fulcio_unlogged, rekor_1, rekor_2, tsa, _daemons: starter.daemons }
    }
}

impl Starter<'_> {
    fn timestamp_authority(&mut self) -> SocketAddr {
        let (address, key, chain) = (free_address(), keys::TSA_KEY, keys::TSA_CHAIN);
        let arguments = format!(
            "serve --host {} --port {} --timestamp-signer file --file-signer-key-path {key} \
             --certificate-chain-path {chain} --disable-ntp-monitoring",
            address.ip(),
            address.port(),
        );
        self.start("timestamp-server", &arguments, &format!("http://{address}/ping"));
        address
    }

    fn second_rekor(&mut self) -> SocketAddr {
        let (address, grpc, metrics) = (free_address(), free_address(), free_address());
        let storage = self.directory.join("rekor-2");
        fs::create_dir(&storage).unwrap();
        let arguments = format!(
            "serve --hostname {REKOR_2} --signer-filepath {} --storage-dir {} --http-address {} --http-port {} \
             --grpc-address {} --grpc-port {} --http-metrics-port {} --checkpoint-interval 100ms --batch-max-age 20ms",
            keys::REKOR_2_KEY,
            storage.display(),
            address.ip(),
            address.port(),
            grpc.ip(),
            grpc.port(),
            metrics.port(),
        );
        self.start("posix", &arguments, &format!("http://{address}/healthz"));
        address
    }

    /// What the certificate log and the first Rekor keep their trees in.
    fn trillian(&mut self) -> SocketAddr {
        let (daemon, url) = database::start(self.world, self.directory);
        self.daemons.push(daemon);
        let storage = format!("--storage_system=postgresql --quota_system=noop --postgresql_uri={url}");
        let [log, log_health, signer, signer_health] = std::array::from_fn(|_| free_address());
        let arguments = format!("{storage} --rpc_endpoint={log} --http_endpoint={log_health}");
        self.start("trillian_log_server", &arguments, &format!("http://{log_health}/healthz"));
        let arguments = format!(
            "{storage} --rpc_endpoint={signer} --http_endpoint={signer_health} --election_system=noop --force_master \
             --sequencer_interval=50ms"
        );
        self.start("trillian_log_signer", &arguments, &format!("http://{signer_health}/healthz"));
        log
    }

    fn certificate_log(&mut self, trillian: SocketAddr) -> SocketAddr {
        let (address, tree) = (free_address(), self.tree(trillian));
        let text = format!(
            "config {{ log_id: {tree} prefix: '{CT_PREFIX}' roots_pem_file: '{}' ext_key_usages: 'CodeSigning'\n\
             private_key {{ [type.googleapis.com/keyspb.PEMKeyFile] {{ path: '{}' password: '{}' }} }}\n\
             max_merge_delay_sec: 86400 expected_merge_delay_sec: 120 }}\n",
            keys::FULCIO_ROOT,
            keys::CT_KEY,
            keys::PASSPHRASE,
        );
        fs::write(self.directory.join("ct.cfg"), text).unwrap();
        let arguments = format!("--log_config ct.cfg --log_rpc_server {trillian} --http_endpoint {address}");
        self.start("ct_server", &arguments, &format!("http://{address}/{CT_PREFIX}/ct/v1/get-sth"));
        address
    }

    fn first_rekor(&mut self, trillian: SocketAddr) -> SocketAddr {
        let (address, tree) = (free_address(), self.tree(trillian));
        let arguments = format!(
            "serve --rekor_server.address {} --port {} --rekor_server.hostname {REKOR_1} --rekor_server.signer {} \
             --trillian_log_server.address {} --trillian_log_server.port {} --trillian_log_server.tlog_id {tree} \
             --enable_retrieve_api=false --enabled_api_endpoints {}",
            address.ip(),
            address.port(),
            keys::REKOR_1_KEY,
            trillian.ip(),
            trillian.port(),
            "getLogInfo,getPublicKey,getLogProof,createLogEntry,getLogEntryByIndex,getLogEntryByUUID,searchLogQuery",
        );
        self.start("rekor-server", &arguments, &format!("http://{address}/api/v1/log"));
        address
    }

    /// Fulcio, which puts its certificates into that log if there is one.
    fn authority(&mut self, ct: Option<SocketAddr>) -> SocketAddr {
        let (address, grpc, metrics) = (free_address(), free_address(), free_address());
        fs::write(self.directory.join("fulcio.yaml"), issuers()).unwrap();
        let log = ct.map(|ct| format!("http://{ct}/{CT_PREFIX} --ct-log-public-key-path {}", keys::CT_PUBLIC));
        let arguments = format!(
            "serve --host {} --port {} --grpc-host {} --grpc-port {} --metrics-port {} --config-path fulcio.yaml \
             --ca fileca --fileca-cert {} --fileca-key {} --fileca-key-passwd {} \
             --legacy-unix-domain-socket {} --ct-log-url={}",
            address.ip(),
            address.port(),
            grpc.ip(),
            grpc.port(),
            metrics.port(),
            keys::FULCIO_CHAIN,
            keys::FULCIO_KEY,
            keys::PASSPHRASE,
            self.directory.join(format!("fulcio-{}.sock", address.port())).display(),
            log.unwrap_or_default(),
        );
        self.start("fulcio", &arguments, &format!("http://{address}/healthz"));
        address
    }

    /// A new tree's number.
    fn tree(&self, trillian: SocketAddr) -> String {
        let mut command = Origin::Compiled.command("createtree", self.world);
        let printed = run(command.arg(format!("--admin_server={trillian}"))).expect("createtree");
        printed.lines().next().expect("the tree's number").trim().to_owned()
    }

    /// None of the arguments has a space in it.
    fn start(&mut self, program: &'static str, arguments: &str, ready: &str) {
        let set = |command: &mut Command| {
            command.args(arguments.split_whitespace()).current_dir(self.directory);
        };
        let mut daemon = Origin::Compiled.daemon(program, &self.world.scratch, set);
        daemon.wait_until(|| self.http.answers(ready));
        self.daemons.push(daemon);
    }
}

/// What the authority believes of whom, and what it writes into the certificates: a person's address, and a workflow's
/// particulars under the names that the public instance has for them.
fn issuers() -> String {
    let (person, workflow) = (Identity::Person("").issuer(), Identity::Workflow("").issuer());
    let settings = json!({
        "oidc-issuers": {
            &person: {"issuer-url": &person, "client-id": AUDIENCE, "type": "email"},
            &workflow: {
                "issuer-url": &workflow, "client-id": AUDIENCE, "type": "ci-provider", "ci-provider": "workflow",
            },
        },
        "ci-issuer-metadata": {"workflow": {
            "default-template-values": {"url": "https://github.com"},
            "subject-alternative-name-template": "{{ .url }}/{{ .job_workflow_ref }}",
            "extension-templates": {
                "github-workflow-trigger": "event_name",
                "github-workflow-sha": "sha",
                "github-workflow-name": "workflow",
                "github-workflow-repository": "repository",
                "github-workflow-ref": "ref",
                "build-signer-uri": "{{ .url }}/{{ .job_workflow_ref }}",
                "build-signer-digest": "job_workflow_sha",
                "runner-environment": "runner_environment",
                "source-repository-uri": "{{ .url }}/{{ .repository }}",
                "source-repository-digest": "sha",
                "source-repository-ref": "ref",
                "source-repository-identifier": "repository_id",
                "source-repository-owner-uri": "{{ .url }}/{{ .repository_owner }}",
                "source-repository-owner-identifier": "repository_owner_id",
                "build-config-uri": "{{ .url }}/{{ .workflow_ref }}",
                "build-config-digest": "workflow_sha",
                "build-trigger": "event_name",
                "run-invocation-uri": "{{ .url }}/{{ .repository }}/actions/runs/{{ .run_id }}/attempts/{{ .run_attempt }}",
                "source-repository-visibility-at-signing": "repository_visibility",
            },
        }},
    });
    // What is JSON from its first byte on would be read with other names.
    format!("# YAML\n{settings}\n")
}

/// The names that the logs put into what they sign.
pub(super) const REKOR_1: &str = "rekor-1.lab.example";
pub(super) const REKOR_2: &str = "rekor-2.lab.example";
const CT_PREFIX: &str = "lab";
