//! OCI image layouts: an image with what was signed of it, in a directory or a tar file, as `cosign save`, `skopeo
//! copy`, `oras` and `crane` write them (image specification, `image-layout.md`).
//!
//! Nothing is believed of one: each manifest is hashed before it is read, links are not followed, and what would take
//! endless time or memory is refused.

mod address;
mod files;
mod registry;
mod tar_file;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use serde::Deserialize;

use self::files::{Content, Files};
use super::image::{DOCKER_HUB, Image};
use crate::oci::{Descriptor, Digest, Manifest, ManifestKind, Repository, Tag};

pub(super) use self::address::{Address, Wanted};
pub(super) use self::registry::LayoutRegistry;

pub(super) struct Layout {
    files: Files,
    /// Images and indexes of images that `index.json` names.
    images: Vec<Entry>,
    manifests: BTreeMap<Digest, Descriptor>,
    referrers: BTreeMap<Digest, Vec<Descriptor>>,
    /// What lies under tags such as `sha256-<hex>.sig`, or is marked as that by cosign.
    tagged: BTreeMap<Tag, Digest>,
    /// What is in `index.json` without a word on which image's it is.
    unattributed: Vec<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    /// What the writer calls it: a tag, or a whole reference.
    pub(super) name: Option<String>,
}

