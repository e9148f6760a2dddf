//! COSE_Sign1, tagged (RFC 9052, section 4.2).

use coset::{
    CoseSign1, Header, Label, RegisteredLabel, RegisteredLabelWithPrivate, TaggedCborSerializable,
    cbor::Value,
    iana::{Algorithm, EnumI64, HeaderParameter},
};
use jiff::Timestamp;

use super::{
    attributes::{AUTHENTIC_SIGNING_TIME, EXPIRY, PLUGIN, RawAttributes, SIGNING_SCHEME, SIGNING_TIME, TIMESTAMP},
    envelope::{NotationFlaw, Parts},
};
use crate::trust::cbor_limits::{first_string, skip_item};

/// An envelope with as many certificates as there may be has some forty.
pub(super) const MAX_ITEMS: usize = 256;

pub(super) fn parse(bytes: &[u8]) -> Result<Parts, NotationFlaw> {
    has_few_items(bytes)?;
    // The protected header stands first, wrapped into a string, and is read too.
    let header = bytes.strip_prefix(&TAGGED_LIST).and_then(first_string).ok_or(NotationFlaw::Cose)?;
    if !header.is_empty() {
        has_few_items(header)?;
    }
    let message = CoseSign1::from_tagged_slice(bytes).map_err(|_| NotationFlaw::Cose)?;
    let protected = &message.protected.header;
    // The specification lets the chain stand in either header. Which one matters little: its first key has to
    // verify the signature.
    let certificates = labelled(&message.unprotected, &CHAIN).or_else(|| labelled(protected, &CHAIN));
    let chain = match certificates {
        Some(Value::Array(list)) => list.iter().map(bytes_of).collect(),
        // RFC 9360, section 2: one certificate stands alone.
        Some(one) => bytes_of(one).map(|one| vec![one]),
        None => Some(Vec::new()),
    };
    let timestamp = match labelled(&message.unprotected, &Label::Text(TIMESTAMP.to_owned())) {
        Some(Value::Bytes(token)) => Some(token.clone()),
        None => None,
        Some(_) => return Err(NotationFlaw::Member { part: "the unprotected header", name: TIMESTAMP }),
    };
    Ok(Parts {
        signed: message.tbs_data(&[]),
        attributes: attributes(protected).checked(),
        payload: message.payload.clone().unwrap_or_default(),
        chain: chain.ok_or(NotationFlaw::Certificates)?,
        timestamp,
        signature: message.signature,
    })
}

fn has_few_items(bytes: &[u8]) -> Result<(), NotationFlaw> {
    let mut left = MAX_ITEMS;
    match skip_item(bytes, &mut left) {
        Some([]) => Ok(()),
        None if left == 0 => Err(NotationFlaw::TooManyItems),
        Some(_) | None => Err(NotationFlaw::Cose),
    }
}

fn attributes(protected: &Header) -> RawAttributes {
    let named = |name: &str| labelled(protected, &Label::Text(name.to_owned()));
    let algorithm = match &protected.alg {
        Some(RegisteredLabelWithPrivate::Assigned(algorithm)) => name_of(*algorithm),
        Some(RegisteredLabelWithPrivate::PrivateUse(_) | RegisteredLabelWithPrivate::Text(_)) | None => None,
    };
    let content_type = match &protected.content_type {
        Some(RegisteredLabel::Text(text)) => Some(text.clone()),
        Some(RegisteredLabel::Assigned(_)) | None => None,
    };
    RawAttributes {
        algorithm,
        content_type,
        critical: protected.crit.iter().map(critical_name).collect(),
        signing_scheme: named(SIGNING_SCHEME).and_then(|value| value.as_text().map(str::to_owned)),
        signing_time: named(SIGNING_TIME).map(time),
        authentic_signing_time: named(AUTHENTIC_SIGNING_TIME).map(time),
        expiry: named(EXPIRY).map(time),
        wants_plugin: PLUGIN.into_iter().any(|name| named(name).is_some()),
    }
}

fn labelled<'a>(header: &'a Header, label: &Label) -> Option<&'a Value> {
    header.rest.iter().find_map(|(found, value)| (found == label).then_some(value))
}

/// A number is none of the names that we know.
fn critical_name(label: &RegisteredLabelWithPrivate<HeaderParameter>) -> String {
    match label {
        RegisteredLabelWithPrivate::Text(name) => name.clone(),
        RegisteredLabelWithPrivate::Assigned(parameter) => parameter.to_i64().to_string(),
        RegisteredLabelWithPrivate::PrivateUse(number) => number.to_string(),
    }
}

/// RFC 8949, section 3.4.2: seconds since the epoch, under tag 1.
fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Tag(1, seconds) => Timestamp::from_second(seconds.as_integer()?.try_into().ok()?).ok(),
        _ => None,
    }
}

fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    value.as_bytes().cloned()
}

/// Under the name that JOSE has for it.
fn name_of(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::PS256 => Some("PS256"),
        Algorithm::PS384 => Some("PS384"),
        Algorithm::PS512 => Some("PS512"),
        Algorithm::ES256 => Some("ES256"),
        Algorithm::ES384 => Some("ES384"),
        Algorithm::ES512 => Some("ES512"),
        _ => None,
    }
}

/// Tag 18, and a list of four.
const TAGGED_LIST: [u8; 2] = [0xd2, 0x84];
/// `x5chain`: RFC 9360, section 2.
const CHAIN: Label = Label::Int(33);
