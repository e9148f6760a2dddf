//! What tools that sign have left beside images in the registry, where nobody is asked for a token.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::{Image, Registry, digest_of};
use crate::http::Answer;

impl Registry {
    /// The blob of the only artifact that the fallback tag lists. Both are gone then.
    pub(crate) fn take_referrer(&self, image: &Image) -> Bytes {
        let (index, referrer) = self.referrer(image);
        let manifest = self.manifest_at(&image.repository, &referrer);
        let blob = self.blob(&image.repository, manifest.json()["layers"][0]["digest"].as_str().unwrap());
        for digest in [&index.digest, &referrer] {
            self.ask(Method::DELETE, &image.repository, &format!("manifests/{digest}"));
        }
        blob
    }

    /// The payloads under the `.sig` tag, with what stands beside each. They are gone then.
    pub(crate) fn take_signatures(&self, image: &Image) -> Vec<(Bytes, BTreeMap<String, String>)> {
        let held = self.manifest_at(&image.repository, &format!("{}.sig", fallback_tag(image)));
        let manifest = held.json();
        let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| {
            let payload = self.blob(&image.repository, layer["digest"].as_str().unwrap());
            (payload, serde_json::from_value(layer["annotations"].clone()).unwrap())
        });
        let layers = layers.collect();
        self.ask(Method::DELETE, &image.repository, &format!("manifests/{}", held.digest));
        layers
    }

    /// Puts the only artifact that refers to one image beside another, as if it were about that one.
    pub(crate) fn copy_referrer(&self, from: &Image, to: &Image) {
        let (_, referrer) = self.referrer(from);
        let mut artifact = self.copied(from, to, &referrer).json();
        artifact["subject"]["digest"] = to.single.clone().into();
        artifact["subject"]["size"] = self.manifest_of(to).len().into();
        let artifact_type = artifact["artifactType"].clone();
        let artifact = artifact.to_string();
        let digest = digest_of(artifact.as_bytes());
        self.put(&to.repository, &digest, MANIFEST, artifact.as_bytes());
        let entry = serde_json::json!({
            "mediaType": MANIFEST, "digest": digest, "size": artifact.len(), "artifactType": artifact_type,
        });
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        self.put(&to.repository, &fallback_tag(to), INDEX, index.as_bytes());
    }

    /// Puts what is under the `.sig` tag of one image under another's.
    pub(crate) fn copy_signatures(&self, from: &Image, to: &Image) {
        let copied = self.copied(from, to, &format!("{}.sig", fallback_tag(from)));
        self.put(&to.repository, &format!("{}.sig", fallback_tag(to)), MANIFEST, &copied.bytes);
    }

    /// Whether there is a fallback tag.
    pub(crate) fn has_fallback_tag(&self, image: &Image) -> bool {
        let url = format!("http://{}/v2/{}/manifests/{}", self.address, image.repository, fallback_tag(image));
        self.http.send(Method::GET, &url, &[("accept", INDEX)], Bytes::new()).status.is_success()
    }

    fn referrer(&self, image: &Image) -> (Held, String) {
        let index = self.manifest_at(&image.repository, &fallback_tag(image));
        let entries = index.json()["manifests"].as_array().unwrap().clone();
        let [entry] = &entries[..] else { panic!("{} refer to {}", entries.len(), image.single) };
        (index, entry["digest"].as_str().unwrap().to_owned())
    }

    /// A manifest, whose blobs are in the other repository too from now on.
    fn copied(&self, from: &Image, to: &Image, reference: &str) -> Held {
        let held = self.manifest_at(&from.repository, reference);
        let manifest = held.json();
        let layers = manifest["layers"].as_array().unwrap().iter();
        for blob in layers.chain([&manifest["config"]]) {
            self.push_blob(&to.repository, &self.blob(&from.repository, blob["digest"].as_str().unwrap()));
        }
        held
    }

    fn manifest_at(&self, repository: &str, reference: &str) -> Held {
        let bytes = self.ask(Method::GET, repository, &format!("manifests/{reference}")).body;
        Held { digest: digest_of(&bytes), bytes }
    }

    fn blob(&self, repository: &str, digest: &str) -> Bytes {
        self.ask(Method::GET, repository, &format!("blobs/{digest}")).body
    }

    fn put(&self, repository: &str, reference: &str, media_type: &str, manifest: &[u8]) {
        let url = format!("http://{}/v2/{repository}/manifests/{reference}", self.address);
        let manifest = Bytes::copy_from_slice(manifest);
        let put = self.http.send(Method::PUT, &url, &[("content-type", media_type)], manifest);
        assert!(put.status.is_success(), "{url}: {}: {}", put.status, String::from_utf8_lossy(&put.body));
    }

    fn ask(&self, method: Method, repository: &str, path: &str) -> Answer {
        let url = format!("http://{}/v2/{repository}/{path}", self.address);
        let answer = self.http.send(method, &url, &[("accept", MANIFEST), ("accept", INDEX)], Bytes::new());
        assert!(answer.status.is_success(), "{url}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        answer
    }
}

struct Held {
    digest: String,
    bytes: Bytes,
}

impl Held {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }
}

fn fallback_tag(image: &Image) -> String {
    image.single.replace(':', "-")
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
