//! The signed attributes, and what the Notary Project demands of them.

use jiff::Timestamp;

/// What a signer says of a signature, in either form of envelope.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub(super) algorithm: &'static str,
    pub(super) scheme: SigningScheme,
    pub(super) expiry: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SigningScheme {
    /// The time is the signer's own word.
    X509,
    /// The time is the word of an authority that its own store trusts.
    SigningAuthority { signed_at: Timestamp },
}

/// Attributes as a form of envelope has them, before anybody has looked at what they mean.
#[derive(Default)]
pub(super) struct RawAttributes {
    /// None: none of those that the Notary Project knows.
    pub(super) algorithm: Option<&'static str>,
    pub(super) content_type: Option<String>,
    pub(super) critical: Vec<String>,
    pub(super) signing_scheme: Option<String>,
    pub(super) signing_time: Option<Option<Timestamp>>,
    pub(super) authentic_signing_time: Option<Option<Timestamp>>,
    pub(super) expiry: Option<Option<Timestamp>>,
    /// Whether a verification plugin is asked for, critical or not: its part of the work is not done here.
    pub(super) wants_plugin: bool,
}

/// Why the signed attributes are nothing that we may act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributeFlaw {
    #[error("the signed content is not of type {CONTENT_TYPE}")]
    ContentType,
    #[error("the signature's algorithm is not one of PS256, PS384, PS512, ES256, ES384 and ES512")]
    Algorithm,
    #[error("the signing scheme is neither notary.x509 nor notary.x509.signingAuthority")]
    SigningScheme,
    #[error("a critical attribute is not known, or is for a verification plugin; it can be verified by notation only")]
    Critical,
    #[error("the attribute {name} is not marked critical, as it has to be")]
    NotCritical { name: &'static str },
    #[error("the attribute {name} is missing, of another kind, or not for this signing scheme")]
    Attribute { name: &'static str },
    #[error("the signature expires before it was made")]
    ExpiryBeforeSigning,
}

impl RawAttributes {
    /// Signature specification, "Signed Attributes": each attribute is there exactly where its scheme
    /// has it, and critical where it has to be.
    pub(super) fn checked(self) -> Result<Attributes, AttributeFlaw> {
        if self.content_type.as_deref() != Some(CONTENT_TYPE) {
            return Err(AttributeFlaw::ContentType);
        }
        let algorithm = self.algorithm.ok_or(AttributeFlaw::Algorithm)?;
        let known = [SIGNING_SCHEME, AUTHENTIC_SIGNING_TIME, EXPIRY];
        if self.wants_plugin || self.critical.iter().any(|name| !known.contains(&name.as_str())) {
            return Err(AttributeFlaw::Critical);
        }
        let critical = |name: &'static str| match self.critical.iter().any(|critical| critical == name) {
            true => Ok(()),
            false => Err(AttributeFlaw::NotCritical { name }),
        };
        let (scheme, signed_at) = match self.signing_scheme.as_deref() {
            Some(X509) => {
                absent(AUTHENTIC_SIGNING_TIME, self.authentic_signing_time)?;
                (SigningScheme::X509, present(SIGNING_TIME, self.signing_time)?)
            }
            Some(SIGNING_AUTHORITY) => {
                absent(SIGNING_TIME, self.signing_time)?;
                let signed_at = present(AUTHENTIC_SIGNING_TIME, self.authentic_signing_time)?;
                critical(AUTHENTIC_SIGNING_TIME)?;
                (SigningScheme::SigningAuthority { signed_at }, signed_at)
            }
            Some(_) | None => return Err(AttributeFlaw::SigningScheme),
        };
        critical(SIGNING_SCHEME)?;
        let expiry = match self.expiry {
            Some(expiry) => Some(expiry.ok_or(AttributeFlaw::Attribute { name: EXPIRY })?),
            None => None,
        };
        if let Some(expiry) = expiry {
            critical(EXPIRY)?;
            if expiry <= signed_at {
                return Err(AttributeFlaw::ExpiryBeforeSigning);
            }
        } else if self.critical.iter().any(|name| name == EXPIRY) {
            return Err(AttributeFlaw::Attribute { name: EXPIRY });
        }
        Ok(Attributes { algorithm, scheme, expiry })
    }
}

fn present(name: &'static str, time: Option<Option<Timestamp>>) -> Result<Timestamp, AttributeFlaw> {
    time.flatten().ok_or(AttributeFlaw::Attribute { name })
}

fn absent(name: &'static str, time: Option<Option<Timestamp>>) -> Result<(), AttributeFlaw> {
    match time {
        None => Ok(()),
        Some(_) => Err(AttributeFlaw::Attribute { name }),
    }
}

impl AttributeFlaw {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::ContentType => "notation-content-type",
            Self::Algorithm => "notation-algorithm",
            Self::SigningScheme => "notation-signing-scheme",
            Self::Critical => "notation-critical-attribute",
            Self::NotCritical { .. } | Self::Attribute { .. } | Self::ExpiryBeforeSigning => "notation-attribute",
        }
    }
}

/// What is signed is a payload of the Notary Project.
const CONTENT_TYPE: &str = "application/vnd.cncf.notary.payload.v1+json";
const X509: &str = "notary.x509";
const SIGNING_AUTHORITY: &str = "notary.x509.signingAuthority";

pub(super) const SIGNING_SCHEME: &str = "io.cncf.notary.signingScheme";
pub(super) const SIGNING_TIME: &str = "io.cncf.notary.signingTime";
pub(super) const AUTHENTIC_SIGNING_TIME: &str = "io.cncf.notary.authenticSigningTime";
pub(super) const EXPIRY: &str = "io.cncf.notary.expiry";
pub(super) const TIMESTAMP: &str = "io.cncf.notary.timestampSignature";
/// The plugin's name, and the lowest version of it.
pub(super) const PLUGIN: [&str; 2] =
    ["io.cncf.notary.verificationPlugin", "io.cncf.notary.verificationPluginMinVersion"];
