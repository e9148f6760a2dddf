//! One round of questions: the `.sig` tag, the referrers API and the fallback tag side by side, then the
//! manifests that they lead to, then the signatures in these.
//!
//! What an upstream says about its content only orders the questions: a list may call a manifest
//! anything, so the manifest's own bytes say whose it is and what it holds. What is not what it should be
//! spoils itself alone; what could not be had is said, because there may be more than was found.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{FutureExt, StreamExt, future::join, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::{
    oci::{Descriptor, Digest, Manifest, ManifestKind, MediaType, Reference, Repository, Tag},
    store::FoundEnvelope,
    upstream::{Phase, Upstream, UpstreamError},
};

use crate::pull::{
    Signed,
    published::PREDICATE_TYPE,
    signed_layers::{SignedLayer, signed_layers},
};

/// What one round brought.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) found: Vec<FoundEnvelope>,
    /// The first thing that could not be had, if there was one.
    pub(super) failure: Option<UpstreamError>,
}

/// Whom to ask for the signatures of what.
#[derive(Clone, Copy)]
struct Questions<'a> {
    upstream: &'a Upstream,
    repository: &'a Repository,
    subject: &'a Digest,
    /// Bounds what is asked at the same time.
    permits: &'a Semaphore,
}

/// What an answer leads to.
enum Lead {
    Manifests(Vec<Descriptor>, Option<UpstreamError>),
    Layers(Vec<SignedLayer>),
    Found(FoundEnvelope),
    Nothing,
}

/// Asks until everything is answered, or the time is up.
pub(super) async fn round(upstream: &Upstream, repository: &Repository, subject: &Digest, now: Timestamp) -> Round {
    let permits = Semaphore::new(MAX_AT_ONCE);
    let questions = Questions { upstream, repository, subject, permits: &permits };
    let mut round = Round::default();
    let mut bytes_left = MAX_BYTES;
    let mut open = FuturesUnordered::from_iter([questions.signature_tag().boxed(), questions.referrers().boxed()]);
    let mut late = std::pin::pin!(tokio::time::sleep(ROUND_LIMIT));
    loop {
        let lead = tokio::select! {
            lead = open.next() => lead,
            () = &mut late => {
                round.failure.get_or_insert(UpstreamError::Timeout { phase: Phase::Body });
                return round;
            }
        };
        match lead {
            None => return round,
            Some(Ok(Lead::Manifests(listed, failure))) => {
                round.failure = round.failure.or(failure);
                open.extend(listed.into_iter().map(|listed| questions.manifest(listed).boxed()));
            }
            Some(Ok(Lead::Layers(layers))) => {
                for layer in layers {
                    if let Some(left) = bytes_left.checked_sub(layer.blob.size) {
                        bytes_left = left;
                        open.push(questions.signature(layer, now).boxed());
                    }
                }
            }
            Some(Ok(Lead::Found(envelope))) => round.found.push(envelope),
            Some(Ok(Lead::Nothing)) => {}
            Some(Err(error)) if is_answer(&error) => {}
            Some(Err(error)) => drop(round.failure.get_or_insert(error)),
        }
    }
}

impl<'a> Questions<'a> {
    async fn signature_tag(self) -> Result<Lead, UpstreamError> {
        // A sha512 name is longer than a tag may be.
        let name = format!("{}-{}.sig", self.subject.algorithm(), self.subject.encoded());
        let Ok(tag) = name.parse() else { return Ok(Lead::Nothing) };
        let Some(manifest) = self.fetch(&Reference::Tag(tag)).await? else { return Ok(Lead::Nothing) };
        let foreign = manifest.subject.as_ref().is_some_and(|subject| subject.digest != *self.subject);
        Ok(if foreign { Lead::Nothing } else { Lead::Layers(layers_of(&manifest, MAX_TAGGED)) })
    }

    /// What refers to the image by either way of saying so. Once each, the likeliest first, whatever the
    /// lists call them.
    async fn referrers(self) -> Result<Lead, UpstreamError> {
        let ((mut manifests, failed), fallback) = join(self.listed(), self.fallback_tag()).await;
        let fallback = fallback.map(|listed| manifests.extend(listed)).err();
        let mut seen = BTreeSet::new();
        manifests.retain(|listed| listed.media_type.is_image() && seen.insert(listed.digest));
        manifests.sort_by_key(likelihood);
        manifests.truncate(MAX_MANIFESTS);
        Ok(Lead::Manifests(manifests, failed.or(fallback.filter(|error| !is_answer(error)))))
    }

