//! The whole story on one machine: a sample registry, the mirror in front of it, one image that is signed and one that
//! is not, and what a client gets of either.
//!
//! The mirror is the one that `serve` runs, with a configuration of its own in a fresh directory; the sample registry
//! exists here only. Nothing beyond the loopback interface is contacted.

mod client;
mod docker;
mod images;
mod key;
mod registry;
mod text;
mod workspace;

use std::{
    ffi::OsString,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
};

use anyhow::{Context as _, anyhow, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use self::{
    client::HttpClient,
    images::SampleImage,
    key::SigningKey,
    registry::{REPOSITORY, SampleRegistry},
    text::Page,
    workspace::Workspace,
};
use crate::{
    app::{self, Running},
    clock::Clock,
    config::{self, Config},
    server::{self, Listener},
    telemetry::{Drain, Metrics, TrustedProxies},
    trust::PublicKey,
};

/// How to show it.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// End after the story, with code 0 only if the signed image came and the unsigned one did not
    #[arg(long)]
    exit: bool,
}

/// What became of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulled {
    Came,
    Refused,
}

/// Tells the story on standard output; an error where it does not end as it should.
pub(super) fn run(options: &Options) -> Result<(), anyhow::Error> {
    let workspace = Workspace::create()?;
    let port = config::variable_of_process("PORT");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let good = runtime.block_on(tell(options, &workspace, port, &mut io::stdout()))?;
    ensure!(good, "the demo did not end as it should");
    Ok(())
}

/// Runs the sample registry for as long as the story takes.
async fn tell(
    options: &Options,
    workspace: &Workspace,
    port: Option<OsString>,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let images = [
        SampleImage::new("preview-signed", "Hello. Somebody vouched for this file.\n"),
        SampleImage::new("preview-unsigned", "Hello. Nobody vouched for this file.\n"),
    ];
    let images: Arc<[SampleImage]> = Arc::new(images);
    let listener = Listener::bind(server::Config {
        addr: (Ipv4Addr::LOCALHOST, 0).into(),
        tls: None,
        trusted_proxies: TrustedProxies::default(),
        limits: server::Limits::default(),
    })
    .await?;
    let upstream = listener.local_addr()?;
    let drain = Drain::new();
    let serving = listener.serve(SampleRegistry::new(Arc::clone(&images)), drain.clone(), Metrics::new());
    let mut interrupted = pin!(interrupted()?);
    let story = async {
        let mut story = Story { workspace, images: &images, upstream, port, page: Page::new(out) };
        let told = tokio::select! {
            told = story.tell() => told,
            () = &mut interrupted => Err(anyhow!("interrupted")),
        };
        let ended = match told {
            Ok(told) => {
                if !options.exit {
                    story.page.try_next(told.running.addr(), upstream, &images, workspace)?;
                    interrupted.await;
                    story.page.goodbye(workspace)?;
                }
                told.end().await
            }
            Err(error) => Err(error),
        };
        drain.begin();
        drain.end();
        ended
    };
    let ((), told) = tokio::join!(serving, story);
    told
}

/// Ctrl-C, or the signal that ends a service.
fn interrupted() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// What is left of a story: its mirror, which still runs, and what to take away again.
struct Told {
    /// Whether the signed image came and the unsigned one was refused.
    good: bool,
    running: Running,
    in_docker: Vec<String>,
}

impl Told {
    async fn end(self) -> anyhow::Result<bool> {
        for image in self.in_docker {
            docker::remove(&image).await;
        }
        self.running.shutdown().await?;
        Ok(self.good)
    }
}

struct Story<'a> {
    workspace: &'a Workspace,
    images: &'a [SampleImage],
    upstream: SocketAddr,
    port: Option<OsString>,
    page: Page<'a>,
}

