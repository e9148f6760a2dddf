//! Envelopes and chains made to order, for what no honest program would sign.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SerialNumber, SigningKey, date_time_ymd,
};
use serde_json::{Value, json};

use super::{MANIFEST, document, root_of, statement};
use crate::{
    oci::Digest,
    trust::{TrustRoot, curve::Curve, integers::two_integers},
};

/// A signer with the chain that vouches for it; each part can be had otherwise before it is used.
pub(super) struct Maker {
    key: KeyPair,
    chain: Vec<Vec<u8>>,
    /// None: it signed its own certificate.
    issuer: Option<(CertificateParams, KeyPair)>,
    root_pem: String,
}

impl Maker {
    /// Signer, issuer and root that are as they should be.
    pub(super) fn new() -> Self {
        Self::with(|_| {}, |_| {}, |_| {})
    }

    pub(super) fn with(
        signer: impl FnOnce(&mut CertificateParams),
        issuer: impl FnOnce(&mut CertificateParams),
        root: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let [key, issuer_key, root_key] = std::array::from_fn(|_| KeyPair::generate().unwrap());
        let mut root_params = authority("Root");
        root(&mut root_params);
        let root_certificate = root_params.self_signed(&root_key).unwrap();
        let root = Issuer::from_params(&root_params, &root_key);
        let mut issuer_params = authority("Issuer");
        issuer(&mut issuer_params);
        let issuer_certificate = issuer_params.signed_by(&issuer_key, &root).unwrap();
        let issuer = Issuer::from_params(&issuer_params, &issuer_key);
        let mut params = named("Signer");
        params.serial_number = Some(SerialNumber::from(SERIAL));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        signer(&mut params);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let der = |certificate: &Certificate| certificate.der().to_vec();
        let chain = vec![der(&certificate), der(&issuer_certificate), der(&root_certificate)];
        Self { key, chain, issuer: Some((issuer_params, issuer_key)), root_pem: root_certificate.pem() }
    }

    /// One that signed its own certificate.
    pub(super) fn alone(signer: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = named("Signer");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        signer(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Self { key, chain: vec![certificate.der().to_vec()], issuer: None, root_pem: certificate.pem() }
    }

    /// A list of the issuer in which the signer's certificate is, for something that was so since.
    pub(super) fn revocation_list(&self, invalid_since: Option<(i32, u8, u8)>) -> Vec<u8> {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(SERIAL),
            revocation_time: date_time_ymd(2026, 11, 20),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: invalid_since.map(|(year, month, day)| date_time_ymd(year, month, day)),
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 11, 20),
            next_update: date_time_ymd(2027, 11, 20),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let (params, key) = self.issuer();
        list.signed_by(&Issuer::from_params(params, key)).unwrap().der().to_vec()
    }

    /// Who issued the signer's certificate.
    pub(super) fn issuer(&self) -> (&CertificateParams, &KeyPair) {
        let (params, key) = self.issuer.as_ref().expect("somebody else issued it");
        (params, key)
    }

    pub(super) fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// A root that trusts the maker's, as a store of this kind has it.
    pub(super) fn trusted_as(&self, store: &str) -> TrustRoot {
        let mut statement = statement();
        statement["trustStores"] = json!([format!("{store}:wabbit")]);
        root_of(&document(&[statement]), &[(&format!("{store}/wabbit"), self.root_pem.as_bytes())])
    }

    pub(super) fn trusted(&self) -> TrustRoot {
        self.trusted_as("ca")
    }

    /// A JWS over this payload and protected header.
    pub(super) fn sign(&self, payload: &Value, protected: &Value) -> Value {
        self.sign_with_chain(payload, protected, &self.chain)
    }

    pub(super) fn sign_with_chain(&self, payload: &Value, protected: &Value, chain: &[Vec<u8>]) -> Value {
        let [payload, protected] = [payload, protected].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signature = self.key.sign(format!("{protected}.{payload}").as_bytes()).unwrap();
        let (r, s) = two_integers(&signature).unwrap();
        let signature = [Curve::P256.scalar(r).unwrap(), Curve::P256.scalar(s).unwrap()].concat();
        let chain: Vec<_> = chain.iter().map(|der| STANDARD.encode(der)).collect();
        json!({
            "payload": payload,
            "protected": protected,
            "header": { "x5c": chain, "io.cncf.notary.signingAgent": "test" },
            "signature": URL_SAFE_NO_PAD.encode(signature),
        })
    }
}

const SERIAL: u64 = 7;

/// The payload that notation signs.
pub(super) fn payload() -> Value {
    json!({ "targetArtifact": {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::sha256(MANIFEST).to_string(),
        "size": MANIFEST.len(),
    } })
}

/// The protected header that notation writes.
pub(super) fn protected() -> Value {
    json!({
        "alg": "ES256",
        "crit": ["io.cncf.notary.signingScheme"],
        "cty": "application/vnd.cncf.notary.payload.v1+json",
        "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": "2026-11-26T02:00:00Z",
    })
}

pub(super) fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(super) fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    for (kind, value) in [
        (DnType::CountryName, "US"),
        (DnType::StateOrProvinceName, "WA"),
        (DnType::OrganizationName, "Wabbit Networks"),
        (DnType::CommonName, name),
    ] {
        params.distinguished_name.push(kind, value);
    }
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 6, 1));
    params
}

/// A key usage that is not critical: of digitalSignature.
pub(super) fn uncritical_key_usage(params: &mut CertificateParams) {
    params.key_usages.clear();
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 0x80]));
}

pub(super) fn extended(purpose: ExtendedKeyUsagePurpose) -> impl FnOnce(&mut CertificateParams) {
    |params| params.extended_key_usages.push(purpose)
}