impl Layout {
    /// Reads what there is, and checks every manifest in it.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let files = Files::open(path)?;
        Self::read(files).with_context(|| format!("the layout {}", path.display()))
    }

    fn read(files: Files) -> anyhow::Result<Self> {
        let marker = files.content(MARKER)?.context("there is no oci-layout in it, so that it is none")?;
        let marker: Marker = serde_json::from_slice(&marker.bytes(MAX_MARKER_BYTES)?).context(MARKER)?;
        ensure!(marker.version == "1.0.0", "oci-layout: version {:?}, expected 1.0.0", marker.version);
        let index = files.content(INDEX)?.context("there is no index.json in it")?;
        let index = Manifest::parse(index.bytes(MAX_MANIFEST_BYTES)?.into(), None, None).context(INDEX)?;
        let ManifestKind::Index { manifests: top } = index.kind else { bail!("index.json is no index") };
        let mut layout = Self {
            files,
            images: Vec::new(),
            manifests: BTreeMap::new(),
            referrers: BTreeMap::new(),
            tagged: BTreeMap::new(),
            unattributed: Vec::new(),
        };
        let mut marked = Vec::new();
        for listed in &top {
            let Some(manifest) = layout.take(listed, 0)? else {
                ensure!(!is_manifest(listed), "{} is in index.json, and not in blobs", listed.digest);
                layout.unattributed.push(listed.digest);
                continue;
            };
            let text = |name: &str| listed.annotations.get(name).and_then(|value| value.as_str());
            let name = text(REF_NAME).or_else(|| text(CONTAINERD_NAME));
            let suffix = text(COSIGN_KIND).and_then(|kind| MARKS.iter().find(|(mark, _)| *mark == kind));
            let artifact =
                name.and_then(|name| tag_of(name).parse::<Tag>().ok()).filter(|tag| tag.artifact().is_some());
            match (suffix, artifact) {
                (_, Some(tag)) => drop(layout.tagged.insert(tag, manifest.digest)),
                (Some((_, suffix)), None) => marked.push((*suffix, name, manifest.digest)),
                (None, None) if manifest.subject.is_some() => {}
                (None, None) if manifest.is_artifact() => layout.unattributed.push(manifest.digest),
                (None, None) => {
                    let entry = Entry { digest: manifest.digest, name: name.map(str::to_owned) };
                    if !layout.images.contains(&entry) {
                        layout.images.push(entry);
                    }
                }
            }
        }
        layout.look_for_referrers()?;
        for (suffix, name, digest) in marked {
            layout.attribute(suffix, name, digest);
        }
        Ok(layout)
    }

    /// Takes a manifest and all that it leads to, as far as it is there: a writer may have left out what is for
    /// other platforms.
    fn take(&mut self, listed: &Descriptor, depth: usize) -> anyhow::Result<Option<Manifest>> {
        if !is_manifest(listed) {
            return Ok(None);
        }
        let Some(first) = self.checked(listed)? else { return Ok(None) };
        let mut open = VecDeque::from([(first.clone(), depth)]);
        while let Some((manifest, depth)) = open.pop_front() {
            ensure!(depth < MAX_DEPTH, "{} is an index within {MAX_DEPTH} others", manifest.digest);
            if !self.note(&manifest)? {
                continue;
            }
            if let ManifestKind::Index { manifests } = &manifest.kind {
                for child in manifests.iter().filter(|child| is_manifest(child)) {
                    if !self.manifests.contains_key(&child.digest)
                        && let Some(child) = self.checked(child)?
                    {
                        open.push_back((child, depth + 1));
                    }
                }
            }
        }
        Ok(Some(first))
    }

    fn note(&mut self, manifest: &Manifest) -> anyhow::Result<bool> {
        if self.manifests.insert(manifest.digest, manifest.descriptor()).is_some() {
            return Ok(false);
        }
        ensure!(self.manifests.len() <= MAX_MANIFESTS, "more than {MAX_MANIFESTS} manifests");
        if let Some(subject) = &manifest.subject {
            self.referrers.entry(subject.digest).or_default().push(manifest.descriptor());
        }
        Ok(true)
    }

    /// A manifest as it was listed: its size and its digest are what the list says.
    fn checked(&self, listed: &Descriptor) -> anyhow::Result<Option<Manifest>> {
        let Some(content) = self.blob_content(&listed.digest)? else { return Ok(None) };
        let Descriptor { digest, size, .. } = listed;
        ensure!(content.len == *size, "{digest} has {} bytes, not the {size} that are listed", content.len);
        let bytes = content.bytes(MAX_MANIFEST_BYTES).with_context(|| digest.to_string())?;
        let manifest = Manifest::parse(bytes.into(), Some(digest), Some(listed.media_type.as_str()));
        Ok(Some(manifest.with_context(|| format!("the manifest {digest}"))?))
    }

    /// cosign 3 puts its bundles among the blobs and into no list: they say themselves what they refer to.
    fn look_for_referrers(&mut self) -> anyhow::Result<()> {
        let mut bytes_left = MAX_UNLISTED_BYTES;
        for digest in self.files.blobs()? {
            if self.manifests.contains_key(&digest) {
                continue;
            }
            let Some(content) = self.blob_content(&digest)? else { continue };
            if content.len > MAX_REFERRER_BYTES || !content.begins_with(b'{')? {
                continue;
            }
            bytes_left = bytes_left
                .checked_sub(content.len)
                .with_context(|| format!("more than {MAX_UNLISTED_BYTES} bytes of JSON that no list names"))?;
            let bytes = Bytes::from(content.bytes(MAX_MANIFEST_BYTES)?);
            // What is no manifest is a config, or whatever else somebody keeps here.
            let Ok(manifest) = Manifest::parse(bytes, Some(&digest), None) else { continue };
            if manifest.subject.is_some() {
                self.note(&manifest)?;
            }
        }
        Ok(())
    }

    /// What cosign marks as signatures is of the image that it wrote beside them.
    fn attribute(&mut self, suffix: &str, name: Option<&str>, digest: Digest) {
        let images: BTreeSet<Digest> = match name {
            Some(_) => {
                self.images.iter().filter(|image| image.name.as_deref() == name).map(|image| image.digest).collect()
            }
            None => self.images.iter().map(|image| image.digest).collect(),
        };
        let image = images.first().filter(|_| images.len() == 1);
        let tag = image.and_then(|image| format!("{}-{}{suffix}", image.algorithm(), image.encoded()).parse().ok());
        match tag {
            Some(tag) => drop(self.tagged.insert(tag, digest)),
            None => self.unattributed.push(digest),
        }
    }

    /// The one image that is meant.
    pub(super) fn choose(&self, wanted: &Wanted) -> anyhow::Result<Entry> {
        let fits = |entry: &&Entry| match wanted {
            Wanted::TheOne => true,
            Wanted::Name(wanted) => {
                entry.name.as_ref().is_some_and(|name| name == wanted || tag_of(name) == wanted.as_str())
            }
            Wanted::Digest(digest) => entry.digest == *digest,
        };
        let found: Vec<&Entry> = self.images.iter().filter(fits).collect();
        match (found.as_slice(), wanted) {
            ([one], Wanted::TheOne | Wanted::Name(_)) => Ok((*one).clone()),
            // By its digest an image is asked for whatever its names are, and within an index too.
            (_, Wanted::Digest(digest)) if self.manifests.contains_key(digest) => {
                Ok(Entry { digest: *digest, name: None })
            }
            ([], Wanted::TheOne) => bail!("there is no image in it"),
            ([], Wanted::Name(wanted)) => bail!("there is no {wanted:?} in it, but {}", self.names()),
            (_, Wanted::Digest(digest)) => bail!("there is no {digest} in it, but {}", self.names()),
            (_, _) => bail!("which image is meant? Name one by :REF or @DIGEST; there are {}", self.names()),
        }
    }

    fn names(&self) -> String {
        let name = |entry: &Entry| match &entry.name {
            Some(name) => format!("{name:?} ({})", entry.digest),
            None => entry.digest.to_string(),
        };
        let shown: Vec<_> = self.images.iter().take(MAX_SHOWN).map(name).collect();
        let more = if self.images.len() > MAX_SHOWN { ", …" } else { "" };
        if shown.is_empty() { "no image".to_owned() } else { format!("{}{more}", shown.join(", ")) }
    }

    /// All images that are meant, and those whose signatures are here, by the repository that they are of; `option`
    /// is how the command is told of it.
    pub(super) fn subjects(
        &self,
        wanted: &Wanted,
        given: Option<&Image>,
        option: &str,
    ) -> anyhow::Result<Vec<(Repository, Vec<Digest>)>> {
        let default = DOCKER_HUB.parse()?;
        let given = given.and_then(|image| image.repository(&default));
        let meant = match wanted {
            Wanted::TheOne => self.images.clone(),
            wanted => {
                let chosen = self.choose(wanted)?;
                let listed = self.images.iter().find(|entry| entry.digest == chosen.digest);
                vec![listed.cloned().unwrap_or(chosen)]
            }
        };
        let mut groups: Vec<(Repository, BTreeSet<Digest>)> = Vec::new();
        let mut reached = BTreeSet::new();
        for entry in meant {
            let named = entry.named()?.and_then(|image| image.repository(&default));
            let repository = given.clone().or(named).with_context(|| nameless(&entry.digest, option))?;
            let images = self.reached(&entry.digest)?;
            reached.extend(images.iter().copied());
            match groups.iter_mut().find(|(known, _)| *known == repository) {
                Some((_, known)) => known.extend(images),
                None => groups.push((repository, images)),
            }
        }
        let signed =
            self.tagged.keys().filter_map(|tag| Some(tag.artifact()?.subject)).chain(self.referrers.keys().copied());
        let alone: BTreeSet<Digest> = signed.filter(|image| !reached.contains(image)).collect();
        if let (Wanted::TheOne, Some(first)) = (wanted, alone.first()) {
            match (given, groups.as_mut_slice()) {
                (Some(repository), _) => groups.push((repository, alone)),
                (None, [(_, known)]) => known.extend(alone),
                (None, _) => bail!(nameless(first, option)),
            }
        }
        Ok(groups.into_iter().map(|(repository, images)| (repository, images.into_iter().collect())).collect())
    }

    /// An image, and where it is an index, those in it.
    fn reached(&self, image: &Digest) -> anyhow::Result<BTreeSet<Digest>> {
        let (mut open, mut reached) = (vec![*image], BTreeSet::new());
        while let Some(digest) = open.pop() {
            if reached.insert(digest)
                && let Some(manifest) = self.manifest(&digest)?
                && manifest.is_index()
            {
                open.extend(manifest.children().map(|child| child.digest));
            }
        }
        Ok(reached)
    }

    pub(super) fn unattributed(&self) -> &[Digest] {
        &self.unattributed
    }

    pub(super) fn manifest(&self, digest: &Digest) -> anyhow::Result<Option<Manifest>> {
        match self.manifests.get(digest) {
            Some(listed) => self.checked(listed),
            None => Ok(None),
        }
    }

    pub(super) fn tagged(&self, tag: &Tag) -> Option<Digest> {
        self.tagged.get(tag).copied()
    }

    pub(super) fn tagged_manifest(&self, tag: &Tag) -> anyhow::Result<Option<Manifest>> {
        self.tagged(tag).map_or(Ok(None), |digest| self.manifest(&digest))
    }

    pub(super) fn referrers(&self, subject: &Digest) -> &[Descriptor] {
        self.referrers.get(subject).map(Vec::as_slice).unwrap_or_default()
    }

    /// A blob of at most `cap` bytes, hashed.
    pub(super) fn blob(&self, digest: &Digest, cap: u64) -> anyhow::Result<Option<Bytes>> {
        let Some(content) = self.blob_content(digest)? else { return Ok(None) };
        let bytes = content.bytes(cap).with_context(|| format!("the blob {digest}"))?;
        ensure!(digest.matches(&bytes), "the blob {digest} has other bytes than its digest says");
        Ok(Some(bytes.into()))
    }

    /// Hashes all that an image consists of. Of an index, what is there.
    pub(super) fn check(&self, digest: &Digest) -> anyhow::Result<()> {
        let (mut open, mut seen) = (vec![*digest], BTreeSet::new());
        while let Some(digest) = open.pop() {
            let Some(manifest) = self.manifest(&digest)? else { continue };
            if manifest.is_index() {
                open.extend(manifest.children().map(|child| child.digest));
                continue;
            }
            for child in manifest.children().filter(|child| seen.insert(child.digest)) {
                let Descriptor { digest, size, .. } = child;
                let content = self.blob_content(digest)?;
                let content =
                    content.with_context(|| format!("the blob {digest} of {} is missing", manifest.digest))?;
                ensure!(content.len == *size, "the blob {digest} has {} bytes, not {size}", content.len);
                ensure!(content.matches(digest)?, "the blob {digest} has other bytes than its digest says");
            }
        }
        Ok(())
    }

    fn blob_content(&self, digest: &Digest) -> anyhow::Result<Option<Content>> {
        self.files.content(&format!("blobs/{}/{}", digest.algorithm(), digest.encoded()))
    }
}

