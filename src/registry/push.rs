//! What comes in: blobs, piece by piece or whole, and the manifests that name them. The distribution
//! specification's "Push", for signatures, attestations and SBOMs alone, and for whoever has an account.

use std::{collections::BTreeMap, fmt::Display};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};

use crate::{
    oci::{Digest, ErrorCode, MAX_MANIFEST_BYTES, Manifest, ManifestError, Reference},
    pull::{Ask, Push, PushError, Pushed},
};

use super::{
    Parts,
    client::Client,
    refusal,
    respond::{self, Body},
    route::Target,
    uploads::{Ended, Place, UploadError},
};

const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Parts {
    /// Where the uploads of this request go, or why it may not make any.
    pub(super) fn may_push(&self, target: &Target<'_>, client: &Client) -> Result<Place, Response<Body>> {
        if self.config.auth.is_none() {
            let text = "auth-required: pushing signatures needs AUTH_ENABLED=true, with AUTH_USER and AUTH_PASSWORD";
            return Err(refusal::error(ErrorCode::Denied, text));
        }
        let Some(account) = client.asker.account.clone() else {
            let text =
                "auth-required: signatures are pushed with the credentials of an account, by the name to sign in under";
            return Err(refusal::error(ErrorCode::Denied, text));
        };
        if self.drain.is_draining() {
            return Err(refusal::error(ErrorCode::Unavailable, "shutting down"));
        }
        if self.puller.upstream_of(&target.repository).is_err() {
            return Err(refusal::error(ErrorCode::Denied, "this registry is not configured here"));
        }
        Ok(Place { account, repository: target.repository.clone() })
    }

    /// `POST /v2/<name>/blobs/uploads/`: an upload opened, a whole blob, or one that is there already.
    pub(super) async fn start_upload<B: Incoming>(
        &self,
        target: &Target<'_>,
        query: &str,
        place: &Place,
        body: B,
    ) -> Response<Body> {
        let digest = match digest_of(query, "digest") {
            Ok(digest) => digest,
            Err(response) => return response,
        };
        // What lies in another repository is opened to nobody by naming it, so only this one is looked into.
        if let Ok(Some(mounted)) = digest_of(query, "mount")
            && matches!(self.length_of(place, &mounted).await, Ok(Some(_)))
        {
            return created(&target.path(&format!("blobs/{mounted}")), &mounted);
        }
        let name = match self.uploads.begin(place.clone()) {
            Ok(name) => name,
            Err(error) => return upload_error(target, None, &error),
        };
        let Some(digest) = digest else { return going_on(target, &name, 0, StatusCode::ACCEPTED) };
        match self.receive(place, &name, 0, None, body).await {
            Ok(_) => self.finish(target, place, &name, &digest).await,
            Err(error) => {
                // Nobody has been told its name.
                self.uploads.cancel(place, &name).ok();
                upload_error(target, None, &error)
            }
        }
    }

    /// The same path with the upload's name: go on, look, end or give up.
    pub(super) async fn upload<B: Incoming>(
        &self,
        target: &Target<'_>,
        name: &str,
        request: &Request<()>,
        place: &Place,
        body: B,
    ) -> Response<Body> {
        let received = match self.uploads.received(place, name) {
            Ok(received) => received,
            Err(error) => return upload_error(target, None, &error),
        };
        match *request.method() {
            Method::GET | Method::HEAD => return going_on(target, name, received, StatusCode::NO_CONTENT),
            Method::DELETE => {
                return match self.uploads.cancel(place, name) {
                    Ok(()) => respond::uncached(StatusCode::NO_CONTENT, Body::empty()),
                    Err(error) => upload_error(target, None, &error),
                };
            }
            _ => {}
        }
        let range = match content_range(request.headers()) {
            Ok(range) => range,
            Err(()) => return upload_error(target, Some(name), &UploadError::Range { at: received }),
        };
        let digest =
            match (request.method() == Method::PUT, digest_of(request.uri().query().unwrap_or_default(), "digest")) {
                (false, _) => None,
                (true, Ok(Some(digest))) => Some(digest),
                (true, Ok(None)) => return refusal::error(ErrorCode::DigestInvalid, "an upload ends with ?digest="),
                (true, Err(response)) => return response,
            };
        let at = range.map_or(received, |(first, _)| first);
        let length = range.map(|(first, last)| last - first + 1);
        match (self.receive(place, name, at, length, body).await, digest) {
            (Ok(_), Some(digest)) => self.finish(target, place, name, &digest).await,
            (Ok(received), None) => going_on(target, name, received, StatusCode::ACCEPTED),
            (Err(error), _) => upload_error(target, Some(name), &error),
        }
    }

    /// `PUT /v2/<name>/manifests/<reference>`.
    pub(super) async fn put_manifest<B: Incoming>(
        &self,
        target: &Target<'_>,
        reference: Reference,
        headers: &HeaderMap,
        place: &Place,
        client: &Client,
        body: B,
    ) -> Response<Body> {
        let bytes = match Limited::new(body, MAX_MANIFEST_BYTES).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(_) => {
                return refusal::error(ErrorCode::ManifestInvalid, "a manifest has at most 4 MiB, and comes whole");
            }
        };
        let expected = match &reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => None,
        };
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let manifest = match Manifest::parse(bytes, expected, content_type) {
            Ok(manifest) => manifest,
            Err(error @ ManifestError::WrongDigest { .. }) => {
                return refusal::error(ErrorCode::DigestInvalid, &error.to_string());
            }
            Err(error) => return refusal::error(ErrorCode::ManifestInvalid, &error.to_string()),
        };
        let digest = manifest.digest;
        let children: Vec<Digest> = manifest.children().map(|child| child.digest).collect();
        let uploaded: BTreeMap<Digest, Bytes> =
            children.iter().filter_map(|child| Some((*child, self.uploads.blob(place, child)?))).collect();
        let location = target.path(&format!("manifests/{reference}"));
        let ask = Ask { repository: target.repository.clone(), reference, asker: client.asker.clone() };
        let pushed = self.puller.push(&Push { ask, manifest, uploaded }).await;
        // What failed on our side may be tried again with the same blobs.
        if !matches!(
            pushed,
            Err(PushError::Store(_) | PushError::Upstream { .. } | PushError::NoBlob { .. } | PushError::Busy)
        ) {
            self.uploads.discard(place, &children);
        }
        if let Err(PushError::NoBlob { blob }) = &pushed {
            self.uploads.want(place, *blob);
        }
        match pushed {
            Ok(pushed) => {
                let mut response = created(&location, &digest);
                if let Pushed::Kept { subject } = pushed {
                    // Says that the list of referrers is kept here, so that the client writes none.
                    response.headers_mut().insert(OCI_SUBJECT, respond::digest_value(&subject));
                }
                response
            }
            Err(error) => {
                self.metrics.decision("push-refused", code(&error).code()).inc();
                if let PushError::Store(source) = &error {
                    tracing::error!("the store failed a push: {source}");
                }
                match &error {
                    PushError::Upstream { code: "timeout" } => {
                        refusal::status(StatusCode::GATEWAY_TIMEOUT, &error.to_string())
                    }
                    PushError::Upstream { .. } => refusal::status(StatusCode::BAD_GATEWAY, &error.to_string()),
                    _ => refusal::error(code(&error), &error.to_string()),
                }
            }
        }
    }

    /// The length of a blob that whoever may push here need not send.
    pub(super) async fn length_of(&self, place: &Place, digest: &Digest) -> Result<Option<u64>, PushError> {
        match self.uploads.blob(place, digest) {
            Some(bytes) => Ok(Some(bytes.len() as u64)),
            None if self.uploads.is_wanted(place, digest) => Ok(None),
            None => self.puller.blob_length(&place.repository, digest).await,
        }
    }

    /// Takes a body as far as it comes: what arrived of one that broke off is there to go on from.
    async fn receive<B: Incoming>(
        &self,
        place: &Place,
        name: &str,
        mut at: usize,
        length: Option<usize>,
        mut body: B,
    ) -> Result<usize, UploadError> {
        let begun = at;
        // Even without a byte it says whether this is where the upload goes on.
        self.uploads.append(place, name, at, &[])?;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(UploadError::Range { at }) };
            if let Some(bytes) = frame.data_ref() {
                if length.is_some_and(|length| at + bytes.remaining() > begun + length) {
                    return Err(UploadError::Range { at });
                }
                at = self.uploads.append(place, name, at, bytes)?;
            }
        }
        match length {
            Some(length) if at != begun + length => Err(UploadError::Range { at }),
            _ => Ok(at),
        }
    }

    async fn finish(&self, target: &Target<'_>, place: &Place, name: &str, digest: &Digest) -> Response<Body> {
        let ended = match self.uploads.finish(place, name, digest) {
            // What is too large to be taken may be there already.
            Ok(Ended::ReadPast) => match self.puller.blob_length(&place.repository, digest).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) | Err(_) => Err(UploadError::TooLarge),
            },
            ended => ended.map(drop),
        };
        match ended {
            Ok(()) => created(&target.path(&format!("blobs/{digest}")), digest),
            Err(error) => upload_error(target, None, &error),
        }
    }
}

