//! Images fetched before anybody asks for them, with a line now and then that says how far they are.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header::CONTENT_TYPE};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::{
    api::{
        Api,
        body::read_json,
        fields::Fields,
        problem::{Problem, ProblemKind, quoted},
    },
    audit::Who,
    oci::{Digest, Reference, Repository, Tag},
    pull::{Ask, Asker, NotPrefetched, Platform, Prefetched},
};

/// What is to be fetched.
#[derive(Debug, ToSchema)]
pub struct Prefetch {
    /// As they are pulled; a bare name is the default registry's.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100, example = json!(["library/nginx:1.27"]))]
    pub images: Vec<(Repository, Reference)>,
    /// Of an index only what is for these; all of it where none is named.
    #[schema(value_type = Vec<String>, max_items = 16, example = json!(["linux/amd64"]))]
    pub platforms: Vec<Platform>,
}

/// One line of the answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct PrefetchLine {
    /// Of all images together where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    pub state: PrefetchState,
    /// What the image is, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why it is refused or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What is to be kept, as far as that is known yet.
    pub blobs: u64,
    pub bytes: u64,
    pub blobs_kept: u64,
    pub bytes_kept: u64,
    /// What of it was not kept before.
    pub blobs_fetched: u64,
    pub bytes_fetched: u64,
    /// At the end, how many images ended how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PrefetchCounts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrefetchState {
    /// Others come first.
    Waiting,
    Fetching,
    Done,
    Refused,
    Failed,
    /// The last line: an answer without it broke off.
    End,
}

#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub struct PrefetchCounts {
    pub done: u64,
    pub refused: u64,
    pub failed: u64,
}