    async fn listed(self) -> (Vec<Descriptor>, Option<UpstreamError>) {
        let mut manifests = Vec::new();
        let mut page = Some(String::new());
        for _ in 0..MAX_PAGES {
            let Some(query) = page.take() else { break };
            let _permit = self.permits.acquire().await;
            match self.upstream.referrers(self.repository, self.subject, &query).await {
                Ok(answer) => {
                    manifests.extend(answer.manifests);
                    page = answer.next;
                }
                Err(error) => return (manifests, Some(error).filter(|error| !is_answer(error))),
            }
        }
        (manifests, None)
    }

    async fn fallback_tag(self) -> Result<Vec<Descriptor>, UpstreamError> {
        let Some(manifest) = self.fetch(&Reference::Tag(Tag::fallback(self.subject))).await? else {
            return Ok(Vec::new());
        };
        Ok(match manifest.kind {
            ManifestKind::Index { manifests } => manifests,
            ManifestKind::Image { .. } => Vec::new(),
        })
    }

    async fn manifest(self, listed: Descriptor) -> Result<Lead, UpstreamError> {
        let Some(manifest) = self.fetch(&Reference::Digest(listed.digest)).await? else { return Ok(Lead::Nothing) };
        let refers = manifest.subject.as_ref().is_some_and(|subject| subject.digest == *self.subject);
        Ok(if refers { Lead::Layers(layers_of(&manifest, MAX_REFERRING)) } else { Lead::Nothing })
    }

    /// A manifest, where what came is one.
    async fn fetch(self, reference: &Reference) -> Result<Option<Manifest>, UpstreamError> {
        let _permit = self.permits.acquire().await;
        let fetched = self.upstream.manifest(self.repository, reference).await?;
        let expected = match reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => None,
        };
        Ok(Manifest::parse(fetched.bytes, expected, fetched.content_type.as_deref()).ok())
    }

    async fn signature(self, layer: SignedLayer, now: Timestamp) -> Result<Lead, UpstreamError> {
        let _permit = self.permits.acquire().await;
        let size = usize::try_from(layer.blob.size).unwrap_or(usize::MAX);
        let bytes = self.upstream.small_blob(self.repository, &layer.blob.digest, size).await?;
        let Signed { format, signature, payload, annotations } = layer.signed(bytes.into());
        let format = format.map(|format| format.as_str().to_owned()).unwrap_or_default();
        Ok(Lead::Found(FoundEnvelope { signature, payload, annotations, format, first_seen: now, verified: None }))
    }
}

/// Whether the upstream did answer: that there is nothing, or nothing that is what was asked for.
fn is_answer(error: &UpstreamError) -> bool {
    error.is_absent() || error.is_untrue()
}

/// The order of asking, so that others in the list take no signature's place. Nothing is left out for
/// what it is called.
fn likelihood(listed: &Descriptor) -> u8 {
    let predicate = listed.annotations.get(PREDICATE_TYPE).and_then(|value| value.as_str());
    match &listed.artifact_type {
        Some(kind) if kind.is_sigstore_bundle() => match predicate {
            Some(COSIGN_SIGN) => 0,
            None => 1,
            Some(_) => 3,
        },
        Some(kind) if [MediaType::NOTATION, MediaType::COSIGN_SIGNATURE].contains(kind) => 0,
        // What registries without the API are told of any artifact.
        None => 1,
        Some(kind) if *kind == MediaType::OCI_EMPTY => 1,
        Some(_) => 2,
    }
}

/// The signatures that a manifest names, as far as there is room for them.
fn layers_of(manifest: &Manifest, limit: usize) -> Vec<SignedLayer> {
    signed_layers(manifest).flatten().filter(SignedLayer::fits).take(limit).collect()
}

/// Half of what a decision may take.
const ROUND_LIMIT: Duration = Duration::from_secs(10);

const MAX_AT_ONCE: usize = 8;

/// Pages that are read of one list.
const MAX_PAGES: usize = 8;

/// Manifests of one list that are looked into.
const MAX_MANIFESTS: usize = 64;

/// Signatures taken from a `.sig` manifest, and from one that refers to the image: all of a round find room
/// among what is kept of one digest.
const MAX_TAGGED: usize = 64;
const MAX_REFERRING: usize = 3;

/// Signatures and payloads of one round.
const MAX_BYTES: u64 = 16 << 20;

const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
