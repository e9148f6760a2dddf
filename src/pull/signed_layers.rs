//! Which layers of an artifact hold a signature of what the artifact is about, whether it was found upstream
//! or pushed here: one reader, so that what is taken here is what would be found there.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    oci::{Descriptor, Digest, Manifest, ManifestKind, MediaType},
    trust::{Annotations, EVIDENCE_ANNOTATIONS, Format, MAX_SIGNATURE_BYTES},
};

use super::{Signed, published::SIGNATURE_ANNOTATION};

/// A layer with a signature, whose blob is still to be had.
#[derive(Debug)]
pub(super) struct SignedLayer {
    pub(super) blob: Descriptor,
    form: Form,
}

/// A layer of cosign's classic form without a signature beside its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoSignature {
    pub(super) layer: Digest,
}

#[derive(Debug)]
enum Form {
    /// The blob is what was signed; the signature stands beside it.
    SimpleSigning { signature: Vec<u8>, annotations: Annotations },
    /// The blob is the whole of it.
    Envelope(Format),
}

/// The layers with signatures, in their order. What else an artifact holds, attestations of other kinds and
/// SBOMs among it, is no signature.
pub(super) fn signed_layers(manifest: &Manifest) -> impl Iterator<Item = Result<SignedLayer, NoSignature>> {
    let layers = match &manifest.kind {
        ManifestKind::Image { layers, .. } => layers.as_slice(),
        ManifestKind::Index { .. } => &[],
    };
    let alone = layers.len() == 1;
    layers.iter().filter_map(move |layer| SignedLayer::of(layer, alone).transpose())
}

impl SignedLayer {
    fn of(layer: &Descriptor, alone: bool) -> Result<Option<Self>, NoSignature> {
        let form = if layer.media_type == MediaType::SIMPLE_SIGNING {
            Form::beside_payload(layer).ok_or(NoSignature { layer: layer.digest })?
        } else {
            // An envelope is the one layer of its manifest.
            match envelope_format(&layer.media_type).filter(|_| alone) {
                Some(format) => Form::Envelope(format),
                None => return Ok(None),
            }
        };
        Ok(Some(Self { blob: layer.clone(), form }))
    }

    /// Whether it is small enough for a signature. What is larger is an attestation, or garbage.
    pub(super) fn fits(&self) -> bool {
        let limit = match self.form {
            Form::SimpleSigning { .. } => MAX_PAYLOAD_BYTES,
            Form::Envelope(_) => MAX_SIGNATURE_BYTES,
        };
        self.blob.size <= limit as u64
    }

    /// The signature, now that the blob is here.
    pub(super) fn signed(self, blob: Vec<u8>) -> Signed {
        match self.form {
            Form::SimpleSigning { signature, annotations } => {
                Signed { format: Some(Format::SimpleSigning), signature, payload: Some(blob), annotations }
            }
            Form::Envelope(format) => {
                Signed { format: Some(format), signature: blob, payload: None, annotations: BTreeMap::new() }
            }
        }
    }
}

impl Form {
    fn beside_payload(layer: &Descriptor) -> Option<Self> {
        let text = |name: &str| layer.annotations.get(name).and_then(Value::as_str);
        let signature = STANDARD.decode(text(SIGNATURE_ANNOTATION)?).ok()?;
        let evidence = EVIDENCE_ANNOTATIONS.into_iter();
        let annotations = evidence.filter_map(|name| Some((name.to_owned(), text(name)?.to_owned()))).collect();
        Some(Self::SimpleSigning { signature, annotations })
    }
}

fn envelope_format(media_type: &MediaType) -> Option<Format> {
    match media_type {
        bundle if bundle.is_sigstore_bundle() => Some(Format::SigstoreBundle),
        jws if *jws == MediaType::JOSE => Some(Format::NotationJws),
        cose if *cose == MediaType::COSE => Some(Format::NotationCose),
        _ => None,
    }
}

/// A simple-signing payload has a few hundred bytes.
const MAX_PAYLOAD_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layer(media_type: &str, annotations: &Value) -> Value {
        json!({"mediaType": media_type, "digest": Digest::sha256(b"blob").to_string(), "size": 4, "annotations": annotations})
    }

    fn read(layers: &[Value]) -> Vec<Result<SignedLayer, NoSignature>> {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": Digest::sha256(b"{}").to_string(),
                "size": 2,
            },
            "layers": layers,
        });
        let manifest = Manifest::parse(manifest.to_string().into_bytes().into(), None, None).unwrap();
        signed_layers(&manifest).collect()
    }

    #[test]
    fn a_classic_signature_is_what_stands_beside_its_payload() {
        let kind = MediaType::SIMPLE_SIGNING;
        let kind = kind.as_str();
        let (signature, bundle) = (STANDARD.encode("signature"), EVIDENCE_ANNOTATIONS[2]);
        let annotations = json!({SIGNATURE_ANNOTATION: signature, bundle: "{}", "colour": "red"});
        let layers = read(&[
            layer(kind, &annotations),
            layer(kind, &json!({SIGNATURE_ANNOTATION: "?"})),
            layer(kind, &json!({})),
        ]);
        let [Ok(found), Err(_), Err(missing)] = &layers[..] else { panic!("{layers:?}") };
        assert_eq!(*missing, NoSignature { layer: Digest::sha256(b"blob") });
        assert!(found.fits());
        let signed = layers.into_iter().next().unwrap().unwrap().signed(b"blob".to_vec());
        assert_eq!((signed.format, &signed.signature[..]), (Some(Format::SimpleSigning), &b"signature"[..]));
        assert_eq!(signed.payload.as_deref(), Some(&b"blob"[..]));
        assert_eq!(signed.annotations, [(bundle.to_owned(), "{}".to_owned())].into());
    }

    #[test]
    fn an_envelope_is_what_its_media_type_says_and_alone_in_its_manifest() {
        for (kind, format) in [
            ("application/vnd.dev.sigstore.bundle.v0.3+json", Some(Format::SigstoreBundle)),
            ("application/jose+json", Some(Format::NotationJws)),
            ("application/cose", Some(Format::NotationCose)),
            ("application/vnd.dsse.envelope.v1+json", None),
            ("application/spdx+json", None),
        ] {
            let envelope = layer(kind, &json!({}));
            let read_alone: Vec<_> = read(std::slice::from_ref(&envelope));
            let formats: Vec<_> =
                read_alone.into_iter().map(|layer| layer.unwrap().signed(Vec::new()).format).collect();
            assert_eq!(formats, Vec::from_iter(format.map(Some)), "{kind}");
            assert!(read(&[envelope.clone(), envelope]).is_empty(), "{kind}");
        }
    }
}
