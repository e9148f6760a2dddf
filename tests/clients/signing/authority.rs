//! A certificate authority of openssl's, and the services by which it says what has become of its certificates.

use std::{convert::Infallible, fs, net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use super::Home;
use crate::{
    clients::Origin,
    process::{self, Daemon, run},
    world::{World, free_address},
};

/// A root, an issuer under it that signs by RSA-PSS, and a root of timestamps with a service under it.
pub(crate) struct Authority<'a> {
    pub(crate) home: Home<'a>,
    /// Where lists and timestamps are had.
    site: SocketAddr,
    /// Where `openssl ocsp` listens while it is asked to.
    ocsp: SocketAddr,
    _site: JoinSet<()>,
}

/// What a certificate says of where to ask whether it was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Nowhere,
    Ocsp,
    List,
    /// A list, and another one of what has changed since.
    ListOfChanges,
}

/// What the authority says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Good,
    Revoked,
    /// Nobody answers.
    None,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) key: PathBuf,
    /// Itself first, the root last.
    pub(crate) chain: PathBuf,
    serial: u16,
    place: Place,
}

impl<'a> Authority<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let home = Home::new(world, "authority");
        let site = free_address();
        let listener = world.runtime.block_on(TcpListener::bind(site)).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn_on(
            serve(listener, Arc::new(Files { home: home.path().to_owned(), scratch: world.scratch.clone() })),
            world.runtime.handle(),
        );
        let authority = Self { home, site, ocsp: free_address(), _site: tasks };
        authority.write_settings();
        let root = ["-subj", "/C=US/ST=WA/O=Release/CN=Root", "-extensions", "root"];
        authority.make("root", P256, &root, Some("root"), &[]);
        let issuer = ["-subj", "/C=US/ST=WA/O=Release/CN=Issuer", "-extensions", "issuer"];
        authority.make("issuer", RSA, &issuer, Some("root"), &[]);
        let responder = ["-subj", "/C=US/ST=WA/O=Release/CN=OCSP", "-extensions", "responder"];
        authority.make("responder", P256, &responder, Some("issuer"), PSS);
        for name in TIMESTAMPS {
            let root = ["-subj", "/C=US/O=Timestamps/CN=Root", "-extensions", "root"];
            authority.make(name, RSA, &root, Some(name), &[]);
            let service = ["-subj", "/C=US/O=Timestamps/CN=Service", "-extensions", "stamping"];
            authority.make(&format!("{name}-service"), P256, &service, Some(name), &[]);
        }
        authority
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.home.file("root.crt")
    }

    /// The root of the timestamps that this service gives.
    pub(crate) fn timestamp_root(&self, service: &str) -> PathBuf {
        self.home.file(&format!("{service}.crt"))
    }

    pub(crate) fn timestamp_url(&self, service: &str) -> String {
        format!("http://{}/{service}", self.site)
    }

    /// All that certificates name, as an operator writes it down.
    pub(crate) fn hosts(&self) -> String {
        format!("http://{},http://{}", self.site, self.ocsp)
    }

    /// A certificate that signs images, for thirty days.
    pub(crate) fn certify(&self, place: Place) -> Leaf {
        let serial = 0x1000 + place as u16;
        let name = format!("leaf-{serial}");
        let subject = format!("/C=US/ST=WA/O=Release/CN=signer {serial}");
        let number = format!("0x{serial:X}");
        let arguments = ["-subj", &subject, "-extensions", place.extensions(), "-set_serial", &number, "-days", "30"];
        self.make(&name, P256, &arguments, Some("issuer"), PSS);
        let chain = self.home.file(&format!("{name}.chain"));
        let certificates =
            [&*name, "issuer", "root"].map(|name| fs::read(self.home.file(&format!("{name}.crt"))).unwrap());
        fs::write(&chain, certificates.concat()).unwrap();
        Leaf { key: self.home.file(&format!("{name}.key")), chain, serial, place }
    }

    /// Says this of the leaf where its certificate names, for as long as what comes back lives.
    pub(crate) fn says(&self, word: Word, of: &Leaf) -> Option<Daemon> {
        for list in [LIST, CHANGES] {
            drop(fs::remove_file(self.home.file(list)));
        }
        match (word, of.place) {
            (Word::None, _) | (_, Place::Nowhere) => None,
            (_, Place::Ocsp) => {
                self.write_index(word, of);
                Some(self.ocsp())
            }
            (_, Place::List) => {
                self.write_index(word, of);
                self.write_list("list", LIST);
                None
            }
            (_, Place::ListOfChanges) => {
                self.write_index(Word::Good, of);
                self.write_list("changed", LIST);
                self.write_index(word, of);
                self.write_list("changes", CHANGES);
                None
            }
        }
    }

    fn ocsp(&self) -> Daemon {
        let home = self.home.path();
        let mut command = process::daemon("openssl", &self.home.world().scratch);
        command.args(["ocsp", "-index", "index", "-CA", "issuer.crt", "-rsigner", "responder.crt", "-rkey"]);
        command.args(["responder.key", "-ndays", "1", "-port", &self.ocsp.port().to_string()]).current_dir(home);
        let daemon = Daemon::start("openssl ocsp", command);
        // It answers nobody any more after a connection without a request.
        daemon.wait_for(|| daemon.tail().contains("waiting for OCSP client connections"));
        daemon
    }

    /// openssl's own book of what was issued.
    fn write_index(&self, word: Word, of: &Leaf) {
        let (flag, since) = if word == Word::Revoked { ("R", "240101000000Z,keyCompromise") } else { ("V", "") };
        let serial = of.serial;
        let entry = format!("{flag}\t491231235959Z\t{since}\t{serial:X}\tunknown\t/CN=signer {serial}\n");
        fs::write(self.home.file("index"), entry).unwrap();
    }

    fn write_list(&self, kind: &str, file: &str) {
        let extensions = format!("{kind}_extensions");
        self.openssl(&[
            "ca",
            "-config",
            "openssl.cnf",
            "-gencrl",
            "-crlexts",
            &extensions,
            "-cert",
            "issuer.crt",
            "-keyfile",
            "issuer.key",
            "-out",
            "list.pem",
        ]);
        self.openssl(&["crl", "-in", "list.pem", "-outform", "DER", "-out", file]);
    }

    /// A key, and a certificate for it; of a root the issuer is itself.
    fn make(&self, name: &str, key: &[&str], arguments: &[&str], issuer: Option<&str>, by: &[&str]) {
        let file = |extension: &str| format!("{name}.{extension}");
        self.openssl(&[&["genpkey", "-quiet", "-out", &file("key")][..], key].concat());
        let issuer =
            issuer.filter(|issuer| *issuer != name).map(|issuer| [format!("{issuer}.crt"), format!("{issuer}.key")]);
        let request =
            ["req", "-x509", "-new", "-config", "openssl.cnf", "-sha256", "-key", &file("key"), "-out", &file("crt")];
        let days = if arguments.contains(&"-days") { &[][..] } else { &["-days", "3650"] };
        let issued: Vec<_> =
            issuer.iter().flat_map(|[certificate, key]| ["-CA", &**certificate, "-CAkey", key]).collect();
        // An hour old: what is stamped in the second of its certificate's making may, within the stamp's accuracy, be older.
        let earlier = ["-f", "-1h", "openssl"];
        self.run("faketime", &[&earlier[..], &request, arguments, days, &issued, by].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        self.run("openssl", arguments);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        self.home.run(Origin::Installed, program, arguments).expect(&arguments.join(" "));
    }

    fn write_settings(&self) {
        let (site, ocsp) = (self.site, self.ocsp);
        let mut text = format!(
            "[req]\ndistinguished_name = nobody\n[nobody]\n\
             [root]\nbasicConstraints = critical, CA:true\nkeyUsage = critical, keyCertSign, cRLSign\n\
             subjectKeyIdentifier = hash\n\
             [issuer]\nbasicConstraints = critical, CA:true, pathlen:0\nkeyUsage = critical, keyCertSign, cRLSign\n\
             subjectKeyIdentifier = hash\n\
             [responder]\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = OCSPSigning\nnoCheck = ignored\n\
             [stamping]\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = critical, timeStamping\n\
             [leaf]\n{LEAF}\
             [leaf_ocsp]\n{LEAF}authorityInfoAccess = OCSP;URI:http://{ocsp}/\n\
             [leaf_list]\n{LEAF}crlDistributionPoints = URI:http://{site}/{LIST}\n\
             [ca]\ndefault_ca = issued\n\
             [issued]\ndatabase = index\ncrlnumber = number\ndefault_md = sha256\ndefault_crl_days = 1\n\
             [list_extensions]\nauthorityKeyIdentifier = keyid\n\
             [changed_extensions]\nauthorityKeyIdentifier = keyid\nfreshestCRL = URI:http://{site}/{CHANGES}\n\
             [changes_extensions]\nauthorityKeyIdentifier = keyid\n2.5.29.27 = critical, DER:020101\n"
        );
        for name in TIMESTAMPS {
            text += &format!(
                "[{name}]\nserial = {name}-serial\nsigner_cert = {name}-service.crt\ncerts = {name}.crt\n\
                 signer_key = {name}-service.key\nsigner_digest = sha256\ndefault_policy = 1.2.3.4.1\n\
                 digests = sha256, sha384, sha512\naccuracy = secs:1\ness_cert_id_chain = no\ness_cert_id_alg = sha256\n"
            );
            fs::write(self.home.file(&format!("{name}-serial")), "01\n").unwrap();
        }
        for (file, text) in [("openssl.cnf", &*text), ("number", "01\n"), ("index.attr", "")] {
            fs::write(self.home.file(file), text).unwrap();
        }
    }
}

