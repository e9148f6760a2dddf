//! Answers about certificates made to order: by whom an issuer let answer for it, and by lists of changes.

use std::time::Duration;

use der::{
    Decode, Encode,
    asn1::{BitString, GeneralizedTime, Ia5String, ObjectIdentifier, OctetString},
};
use rcgen::{
    Certificate as Made, CrlDistributionPoint, CustomExtension, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, SigningKey, date_time_ymd,
};
use spki::AlgorithmIdentifierOwned;
use x509_cert::{
    Version,
    crl::{CertificateList, RevokedCert, TbsCertList},
    ext::{
        Extension,
        pkix::{
            crl::dp::DistributionPoint,
            name::{DistributionPointName, GeneralName},
        },
    },
    serial_number::SerialNumber,
    time::Time,
};
use x509_ocsp::{
    BasicOcspResponse, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, ResponderId, ResponseData,
    SingleResponse,
};

use super::{
    super::{
        certificate::Certificate,
        revocation::{RevocationCheck, RevocationFlaw, Revocations, Standing},
    },
    maker::{Maker, authority, named},
    *,
};
use crate::trust::{
    key::Hash,
    scheme::{Scheme, SchemeError},
};

/// RFC 6960, section 4.2.2.2.
#[test]
fn who_answers_for_an_issuer_was_let_by_it_and_is_beyond_doubt() {
    let maker = naming_a_list();
    let check = check(&maker);
    let (params, issuer_key) = maker.issuer();
    let status = |key: &KeyPair, beside: &[&Made]| check.ocsp_status(&answer(&check, key, beside), now()).map(|_| ());
    assert_eq!(status(issuer_key, &[]), Ok(()));
    let key = KeyPair::generate().unwrap();
    assert_eq!(status(&key, &[]), Err(RevocationFlaw::Signature));

    let issuer = Issuer::from_params(params, issuer_key);
    let delegate = |change: fn(&mut rcgen::CertificateParams)| {
        let mut params = named("OCSP");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        change(&mut params);
        params.signed_by(&key, &issuer).unwrap()
    };
    let good = delegate(|_| {});
    assert_eq!(status(&key, &[&good]), Ok(()));
    for (delegate, flaw) in [
        (delegate(|params| params.extended_key_usages.clear()), RevocationFlaw::Signer),
        (
            delegate(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
            RevocationFlaw::Signer,
        ),
        (delegate(|params| params.not_after = date_time_ymd(2026, 6, 1)), RevocationFlaw::Signer),
        (delegate(|params| params.not_before = date_time_ymd(2027, 1, 1)), RevocationFlaw::Signer),
        (delegate(|params| params.crl_distribution_points = vec![list_at()]), RevocationFlaw::SignerMayBeRevoked),
    ] {
        assert_eq!(status(&key, &[&delegate]), Err(flaw));
    }
    let unasked = delegate(|params| {
        params.crl_distribution_points = vec![list_at()];
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 48, 1, 5], vec![5, 0])];
    });
    assert_eq!(status(&key, &[&unasked]), Ok(()));

    // Of another authority that gave itself the same name.
    let impostor = KeyPair::generate().unwrap();
    let mut of_impostor = named("OCSP");
    of_impostor.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    let of_impostor = of_impostor.signed_by(&key, &Issuer::from_params(&authority("Issuer"), &impostor)).unwrap();
    assert_eq!(status(&key, &[&of_impostor]), Err(RevocationFlaw::Signer));
    // With the true one beside it, that somebody else has the key of.
    let stranger = KeyPair::generate().unwrap();
    assert_eq!(status(&stranger, &[&good]), Err(RevocationFlaw::Signature));
    assert_eq!(status(&key, &[&of_impostor, &good]), Ok(()));
    assert_eq!(
        status(&key, &[&of_impostor, &of_impostor, &of_impostor, &of_impostor, &good]),
        Err(RevocationFlaw::Signer)
    );
}

