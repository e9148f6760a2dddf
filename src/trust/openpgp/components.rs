//! From packets to keys: RFC 9580, section 10.1.1.

use aws_lc_rs::digest::Context;
use jiff::Timestamp;

use super::{
    armour::unarmoured,
    certificate::{Binding, BoundKey, Certificate, Fingerprint, LABEL, OpenPgpKey},
    key::Key,
    packet::{
        MARKER, OpenPgpFlaw, PUBLIC_KEY, PUBLIC_SUBKEY, Packets, SECRET_KEY, SECRET_SUBKEY, SIGNATURE, TRUST,
        USER_ATTRIBUTE, USER_ID,
    },
    signature::{
        CERTIFICATION_REVOCATION, DIRECT_KEY, KEY_REVOCATION, PRIMARY_KEY_BINDING, SUBKEY_BINDING, SUBKEY_REVOCATION,
        Signature, is_certification,
    },
};
use crate::trust::key::{KeyError, PublicKey};

/// Why a file or a text is not one of OpenPGP public keys that may be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenPgpKeyError {
    #[error(
        "OpenPGP keys have at most {MAX_BYTES} bytes; `gpg --export-options export-minimal` leaves out what others say of a key"
    )]
    TooLarge,
    #[error(
        "this is an OpenPGP secret key; give its public key (`gpg --export`), and treat the secret one as disclosed"
    )]
    SecretKey,
    #[error("not OpenPGP public keys as `gpg --export`, with --armor or without, writes them: {0}")]
    Packets(#[from] OpenPgpFlaw),
    #[error("not OpenPGP public keys: other packets are among them")]
    OtherPackets,
    #[error("more than {MAX_KEYS} keys in one")]
    TooManyKeys,
    #[error("the OpenPGP key {key} has more than {MAX_SUBKEYS} subkeys or {MAX_SELF_SIGNATURES} signatures of its own")]
    TooMuch { key: Fingerprint },
    #[error("the OpenPGP key {key} is not accepted: {source}")]
    Key { key: Fingerprint, source: KeyError },
    #[error(
        "the OpenPGP key {key} has signed itself by MD5, SHA-1 or RIPEMD only; `gpg --quick-set-expire` signs it anew"
    )]
    WeakSelfSignature { key: Fingerprint },
    #[error("the OpenPGP key {key} has no user id, and nothing else, that it has signed itself")]
    NoSelfSignature { key: Fingerprint },
}

impl OpenPgpKey {
    /// Reads one public key or more, armoured or not.
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Self>, OpenPgpKeyError> {
        if bytes.len() > MAX_BYTES {
            return Err(OpenPgpKeyError::TooLarge);
        }
        // Before all else: whoever puts a secret key here must be told so, whatever stands beside it.
        if bytes.windows(SECRET_LABEL.len()).any(|window| window == SECRET_LABEL) {
            return Err(OpenPgpKeyError::SecretKey);
        }
        let unarmoured = unarmoured(bytes, LABEL)?;
        let bytes = unarmoured.as_deref().unwrap_or(bytes);
        let keys = split(bytes)?;
        if keys.len() > MAX_KEYS {
            return Err(OpenPgpKeyError::TooManyKeys);
        }
        keys.into_iter().map(|components| components.verified().map(Self::new)).collect()
    }
}

