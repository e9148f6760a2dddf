//! Signatures under certificates that the authority never issues, by its own key: everything about each is true but
//! one thing. cosign cannot be asked for them, so they are put together here.

use std::{fs, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
    SigningKey, date_time_ymd,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Lab, issuer::Identity};
use crate::{http::Http, images::Image, process::run, world::World};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgery {
    /// Nothing, as a proof that it is that one thing which makes the others wrong.
    None,
    /// The certificate had ended when the timestamp was made.
    Expired,
    /// It had not begun.
    Early,
    /// It is for servers.
    Usage,
    /// It does not say for what it is.
    NoUsage,
    /// It does not say who vouched for the name in it.
    NoIssuer,
}

impl Forgery {
    pub(super) const ALL: [Self; 6] =
        [Self::None, Self::Expired, Self::Early, Self::Usage, Self::NoUsage, Self::NoIssuer];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "true",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Usage => "usage",
            Self::NoUsage => "no-usage",
            Self::NoIssuer => "no-issuer",
        }
    }

    /// Go takes a certificate that is for nothing in particular for one that is for everything.
    pub(super) fn deceives_cosign(self) -> bool {
        matches!(self, Self::None | Self::NoUsage)
    }

    /// What Fulcio would write into a certificate of ten minutes, but for that one thing.
    #[expect(clippy::disallowed_methods, reason = "the timestamp authority's clock is the machine's")]
    fn certificate(self, who: Identity) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::Rfc822Name(who.subject().try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match self {
            Self::Usage => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Self::NoUsage => Vec::new(),
            _ => vec![ExtendedKeyUsagePurpose::CodeSigning],
        };
        params.use_authority_key_identifier_extension = true;
        if self != Self::NoIssuer {
            let issuer = who.issuer();
            // A UTF8String.
            let content = [&[0x0c, u8::try_from(issuer.len()).unwrap()], issuer.as_bytes()].concat();
            params.custom_extensions = vec![CustomExtension::from_oid_content(&ISSUER, content)];
        }
        let minutes = match self {
            Self::Expired => -15,
            Self::Early => 5,
            _ => -1,
        };
        let from = Timestamp::now().as_second() - YEAR_2025 + minutes * 60;
        params.not_before = date_time_ymd(2025, 1, 1) + Duration::from_secs(from.try_into().unwrap());
        params.not_after = params.not_before + Duration::from_secs(600);
        params
    }
}

impl Lab {
    /// Leaves a bundle over the image's manifest where [`Self::sign`] leaves one, without a log's entry.
    pub(crate) fn forge(&self, world: &World, forgery: Forgery, who: Identity, image: &Image) -> Bytes {
        let key = KeyPair::generate().unwrap();
        let certificate = forgery.certificate(who).signed_by(&key, &self.authority).unwrap();
        let blob = world.registry.manifest_of(image);
        let signature = key.sign(&blob).unwrap();
        let timestamp = self.timestamp(world, &signature);
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": encoded(certificate.der())},
                "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": encoded(&timestamp)}]},
            },
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": encoded(&Sha256::digest(&blob))},
                "signature": encoded(&signature),
            },
        });
        let bundle = bundle.to_string();
        fs::write(self.bundle_of_blob(), &bundle).unwrap();
        bundle.into()
    }

    /// The authority's word that it saw these bytes now.
    fn timestamp(&self, world: &World, bytes: &[u8]) -> Bytes {
        fs::write(self.directory.join("stamped"), bytes).unwrap();
        let mut query = world.command("openssl");
        query.args(["ts", "-query", "-sha256", "-data", "stamped", "-out", "query"]).current_dir(&self.directory);
        run(&mut query).expect("openssl ts");
        let query = fs::read(self.directory.join("query")).unwrap();
        let http = Http::new(world.runtime.handle().clone());
        let headers = [("content-type", "application/timestamp-query")];
        let answer = http.send(Method::POST, &self.timestamp_url(), &headers, query.into());
        assert!(answer.status.is_success(), "{}", answer.status);
        answer.body
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// Fulcio's extension for who vouched.
const ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 8];
/// In seconds since 1970.
const YEAR_2025: i64 = 1_735_689_600;
