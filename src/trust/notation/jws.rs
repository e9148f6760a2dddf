//! JWS in flattened JSON (RFC 7515, section 7.2.2), the form that notation signs in by default.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;

use super::{
    attributes::{AUTHENTIC_SIGNING_TIME, EXPIRY, PLUGIN, RawAttributes, SIGNING_SCHEME, SIGNING_TIME, TIMESTAMP},
    envelope::{NotationFlaw, Parts},
};
use crate::trust::{
    JsonFlaw,
    envelope::strict_json::{self, Object, Value},
};

pub(super) fn parse(bytes: &[u8]) -> Result<Parts, NotationFlaw> {
    let envelope = Named { part: "the envelope", object: object("the envelope", bytes)? };
    if envelope.object.iter().any(|(name, _)| !["payload", "protected", "header", "signature"].contains(&name)) {
        return Err(NotationFlaw::UnknownMember);
    }
    let payload_text = envelope.string("payload")?;
    let protected_text = envelope.string("protected")?;
    let payload = url_safe("payload", payload_text)?;
    let protected = object("the protected header", &url_safe("protected", protected_text)?)?;
    let header = Named { part: "the header", object: envelope.object("header")?.clone() };
    let mut chain = Vec::new();
    for certificate in header.list("x5c")? {
        match certificate {
            Value::String(text) => chain.push(standard("x5c", text)?),
            _ => return Err(NotationFlaw::Member { part: "the header", name: "x5c" }),
        }
    }
    let timestamp = match header.optional(TIMESTAMP)? {
        Some(Value::String(text)) => Some(standard(TIMESTAMP, text)?),
        None => None,
        Some(_) => return Err(NotationFlaw::Member { part: "the header", name: TIMESTAMP }),
    };
    Ok(Parts {
        signed: [protected_text, ".", payload_text].concat().into_bytes(),
        signature: url_safe("signature", envelope.string("signature")?)?,
        attributes: attributes(&Named { part: "the protected header", object: protected })?.checked(),
        payload,
        chain,
        timestamp,
    })
}

fn attributes(protected: &Named) -> Result<RawAttributes, NotationFlaw> {
    let critical = match protected.optional("crit")? {
        Some(Value::List(names)) => names.iter().map(text).collect::<Option<_>>(),
        None => Some(Vec::new()),
        Some(_) => None,
    };
    let mut wants_plugin = false;
    for name in PLUGIN {
        wants_plugin |= protected.optional(name)?.is_some();
    }
    let algorithm = protected.optional("alg")?.and_then(text);
    Ok(RawAttributes {
        algorithm: ALGORITHMS.into_iter().find(|known| Some(*known) == algorithm.as_deref()),
        content_type: protected.optional("cty")?.and_then(text),
        critical: critical.ok_or(NotationFlaw::Member { part: "the protected header", name: "crit" })?,
        signing_scheme: protected.optional(SIGNING_SCHEME)?.and_then(text),
        signing_time: protected.optional(SIGNING_TIME)?.map(time),
        authentic_signing_time: protected.optional(AUTHENTIC_SIGNING_TIME)?.map(time),
        expiry: protected.optional(EXPIRY)?.map(time),
        wants_plugin,
    })
}

/// An object, under the name that errors give it.
struct Named {
    part: &'static str,
    object: Object,
}

impl Named {
    fn optional(&self, name: &'static str) -> Result<Option<&Value>, NotationFlaw> {
        self.object.member(name).map_err(|flaw| NotationFlaw::Json { part: self.part, flaw })
    }

    fn string(&self, name: &'static str) -> Result<&str, NotationFlaw> {
        match self.optional(name)? {
            Some(Value::String(text)) => Ok(text),
            _ => Err(NotationFlaw::Member { part: self.part, name }),
        }
    }

    fn object(&self, name: &'static str) -> Result<&Object, NotationFlaw> {
        match self.optional(name)? {
            Some(Value::Object(object)) => Ok(object),
            _ => Err(NotationFlaw::Member { part: self.part, name }),
        }
    }

    fn list(&self, name: &'static str) -> Result<&[Value], NotationFlaw> {
        match self.optional(name)? {
            Some(Value::List(list)) => Ok(list),
            _ => Err(NotationFlaw::Member { part: self.part, name }),
        }
    }
}

fn object(part: &'static str, bytes: &[u8]) -> Result<Object, NotationFlaw> {
    match strict_json::parse(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(NotationFlaw::Json { part, flaw: JsonFlaw::Syntax }),
        Err(flaw) => Err(NotationFlaw::Json { part, flaw }),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// RFC 3339, as the specification has it.
fn time(value: &Value) -> Option<Timestamp> {
    text(value)?.parse().ok()
}

fn url_safe(name: &'static str, text: &str) -> Result<Vec<u8>, NotationFlaw> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotationFlaw::Base64 { name })
}

fn standard(name: &'static str, text: &str) -> Result<Vec<u8>, NotationFlaw> {
    STANDARD.decode(text).map_err(|_| NotationFlaw::Base64 { name })
}

const ALGORITHMS: [&str; 6] = ["PS256", "PS384", "PS512", "ES256", "ES384", "ES512"];
