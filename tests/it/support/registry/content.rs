use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};

use bytes::Bytes;
use serde_json::{Value, json};
use sig_repo::oci::{Digest, MediaType};

use super::Registry;

/// A manifest that was pushed.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
    pub(crate) media_type: String,
    /// Digests of the blobs it names, the config first; of the manifests, for an index.
    pub(crate) children: Vec<Digest>,
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) repositories: HashMap<String, Held>,
}

#[derive(Default)]
pub(super) struct Held {
    pub(super) manifests: BTreeMap<Digest, (String, Bytes)>,
    pub(super) blobs: HashMap<Digest, Bytes>,
    pub(super) tags: BTreeMap<String, Digest>,
    pub(super) referrers_off: bool,
    pub(super) referrers_per_page: Option<usize>,
    /// Entries of the list of a subject that no manifest is the reason of.
    pub(super) claimed: Vec<(Digest, Value)>,
}

impl Registry {
    /// Writes a repository as `cosign save` writes one image: its `.sig` manifest is marked as that, what refers to it
    /// lies among the blobs and in no list.
    pub(crate) fn save(&self, repository: &str, image: &Image, dir: &Path) {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let signatures = format!("sha256-{}.sig", image.digest.encoded());
        let listed = self.held(repository, |held| {
            let manifests = held.manifests.iter().map(|(digest, (_, bytes))| (digest, bytes));
            for (digest, bytes) in held.blobs.iter().chain(manifests) {
                fs::write(blobs.join(digest.encoded()), bytes).unwrap();
            }
            let marked = [("image", Some(&image.digest)), ("sigs", held.tags.get(&signatures))];
            let marked = marked.into_iter().filter_map(|(mark, digest)| {
                let (media_type, bytes) = &held.manifests[digest?];
                let annotations = json!({"kind": format!("dev.cosignproject.cosign/{mark}")});
                let size = bytes.len();
                Some(json!({"mediaType": media_type, "digest": digest, "size": size, "annotations": annotations}))
            });
            marked.collect::<Vec<_>>()
        });
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": listed});
        fs::write(dir.join("index.json"), index.to_string()).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    pub(crate) fn push_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.held(repository, |held| held.blobs.insert(digest, bytes));
        digest
    }

    /// Any bytes as a manifest; nothing is checked, so that broken ones can be pushed too.
    pub(crate) fn push_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Image {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.held(repository, |held| {
            held.manifests.insert(digest, (media_type.to_owned(), bytes.clone()));
            if let Some(tag) = tag {
                held.tags.insert(tag.to_owned(), digest);
            }
        });
        let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let lists = ["layers", "manifests"].into_iter().filter_map(|key| json[key].as_array()).flatten();
        let children = std::iter::once(&json["config"]).chain(lists);
        let children = children.filter_map(|child| child["digest"].as_str()?.parse().ok()).collect();
        Image { digest, bytes, media_type: media_type.to_owned(), children }
    }

    /// An OCI image with these layers, and a config that makes it unlike any other image.
    pub(crate) fn push_image(&self, repository: &str, tag: Option<&str>, layers: &[&[u8]]) -> Image {
        let layer = MediaType::OCI_MANIFEST.as_str().replace("manifest.v1+json", "layer.v1.tar+gzip");
        let config = json!({"architecture": "amd64", "os": "linux", "layers": layers.len(), "tag": tag});
        let config = self.push_described(repository, "application/vnd.oci.image.config.v1+json", config.to_string());
        let layers: Vec<Value> =
            layers.iter().map(|bytes| self.push_described(repository, &layer, bytes.to_vec())).collect();
        let media_type = MediaType::OCI_MANIFEST;
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        self.push_manifest(repository, tag, media_type.as_str(), manifest.to_string())
    }

    /// An OCI index of manifests pushed before.
    pub(crate) fn push_index(&self, repository: &str, tag: Option<&str>, children: &[&Image]) -> Image {
        let manifests: Vec<Value> = children.iter().map(|child| descriptor(child)).collect();
        let media_type = MediaType::OCI_INDEX;
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        self.push_manifest(repository, tag, media_type.as_str(), index.to_string())
    }

