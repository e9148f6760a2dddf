//! A TUF repository of the test's own, and a server of its files that does what a test says.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jiff::SignedDuration;
use serde_json::{Value, json};
use sig_repo::{clock::Clock, oci::Digest};

use super::key::Key;

/// Somebody who signs metadata, under an id of his choice.
pub(crate) struct Signer {
    id: String,
    secret: Secret,
}

enum Secret {
    P256(Key),
    Ed25519(Rc<Ed25519KeyPair>),
}

/// Who signs for a role, and what the next file of it says.
#[derive(Clone)]
pub(crate) struct Role {
    pub(crate) signers: Vec<Rc<Signer>>,
    pub(crate) threshold: u64,
    pub(crate) version: u64,
    pub(crate) hours: i64,
}

/// What is published next. Each field may be made wrong before it is.
pub(crate) struct Tuf {
    pub(crate) root: Role,
    pub(crate) timestamp: Role,
    pub(crate) snapshot: Role,
    pub(crate) targets: Role,
    pub(crate) consistent: bool,
    pub(crate) target: Vec<u8>,
    pub(crate) site: Site,
}

impl Signer {
    pub(crate) fn p256(id: &str) -> Rc<Self> {
        Rc::new(Self { id: id.to_owned(), secret: Secret::P256(Key::generate()) })
    }

    pub(crate) fn ed25519(id: &str) -> Rc<Self> {
        Rc::new(Self { id: id.to_owned(), secret: Secret::Ed25519(Rc::new(Ed25519KeyPair::generate().unwrap())) })
    }

    fn description(&self) -> Value {
        match &self.secret {
            Secret::P256(key) => {
                json!({ "keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": { "public": key.pem() } })
            }
            Secret::Ed25519(pair) => {
                let public = hex::encode(pair.public_key());
                json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } })
            }
        }
    }

    fn sign(&self, bytes: &[u8]) -> Value {
        let signature = match &self.secret {
            Secret::P256(key) => key.sign(bytes),
            Secret::Ed25519(pair) => pair.sign(bytes).as_ref().to_vec(),
        };
        json!({ "keyid": self.id, "sig": hex::encode(signature) })
    }
}

impl Role {
    fn new(signers: Vec<Rc<Signer>>, threshold: u64) -> Self {
        Self { signers, threshold, version: 1, hours: 24 }
    }

    fn described(&self) -> Value {
        let ids: Vec<_> = self.signers.iter().map(|signer| &signer.id).collect();
        json!({ "keyids": ids, "threshold": self.threshold })
    }

    fn head(&self, role: &str) -> Value {
        let expires = Clock::system().now() + SignedDuration::from_hours(self.hours);
        json!({ "_type": role, "spec_version": "1.0.31", "version": self.version, "expires": format!("{expires:.0}") })
    }
}

impl Tuf {
    /// Three who sign roots, of whom two are needed, and one for each other role; published.
    pub(crate) fn new(target: &[u8]) -> Self {
        let root = vec![Signer::p256("r1"), Signer::ed25519("r2"), Signer::p256("r3")];
        let tuf = Self {
            root: Role::new(root, 2),
            timestamp: Role::new(vec![Signer::p256("t1")], 1),
            snapshot: Role::new(vec![Signer::ed25519("s1")], 1),
            targets: Role::new(vec![Signer::p256("g1")], 1),
            consistent: true,
            target: target.to_vec(),
            site: Site::start(),
        };
        tuf.publish();
        tuf
    }

    pub(crate) fn first_root(&self) -> Vec<u8> {
        signed(&self.root_says(), &self.root.signers)
    }

    /// The next root: changed as the test says, signed by those before and after.
    pub(crate) fn publish_root(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.root.signers.clone();
        self.root.version += 1;
        change(self);
        let more = before.iter().filter(|old| !self.root.signers.iter().any(|new| new.id == old.id));
        let signers: Vec<_> = self.root.signers.iter().chain(more).cloned().collect();
        self.site.put(&format!("{}.root.json", self.root.version), signed(&self.root_says(), &signers));
    }

    /// The next version of the three other roles, and the target.
    pub(crate) fn publish_next(&mut self) {
        self.timestamp.version += 1;
        self.snapshot.version += 1;
        self.targets.version += 1;
        self.publish();
    }

    /// The three other roles and the target as they are.
    pub(crate) fn publish(&self) {
        let hash = Digest::sha256(&self.target).to_string().replace("sha256:", "");
        self.site.put(&self.target_path(&hash), self.target.clone());
        self.publish_target(&hash, self.target.len());
    }