impl Entry {
    /// The image by its whole name, where the writer has given one with a repository.
    pub(super) fn named(&self) -> anyhow::Result<Option<Image>> {
        let Some(name) = self.name.as_ref().filter(|name| name.contains(['/', ':', '@'])) else { return Ok(None) };
        name.parse().map(Some).map_err(|error| anyhow!("the image's name {name:?} is no reference: {error}"))
    }

    /// The tag that a name without a repository is.
    pub(super) fn tag(&self) -> Option<Tag> {
        self.name.as_ref()?.parse().ok()
    }
}

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

fn is_manifest(listed: &Descriptor) -> bool {
    listed.media_type.is_image() || listed.media_type.is_index()
}

fn nameless(image: &Digest, option: &str) -> String {
    format!("it does not say of which repository {image} is; say it by {option} REPOSITORY")
}

/// The tag of a whole reference; a name that is none is all of it.
fn tag_of(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.rsplit_once(':').map_or(last, |(_, tag)| tag)
}

const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
pub(super) const COSIGN_KIND: &str = "kind";
pub(super) const COSIGN_SIGNATURES: &str = "dev.cosignproject.cosign/sigs";

/// What cosign marks, and the tag under which a registry would have it.
const MARKS: [(&str, &str); 3] = [
    (COSIGN_SIGNATURES, ".sig"),
    ("dev.cosignproject.cosign/atts", ".att"),
    ("dev.cosignproject.cosign/sboms", ".sbom"),
];

const MAX_MARKER_BYTES: u64 = 4096;
const MAX_MANIFEST_BYTES: u64 = crate::oci::MAX_MANIFEST_BYTES as u64;
/// Nobody nests indexes further than index, index, image.
const MAX_DEPTH: usize = 8;
const MAX_MANIFESTS: usize = 65_536;
/// A manifest of a signature has a thousand.
const MAX_REFERRER_BYTES: u64 = 256 << 10;
const MAX_UNLISTED_BYTES: u64 = 256 << 20;
const MAX_SHOWN: usize = 20;

#[cfg(test)]
mod tests;