    /// A manifest that refers to `subject`: one layer of `media_type`, listed by the referrers API.
    pub(crate) fn push_referrer(&self, repository: &str, subject: &Image, media_type: &str, layer: &[u8]) -> Image {
        let config = self.push_described(repository, "application/vnd.oci.empty.v1+json", "{}");
        let layer = self.push_described(repository, media_type, layer.to_vec());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": media_type,
            "config": config, "layers": [layer], "subject": descriptor(subject),
        });
        self.push_manifest(repository, None, MediaType::OCI_MANIFEST.as_str(), manifest.to_string())
    }

    /// What cosign writes in its classic format: the tag `sha256-….sig` with one layer per signature,
    /// given as payload and base64 signature.
    pub(crate) fn push_cosign_signatures(
        &self,
        repository: &str,
        subject: &Digest,
        signatures: &[(&[u8], &str)],
    ) -> Image {
        let config = self.push_described(repository, "application/vnd.oci.image.config.v1+json", "{}");
        let layers: Vec<Value> = signatures
            .iter()
            .map(|(payload, signature)| {
                let mut layer = self.push_described(repository, MediaType::SIMPLE_SIGNING.as_str(), payload.to_vec());
                layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
                layer
            })
            .collect();
        let media_type = MediaType::OCI_MANIFEST;
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        let tag = format!("sha256-{}.sig", subject.encoded());
        self.push_manifest(repository, Some(&tag), media_type.as_str(), manifest.to_string())
    }

    pub(crate) fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        self.held(repository, |held| held.tags.insert(tag.to_owned(), *digest));
    }

    /// Everything of a repository is gone.
    pub(crate) fn remove(&self, repository: &str) {
        self.state().content.repositories.remove(repository);
    }

    /// A signature as cosign pushes it where it may refer to its image: the layer of a `.sig` tag in a manifest
    /// with a subject.
    pub(crate) fn push_signature_referrer(
        &self,
        repository: &str,
        subject: &Image,
        payload: &[u8],
        signature: &str,
    ) -> Image {
        let config = self.push_described(repository, "application/vnd.dev.cosign.artifact.sig.v1+json", "{}");
        let mut layer = self.push_described(repository, MediaType::SIMPLE_SIGNING.as_str(), payload.to_vec());
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
        let media_type = MediaType::OCI_MANIFEST;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer],
            "subject": descriptor(subject),
        });
        self.push_manifest(repository, None, media_type.as_str(), manifest.to_string())
    }

    /// Lists what refers to `subject` under its fallback tag, each entry as of this artifact type.
    pub(crate) fn push_fallback(&self, repository: &str, subject: &Image, listed: &[(&Image, &str)]) -> Image {
        let manifests: Vec<Value> = listed
            .iter()
            .map(|(image, artifact_type)| {
                let mut entry = descriptor(image);
                entry["artifactType"] = json!(artifact_type);
                entry
            })
            .collect();
        let media_type = MediaType::OCI_INDEX;
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        let tag = format!("sha256-{}", subject.digest.encoded());
        self.push_manifest(repository, Some(&tag), media_type.as_str(), index.to_string())
    }

    /// Lists this entry among the referrers of `subject`, whatever it names.
    pub(crate) fn claim_referrer(&self, repository: &str, subject: &Digest, entry: Value) {
        self.held(repository, |held| held.claimed.push((*subject, entry)));
    }

    /// Lists referrers in pages of this size.
    pub(crate) fn page_referrers(&self, repository: &str, size: usize) {
        self.held(repository, |held| held.referrers_per_page = Some(size));
    }

    /// Answers 404 to the referrers API in this repository, as older registries do.
    pub(crate) fn without_referrers(&self, repository: &str) {
        self.held(repository, |held| held.referrers_off = true);
    }

    fn push_described(&self, repository: &str, media_type: &str, bytes: impl Into<Bytes>) -> Value {
        let bytes = bytes.into();
        let size = bytes.len();
        let digest = self.push_blob(repository, bytes);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    fn held<T>(&self, repository: &str, change: impl FnOnce(&mut Held) -> T) -> T {
        change(self.state().content.repositories.entry(repository.to_owned()).or_default())
    }
}

impl Held {
    pub(super) fn manifest(&self, reference: &str) -> Option<(Digest, &str, &Bytes)> {
        let digest = match self.tags.get(reference) {
            Some(digest) => *digest,
            None => reference.parse().ok()?,
        };
        let (media_type, bytes) = self.manifests.get(&digest)?;
        Some((digest, media_type, bytes))
    }

    /// The referrers of a digest, of one artifact type where asked for.
    pub(super) fn referrers(&self, subject: &str, artifact_type: Option<&str>) -> Vec<Value> {
        let mut found = Vec::new();
        for (digest, (media_type, bytes)) in &self.manifests {
            let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
            let stated =
                [&json["artifactType"], &json["config"]["mediaType"]].into_iter().find(|kind| kind.is_string());
            if json["subject"]["digest"] != subject
                || artifact_type.is_some_and(|wanted| stated != Some(&json!(wanted)))
            {
                continue;
            }
            found.push(json!({
                "mediaType": media_type, "digest": digest, "size": bytes.len(), "artifactType": stated,
            }));
        }
        let claimed = self.claimed.iter().filter(|(of, _)| of.to_string() == subject);
        found.extend(claimed.map(|(_, entry)| entry.clone()));
        found
    }

    pub(super) fn tag_page(&self, last: Option<&str>, n: usize) -> (Vec<&str>, bool) {
        let rest: BTreeSet<&str> =
            self.tags.keys().map(String::as_str).filter(|tag| last.is_none_or(|last| *tag > last)).collect();
        let more = rest.len() > n;
        (rest.into_iter().take(n).collect(), more)
    }
}

pub(crate) fn descriptor(image: &Image) -> Value {
    json!({"mediaType": image.media_type, "digest": image.digest, "size": image.bytes.len()})
}
