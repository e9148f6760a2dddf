//! The files of a directory that say whom to trust.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Deserialize;

use super::notation::{NAMES, NotationDirectory};
use crate::trust::{
    Credential, KeyError, OpenPgpKey, OpenPgpKeyError, PublicKey, SignerDocument, SignerDocumentError, SigstoreRoot,
    SigstoreRootError,
};

/// A PEM public key has a few hundred bytes, a description of a signer a few thousand; OpenPGP keys with
/// pictures and what others say of them have more.
const MAX_FILE_BYTES: u64 = 256 << 10;

pub(super) const MAX_FILES: usize = 1024;

/// What `TRUST_DIR` holds, as last read. A file that did not change is not read again, so one that
/// only root may read is read once, before root is given up.
#[derive(Debug, Clone)]
pub struct TrustFiles {
    directory: PathBuf,
    files: Vec<TrustFile>,
    notation: NotationDirectory,
}

#[derive(Debug, Clone)]
struct TrustFile {
    stamp: Stamp,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// Several where a file of OpenPGP keys holds them.
    Signers(Vec<SignerDocument>),
    SigstoreRoot(Box<SigstoreRoot>),
    /// What cannot be used, which was said when it was read.
    Nothing {
        instead_of_root: bool,
    },
}

/// What tells a file from the one that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) path: PathBuf,
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("TRUST_DIR {path:?} cannot be read: {source}")]
pub struct TrustFilesError {
    path: PathBuf,
    source: io::Error,
}

/// Why nobody is trusted for a file of the directory.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("only *.pub, *.pem, *.json, and of OpenPGP *.asc and *.gpg files are read")]
    Name,
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("a link that leads out of the directory is not followed")]
    LinkOut,
    #[error("not a file of at most {most} bytes")]
    NoFile { most: u64 },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    OpenPgp(#[from] OpenPgpKeyError),
    #[error(transparent)]
    Document(#[from] SignerDocumentError),
    #[error(transparent)]
    Root(#[from] SigstoreRootError),
}

impl TrustFiles {
    /// Reads a directory. One that does not exist yet is empty.
    pub fn read(directory: &Path) -> Result<Self, TrustFilesError> {
        let mut files =
            Self { directory: directory.to_owned(), files: Vec::new(), notation: NotationDirectory::default() };
        files.update()?;
        Ok(files)
    }

    /// Looks again, and says whether anything changed. A directory that cannot be read leaves what
    /// was known as it was.
    pub fn update(&mut self) -> Result<bool, TrustFilesError> {
        let stamps = list(&self.directory)?;
        let notation = self.notation.update(&self.directory)?;
        if stamps.iter().eq(self.files.iter().map(|file| &file.stamp)) {
            return Ok(notation);
        }
        let files = stamps.into_iter().map(|stamp| match self.files.iter().find(|file| file.stamp == stamp) {
            Some(known) => known.clone(),
            None => TrustFile { content: load(&self.directory, &stamp.path), stamp },
        });
        self.files = files.collect();
        Ok(true)
    }

    /// The signers, each under its name or the stem of its file's.
    pub fn signers(&self) -> impl Iterator<Item = (String, &SignerDocument)> {
        let of_files = self.files.iter().flat_map(|file| {
            let signers = match &file.content {
                Content::Signers(signers) => signers.as_slice(),
                Content::SigstoreRoot(_) | Content::Nothing { .. } => &[],
            };
            let stem = || file.stamp.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            signers.iter().map(move |signer| (signer.name.clone().unwrap_or_else(stem), signer))
        });
        let of_notation = self.notation.signers.iter();
        of_files.chain(of_notation.map(|signer| (signer.name.clone().unwrap_or_default(), signer)))
    }

    /// The trusted roots; none where no file is one. One that cannot be used is still one: whoever put it there
    /// does not want another in its place.
    pub fn sigstore_roots(&self) -> Option<Vec<SigstoreRoot>> {
        let mut roots = None;
        for file in &self.files {
            match &file.content {
                Content::SigstoreRoot(root) => roots.get_or_insert_with(Vec::new).push((**root).clone()),
                Content::Nothing { instead_of_root: true } => drop(roots.get_or_insert_with(Vec::new)),
                Content::Nothing { instead_of_root: false } | Content::Signers(_) => {}
            }
        }
        roots
    }

    /// The names of the files that are trusted roots, or were to be.
    pub fn sigstore_root_files(&self) -> Vec<String> {
        let is_root = |content: &Content| {
            matches!(content, Content::SigstoreRoot(_) | Content::Nothing { instead_of_root: true })
        };
        let names =
            self.files.iter().filter(|file| is_root(&file.content)).filter_map(|file| file.stamp.path.file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect()
    }
}

/// The files of the directory by name; dot files are what Kubernetes and editors keep beside them.
fn list(directory: &Path) -> Result<Vec<Stamp>, TrustFilesError> {
    let mut paths = entries(directory).map_err(|source| TrustFilesError::new(directory, source))?;
    paths.retain(|path| !path.file_name().is_some_and(|name| NAMES.iter().any(|notation| name == *notation)));
    paths.sort();
    Ok(paths.into_iter().map(Stamp::of).collect())
}

/// What lies in a directory, and nothing where there is none.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let paths = entries.take(MAX_FILES).map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let is_hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    Ok(paths.into_iter().filter(|path| !is_hidden(path)).collect())
}

impl Stamp {
    /// Follows links: a Kubernetes mount changes what they lead to.
    pub(super) fn of(path: PathBuf) -> Self {
        use std::os::unix::fs::MetadataExt;

        let metadata = fs::metadata(&path).ok();
        Self {
            path,
            modified: metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
            length: metadata.as_ref().map_or(0, fs::Metadata::len),
            inode: metadata.as_ref().map_or(0, MetadataExt::ino),
        }
    }
}

impl TrustFilesError {
    pub(super) fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}

/// What a file says; one that says nothing is a warning by name.
fn load(directory: &Path, path: &Path) -> Content {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let nothing = |problem: Problem| {
        tracing::warn!(file = %name, "TRUST_DIR: {name:?} is not trusted: {problem}");
        let is_root = matches!(problem, Problem::Root(_)) || is_named_as_root(&name);
        Content::Nothing { instead_of_root: is_root }
    };
    read(directory, path).unwrap_or_else(nothing)
}

/// As cosign, its documentation and sigstore's repositories name the file.
fn is_named_as_root(name: &str) -> bool {
    name.ends_with(".json") && name.replace('-', "_").contains("trusted_root")
}

/// Whether a document says of itself that it is a trusted root.
fn is_root(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: String,
    }
    serde_json::from_slice(json).is_ok_and(|Typed { media_type }| media_type.contains("sigstore.trustedroot"))
}

fn read(directory: &Path, path: &Path) -> Result<Content, Problem> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let Some(extension @ ("pub" | "pem" | "json" | "asc" | "gpg")) = extension else { return Err(Problem::Name) };
    let bytes = fs::read(contained(directory, path, MAX_FILE_BYTES)?)?;
    let of_file = |credential| SignerDocument { name: None, credential, not_before: None, not_after: None };
    match extension {
        "json" if is_root(&bytes) => Ok(Content::SigstoreRoot(Box::new(SigstoreRoot::parse(&bytes)?))),
        "json" => Ok(Content::Signers(vec![SignerDocument::from_json(&bytes)?])),
        "asc" | "gpg" => {
            let keys = OpenPgpKey::parse_all(&bytes)?;
            Ok(Content::Signers(keys.into_iter().map(|key| of_file(Credential::OpenPgp(key))).collect()))
        }
        _ => {
            let text = String::from_utf8(bytes).map_err(|_| KeyError::NotPem)?;
            Ok(Content::Signers(vec![of_file(Credential::PublicKey(PublicKey::from_pem(&text)?))]))
        }
    }
}