    pub(crate) fn publish_target(&self, hash: &str, length: usize) {
        let mut says = self.targets.head("targets");
        says["targets"] = json!({ "trusted_root.json": { "length": length, "hashes": { "sha256": hash } } });
        let targets = signed(&says, &self.targets.signers);
        let mut says = self.snapshot.head("snapshot");
        says["meta"] = json!({ "targets.json": pin(self.targets.version, &targets), "old.json": { "version": 1 } });
        let snapshot = signed(&says, &self.snapshot.signers);
        let mut says = self.timestamp.head("timestamp");
        says["meta"] = json!({ "snapshot.json": pin(self.snapshot.version, &snapshot) });
        self.site.put(&self.path(self.targets.version, "targets.json"), targets);
        self.site.put(&self.path(self.snapshot.version, "snapshot.json"), snapshot);
        self.site.put("timestamp.json", signed(&says, &self.timestamp.signers));
    }

    pub(crate) fn target_path(&self, hash: &str) -> String {
        match self.consistent {
            true => format!("targets/{hash}.trusted_root.json"),
            false => "targets/trusted_root.json".to_owned(),
        }
    }

    pub(crate) fn path(&self, version: u64, file: &str) -> String {
        if self.consistent { format!("{version}.{file}") } else { file.to_owned() }
    }

    pub(crate) fn root_says(&self) -> Value {
        let roles = [
            ("root", &self.root),
            ("timestamp", &self.timestamp),
            ("snapshot", &self.snapshot),
            ("targets", &self.targets),
        ];
        let keys = roles.iter().flat_map(|(_, role)| &role.signers);
        let mut says = self.root.head("root");
        says["keys"] = keys.map(|signer| (signer.id.clone(), signer.description())).collect();
        says["roles"] = roles.iter().map(|(name, role)| ((*name).to_owned(), role.described())).collect();
        says["consistent_snapshot"] = self.consistent.into();
        says
    }
}

fn pin(version: u64, bytes: &[u8]) -> Value {
    let hash = Digest::sha256(bytes).to_string().replace("sha256:", "");
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": hash } })
}

/// A file that these have signed.
pub(crate) fn signed(says: &Value, signers: &[Rc<Signer>]) -> Vec<u8> {
    // Members of an object stand in order; of what must be escaped, the lines of PEM alone occur.
    let canonical = says.to_string().replace("\\n", "\n");
    let signatures: Vec<_> = signers.iter().map(|signer| signer.sign(canonical.as_bytes())).collect();
    json!({ "signed": says, "signatures": signatures }).to_string().into_bytes()
}

/// The same key under another id.
pub(crate) fn again(signer: &Rc<Signer>, id: &str) -> Rc<Signer> {
    let Secret::Ed25519(pair) = &signer.secret else { panic!("only Ed25519 keys can be had again") };
    Rc::new(Signer { id: id.to_owned(), secret: Secret::Ed25519(Rc::clone(pair)) })
}

/// What is said for a path.
#[derive(Clone)]
pub(crate) enum Answer {
    File(Vec<u8>),
    Endless,
    Redirect(String),
    /// A head, and then nothing until the server ends.
    Silence,
}

/// A server of files on a free port of loopback; it ends with the test.
pub(crate) struct Site {
    pub(crate) addr: SocketAddr,
    shelf: Arc<Shelf>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shelf {
    files: Mutex<BTreeMap<String, Answer>>,
    log: Mutex<Vec<String>>,
    /// Connections that are kept open.
    held: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

impl Site {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, shelf) = (listener.local_addr().unwrap(), Arc::<Shelf>::default());
        let shared = Arc::clone(&shelf);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                // A client that goes away in the middle is what some tests want.
                drop(stream.and_then(|stream| shared.serve(stream)));
            }
        });
        Self { addr, shelf, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/tuf", self.addr)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn put(&self, path: &str, bytes: Vec<u8>) {
        self.answer(path, Answer::File(bytes));
    }

    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.shelf.files.lock().unwrap().insert(format!("/tuf/{path}"), answer);
    }

    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        match self.shelf.files.lock().unwrap().get(&format!("/tuf/{path}")) {
            Some(Answer::File(bytes)) => bytes.clone(),
            _ => panic!("no file {path}"),
        }
    }

    pub(crate) fn remove(&self, path: &str) {
        self.shelf.files.lock().unwrap().remove(&format!("/tuf/{path}"));
    }

    /// The paths that were asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf.log.lock().unwrap())
    }

    pub(crate) fn was_asked_for(&self, what: &str) -> bool {
        self.shelf.log.lock().unwrap().iter().any(|path| path.contains(what))
    }
}

impl Shelf {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = self.files.lock().unwrap().get(&path).cloned();
        self.log.lock().unwrap().push(path);
        match answer {
            None => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            Some(Answer::File(bytes)) => {
                let length = bytes.len();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
                stream.write_all(&bytes)
            }
            Some(Answer::Endless) => {
                write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                loop {
                    stream.write_all(&[b' '; 4096])?;
                }
            }
            Some(Answer::Redirect(to)) => {
                write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            }
            Some(Answer::Silence) => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")?;
                self.held.lock().unwrap().push(stream);
                Ok(())
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shelf.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
