//! A forward proxy, as companies have one between their machines and the internet.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use sig_repo::upstream::{NoProxy, Proxies, Proxy};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Ends with its connections when dropped.
pub(crate) struct ForwardProxy {
    pub(crate) addr: SocketAddr,
    /// In PEM form, where it speaks TLS.
    pub(crate) certificate: Option<String>,
    seen: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

/// What it does with requests.
#[derive(Clone)]
pub(crate) enum Manner {
    /// Every host is this one.
    LeadsTo(SocketAddr),
    /// The same for who shows this `Proxy-Authorization`.
    AsksFor(&'static str, SocketAddr),
    /// These bytes for whatever is asked.
    Says(&'static str),
}

impl ForwardProxy {
    pub(crate) async fn to(addr: SocketAddr) -> Self {
        Self::with(Manner::LeadsTo(addr)).await
    }

    pub(crate) async fn with(manner: Manner) -> Self {
        Self::open(manner, None).await
    }

    /// TLS is spoken with the proxy itself, under `localhost`.
    pub(crate) async fn with_tls(manner: Manner) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], made.signing_key.into())
            .unwrap();
        let proxy = Self::open(manner, Some(Arc::new(tls).into())).await;
        Self { certificate: Some(made.cert.pem()), ..proxy }
    }

    async fn open(manner: Manner, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (manner, log, tls) = (manner.clone(), Arc::clone(&log), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &manner, &log).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &manner, &log).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, certificate: None, seen, _tasks: tasks }
    }

    /// How the environment would name it, with these credentials in front of the host.
    pub(crate) fn url(&self, credentials: &str) -> String {
        match self.certificate {
            Some(_) => format!("https://{credentials}localhost:{}", self.addr.port()),
            None => format!("http://{credentials}{}", self.addr),
        }
    }

    /// For everything but what `without` names.
    pub(crate) fn proxies(&self, credentials: &str, without: &str) -> Proxies {
        let proxy: Proxy = self.url(credentials).parse().unwrap();
        Proxies { http: Some(proxy.clone()), https: Some(proxy), without: NoProxy::parse(without).0 }
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Method and target of each of them.
    pub(crate) fn requests(&self) -> Vec<String> {
        let first = |head: String| head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
        self.heads().into_iter().map(first).collect()
    }
}

async fn serve(mut client: impl AsyncRead + AsyncWrite + Unpin, manner: &Manner, log: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    log.lock().unwrap().push(head.clone());
    let target = match manner {
        Manner::LeadsTo(target) => target,
        Manner::AsksFor(expected, target) => {
            let shown = head.lines().find_map(|line| line.strip_prefix("proxy-authorization: "));
            if shown != Some(expected) {
                let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!";
                drop(client.write_all(answer.as_bytes()).await);
                return;
            }
            target
        }
        Manner::Says(answer) => {
            drop(client.write_all(answer.as_bytes()).await);
            return;
        }
    };
    let mut server = TcpStream::connect(target).await.unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let began = match line.strip_prefix("CONNECT ") {
        Some(_) => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await,
        // One request for each connection is enough here.
        None => {
            let path = line.splitn(4, '/').nth(3).unwrap();
            let method = line.split(' ').next().unwrap();
            let kept: String = headers.split_inclusive("\r\n").filter(|line| !line.starts_with("proxy-")).collect();
            server.write_all(format!("{method} /{path}\r\nConnection: close\r\n{kept}").as_bytes()).await
        }
    };
    if began.is_ok() {
        // How a connection ends is the business of its two ends.
        drop(copy_bidirectional(&mut client, &mut server).await);
    }
}
