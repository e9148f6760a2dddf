//! An OCI image layout that signatures are written into, beside its images.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use super::file::write_whole;
use crate::{
    app::{Artifact, listed},
    cli::{
        image::Image,
        layout::{COSIGN_KIND, COSIGN_SIGNATURES, Layout, REF_NAME, Wanted},
        registry::Read,
    },
    oci::{Descriptor, Digest, Manifest, Repository, Tag},
};

/// What it had when it was opened, and where it is written.
pub(super) struct LayoutDestination {
    layout: Layout,
    root: PathBuf,
}

impl LayoutDestination {
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        ensure!(root.is_dir(), "{}: expected a directory; a tar file is not written into", root.display());
        Ok(Self { layout: Layout::open(root)?, root: root.to_owned() })
    }

    pub(super) fn subjects(
        &self,
        wanted: &Wanted,
        given: Option<&Image>,
    ) -> anyhow::Result<Vec<(Repository, Vec<Digest>)>> {
        let in_layout = || format!("the layout {}", self.root.display());
        self.layout.subjects(wanted, given, "--repository").with_context(in_layout)
    }

    pub(super) fn image(&self, image: &Digest) -> anyhow::Result<Option<Descriptor>> {
        Ok(self.layout.manifest(image)?.map(|manifest| manifest.descriptor()))
    }

    pub(super) fn tagged(&self, tag: &Tag) -> anyhow::Result<Read<Manifest>> {
        Ok(self.layout.tagged_manifest(tag)?.map_or(Read::Absent, Read::Is))
    }

    pub(super) fn refers(&self, image: &Digest, artifact: &Manifest) -> bool {
        self.layout.referrers(image).iter().any(|listed| listed.digest == artifact.digest)
    }

    /// In place of what has the tag, and marked as cosign marks it.
    pub(super) fn put_tagged(&self, tag: &Tag, artifact: &Artifact) -> anyhow::Result<()> {
        self.put_content(artifact)?;
        let before = self.layout.tagged(tag).map(|digest| digest.to_string());
        let mut annotations = Map::new();
        annotations.insert(REF_NAME.to_owned(), tag.as_str().into());
        annotations.insert(COSIGN_KIND.to_owned(), COSIGN_SIGNATURES.into());
        let entry = Descriptor { annotations, ..artifact.manifest.descriptor() };
        let mark = self.mark_of_image()?;
        self.change_index(|entries| {
            if let Some((image, mark)) = mark {
                let entries = entries.iter_mut().filter(|entry| entry["digest"].as_str() == Some(&image));
                entries.for_each(|entry| annotate(entry, mark));
            }
            let is_before = |entry: &&mut Value| entry["digest"].as_str() == before.as_deref();
            match entries.iter_mut().find(is_before).filter(|_| before.is_some()) {
                Some(there) => {
                    there["mediaType"] = json!(entry.media_type);
                    there["digest"] = json!(entry.digest);
                    there["size"] = json!(entry.size);
                }
                None => entries.push(json!(entry)),
            }
        })
    }

    /// cosign reads a layout only where the image in it is marked, and knows of one.
    fn mark_of_image(&self) -> anyhow::Result<Option<(String, &'static str)>> {
        let Ok(image) = self.layout.choose(&Wanted::TheOne) else { return Ok(None) };
        let manifest = self.layout.manifest(&image.digest)?;
        let mark = if manifest.is_some_and(|manifest| manifest.is_index()) { COSIGN_INDEX } else { COSIGN_IMAGE };
        Ok(Some((image.digest.to_string(), mark)))
    }

    pub(super) fn put_referrer(&self, artifact: &Artifact) -> anyhow::Result<()> {
        self.put_content(artifact)?;
        self.change_index(|entries| entries.push(json!(listed(&artifact.manifest))))
    }

    fn put_content(&self, artifact: &Artifact) -> anyhow::Result<()> {
        let manifest = (artifact.manifest.digest, artifact.manifest.bytes.clone());
        for (digest, bytes) in artifact.blobs.iter().chain([&manifest]) {
            let directory = self.root.join("blobs").join(digest.algorithm().to_string());
            fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
            let path = directory.join(digest.encoded());
            if !is_there(&path, bytes)? {
                write_whole(&path, bytes)?;
            }
        }
        Ok(())
    }

    /// Everything else in `index.json` stays as it is.
    fn change_index(&self, change: impl FnOnce(&mut Vec<Value>)) -> anyhow::Result<()> {
        let path = self.root.join("index.json");
        let index = fs::read(&path).with_context(|| path.display().to_string())?;
        let mut index: Value = serde_json::from_slice(&index).context("index.json")?;
        let entries = index["manifests"].as_array_mut().context("index.json is no index")?;
        change(entries);
        write_whole(&path, &serde_json::to_vec(&index)?)
    }
}

fn annotate(entry: &mut Value, mark: &str) {
    if !entry["annotations"].is_object() {
        entry["annotations"] = json!({});
    }
    if entry["annotations"][COSIGN_KIND].is_null() {
        entry["annotations"][COSIGN_KIND] = mark.into();
    }
}

const COSIGN_IMAGE: &str = "dev.cosignproject.cosign/image";
const COSIGN_INDEX: &str = "dev.cosignproject.cosign/imageIndex";

fn is_there(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    match fs::read(path) {
        Ok(there) => Ok(there == bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(path.display().to_string()),
    }
}