/// RFC 5280, section 5.2.4.
#[test]
fn changes_count_that_belong_to_the_list_and_are_newer() {
    let maker = naming_a_list();
    let check = check(&maker);
    let base = |revoked| list(&maker, 5, revoked, vec![freshest()]);
    let changes = |number, since, revoked| list(&maker, number, revoked, vec![changes_since(since)]);
    let standing = |list: &[u8], delta: Option<&[u8]>| {
        let status = check.crl_status(list, delta, now())?;
        let known = Revocations::default().with([(check.id(), status)], now());
        Ok::<_, RevocationFlaw>(known.standing(&check, None, now()))
    };
    assert_eq!(check.delta_urls(&base(None)), Ok(vec!["http://other.example/changes".to_owned()]));
    let is_good = |found: &Result<Standing, RevocationFlaw>| matches!(found, Ok(Standing::Good { .. }));
    for since in [5, 3] {
        assert!(is_good(&standing(&base(None), Some(&changes(6, since, None)))), "since {since}");
    }
    assert_eq!(standing(&base(None), Some(&changes(6, 5, Some(REVOKED)))), Ok(Standing::Revoked));
    assert_eq!(standing(&base(Some(REVOKED)), Some(&changes(6, 5, None))), Ok(Standing::Revoked));
    assert!(is_good(&standing(&base(Some(ON_HOLD)), Some(&changes(6, 5, Some(NO_LONGER))))));
    // They may have been kept from us, are of a later list, or older than what they change.
    for delta in
        [None, Some(changes(7, 6, None)), Some(changes(5, 5, None)), Some(changes(4, 3, None)), Some(base(None))]
    {
        assert_eq!(standing(&base(None), delta.as_deref()), Err(RevocationFlaw::Delta));
    }
    assert_eq!(standing(&changes(6, 5, None), None), Err(RevocationFlaw::Delta));
    let other = naming_a_list();
    let foreign = list(&other, 6, None, vec![changes_since(5)]);
    assert_eq!(standing(&base(None), Some(&foreign)), Err(RevocationFlaw::Signature));
    // What is only about CAs, and what is about nobody knows what.
    let of_authorities = extension(ObjectIdentifier::new_unwrap("2.5.29.28"), true, vec![0x30, 3, 0x82, 1, 0xff]);
    let unknown = extension(ObjectIdentifier::new_unwrap("1.2.3.4"), true, vec![5, 0]);
    for partial in [of_authorities, unknown] {
        assert_eq!(standing(&list(&maker, 5, None, vec![partial]), None), Err(RevocationFlaw::Scope));
    }
}

/// RFC 4055, section 3.1: anything else than one hash throughout, and a salt of its length, is nothing that is written.
#[test]
fn pss_is_known_by_the_parameters_that_everybody_writes() {
    const SHA_256: &str = "300d06096086480165030402010500";
    const SHA_384: &str = "300d06096086480165030402020500";
    const SHA_1: &str = "300906052b0e03021a0500";
    let scheme = |hash: &str, inner: &str, salt: u8, trailer: &str| {
        let tagged = |tag: u8, content: &str| format!("{tag:02x}{:02x}{content}", content.len() / 2);
        let mask = tagged(0x30, &format!("06092a864886f70d010108{inner}"));
        let salt = tagged(0xa2, &format!("0201{salt:02x}"));
        let content = [tagged(0xa0, hash), tagged(0xa1, &mask), salt, trailer.to_owned()].concat();
        let der = hex::decode(tagged(0x30, &format!("06092a864886f70d01010a{}", tagged(0x30, &content)))).unwrap();
        Scheme::of(&AlgorithmIdentifierOwned::from_der(&der).unwrap())
    };
    assert_eq!(scheme(SHA_256, SHA_256, 32, ""), Ok(Scheme::RsaPss(Hash::Sha256)));
    assert_eq!(scheme(SHA_384, SHA_384, 48, ""), Ok(Scheme::RsaPss(Hash::Sha384)));
    assert_eq!(scheme(SHA_256, SHA_256, 32, "a303020101"), Ok(Scheme::RsaPss(Hash::Sha256)));
    for (hash, inner, salt, trailer) in [
        (SHA_1, SHA_1, 20, ""),
        (SHA_256, SHA_1, 32, ""),
        (SHA_256, SHA_384, 32, ""),
        (SHA_256, SHA_256, 20, ""),
        (SHA_256, SHA_256, 0, ""),
        (SHA_256, SHA_256, 32, "a303020102"),
    ] {
        assert_eq!(scheme(hash, inner, salt, trailer), Err(SchemeError::Unknown), "{hash} {inner} {salt} {trailer}");
    }
    // The defaults are SHA-1.
    let bare = hex::decode("300d06092a864886f70d01010a3000").unwrap();
    assert_eq!(Scheme::of(&AlgorithmIdentifierOwned::from_der(&bare).unwrap()), Err(SchemeError::Unknown));
}

fn naming_a_list() -> Maker {
    Maker::with(|signer| signer.crl_distribution_points = vec![list_at()], |_| {}, |_| {})
}

fn list_at() -> CrlDistributionPoint {
    CrlDistributionPoint { uris: vec!["http://other.example/crl".to_owned()] }
}