impl Place {
    fn extensions(self) -> &'static str {
        match self {
            Self::Nowhere => "leaf",
            Self::Ocsp => "leaf_ocsp",
            Self::List | Self::ListOfChanges => "leaf_list",
        }
    }
}

struct Files {
    home: PathBuf,
    scratch: PathBuf,
}

/// Lists by GET, as long as there are any; timestamps by POST, under the name of who gives them.
async fn serve(listener: TcpListener, files: Arc<Files>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let files = Arc::clone(&files);
        connections.spawn(async move {
            let service = service_fn(|request| files.answer(request));
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Files {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let name = request.uri().path().trim_start_matches('/').to_owned();
        let (kind, body) = if *request.method() == Method::POST && TIMESTAMPS.contains(&&*name) {
            let query = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            ("application/timestamp-reply", Some(self.timestamp(&name, &query)))
        } else {
            let list = [LIST, CHANGES].into_iter().find(|list| *list == name);
            ("application/pkix-crl", list.and_then(|list| fs::read(self.home.join(list)).ok()))
        };
        let status = if body.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let answer = Response::builder().status(status).header("content-type", kind);
        Ok(answer.body(Full::new(body.unwrap_or_default().into())).unwrap())
    }

    fn timestamp(&self, by: &str, query: &[u8]) -> Vec<u8> {
        let directory = tempfile::tempdir_in(&self.home).unwrap();
        let [query_file, reply] = ["query", "reply"].map(|name| directory.path().join(name));
        fs::write(&query_file, query).unwrap();
        let mut command = process::command("openssl", &self.scratch);
        command.args(["ts", "-reply", "-config", "openssl.cnf", "-section", by]).current_dir(&self.home);
        run(command.arg("-queryfile").arg(query_file).arg("-out").arg(&reply)).expect("openssl ts");
        fs::read(reply).unwrap()
    }
}

/// Who gives timestamps.
pub(crate) const TIMESTAMPS: [&str; 2] = ["timestamps", "other-timestamps"];
const LIST: &str = "issuer.crl";
const CHANGES: &str = "changes.crl";
const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const PSS: &[&str] = &["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
const LEAF: &str =
    "basicConstraints = CA:false\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = codeSigning\n";
