//! What cosign left in the registry.

use std::{collections::BTreeMap, fs};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use super::{
    Lab,
    cosign::{Form, Kind},
};
use crate::{
    http::{Answer, Http},
    images::{Image, digest_of},
    world::World,
};

/// A signature as whoever verifies it finds it.
#[derive(Debug)]
pub(crate) enum Artifact {
    Bundle(Bytes),
    Classic { payload: Bytes, annotations: BTreeMap<String, String> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Lab {
    /// Takes the only signature of its form away from the image, or from beside the file.
    pub(crate) fn take(&self, world: &World, kind: Kind, image: &Image) -> Artifact {
        let registry = Behind { world, repository: &image.repository };
        let tag = image.single.replace(':', "-");
        match kind.form {
            Form::Blob => Artifact::Bundle(fs::read(self.bundle_of_blob()).unwrap().into()),
            Form::Bundle | Form::Attestation => {
                let index: Index = registry.take(&tag, "application/vnd.oci.image.index.v1+json");
                let [bundle] = &index.manifests[..] else { panic!("{} bundles", index.manifests.len()) };
                let manifest: Manifest = registry.take(&bundle.digest, MANIFEST);
                Artifact::Bundle(registry.blob(&manifest.layers[0].digest))
            }
            Form::Classic => {
                let mut manifest: Manifest = registry.take(&format!("{tag}.sig"), MANIFEST);
                let layer = manifest.layers.pop().expect("a signature");
                assert!(manifest.layers.is_empty(), "more than one signature");
                Artifact::Classic { payload: registry.blob(&layer.digest), annotations: layer.annotations }
            }
        }
    }
}

/// A repository of the registry that the stand-in has behind it, where nobody is asked for a token.
struct Behind<'a> {
    world: &'a World,
    repository: &'a str,
}

impl Behind<'_> {
    fn take<T: for<'de> Deserialize<'de>>(&self, reference: &str, media_type: &str) -> T {
        let found = self.send(Method::GET, &format!("manifests/{reference}"), &[("accept", media_type)]);
        let parsed = serde_json::from_slice(&found.body).unwrap();
        self.send(Method::DELETE, &format!("manifests/{}", digest_of(&found.body)), &[]);
        parsed
    }

    fn blob(&self, digest: &str) -> Bytes {
        self.send(Method::GET, &format!("blobs/{digest}"), &[]).body
    }

    fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let http = Http::new(self.world.runtime.handle().clone());
        let url = format!("http://{}/v2/{}/{path}", self.world.registry.address(), self.repository);
        let answer = http.send(method, &url, headers, Bytes::new());
        assert!(answer.status.is_success(), "{url}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        answer
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
