//! Signatures by a key with a certificate beside them that no sigstore issued: `cosign sign --key … --cert …`.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData, SigningKey};

use sha2::{Digest as _, Sha256};

use super::{
    entry::{EntryBody, Logged, Signatory},
    *,
};
use crate::trust::{Revocation, verifier::message::Message};

const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

/// A signature over the image, and what its authority says of the key that made it.
struct Signed {
    payload: Vec<u8>,
    signature: Vec<u8>,
    public_key: PublicKey,
    certificate: String,
    chain: String,
}

impl Signed {
    fn new() -> Self {
        let [key, authority_key] = std::array::from_fn(|_| KeyPair::generate().unwrap());
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let chain = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::from_params(&authority, &authority_key);
        let certificate = CertificateParams::new(["ci.team.example".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap().pem();
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": "docker.io/team/app"},
                "image": {"docker-manifest-digest": Digest::sha256(&manifest()).to_string()},
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string().into_bytes();
        let signature = key.sign(&payload).unwrap();
        let public_key = PublicKey::from_der(key.subject_public_key_info()).unwrap();
        Self { payload, signature, public_key, certificate, chain }
    }

    fn outcome(&self, annotations: &[(&str, &str)], root: &TrustRoot) -> Outcome {
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let manifest = manifest();
        let digest = Digest::sha256(&manifest);
        let subject = Subject::new(&digest, Some(&manifest), None);
        match Envelope::recognise(&self.signature, Some(&self.payload), &annotations) {
            Ok(envelope) => verify(&envelope, &subject, root, at(NOW)),
            Err(error) => Outcome::Rejected(Rejection::from(&error)),
        }
    }

    fn certified(&self, root: &TrustRoot) -> Outcome {
        self.outcome(&[(CERTIFICATE, &self.certificate), (CHAIN, &self.chain)], root)
    }

    fn signer(&self) -> Signer {
        signer("ci", Credential::PublicKey(self.public_key.clone()))
    }
}

/// A certificate and a log entry of the private sigstore, of another signature.
fn keyless_annotations() -> Value {
    json("classic/keyless-rekor1/annotations.json")
}

#[test]
fn a_certificate_beside_a_signature_neither_adds_trust_in_its_key_nor_takes_it_away() {
    let signed = Signed::new();
    let keyless = keyless_annotations();
    let fulcio = keyless[CERTIFICATE].as_str().unwrap();
    let root = |signers| trust(signers, vec![root_of("trusted_root.json")], Demands::default());
    let trusted = root(vec![dev(), signed.signer()]);
    for annotations in
        [&[][..], &[(CERTIFICATE, signed.certificate.as_str()), (CHAIN, &signed.chain)], &[(CERTIFICATE, fulcio)]]
    {
        let found = verified(signed.outcome(annotations, &trusted), "by its key");
        assert_eq!(found.signer.name, "ci");
    }
    // The same without the key among the signers, whoever is believed to certify.
    let untrusted = root(vec![dev()]);
    assert_eq!(signed.outcome(&[], &untrusted), rejected(Rejection::NoTrustedKey));
    assert_eq!(signed.certified(&untrusted), rejected(SigstoreRejection::NoIdentity));
    assert_eq!(signed.outcome(&[(CERTIFICATE, fulcio)], &untrusted), rejected(SigstoreRejection::Signature));

    let revoked = Some(Revocation { at: at("2026-01-01T00:00:00Z"), keeps_earlier: false });
    let outcome = signed.certified(&root(vec![dev(), Signer { revoked, ..signed.signer() }]));
    assert_eq!(outcome, rejected(Rejection::SignerRevoked { name: "ci".into() }));
}

/// What cosign logs of such a signature: the certificate in the place of the key.
#[test]
fn a_log_entry_by_a_certificate_is_one_by_its_key() {
    let [signed, other] = [Signed::new(), Signed::new()];
    let body = json!({
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hex::encode(Sha256::digest(&signed.payload))}},
            "signature": {
                "content": STANDARD.encode(&signed.signature),
                "publicKey": {"content": STANDARD.encode(&signed.certificate)},
            },
        },
    });
    let body = EntryBody::parse(body.to_string().as_bytes()).unwrap();
    let differs = |key: &PublicKey| {
        let message = Message::payload(&signed.payload);
        let by = Signatory::Key(key.id());
        body.differs(&Logged { message: &message, dsse_payload: None, signature: &signed.signature, by })
    };
    assert_eq!(differs(&signed.public_key), Some(Ok(())));
    assert_eq!(differs(&other.public_key), Some(Err(EntryPart::Key)));
}

#[test]
fn what_stands_beside_a_certified_key_is_true_or_the_signature_does_not_count() {
    let signed = Signed::new();
    let root = trust(vec![signed.signer()], vec![root_of("trusted_root.json")], Demands::default());
    let keyless = keyless_annotations();
    let entry = keyless[BUNDLE].as_str().unwrap();
    let outcome = signed.outcome(&[(CERTIFICATE, &signed.certificate), (BUNDLE, entry)], &root);
    assert!(matches!(outcome, Outcome::Rejected(Rejection::Sigstore(SigstoreRejection::LogEntryMismatch { .. }))));
}
