//! Keys and messages that no tool would make, signed for true by Ed25519 as RFC 9580 has it.

use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::trust::openpgp::{OpenPgpKey, OpenPgpKeyError, key::Key};

pub(super) struct Owner(SigningKey);

impl Owner {
    pub(super) fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    fn body(&self, created: u32) -> Vec<u8> {
        [&[4][..], &created.to_be_bytes(), &[27], self.0.verifying_key().as_bytes()].concat()
    }

    /// The key as its owner created it.
    pub(super) fn key(&self, created: u32) -> Key {
        Key::parse(&self.body(created)).unwrap()
    }

    fn signature(&self, kind: u8, hash: u8, subject: &[u8], hashed: &[u8], unhashed: &[u8]) -> Vec<u8> {
        let area = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        let covered = [&[4, kind, 27, hash][..], &area(hashed)].concat();
        let trailer = [&[4, 0xff][..], &u32::try_from(covered.len()).unwrap().to_be_bytes()].concat();
        let message = Sha256::digest([subject, &covered, &trailer].concat());
        [&covered[..], &area(unhashed), &message[..2], &self.0.sign(&message).to_bytes()].concat()
    }

    pub(super) fn message(&self, text: &[u8], created: u32) -> Vec<u8> {
        self.message_with(text, created, |issuer| issuer)
    }

    /// The issuer is that of a key created at 1000 where it is primary; a subkey is at 1500.
    pub(super) fn message_with(&self, text: &[u8], created: u32, hints: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
        let own = if self.0.to_bytes() == [1; 32] { 1000 } else { 1500 };
        let hashed = [subpacket(2, &created.to_be_bytes()), hints(issuer(self, own))].concat();
        let literal = [&b"b\0\0\0\0\0"[..], text].concat();
        [
            packet(4, &[&[3, 0, 8, 27][..], &[0; 8], &[1]].concat()),
            packet(11, &literal),
            packet(2, &self.signature(0, 8, text, &hashed, &[])),
        ]
        .concat()
    }
}

/// A key in the making: parts are bound as they are added.
pub(super) struct Made<'a> {
    owner: &'a Owner,
    created: u32,
    /// Of the key itself, which stand before all else.
    direct: Vec<u8>,
    parts: Vec<u8>,
}

impl<'a> Made<'a> {
    pub(super) fn new(owner: &'a Owner, created: u32) -> Self {
        Self { owner, created, direct: Vec::new(), parts: Vec::new() }
    }

    pub(super) fn parsed(&self) -> Result<Vec<OpenPgpKey>, OpenPgpKeyError> {
        OpenPgpKey::parse_all(&[&packet(6, &self.owner.body(self.created))[..], &self.direct, &self.parts].concat())
    }

    fn subject(&self) -> Vec<u8> {
        hashed_key(&self.owner.body(self.created))
    }

    fn hashed(&self, created: u32, subpackets: &[(u8, &[u8])]) -> Vec<u8> {
        let more = subpackets.iter().flat_map(|(kind, body)| subpacket(*kind, body));
        [subpacket(2, &created.to_be_bytes()), issuer(self.owner, self.created)]
            .concat()
            .into_iter()
            .chain(more)
            .collect()
    }

    pub(super) fn user_id(mut self, created: u32, subpackets: &[(u8, &[u8])]) -> Self {
        let signature = self.owner.signature(0x13, 8, &self.user_id_subject(), &self.hashed(created, subpackets), &[]);
        self.add_user_id(&signature);
        self
    }

    /// Another says that the user id is this key's.
    pub(super) fn user_id_by(mut self, other: &Owner, created: u32) -> Self {
        let signature = other.signature(0x13, 8, &self.user_id_subject(), &self.hashed(created, &[]), &[]);
        self.add_user_id(&signature);
        self
    }

    pub(super) fn user_id_revocation(mut self, created: u32) -> Self {
        let signature = self.owner.signature(0x30, 8, &self.user_id_subject(), &self.hashed(created, &[]), &[]);
        self.parts.extend(packet(2, &signature));
        self
    }

    fn user_id_subject(&self) -> Vec<u8> {
        [&self.subject()[..], &[0xb4, 0, 0, 0, 2], b"me"].concat()
    }

    fn add_user_id(&mut self, signature: &[u8]) {
        let user_id = packet(13, b"me");
        if !self.parts.starts_with(&user_id) {
            self.parts.extend(user_id);
        }
        self.parts.extend(packet(2, signature));
    }

    pub(super) fn direct(mut self, created: u32, subpackets: &[(u8, &[u8])]) -> Self {
        let signature = self.owner.signature(0x1f, 8, &self.subject(), &self.hashed(created, subpackets), &[]);
        self.direct.extend(packet(2, &signature));
        self
    }

    pub(super) fn revocation(mut self, by: &Owner, created: u32, hash: u8) -> Self {
        let hashed = [subpacket(2, &created.to_be_bytes()), issuer(by, self.created)].concat();
        let signature = by.signature(0x20, hash, &self.subject(), &hashed, &[]);
        self.direct.extend(packet(2, &signature));
        self
    }

    pub(super) fn revocation_in_the_name_of_the_key(mut self, by: &Owner, created: u32) -> Self {
        let signature = by.signature(0x20, 8, &self.subject(), &self.hashed(created, &[]), &[]);
        self.direct.extend(packet(2, &signature));
        self
    }

    pub(super) fn raw_signature(mut self, body: &[u8]) -> Self {
        self.direct.extend(packet(2, body));
        self
    }

    pub(super) fn subkey(mut self, subkey: &Owner, created: u32, subpackets: &[(u8, &[u8])], agrees: bool) -> Self {
        let body = subkey.body(created);
        let subject = [self.subject(), hashed_key(&body)].concat();
        let back = subkey.signature(0x19, 8, &subject, &subpacket(2, &created.to_be_bytes()), &[]);
        let unhashed = if agrees { subpacket(32, &back) } else { Vec::new() };
        let signature = self.owner.signature(0x18, 8, &subject, &self.hashed(created, subpackets), &unhashed);
        self.parts.extend([packet(14, &body), packet(2, &signature)].concat());
        self
    }
}

fn issuer(owner: &Owner, created: u32) -> Vec<u8> {
    subpacket(33, &[&[4][..], &owner.key(created).fingerprint.0].concat())
}

fn hashed_key(body: &[u8]) -> Vec<u8> {
    [&[0x99][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

pub(super) fn subpacket(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[u8::try_from(body.len() + 1).unwrap(), kind][..], body].concat()
}

/// A packet with a length of five octets.
pub(super) fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[0xc0 | tag, 0xff][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}