/// What the packets of one key are, before anything has been verified.
struct Components {
    key: Key,
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

struct Part {
    subject: Subject,
    signatures: Vec<Signature>,
    /// A revocation of a version that we cannot check.
    has_unreadable_revocation: bool,
}

enum Subject {
    Key,
    UserId { prefix: u8, body: Vec<u8> },
    Subkey(Key),
}

fn split(bytes: &[u8]) -> Result<Vec<Components>, OpenPgpKeyError> {
    let mut keys: Vec<Components> = Vec::new();
    let mut packets = Packets::of(bytes);
    loop {
        let before = packets.remaining();
        let Some(packet) = packets.next() else { break };
        let packet = packet?;
        let body = &*packet.body;
        let subject = match packet.tag {
            SECRET_KEY | SECRET_SUBKEY => return Err(OpenPgpKeyError::SecretKey),
            PUBLIC_KEY => {
                keys.push(Components { key: Key::parse(body)?, bytes: Vec::new(), parts: Vec::new() });
                Some(Subject::Key)
            }
            PUBLIC_SUBKEY => Some(Subject::Subkey(Key::parse(body)?)),
            USER_ID => Some(Subject::UserId { prefix: 0xb4, body: body.to_vec() }),
            USER_ATTRIBUTE => Some(Subject::UserId { prefix: 0xd1, body: body.to_vec() }),
            SIGNATURE | TRUST | MARKER => None,
            _ => return Err(OpenPgpKeyError::OtherPackets),
        };
        let components = keys.last_mut().ok_or(OpenPgpKeyError::OtherPackets)?;
        components.bytes.extend_from_slice(&before[..before.len() - packets.remaining().len()]);
        if let Some(subject) = subject {
            components.parts.push(Part { subject, signatures: Vec::new(), has_unreadable_revocation: false });
        } else if packet.tag == SIGNATURE {
            let part = components.parts.last_mut().expect("a key begins with itself");
            match Signature::parse(body) {
                Ok(signature) => part.signatures.push(signature),
                // Others may say of a key what they will; but a revocation that cannot be read may be true.
                Err(_) => part.has_unreadable_revocation |= is_revocation(body),
            }
        }
    }
    if keys.is_empty() { Err(OpenPgpFlaw::Packet.into()) } else { Ok(keys) }
}

fn is_revocation(body: &[u8]) -> bool {
    let kind = match body {
        // Version 3 says first how much of itself it hashes.
        [3, _, kind, ..] => *kind,
        [_, kind, ..] => *kind,
        _ => return false,
    };
    matches!(kind, KEY_REVOCATION | SUBKEY_REVOCATION)
}

impl Components {
    /// Verifies what the key says of itself.
    fn verified(self) -> Result<Certificate, OpenPgpKeyError> {
        let Self { key: primary, bytes, parts } = self;
        let key = primary.fingerprint;
        let public = primary.public.clone().map_err(|source| OpenPgpKeyError::Key { key, source })?;
        let own = |signature: &&Signature| signature.issuer.may_be(key);
        let own_signatures = parts.iter().flat_map(|part| &part.signatures).filter(own).count();
        let subkeys = parts.iter().filter(|part| matches!(part.subject, Subject::Subkey(_))).count();
        if own_signatures > MAX_SELF_SIGNATURES || subkeys > MAX_SUBKEYS {
            return Err(OpenPgpKeyError::TooMuch { key });
        }
        let judge = SelfSignatures { primary: &primary, public: &public };
        let mut bound = BoundKey { key: primary.clone(), is_revoked: false, bindings: Vec::new() };
        let (mut user_ids, mut subkeys, mut revokers) = (Vec::new(), Vec::new(), Vec::<Fingerprint>::new());
        let mut is_weak = false;
        for part in &parts {
            let valid = judge.valid(part);
            let weak = |kind: fn(u8) -> bool| judge.own(part).any(|own| kind(own.kind) && !own.is_strongly_hashed());
            let revoked = |kind| part.has_unreadable_revocation || judge.revoked(part, kind).is_some();
            let bindings = match &part.subject {
                Subject::Key => {
                    bound.is_revoked = revoked(KEY_REVOCATION);
                    is_weak |= weak(|kind| kind == DIRECT_KEY);
                    valid.iter().filter(|own| own.kind == DIRECT_KEY).copied().collect::<Vec<_>>()
                }
                Subject::UserId { prefix, body } => {
                    is_weak |= weak(is_certification);
                    // A user id may be revoked and come back; what was said before does not.
                    let since = judge.revoked(part, CERTIFICATION_REVOCATION);
                    let is_in_force = |own: &&&Signature| since.is_none_or(|since| since < own.created);
                    let own: Vec<_> =
                        valid.iter().filter(|own| is_certification(own.kind)).filter(is_in_force).copied().collect();
                    if !own.is_empty() && *prefix == 0xb4 {
                        user_ids.push(String::from_utf8_lossy(body).into_owned());
                    }
                    own
                }
                Subject::Subkey(subkey) => {
                    let own = valid.iter().filter(|own| own.kind == SUBKEY_BINDING);
                    subkeys.push(BoundKey {
                        is_revoked: revoked(SUBKEY_REVOCATION),
                        bindings: own.map(|own| judge.binding_of_subkey(subkey, own)).collect(),
                        key: subkey.clone(),
                    });
                    continue;
                }
            };
            revokers.extend(bindings.iter().flat_map(|own| own.revokers.iter().copied()));
            bound.bindings.extend(bindings.iter().map(|own| binding(&primary, own, may_sign(own).unwrap_or(true))));
        }
        if bound.bindings.is_empty() {
            return Err(if is_weak {
                OpenPgpKeyError::WeakSelfSignature { key }
            } else {
                OpenPgpKeyError::NoSelfSignature { key }
            });
        }
        // Somebody else may revoke this key, whose own key we do not have: to be safe it is taken for true.
        let by_revoker = |own: &Signature| revokers.iter().any(|revoker| own.issuer.may_be(*revoker));
        bound.is_revoked |=
            parts.iter().flat_map(|part| &part.signatures).any(|own| own.kind == KEY_REVOCATION && by_revoker(own));
        Ok(Certificate { id: primary.id(), bytes, user_ids, primary: bound, subkeys })
    }
}

/// What a key has itself signed of itself.
struct SelfSignatures<'a> {
    primary: &'a Key,
    public: &'a PublicKey,
}

