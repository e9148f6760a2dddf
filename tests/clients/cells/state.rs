//! What the matrix varies beside client, mode and door: what is asked for, and how things stand behind the mirror.

use crate::{
    clients::{Client, NOT_FOUND, Reference},
    hub::Fault,
    images::Image,
};

/// What a reference stands for: each is a request of its own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Tag,
    Digest,
    /// An index, by its tag.
    Index,
    /// The manifest in an index that is for this machine, by its digest.
    Child,
}

/// How it stands with the image, or with the mirror, when the pull comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Signed,
    Unsigned,
    /// Signed, submitted and seen; then the key was revoked.
    Revoked,
    /// The same, and then the record's own end came.
    Expired,
    /// The same as `Revoked`, and the client has the image: it asks for the tag alone, by HEAD where it can.
    HeldAndRevoked,
    /// Signed, and behind the mirror one thing does not work:
    Upstream(Fault),
    /// The files of both databases are gone.
    StoreFailing,
    /// No byte is left; the image is new to the mirror, and what a pull shows has to be written down.
    DiskFull,
    /// No byte is left, and the mirror has decided on this image before.
    DiskFullAndKnown,
    /// What others submitted for the image takes longer to look at than one image may take.
    BudgetSpent,
    /// Told to end, and still there for the sake of somebody's transfer.
    Draining,
}

/// What has to become of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Comes,
    /// With this in what the client prints, where it prints anything of ours.
    Refused(&'static str),
}

impl Target {
    pub(super) const ALL: [Self; 4] = [Self::Tag, Self::Digest, Self::Index, Self::Child];

    pub(super) fn reference(self, image: &Image) -> Reference<'_> {
        match self {
            Self::Tag => Reference::Tag(&image.tag),
            Self::Digest => Reference::Digest(&image.single),
            Self::Index => Reference::Tag(&image.index_tag),
            Self::Child => Reference::Digest(&image.child),
        }
    }

    /// What is signed for it, and the tag that the record names.
    pub(super) fn signed(self, image: &Image) -> (&str, &str) {
        match self {
            Self::Tag | Self::Digest => (&image.single, &image.tag),
            Self::Index | Self::Child => (&image.index, &image.index_tag),
        }
    }

    /// The digest that the client has afterwards.
    pub(super) fn held_by(self, client: Client, image: &Image) -> &str {
        match self {
            Self::Tag | Self::Digest => &image.single,
            Self::Index if client.keeps_the_index() => &image.index,
            Self::Index | Self::Child => &image.child,
        }
    }

    pub(super) fn is_tag(self) -> bool {
        matches!(self, Self::Tag | Self::Index)
    }
}

impl State {
    pub(super) const ALL: [Self; 17] = [
        Self::Signed,
        Self::Unsigned,
        Self::Revoked,
        Self::Expired,
        Self::HeldAndRevoked,
        Self::Upstream(Fault::Status(401)),
        Self::Upstream(Fault::Status(402)),
        Self::Upstream(Fault::Status(429)),
        Self::Upstream(Fault::Status(500)),
        Self::Upstream(Fault::Reset),
        Self::Upstream(Fault::WrongBytes),
        Self::TIMEOUT,
        Self::StoreFailing,
        Self::DiskFull,
        Self::DiskFullAndKnown,
        Self::BudgetSpent,
        Self::Draining,
    ];

    /// The faults of the upstream that are told at once.
    pub(super) const UPSTREAM: [Self; 6] = [
        Self::Upstream(Fault::Status(401)),
        Self::Upstream(Fault::Status(402)),
        Self::Upstream(Fault::Status(429)),
        Self::Upstream(Fault::Status(500)),
        Self::Upstream(Fault::Reset),
        Self::Upstream(Fault::WrongBytes),
    ];

    pub(super) const TIMEOUT: Self = Self::Upstream(Fault::Silence);

    /// What fails fails for every reference alike, so faults are tried by tag.
    pub(super) fn is_for(self, target: Target) -> bool {
        match self {
            Self::Signed | Self::Unsigned | Self::Revoked | Self::Expired => true,
            Self::HeldAndRevoked => target.is_tag(),
            _ => target == Target::Tag,
        }
    }

    pub(super) fn expected(self) -> Expected {
        Expected::Refused(match self {
            Self::Signed | Self::DiskFullAndKnown => return Expected::Comes,
            Self::Unsigned => "no valid signature",
            Self::Revoked | Self::HeldAndRevoked => "no valid signature: the signer 'alice' is revoked",
            Self::Expired => "the signature has expired",
            // Docker Hub's word for a repository that is not there, or not for this asker. By name some clients make
            // their own "not found" of that.
            Self::Upstream(Fault::Status(401)) => NOT_FOUND,
            Self::Upstream(Fault::Status(402)) => "could not be asked: quota-exceeded",
            Self::Upstream(Fault::Status(429)) => "could not be asked: rate-limited",
            Self::Upstream(Fault::Status(_)) => "could not be asked: status",
            Self::Upstream(Fault::Reset) => "could not be asked: reset",
            Self::Upstream(Fault::WrongBytes) => "sent no valid manifest",
            Self::Upstream(Fault::Silence) => "could not be asked: timeout",
            Self::StoreFailing | Self::DiskFull => "the signature store did not answer",
            Self::BudgetSpent => "the time for verifying signatures of this image is spent",
            Self::Draining => "shutting down",
        })
    }
}