/// Where a file of the directory lies that may be read.
pub(super) fn contained(directory: &Path, path: &Path, most: u64) -> Result<PathBuf, Problem> {
    let target = path.canonicalize()?;
    if !target.starts_with(directory.canonicalize()?) {
        return Err(Problem::LinkOut);
    }
    let metadata = fs::metadata(&target)?;
    if !metadata.is_file() || metadata.len() > most {
        return Err(Problem::NoFile { most });
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = include_str!("../../../tests/fixtures/trust/ecdsa-p256.pub");

    fn names(files: &TrustFiles) -> Vec<String> {
        files.signers().map(|(name, _)| name).collect()
    }

    #[test]
    fn keys_are_named_by_their_stem_and_what_is_no_key_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut files = TrustFiles::read(&path("absent")).unwrap();
        assert!(names(&files).is_empty());
        files.directory = directory.path().to_owned();
        for (name, text) in
            [("ci.pub", KEY), ("b.pem", KEY), ("notes.txt", KEY), ("bad.pub", "no key"), (".hidden.pub", KEY)]
        {
            fs::write(path(name), text).unwrap();
        }
        fs::create_dir(path("folder.pub")).unwrap();
        assert!(files.update().unwrap());
        assert_eq!(names(&files), ["b", "ci"]);
        assert!(!files.update().unwrap());
        fs::remove_file(path("ci.pub")).unwrap();
        assert!(files.update().unwrap());
        assert_eq!(names(&files), ["b"]);
        let described = serde_json::json!({"name": "release", "public_key": KEY, "not_after": "2027-01-01T00:00:00Z"});
        fs::write(path("any.json"), described.to_string()).unwrap();
        fs::write(path("bad.json"), "{}").unwrap();
        assert!(files.update().unwrap());
        assert_eq!(names(&files), ["release", "b"]);
        assert!(files.signers().next().unwrap().1.not_after.is_some());
    }

    #[test]
    fn openpgp_keys_are_signers_each_and_a_secret_one_is_refused_by_name() {
        let fixture = |name: &str| fs::read(format!("tests/fixtures/openpgp/{name}")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("team.asc"), fixture("several.asc")).unwrap();
        fs::write(path("release.gpg"), fixture("rsa2048.pgp")).unwrap();
        fs::write(path("refused.asc"), fixture("refused-dsa2048.asc")).unwrap();
        let secret = String::from_utf8(fixture("rsa2048.asc")).unwrap().replace("PUBLIC", "PRIVATE");
        fs::write(path("secret.asc"), secret).unwrap();
        let files = TrustFiles::read(directory.path()).unwrap();
        assert_eq!(names(&files), ["release", "team", "team"]);
        let ids: Vec<_> = files.signers().map(|(_, signer)| signer.credential.id()).collect();
        assert!(ids[0] == ids[1] && ids[1] != ids[2]);
        let problem = read(directory.path(), &path("secret.asc")).unwrap_err();
        assert!(matches!(problem, Problem::OpenPgp(OpenPgpKeyError::SecretKey)), "{problem}");
    }

    #[test]
    fn a_trusted_root_is_one_whatever_its_name_and_a_broken_one_is_not_replaced() {
        const ROOT: &str = include_str!("../../trust/sigstore/public-good.json");
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("ci.pub"), KEY).unwrap();
        let mut files = TrustFiles::read(directory.path()).unwrap();
        assert_eq!(files.sigstore_roots(), None);
        for (name, text, roots) in [
            ("private.json", ROOT.to_owned(), 1),
            ("another.json", ROOT.to_owned(), 2),
            ("trusted_root.json", "{".to_owned(), 2),
            ("private.json", ROOT.replace("rawBytes", "raw"), 1),
            ("another.json", "{}".to_owned(), 0),
        ] {
            fs::write(path(name), text).unwrap();
            assert!(files.update().unwrap());
            assert_eq!(files.sigstore_roots().map(|roots| roots.len()), Some(roots), "{name}");
        }
        fs::remove_file(path("trusted_root.json")).unwrap();
        fs::remove_file(path("private.json")).unwrap();
        assert!(files.update().unwrap());
        assert_eq!(files.sigstore_roots(), None);
        assert_eq!(names(&files), ["ci"]);
    }

    #[test]
    fn links_count_only_where_they_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("out.pub"), KEY).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("..data")).unwrap();
        fs::write(path("..data").join("in.pub"), KEY).unwrap();
        std::os::unix::fs::symlink("..data/in.pub", path("in.pub")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("out.pub"), path("out.pub")).unwrap();
        assert_eq!(names(&TrustFiles::read(directory.path()).unwrap()), ["in"]);
    }

    #[test]
    fn pitfall_28_the_files_of_notation_are_read_and_linked_ones_only_where_they_stay_inside() {
        const CA: &[u8] = include_bytes!("../../../tests/fixtures/notation/ca.crt");
        let policy = |name: &str, store: &str| {
            format!(
                r#"{{"version":"1.0","trustPolicies":[{{"name":"{name}","registryScopes":["*"],"signatureVerification":
                {{"level":"strict"}},"trustStores":["ca:{store}"],"trustedIdentities":["*"]}}]}}"#
            )
        };
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("ca.crt"), CA).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("truststore/x509/ca/wabbit");
        fs::create_dir_all(&store).unwrap();
        fs::write(directory.path().join("ci.pub"), KEY).unwrap();
        fs::write(directory.path().join("trustpolicy.json"), policy("release", "wabbit")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("ca.crt"), store.join("ca.crt")).unwrap();
        std::os::unix::fs::symlink(outside.path(), directory.path().join("truststore/x509/ca/other")).unwrap();
        let mut files = TrustFiles::read(directory.path()).unwrap();
        assert_eq!(names(&files), ["ci", "release"]);
        let id = |files: &TrustFiles| files.signers().last().unwrap().1.credential.id();
        let without = id(&files);
        fs::remove_file(store.join("ca.crt")).unwrap();
        fs::write(store.join("ca.crt"), CA).unwrap();
        assert!(files.update().unwrap());
        let with = id(&files);
        assert_ne!(with, without, "a certificate that came makes another signer");
        assert!(!files.update().unwrap());
        fs::write(directory.path().join("trustpolicy.json"), policy("linked", "other")).unwrap();
        assert!(files.update().unwrap());
        assert_eq!(names(&files), ["ci", "linked"]);
        assert_eq!(
            files.signers().last().unwrap().1.credential.to_members()["notation"]["certificates"],
            serde_json::json!({})
        );
    }

    #[test]
    fn a_file_that_did_not_change_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ci.pub");
        fs::write(&path, KEY).unwrap();
        let mut files = TrustFiles::read(directory.path()).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        // The same file to everybody who only looks at it.
        fs::write(&path, "x".repeat(KEY.len())).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        fs::write(directory.path().join("other.pub"), KEY).unwrap();
        assert!(files.update().unwrap());
        assert_eq!(names(&files), ["ci", "other"]);
    }
}
