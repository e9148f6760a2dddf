//! Which blobs belong to an image, by what is remembered of it: nobody is asked.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    cache::BlobCache,
    oci::{Digest, Manifest, Reference, Repository},
    store::StoreError,
};

use super::{Puller, fetch::FetchError};

/// The blobs of an image.
#[derive(Debug)]
pub struct ImageBlobs {
    /// Those that no other image names, as far as is known here.
    pub own: HashSet<Digest>,
    pub shared: usize,
}

impl Puller {
    pub fn cache(&self) -> Option<&BlobCache> {
        self.cache.as_ref()
    }

    /// The blobs of one manifest, or of each that a tag was seen to name, and of those that these name. None: no manifest
    /// of it is known. It looks through all that is known of other images.
    pub fn blobs_of(&self, repository: &Repository, reference: &Reference) -> Result<Option<ImageBlobs>, StoreError> {
        let roots = match reference {
            Reference::Tag(tag) => self.store.tagged(repository, tag)?,
            Reference::Digest(digest) => vec![*digest],
        };
        let manifests = self.manifests_below(&roots)?;
        if manifests.is_empty() {
            return Ok(None);
        }
        let named = manifests.values().flat_map(|manifest| manifest.children().map(|child| child.digest));
        let elsewhere = self.store.named_elsewhere(
            repository,
            |digest| manifests.contains_key(digest),
            &named.chain(roots.iter().copied()).collect(),
        )?;
        // A platform that another index has too belongs to that, with its blobs.
        let mut own_manifests = HashSet::new();
        let mut waiting = roots;
        while let Some(digest) = waiting.pop() {
            let Some(manifest) = manifests.get(&digest).filter(|_| !elsewhere.contains(&digest)) else { continue };
            if own_manifests.insert(digest) && manifest.is_index() {
                waiting.extend(manifest.children().map(|child| child.digest));
            }
        }
        let (mut own, mut others) = (HashSet::new(), HashSet::new());
        for (digest, manifest) in manifests.iter().filter(|(_, manifest)| !manifest.is_index()) {
            let blobs = manifest.children().map(|child| child.digest);
            if own_manifests.contains(digest) { own.extend(blobs) } else { others.extend(blobs) }
        }
        let all = own.union(&others).count();
        own.retain(|blob| !others.contains(blob) && !elsewhere.contains(blob));
        Ok(Some(ImageBlobs { shared: all - own.len(), own }))
    }

    /// These manifests, and those that they name, as far as they are kept.
    fn manifests_below(&self, roots: &[Digest]) -> Result<HashMap<Digest, Arc<Manifest>>, StoreError> {
        let mut manifests = HashMap::new();
        let mut waiting = roots.to_vec();
        while let Some(digest) = waiting.pop() {
            if manifests.contains_key(&digest) {
                continue;
            }
            let manifest = match self.fetcher.held(&digest) {
                Ok(Some(manifest)) => manifest,
                Ok(None) => continue,
                Err(FetchError::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%digest, "a stored manifest is passed over: {error}");
                    continue;
                }
            };
            if manifest.is_index() {
                waiting.extend(manifest.children().map(|child| child.digest));
            }
            manifests.insert(digest, manifest);
        }
        Ok(manifests)
    }
}