fn check(maker: &Maker) -> RevocationCheck {
    let [signer, issuer] = [0, 1].map(|at| Certificate::from_der(&maker.chain()[at]).unwrap());
    RevocationCheck::of(&signer, &issuer).expect("it names a list")
}

/// That the certificate is good, with these certificates beside it.
fn answer(check: &RevocationCheck, key: &KeyPair, beside: &[&Made]) -> Vec<u8> {
    let asked = OcspRequest::from_der(&check.ocsp_request()).unwrap().tbs_request.request_list.remove(0);
    let single = SingleResponse {
        cert_id: asked.req_cert,
        cert_status: CertStatus::good(),
        this_update: OcspGeneralizedTime(at(now() - SignedDuration::from_hours(1))),
        next_update: Some(OcspGeneralizedTime(at(now() + SignedDuration::from_hours(1)))),
        single_extensions: None,
    };
    let data = ResponseData {
        version: x509_ocsp::Version::V1,
        responder_id: ResponderId::ByKey(OctetString::new([0; 20]).unwrap()),
        produced_at: OcspGeneralizedTime(at(now())),
        responses: vec![single],
        response_extensions: None,
    };
    let signature = key.sign(&data.to_der().unwrap()).unwrap();
    let certificate = |made: &&Made| x509_cert::Certificate::from_der(made.der()).unwrap();
    let basic = BasicOcspResponse {
        tbs_response_data: data,
        signature_algorithm: ecdsa(),
        signature: BitString::from_bytes(&signature).unwrap(),
        certs: Some(beside.iter().map(certificate).collect()),
    };
    OcspResponse::successful(basic).unwrap().to_der().unwrap()
}

/// A list of the maker's issuer, with the signer's certificate in it for one of the reasons below.
fn list(maker: &Maker, number: u8, reason: Option<u8>, extensions: Vec<Extension>) -> Vec<u8> {
    let [signer, issuer] = [0, 1].map(|at| Certificate::from_der(&maker.chain()[at]).unwrap());
    let entry = |reason| RevokedCert {
        serial_number: SerialNumber::new(signer.serial()).unwrap(),
        revocation_date: Time::GeneralTime(at(now() - SignedDuration::from_hours(48))),
        crl_entry_extensions: Some(vec![extension(
            ObjectIdentifier::new_unwrap("2.5.29.21"),
            false,
            vec![0x0a, 1, reason],
        )]),
    };
    let numbered = extension(ObjectIdentifier::new_unwrap("2.5.29.20"), false, vec![2, 1, number]);
    let tbs = TbsCertList {
        version: Version::V2,
        signature: ecdsa(),
        issuer: issuer.subject().clone(),
        this_update: Time::GeneralTime(at(now() - SignedDuration::from_hours(24))),
        next_update: Some(Time::GeneralTime(at(now() + SignedDuration::from_hours(24)))),
        revoked_certificates: reason.map(|reason| vec![entry(reason)]),
        crl_extensions: Some([vec![numbered], extensions].concat()),
    };
    let signature = maker.issuer().1.sign(&tbs.to_der().unwrap()).unwrap();
    let signature = BitString::from_bytes(&signature).unwrap();
    CertificateList { tbs_cert_list: tbs, signature_algorithm: ecdsa(), signature }.to_der().unwrap()
}

fn freshest() -> Extension {
    let url = Ia5String::new("http://other.example/changes").unwrap();
    let point = DistributionPoint {
        distribution_point: Some(DistributionPointName::FullName(vec![GeneralName::UniformResourceIdentifier(url)])),
        reasons: None,
        crl_issuer: None,
    };
    extension(ObjectIdentifier::new_unwrap("2.5.29.46"), false, vec![point].to_der().unwrap())
}

fn changes_since(number: u8) -> Extension {
    extension(ObjectIdentifier::new_unwrap("2.5.29.27"), true, vec![2, 1, number])
}

fn extension(extn_id: ObjectIdentifier, critical: bool, content: Vec<u8>) -> Extension {
    Extension { extn_id, critical, extn_value: OctetString::new(content).unwrap() }
}

fn ecdsa() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), parameters: None }
}

fn at(time: Timestamp) -> GeneralizedTime {
    GeneralizedTime::from_unix_duration(Duration::from_secs(time.as_second().try_into().unwrap())).unwrap()
}

/// RFC 5280, section 5.3.1.
const REVOKED: u8 = 1;
const ON_HOLD: u8 = 6;
const NO_LONGER: u8 = 8;
