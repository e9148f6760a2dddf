//! OpenPGP signatures for clients that verify by themselves, as podman does: what is kept of an image, and
//! what they bring.

use std::collections::BTreeMap;

use crate::{
    oci::{Digest, Repository, Tag},
    policy::Finding,
    store::{Record, StoreError},
    trust::{Annotations, Envelope, EnvelopeError, Format, Rejection},
};

use super::{Asker, NewRecord, Puller, Signed, SubmitError, captured::tag_of_digest, leaving::who};

/// Signatures of one image that a client is told of: it tries one after the other, and reads no more
/// than 4 MiB.
const MAX_LISTED: usize = 32;

/// Why an OpenPGP signature was not kept, in words for whoever brought it.
#[derive(Debug, thiserror::Error)]
pub enum OpenPgpError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("the signed payload is not of type 'atomic container signature'")]
    Type,
    #[error("the signature is over {found}")]
    Subject { found: Digest },
    #[error(
        "the signature is for {found}; sign with --sign-identity {expected}:TAG, or set REGISTRY_HOSTS to the name that \
         clients say"
    )]
    Repository { found: Repository, expected: Repository },
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl Puller {
    /// The OpenPGP signatures of an image: those that verify here first, and none whose life is over.
    pub async fn openpgp_signatures(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Record>, StoreError> {
        let records = self.store.records_to_judge(digest, MAX_LISTED * 16)?;
        let bears = |record: &Record| {
            record.format == Format::OpenPgp.as_str()
                && record.repository.as_ref().is_none_or(|bound| bound == repository)
        };
        let mut listed = Vec::new();
        for record in records.into_iter().filter(bears) {
            let judged = self.standings.judge.record(&record, None).await?;
            match judged.finding(None, self.standings.preview_ttl, self.clock.now()) {
                Finding::Rejected(Rejection::Expired | Rejection::Withdrawn) => {}
                finding => listed.push((!matches!(finding, Finding::Verified(_)), record)),
            }
        }
        listed.sort_by_key(|(is_unverified, _)| *is_unverified);
        listed.truncate(MAX_LISTED);
        Ok(listed.into_iter().map(|(_, record)| record).collect())
    }

    /// Keeps a signature as a record for the tag that the signer has named; one that names none bears on
    /// the digest. `may_promote`: as over the API.
    pub async fn keep_openpgp(
        &self,
        repository: &Repository,
        digest: Digest,
        signature: Vec<u8>,
        asker: &Asker,
        may_promote: bool,
    ) -> Result<(), OpenPgpError> {
        let envelope = Envelope::parse(Format::OpenPgp, &signature, None, &Annotations::new())?;
        let named = envelope.names_image().ok_or(OpenPgpError::Type)?;
        if *named.digest != digest {
            return Err(OpenPgpError::Subject { found: *named.digest });
        }
        if self.standings.judge.trust().own_names().meant(named.repository) != *repository {
            let (found, expected) = (named.repository.clone(), repository.clone());
            return Err(OpenPgpError::Repository { found, expected });
        }
        let new = NewRecord {
            digest,
            repository: Some(repository.clone()),
            tag: named.tag.cloned().unwrap_or_else(|| tag_of_digest(&digest)),
            tag_type: named.tag.and_then(Tag::stated_type),
            environment: None,
            of_digest: named.tag.is_none(),
            format: Format::OpenPgp,
            signed: Signed { format: Some(Format::OpenPgp), signature, payload: None, annotations: BTreeMap::new() },
            signer: None,
            metadata: BTreeMap::new(),
            expires_at: None,
            first_seen: None,
        };
        self.submit(new, &who(asker), may_promote).await?;
        Ok(())
    }
}
