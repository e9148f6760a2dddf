//! The keys and certificates of the private sigstore, as files in the forms that its servers read.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    date_time_ymd,
};

use super::cosign::Build;
use crate::{process::run, world::World};

/// What a key of a signer's own is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    P256,
    P384,
    P521,
    Rsa,
    Ed25519,
}

/// For the keys whose readers insist on one.
pub(super) const PASSPHRASE: &str = "lab";

pub(super) const FULCIO_ROOT: &str = "fulcio-root.pem";
/// The intermediate that signs, and its root.
pub(super) const FULCIO_CHAIN: &str = "fulcio-chain.pem";
pub(super) const FULCIO_KEY: &str = "fulcio.key";
/// The leaf that signs, and its root.
pub(super) const TSA_CHAIN: &str = "tsa-chain.pem";
pub(super) const TSA_KEY: &str = "tsa.key";
pub(super) const CT_PUBLIC: &str = "ct.pub";
pub(super) const CT_KEY: &str = "ct.key";
pub(super) const REKOR_1_PUBLIC: &str = "rekor-1.pub";
pub(super) const REKOR_1_KEY: &str = "rekor-1.key";
pub(super) const REKOR_2_PUBLIC: &str = "rekor-2.pub";
pub(super) const REKOR_2_KEY: &str = "rekor-2.key";

/// All of them, new, in `directory`; and what issues certificates in the name of the authority that signs.
pub(super) fn make(world: &World, directory: &Path) -> Issuer<'static, KeyPair> {
    fs::create_dir_all(directory).unwrap();
    for algorithm in Algorithm::ALL {
        algorithm.make(world, directory);
    }
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    let encrypt = |name: &str, key: &KeyPair| {
        // The old form of PEM: neither the CA nor the certificate log reads an encrypted PKCS#8.
        let plain = format!("{name}.plain");
        write(&plain, &key.serialize_pem());
        let mut command = world.command("openssl");
        command.args(["ec", "-aes256", "-passout", &format!("pass:{PASSPHRASE}"), "-in", &plain, "-out", name]);
        run(command.current_dir(directory)).expect("openssl ec");
    };

    let (root, root_issuer) = authority("sigstore root", BasicConstraints::Constrained(1));
    let key = ecdsa();
    let mut params = named("sigstore intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.use_authority_key_identifier_extension = true;
    let intermediate = params.signed_by(&key, &root_issuer).unwrap();
    write(FULCIO_ROOT, &root.pem());
    write(FULCIO_CHAIN, &[intermediate.pem(), root.pem()].concat());
    encrypt(FULCIO_KEY, &key);
    let fulcio = Issuer::new(params, key);

    let (root, root_issuer) = authority("timestamp root", BasicConstraints::Constrained(0));
    let key = ecdsa();
    let mut params = named("timestamp authority");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.custom_extensions = vec![only_for_timestamps()];
    let leaf = params.signed_by(&key, &root_issuer).unwrap();
    write(TSA_CHAIN, &[leaf.pem(), root.pem()].concat());
    write(TSA_KEY, &key.serialize_pem());

    let key = ecdsa();
    write(CT_PUBLIC, &key.public_key_pem());
    encrypt(CT_KEY, &key);
    for (public, private, key) in [
        (REKOR_1_PUBLIC, REKOR_1_KEY, ecdsa()),
        (REKOR_2_PUBLIC, REKOR_2_KEY, KeyPair::generate_for(&PKCS_ED25519).unwrap()),
    ] {
        write(public, &key.public_key_pem());
        write(private, &key.serialize_pem());
    }
    fulcio
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::P256, Self::P384, Self::P521, Self::Rsa, Self::Ed25519];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::P521 => "p521",
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }

    /// As cosign keeps it.
    pub(super) fn private(self) -> String {
        format!("{}.key", self.name())
    }

    pub(super) fn public(self) -> String {
        format!("{}.pub", self.name())
    }

    /// By openssl, because cosign makes P-256 alone.
    fn make(self, world: &World, directory: &Path) {
        let plain = format!("{}.pem", self.name());
        let mut command = world.command("openssl");
        command.args(["genpkey", "-out", &plain, "-algorithm"]);
        match self {
            Self::P256 => command.args(["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
            Self::P384 => command.args(["EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
            Self::P521 => command.args(["EC", "-pkeyopt", "ec_paramgen_curve:P-521"]),
            Self::Rsa => command.args(["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
            Self::Ed25519 => command.arg("ED25519"),
        };
        run(command.current_dir(directory)).expect("openssl genpkey");
        let mut command = Build::Three.command(world, directory);
        command.args(["import-key-pair", "--key", &plain, "--output-key-prefix", self.name()]);
        run(&mut command).expect("cosign import-key-pair");
    }
}

/// One that signs others, and itself.
fn authority(name: &str, constraints: BasicConstraints) -> (Certificate, Issuer<'static, KeyPair>) {
    let key = ecdsa();
    let mut params = named(name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.self_signed(&key).unwrap(), Issuer::new(params, key))
}

/// Valid on any day that the tests, and what they leave in fixtures, may see.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "lab.example");
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2045, 1, 1));
    params
}

fn ecdsa() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// Extended key usage timeStamping, critical, as RFC 3161 wants it and rcgen's own field does not make it.
fn only_for_timestamps() -> CustomExtension {
    const TIME_STAMPING: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 37], TIME_STAMPING.to_vec());
    extension.set_criticality(true);
    extension
}