/// Fetch images before anybody asks for them.
///
/// Each passes the gate that a pull by whoever asks here would pass, on the mirror's side: one that is refused is
/// reported with its reason, and nothing of it is fetched. A blob that somebody is pulling is fetched once for both. The answer is a
/// line of JSON for each image that has ended, about one a second while it takes longer, and a last one with `state`
/// `end`; who closes the connection ends it. So many go on at a time; the others wait for them.
#[utoipa::path(
    post,
    path = "/api/v1/cache/prefetch",
    tag = "cache",
    request_body = Prefetch,
    responses(
        (status = 200, description = "How it goes, line by line", body = PrefetchLine, content_type = "application/x-ndjson"),
        (status = 400, description = "`malformed-body`, `invalid-field`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body-timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`no-cache`: `CACHE_MAX_SIZE` is 0", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::api) async fn prefetch(
    State(api): State<Arc<Api>>,
    Extension(who): Extension<Who>,
    request: Request,
) -> Result<Response, Problem> {
    let wanted = Prefetch::parse(&read_json(request).await?, &api)?;
    if api.puller.cache().is_none() {
        return Err(Problem::new(ProblemKind::NoCache, "CACHE_MAX_SIZE is 0 here: nothing would be kept"));
    }
    let mut response = Response::new(Body::from_stream(Lines::begin(api, wanted, asker(who)).stream()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

impl Prefetch {
    fn parse(body: &[u8], api: &Api) -> Result<Self, Problem> {
        let mut fields = Fields::parse(body, &["images", "platforms"])?;
        let texts = fields.strings("images", MAX_IMAGES)?;
        if texts.is_empty() {
            return Err(Problem::field("images", "is missing or empty, expected images such as library/nginx:1.27"));
        }
        let images = texts.iter().map(|text| image(text, api)).collect::<Result<_, _>>()?;
        let platform = |text: String| {
            text.parse::<Platform>()
                .map_err(|error| Problem::field("platforms", format_args!("{}: {error}", quoted(&text))))
        };
        let platforms =
            fields.strings("platforms", MAX_PLATFORMS)?.into_iter().map(platform).collect::<Result<_, _>>()?;
        Ok(Self { images, platforms })
    }
}

/// `REPOSITORY[:TAG][@DIGEST]`, as it is pulled.
fn image(text: &str, api: &Api) -> Result<(Repository, Reference), Problem> {
    let wrong = |detail: String| Problem::field("images", format_args!("{} {detail}", quoted(text)));
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash is a port's.
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let repository =
        Repository::parse(path, &api.config.canonical).map_err(|error| wrong(format!("is none: {error}")))?;
    let tag: Tag = tag.unwrap_or("latest").parse().map_err(|error| wrong(format!("has no tag: {error}")))?;
    let digest = digest.map(str::parse::<Digest>).transpose();
    let digest = digest.map_err(|error| wrong(format!("has no digest: {error}")))?;
    Ok((repository, digest.map_or(Reference::Tag(tag), Reference::Digest)))
}

/// Who asks here asks as a client of the mirror does: never to sign.
fn asker(who: Who) -> Asker {
    Asker {
        address: who.address,
        user_agent: who.user_agent.unwrap_or_default().into(),
        account: who.account.map(Into::into),
        by_our_name: false,
    }
}

/// The work and what there is to say of it. It goes on while somebody reads the lines, and ends with them.
struct Lines {
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_working: bool,
    ended: mpsc::UnboundedReceiver<PrefetchLine>,
    now: Arc<Mutex<Option<Now>>>,
    first: Option<String>,
}

/// The image whose turn it is.
#[derive(Clone)]
struct Now {
    image: String,
    progress: Arc<Mutex<Prefetched>>,
}

impl Lines {
    fn begin(api: Arc<Api>, wanted: Prefetch, asker: Asker) -> Self {
        let (lines, ended) = mpsc::unbounded_channel();
        let now = Arc::<Mutex<Option<Now>>>::default();
        let first = wanted.images.first().map(|(repository, reference)| name(repository, reference));
        let work = work(api, wanted, asker, Arc::clone(&now), lines);
        Self { work: Box::pin(work), is_working: true, ended, now, first }
    }

    fn stream(self) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> + Send {
        stream::unfold(self, |mut lines| async move { Some((Ok(lines.next().await?), lines)) })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                line = self.ended.recv() => return Some(line?.bytes()),
                () = &mut self.work, if self.is_working => self.is_working = false,
                () = tokio::time::sleep(LINE_EVERY) => return Some(self.meanwhile().bytes()),
            }
        }
    }

    fn meanwhile(&self) -> PrefetchLine {
        match self.now.lock().clone() {
            Some(Now { image, progress }) => {
                PrefetchLine { image: Some(image), ..PrefetchLine::of(PrefetchState::Fetching, *progress.lock()) }
            }
            None => PrefetchLine {
                image: self.first.clone(),
                ..PrefetchLine::of(PrefetchState::Waiting, Prefetched::default())
            },
        }
    }
}

/// One image after the other, each with a line at its end, and one at the end of all.
async fn work(
    api: Arc<Api>,
    wanted: Prefetch,
    asker: Asker,
    now: Arc<Mutex<Option<Now>>>,
    lines: mpsc::UnboundedSender<PrefetchLine>,
) {
    let Ok(_place) = api.prefetches.acquire().await else { return };
    let (mut counts, mut sum) = (PrefetchCounts::default(), Prefetched::default());
    for (repository, reference) in wanted.images {
        let image = name(&repository, &reference);
        let progress = Arc::new(Mutex::new(Prefetched::default()));
        *now.lock() = Some(Now { image: image.clone(), progress: Arc::clone(&progress) });
        let ask = Ask { repository, reference, asker: asker.clone() };
        let ended = api.puller.prefetch(&ask, &wanted.platforms, &progress).await;
        let progress = *progress.lock();
        sum.add(progress);
        let line = match ended {
            Ok(digest) => {
                counts.done += 1;
                PrefetchLine { digest: Some(digest.to_string()), ..PrefetchLine::of(PrefetchState::Done, progress) }
            }
            Err(error) => {
                let is_refused = matches!(&error, NotPrefetched::Refused(refused) if refused.reason.is_decided());
                let state = if is_refused { PrefetchState::Refused } else { PrefetchState::Failed };
                *(if is_refused { &mut counts.refused } else { &mut counts.failed }) += 1;
                let (reason, detail) = (Some(error.code()), Some(error.to_string()));
                PrefetchLine { reason, detail, ..PrefetchLine::of(state, progress) }
            }
        };
        // Nobody reads any more: the work ends with its reader.
        drop(lines.send(PrefetchLine { image: Some(image), ..line }));
    }
    drop(lines.send(PrefetchLine { images: Some(counts), ..PrefetchLine::of(PrefetchState::End, sum) }));
}

fn name(repository: &Repository, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{repository}:{tag}"),
        Reference::Digest(digest) => format!("{repository}@{digest}"),
    }
}

impl PrefetchLine {
    fn of(state: PrefetchState, progress: Prefetched) -> Self {
        let Prefetched { blobs, bytes, blobs_kept, bytes_kept, blobs_fetched, bytes_fetched } = progress;
        Self {
            image: None,
            state,
            digest: None,
            reason: None,
            detail: None,
            blobs,
            bytes,
            blobs_kept,
            bytes_kept,
            blobs_fetched,
            bytes_fetched,
            images: None,
        }
    }

    fn bytes(&self) -> Bytes {
        // A struct of strings and numbers always serializes.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

const MAX_IMAGES: usize = 100;
const MAX_PLATFORMS: usize = 16;
const LINE_EVERY: Duration = Duration::from_secs(1);
