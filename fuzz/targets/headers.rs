//! Headers of an upstream's answer (the challenge, the link to the next page, where a redirect leads, how long to
//! wait), and of a request: credentials, and for whom a proxy says that it asks.
//!
//! Each line of an input, of the first eight, is tried as each of them, and all lines together.

#![no_main]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sig_repo::{
    access::{BasicAuth, Presented},
    clock::Clock,
    telemetry::{Peer, TrustedProxies},
    upstream::fuzzing,
};
use sig_repo_fuzz::{Target, bounded};

struct Headers {
    account: BasicAuth,
    asked: AtomicU32,
}

impl Target for Headers {
    fn new() -> Self {
        let account = BasicAuth::new("admin", "secure-pass", Clock::system()).expect("there is randomness");
        Self { account, asked: AtomicU32::new(0) }
    }

    fn seeds() -> Vec<Vec<u8>> {
        [
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#,
            "Negotiate YII==, Basic realm=\"a, b\", Bearer realm=https,error=\"invalid_token\"\nBasic realm=x",
            "</v2/app/tags/list?last=b&n=2>; rel=\"next\"",
            "</first?n=1>; rel=\"first\", </next?last=c>; rel=next",
            "https://cdn.example/blobs/x?signature=y#z",
            "//cdn.example/x",
            "http://user:password@127.0.0.1/",
            "Mon, 20 May 2024 10:31:00 GMT",
            "120",
            "Basic YWRtaW46c2VjdXJlLXBhc3M=",
            "10.0.0.1, 192.0.2.7:443, [2001:db8::1]:443, ::ffff:127.0.0.2",
        ]
        .map(|line| line.as_bytes().to_vec())
        .to_vec()
    }

    fn run(&self, input: &[u8]) {
        let values: Vec<_> =
            input.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).take(8).collect();
        is_read(&values);
        values.iter().for_each(|value| is_read(std::slice::from_ref(value)));
        self.is_asked(&values);
    }
}

impl Headers {
    fn is_asked(&self, values: &[HeaderValue]) {
        let credentials = headers(values, header::AUTHORIZATION);
        // Each from somebody else, of whom no wrong passwords are known yet.
        let from = Ipv4Addr::from(self.asked.fetch_add(1, Ordering::Relaxed));
        if let Presented::Account(_) = self.account.presented(&credentials, from.into()) {
            let value = values[0].to_str().expect("it was read");
            assert!(values.len() == 1 && value.trim_end().ends_with("YWRtaW46c2VjdXJlLXBhc3M="), "{value}");
        }
        let forwarded = headers(values, HeaderName::from_static("x-forwarded-for"));
        let socket = SocketAddr::from(([127, 0, 0, 1], 999));
        let direct = Peer::resolve(socket, &forwarded, &TrustedProxies::default());
        assert_eq!(direct.client, socket.ip(), "nobody is trusted");
        let trusted = TrustedProxies::new(["127.0.0.0/8".parse().expect("a network")]);
        let client = Peer::resolve(socket, &forwarded, &trusted).client;
        assert_eq!(client, client.to_canonical());
    }
}

fn headers(values: &[HeaderValue], name: HeaderName) -> HeaderMap {
    values.iter().map(|value| (name.clone(), value.clone())).collect()
}

fn is_read(values: &[HeaderValue]) {
    let headers = |name| headers(values, name);
    if let Ok(texts) = bounded(&[], || fuzzing::challenge(&headers(header::WWW_AUTHENTICATE))) {
        // Nothing of them but what stood there.
        let stood: String = values.iter().filter_map(|value| value.to_str().ok()).collect::<String>().replace('\\', "");
        texts.iter().for_each(|text| assert!(stood.contains(&text.replace('\\', "")), "{text:?}"));
    }
    if let Some(query) = bounded(&[], || fuzzing::next_page(&headers(header::LINK))) {
        assert!(!query.is_empty() && query.len() <= 2048);
        assert!(query.split('&').all(|pair| pair.starts_with("n=") || pair.starts_with("last=")), "{query}");
        assert!(query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{query}");
    }
    if let Ok(target) = fuzzing::redirect(&headers(header::LOCATION)) {
        assert_eq!(target.scheme(), "https");
        assert!(target.has_host() && target.username().is_empty() && target.password().is_none(), "{target}");
    }
    let wait = fuzzing::retry_after(&headers(header::RETRY_AFTER));
    assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(86_400)));
}

sig_repo_fuzz::target!(Headers);
