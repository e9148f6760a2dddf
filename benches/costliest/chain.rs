//! Envelopes of notation with the longest chain, of the certificates that are dearest to check.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use der::{Decode, asn1::UintRef};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512,
    SigningKey, date_time_ymd,
};
use serde_json::json;
use sig_repo::oci::Digest;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    True,
    /// All under one name, which is the trusted root's, so that each could be one that signed itself.
    Forged,
}

/// The trusted root in PEM, and a JWS over `manifest` with `length` certificates, the root included.
pub(crate) fn jws(kind: Kind, length: usize, manifest: &[u8]) -> (String, Vec<u8>) {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("a key");
    let root_key = key();
    let root_params = authority(0, kind);
    let root = root_params.self_signed(&root_key).expect("a root");
    let mut chain = vec![root.der().to_vec()];
    // Whoever forges has the root's name and not its key.
    let above = if kind == Kind::Forged { key() } else { root_key };
    let mut issuer = Issuer::new(root_params, above);
    for place in 1..length {
        let is_signer = place + 1 == length;
        let params = if is_signer { signer(kind) } else { authority(place, kind) };
        let key = key();
        chain.push(params.signed_by(&key, &issuer).expect("a certificate").der().to_vec());
        issuer = Issuer::new(params, key);
    }
    let target = json!({
        "mediaType": serde_json::from_slice::<serde_json::Value>(manifest).expect("a manifest")["mediaType"],
        "digest": Digest::sha256(manifest),
        "size": manifest.len(),
    });
    let protected = json!({
        "alg": "ES512",
        "crit": ["io.cncf.notary.signingScheme"],
        "cty": "application/vnd.cncf.notary.payload.v1+json",
        "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": "2026-11-26T02:00:00Z",
    });
    let [payload, protected] =
        [json!({"targetArtifact": target}), protected].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signature = issuer.key().sign(format!("{protected}.{payload}").as_bytes()).expect("a signature");
    let chain: Vec<_> = chain.iter().rev().map(|der| STANDARD.encode(der)).collect();
    let envelope = json!({
        "payload": payload,
        "protected": protected,
        "header": {"x5c": chain},
        "signature": URL_SAFE_NO_PAD.encode(fixed(&signature)),
    });
    (root.pem(), envelope.to_string().into_bytes())
}

fn authority(place: usize, kind: Kind) -> CertificateParams {
    let mut params = named(&place.to_string(), kind);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn signer(kind: Kind) -> CertificateParams {
    let mut params = named("signer", kind);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn named(name: &str, kind: Kind) -> CertificateParams {
    let mut params = CertificateParams::default();
    let name = if kind == Kind::Forged { "root" } else { name };
    for (kind, value) in [
        (DnType::CountryName, "US"),
        (DnType::StateOrProvinceName, "WA"),
        (DnType::OrganizationName, "Wabbit Networks"),
        (DnType::CommonName, name),
    ] {
        params.distinguished_name.push(kind, value);
    }
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2046, 1, 1));
    params
}

/// r and s of an ECDSA signature, each with the bytes that a scalar of P-521 has.
fn fixed(der: &[u8]) -> Vec<u8> {
    let two: Vec<UintRef<'_>> = Vec::from_der(der).expect("a signature");
    let padded = two.iter().flat_map(|number| {
        let bytes = number.as_bytes();
        [&[0; SCALAR_BYTES][bytes.len()..], bytes].concat()
    });
    padded.collect()
}

const SCALAR_BYTES: usize = 66;