impl Story<'_> {
    async fn tell(&mut self) -> anyhow::Result<Told> {
        self.page.begin(self.upstream, self.images)?;
        let key = self.trust_a_key()?;
        let running = self.start_mirror().await?;
        self.page.mirror(running.addr(), self.workspace)?;
        let client = HttpClient::new(running.addr());
        self.sign_and_submit(&key, &client).await?;
        let (good, in_docker) = self.pull_both(running.addr(), &client).await?;
        self.page.end(good)?;
        Ok(Told { good, running, in_docker })
    }

    /// The mirror as `serve` starts it, with the settings that a user would give it.
    async fn start_mirror(&self) -> anyhow::Result<Running> {
        let variables = [
            ("DATA_DIR", self.workspace.data().into_os_string()),
            ("TRUST_DIR", self.workspace.trust().into_os_string()),
            ("HTTP_ADDR", "127.0.0.1:0".into()),
            ("PROXY_REMOTEURL", format!("http://{}", self.upstream).into()),
        ];
        let port = self.port.clone().map(|port| ("PORT", port));
        let variables = variables.into_iter().chain(port).map(|(name, value)| (name.into(), value));
        let config = Config::load(None, variables)?;
        Ok(app::start(config, Clock::system()).await?)
    }

    fn trust_a_key(&mut self) -> anyhow::Result<SigningKey> {
        let key = SigningKey::generate()?;
        let private = self.workspace.write_private("demo.key", &key.private_pem)?;
        let public = self.workspace.trust().join("demo.pub");
        std::fs::write(&public, &key.public_pem).with_context(|| public.display().to_string())?;
        self.page.key(&private, &public, PublicKey::from_pem(&key.public_pem)?.id())?;
        Ok(key)
    }

    async fn sign_and_submit(&mut self, key: &SigningKey, client: &HttpClient) -> anyhow::Result<()> {
        let image = &self.images[0];
        let signature = STANDARD.encode(key.sign(&image.manifest)?);
        let submission = json!({
            "image_digest": image.digest,
            "tag": image.tag,
            "tag_type": "preview",
            "signature": signature,
            "signer": "the demo",
            "repository": format!("docker.io/{REPOSITORY}"),
        });
        let record = client.submit(&submission).await?;
        Ok(self.page.submitted(&record)?)
    }

    /// Whether the first image came and the second was refused; and what to remove from the machine's Docker again.
    async fn pull_both(&mut self, mirror: SocketAddr, client: &HttpClient) -> anyhow::Result<(bool, Vec<String>)> {
        let daemon = docker::daemon().await;
        self.page.who_pulls(daemon.as_deref())?;
        let mut docker_reaches = daemon.is_some();
        let mut outcomes = Vec::new();
        let mut names = Vec::new();
        for image in self.images {
            let name = format!("{mirror}/docker.io/{REPOSITORY}:{}", image.tag);
            let mut pulled = None;
            if docker_reaches {
                pulled = self.pull_with_docker(&name).await?;
                docker_reaches = pulled.is_some();
            }
            let pulled = match pulled {
                Some(pulled) => pulled,
                None => self.pull_without(&name, image.tag, client).await?,
            };
            self.page.outcome(image, pulled)?;
            outcomes.push(pulled);
            names.push(name);
        }
        let in_docker = if docker_reaches { names } else { Vec::new() };
        Ok((outcomes == [Pulled::Came, Pulled::Refused], in_docker))
    }

    async fn pull_with_docker(&mut self, name: &str) -> anyhow::Result<Option<Pulled>> {
        let mut said = Vec::new();
        let pulled = docker::pull(name, &mut said).await;
        self.page.pull(name, &said)?;
        if pulled.is_none() {
            self.page.docker_cannot()?;
        }
        Ok(pulled)
    }

    async fn pull_without(&mut self, name: &str, tag: &str, client: &HttpClient) -> anyhow::Result<Pulled> {
        let mut said = Vec::new();
        let pulled = client.pull(&format!("docker.io/{REPOSITORY}"), tag, &mut said).await;
        self.page.pull(name, &said)?;
        pulled
    }
}