/// The body of a request.
pub trait Incoming:
    http_body::Body<Data = Bytes, Error: Display + Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin
{
}

impl<B> Incoming for B where
    B: http_body::Body<Data = Bytes, Error: Display + Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin
{
}

fn created(location: &str, digest: &Digest) -> Response<Body> {
    let mut response = respond::uncached(StatusCode::CREATED, Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(location));
    headers.insert(respond::DOCKER_CONTENT_DIGEST, respond::digest_value(digest));
    response
}

/// Where an upload goes on. The specification has no word for "nothing yet": like others we say `0-0`.
fn going_on(target: &Target<'_>, name: &str, received: usize, status: StatusCode) -> Response<Body> {
    let mut response = respond::uncached(status, Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(&target.path(&format!("blobs/uploads/{name}"))));
    headers.insert(header::RANGE, value(&format!("0-{}", received.saturating_sub(1))));
    headers.insert(DOCKER_UPLOAD_UUID, value(name));
    response
}

fn upload_error(target: &Target<'_>, name: Option<&str>, error: &UploadError) -> Response<Body> {
    let code = match error {
        UploadError::Unknown => ErrorCode::BlobUploadUnknown,
        UploadError::Range { .. } => ErrorCode::RangeInvalid,
        UploadError::WrongDigest => ErrorCode::DigestInvalid,
        UploadError::TooLarge => ErrorCode::Denied,
        UploadError::TooMany => ErrorCode::TooManyRequests,
    };
    let mut response = refusal::error(code, &error.to_string());
    if let (UploadError::Range { at }, Some(name)) = (error, name) {
        response.headers_mut().extend(going_on(target, name, *at, StatusCode::ACCEPTED).headers().clone());
    }
    response
}