impl SelfSignatures<'_> {
    fn own<'p>(&self, part: &'p Part) -> impl Iterator<Item = &'p Signature> {
        let key = self.primary.fingerprint;
        part.signatures.iter().filter(move |signature| signature.issuer.may_be(key))
    }

    /// The signatures that the key has made over this part and that are understood.
    fn valid<'p>(&self, part: &'p Part) -> Vec<&'p Signature> {
        self.own(part).filter(|own| !own.is_critical && self.verifies(part, own)).collect()
    }

    fn verifies(&self, part: &Part, signature: &Signature) -> bool {
        signature.verifies(self.public, |hasher| self.hash_into(&part.subject, hasher))
    }

    fn hash_into(&self, subject: &Subject, hasher: &mut Context) {
        self.primary.hash_into(hasher);
        match subject {
            Subject::Key => {}
            Subject::UserId { prefix, body } => {
                hasher.update(&[*prefix]);
                hasher.update(&u32::try_from(body.len()).expect("keys are capped").to_be_bytes());
                hasher.update(body);
            }
            Subject::Subkey(subkey) => subkey.hash_into(hasher),
        }
    }

    /// When the key last revoked this part. One whose hash is too weak to prove it is believed: it can
    /// only make the key count for less. So is one that says something critical which we do not know.
    fn revoked(&self, part: &Part, kind: u8) -> Option<Timestamp> {
        self.own(part)
            .filter(|own| own.kind == kind && (!own.is_strongly_hashed() || self.verifies(part, own)))
            .map(|own| own.created)
            .max()
    }

    /// A subkey signs only where the flags say so and it says itself that it belongs to this key: else
    /// somebody could put another's subkey under a key of his own.
    fn binding_of_subkey(&self, subkey: &Key, own: &Signature) -> Binding {
        let agreed = own.embedded.as_deref().zip(subkey.public.as_ref().ok()).is_some_and(|(back, public)| {
            back.kind == PRIMARY_KEY_BINDING
                && !back.is_critical
                && back.expires.is_none()
                && back.verifies(public, |hasher| {
                    self.primary.hash_into(hasher);
                    subkey.hash_into(hasher);
                })
        });
        binding(subkey, own, may_sign(own).unwrap_or(false) && agreed)
    }
}

fn binding(key: &Key, own: &Signature, may_sign: bool) -> Binding {
    let key_expires = own.key_life.map(|life| key.created + life);
    Binding { created: own.created, expires: own.expires, key_expires, may_sign }
}

/// Section 5.2.3.29: the flag "this key may be used to sign data".
fn may_sign(own: &Signature) -> Option<bool> {
    own.key_flags.map(|flags| flags & 0x02 != 0)
}

/// A key with a photograph and many signatures of others fits.
pub(super) const MAX_BYTES: usize = 256 << 10;
const MAX_KEYS: usize = 64;
const MAX_SUBKEYS: usize = 32;
const MAX_SELF_SIGNATURES: usize = 128;
const SECRET_LABEL: &[u8] = b"BEGIN PGP PRIVATE KEY BLOCK";
