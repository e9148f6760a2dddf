//! A tree of OpenPGP signatures as podman and skopeo write it (`lookaside` in `registries.d`):
//! `<namespace>/<name>@sha256=<hex>/signature-1`, 2 and so on.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, ensure};
use nix::fcntl::OFlag;

use super::found::{Content, Sink, submission};
use crate::{
    oci::{Digest, Tag},
    trust::{Annotations, Envelope, Format, MAX_SIGNATURE_BYTES},
};

/// Goes through the tree, directory by directory, in the order of the names.
pub(super) async fn walk(root: &Path, sink: &Sink) -> anyhow::Result<()> {
    // Per level what is still to be looked at; no link is followed.
    let mut levels = vec![children(root)?];
    let mut path = Vec::new();
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.pop() else {
            levels.pop();
            path.pop();
            continue;
        };
        let at = path.iter().collect::<std::path::PathBuf>().join(&name);
        let full = root.join(&at);
        let kind = fs::symlink_metadata(&full).with_context(|| full.display().to_string())?.file_type();
        let other = |reason: &str| Content::Other { reason: reason.to_owned() };
        match (kind.is_dir(), subject_of(&at)) {
            (true, Some((repository, digest))) => {
                for file in children(&full)?.into_iter().rev() {
                    let content = signature(&full.join(&file), &file, &repository, &digest);
                    let content = content.with_context(|| full.join(&file).display().to_string())?;
                    sink.put(at.join(&file).display(), content).await?;
                }
            }
            (true, None) => {
                ensure!(levels.len() < MAX_DEPTH, "{} is deeper than any repository", full.display());
                levels.push(children(&full)?);
                path.push(name);
            }
            (false, _) if kind.is_symlink() => sink.put(at.display(), other("symbolic-link")).await?,
            (false, _) => sink.put(at.display(), other("no-signature")).await?,
        }
    }
    Ok(())
}

/// The names in a directory, the last first.
fn children(path: &Path) -> anyhow::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        names.push(entry?.file_name());
        ensure!(names.len() <= MAX_ENTRIES, "{} has more than {MAX_ENTRIES} entries", path.display());
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

/// `library/nginx@sha256=<hex>`: a repository without its registry, and a digest.
fn subject_of(path: &Path) -> Option<(String, Digest)> {
    let (repository, digest) = path.to_str()?.split_once('@')?;
    Some((repository.to_owned(), digest.replacen('=', ":", 1).parse().ok()?))
}

fn signature(path: &Path, name: &OsStr, repository: &str, digest: &Digest) -> anyhow::Result<Content> {
    let other = |reason: &str| Ok(Content::Other { reason: reason.to_owned() });
    let is_numbered = name.to_str().and_then(|name| name.strip_prefix("signature-")?.parse::<u32>().ok()).is_some();
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return other("symbolic-link");
    }
    if !is_numbered || !metadata.is_file() {
        return other("no-signature");
    }
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file: File = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let mut signature = Vec::new();
    file.take(MAX_SIGNATURE_BYTES as u64 + 1).read_to_end(&mut signature)?;
    if signature.len() > MAX_SIGNATURE_BYTES {
        return Ok(Content::Broken { reason: "too-large", detail: format!("more than {MAX_SIGNATURE_BYTES} bytes") });
    }
    let envelope = match Envelope::parse(Format::OpenPgp, &signature, None, &Annotations::new()) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(Content::Broken { reason: "malformed", detail: error.to_string() }),
    };
    // The tree does not say which registry is meant; the signature does, and it is what the signer vouches for.
    let Some(named) = envelope.names_image() else { return other("of-no-image") };
    if named.digest != digest || named.repository.path() != repository {
        return other("of-another-image");
    }
    let whole = Tag::fallback(digest);
    let tag = named.tag.unwrap_or(&whole);
    let submission = submission(digest, Some(named.repository), tag, Format::OpenPgp, &signature);
    Ok(Content::Signature { submission: submission.into(), otherwise: None })
}

const MAX_DEPTH: usize = 64;
const MAX_ENTRIES: usize = 1 << 20;