fn code(error: &PushError) -> ErrorCode {
    match error {
        PushError::NotTaken
        | PushError::NoSubject { .. }
        | PushError::OtherSubject
        | PushError::TooManyLayers
        | PushError::TooLarge
        | PushError::Signature { .. }
        | PushError::SignatureAnnotation { .. }
        | PushError::Conflict(_)
        | PushError::SubjectFull
        | PushError::AccountFull
        | PushError::UnknownRegistry => ErrorCode::Denied,
        PushError::NoBlob { .. } => ErrorCode::ManifestBlobUnknown,
        PushError::BlobSize { .. } => ErrorCode::ManifestInvalid,
        PushError::NotExamined | PushError::Busy | PushError::Upstream { .. } | PushError::Store(_) => {
            ErrorCode::Unavailable
        }
    }
}

fn digest_of(query: &str, name: &str) -> Result<Option<Digest>, Response<Body>> {
    let mut values = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some((_, text)), None) => text
            .parse()
            .map(Some)
            .map_err(|error: crate::oci::DigestError| refusal::error(ErrorCode::DigestInvalid, &error.to_string())),
        (Some(_), Some(_)) => Err(refusal::error(ErrorCode::DigestInvalid, "several digests")),
    }
}

/// `<first>-<last>`, as the specification has it for chunks; both ends belong to it.
fn content_range(headers: &HeaderMap) -> Result<Option<(usize, usize)>, ()> {
    let Some(text) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let (first, last) = text.to_str().ok().and_then(|text| text.split_once('-')).ok_or(())?;
    let number = |text: &str| match text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<usize>().map_err(|_| ()),
        false => Err(()),
    };
    let (first, last) = (number(first)?, number(last)?);
    if first <= last { Ok(Some((first, last))) } else { Err(()) }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a checked name and digits are printable ASCII")
}
