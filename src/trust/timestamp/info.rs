use der::{
    Decode, Reader, Tag, TagNumber, Tagged,
    asn1::{AnyRef, ContextSpecific, ObjectIdentifier, OctetStringRef, UintRef},
};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use spki::AlgorithmIdentifierRef;

use super::TokenFlaw;
use crate::trust::{key::Hash, scheme::hash_of};

/// What a timestamp says: RFC 3161, section 2.4.2. Read here, because times may have fractions of a
/// second, which the reader of `GeneralizedTime` refuses.
#[derive(Debug, Clone)]
pub(super) struct Info {
    hash: Hash,
    imprint: Vec<u8>,
    pub(super) time: Timestamp,
    accuracy: SignedDuration,
}

impl Info {
    pub(super) fn read(der: &[u8]) -> Result<Self, TokenFlaw> {
        let encoding = |_| TokenFlaw::Encoding;
        let parts = AnyRef::from_der(der).map_err(encoding)?.sequence(|reader| {
            let version = u8::decode(reader)?;
            let policy = ObjectIdentifier::decode(reader)?;
            let imprint = AnyRef::decode(reader)?.sequence(|reader| {
                Ok((AlgorithmIdentifierRef::decode(reader)?.oid, OctetStringRef::decode(reader)?))
            })?;
            let _serial = AnyRef::decode(reader)?;
            let time = AnyRef::decode(reader)?;
            let mut accuracy = None;
            // Accuracy comes first of what may be missing; ordering, nonce, name and extensions follow.
            while !reader.is_finished() {
                let next = AnyRef::decode(reader)?;
                if next.tag() == Tag::Sequence {
                    accuracy = Some(next.sequence(read_accuracy)?);
                }
            }
            Ok((version, policy, imprint, time, accuracy))
        });
        let (version, policy, (hash, imprint), time, accuracy) = parts.map_err(encoding)?;
        let time = (version == 1 && time.tag() == Tag::GeneralizedTime).then(|| generalized_time(time.value()));
        let accuracy = match accuracy {
            Some(accuracy) if !accuracy.is_zero() => accuracy,
            // The baseline policy of RFC 3628 promises a second.
            Some(_) | None if policy == BASELINE_POLICY => SignedDuration::from_secs(1),
            Some(_) | None => SignedDuration::ZERO,
        };
        Ok(Self {
            hash: hash_of(hash)?,
            imprint: imprint.as_bytes().to_vec(),
            time: time.flatten().ok_or(TokenFlaw::Encoding)?,
            accuracy,
        })
    }

    pub(super) fn is_over(&self, bytes: &[u8]) -> bool {
        self.hash.of(bytes).as_ref() == self.imprint
    }

    pub(super) fn bounds(&self) -> (Timestamp, Timestamp) {
        (
            self.time.checked_sub(self.accuracy).unwrap_or(Timestamp::MIN),
            self.time.checked_add(self.accuracy).unwrap_or(Timestamp::MAX),
        )
    }
}

fn read_accuracy<'a>(reader: &mut der::SliceReader<'a>) -> der::Result<SignedDuration> {
    let seconds = Option::<UintRef<'a>>::decode(reader)?;
    let millis = ContextSpecific::<u16>::decode_implicit(reader, TagNumber::N0)?;
    let micros = ContextSpecific::<u16>::decode_implicit(reader, TagNumber::N1)?;
    // Who is off by more than a century says nothing of the time.
    let seconds = seconds.map_or(0, |number| match number.as_bytes() {
        bytes if bytes.len() > 4 => i64::from(u32::MAX),
        bytes => bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte)),
    });
    let parts = |part: Option<ContextSpecific<u16>>| part.map_or(0, |part| i64::from(part.value));
    Ok(SignedDuration::from_secs(seconds)
        + SignedDuration::from_millis(parts(millis))
        + SignedDuration::from_micros(parts(micros)))
}

/// `20261126023608Z` or `20261126023608.25Z`.
pub(super) fn generalized_time(text: &[u8]) -> Option<Timestamp> {
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || fraction.len() > 9 || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| whole[range].parse::<i8>().ok();
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    let civil = DateTime::new(
        whole[..4].parse().ok()?,
        number(4..6)?,
        number(6..8)?,
        number(8..10)?,
        number(10..12)?,
        number(12..14)?,
        nanos,
    );
    Some(civil.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

const BASELINE_POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.4.0.2023.1.1");
