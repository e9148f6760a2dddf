//! Writes the signatures of a server into an archive.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use super::{
    archive::{Header, Reader, Writer},
    image::{DOCKER_HUB, Image},
    progress::Progress,
    server::{Server, ServerOptions},
};
use crate::oci::{Digest, TagType};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// The file to write; - is standard output
    file: PathBuf,

    /// Only what is narrowed to this repository
    #[arg(long)]
    repository: Option<Image>,

    /// Only of this image
    #[arg(long)]
    digest: Option<Digest>,

    /// Only of tags of this type
    #[arg(long = "type", value_name = "preview|internal", value_parser = tag_type)]
    tag_type: Option<TagType>,

    /// Write over a file that is there
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    server: ServerOptions,
}

pub(super) fn run(options: &Options) -> Result<(), anyhow::Error> {
    let server = Server::new(&options.server)?;
    let header = Header::new(options.filter()?);
    let mut progress = Progress::new();
    if options.file.as_os_str() == "-" {
        let writer = Writer::new(BufWriter::new(io::stdout()), &header)?;
        let count = super::block_on(copy(&server, &header.filter, writer, None, &mut progress))?.0;
        progress.line(&format!("{count} signatures exported"));
        return Ok(());
    }
    let there = options.file.try_exists()?;
    ensure!(options.force || !there, "{} is there already; --force writes over it", options.file.display());
    let draft = draft_of(&options.file);
    let (writer, last, resumed) = begin(&draft, &header)?;
    if resumed > 0 {
        progress.line(&format!("going on behind the {resumed} signatures of {}", draft.display()));
    }
    let (count, file) = super::block_on(copy(&server, &header.filter, writer, last, &mut progress))
        .with_context(|| format!("what came stays in {}, and the same command goes on there", draft.display()))?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&draft, &options.file).with_context(|| options.file.display().to_string())?;
    progress.clear();
    let answer = json!({ "file": options.file, "signatures": count, "resumed_after": resumed });
    super::print(&options.server, &answer, |_| format!("{count} signatures exported to {}", options.file.display()))
}

impl Options {
    /// What is asked of the API.
    fn filter(&self) -> anyhow::Result<String> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(image) = &self.repository {
            ensure!(image.tag.is_none() && image.digest.is_none(), "--repository: expected one without tag and digest");
            let repository = image.repository(&DOCKER_HUB.parse()?).context("--repository: a digest is none")?;
            query.append_pair("repository", repository.as_str());
        }
        if let Some(digest) = &self.digest {
            query.append_pair("digest", &digest.to_string());
        }
        if let Some(tag_type) = self.tag_type {
            query.append_pair("type", tag_type.as_str());
        }
        Ok(query.finish())
    }
}

/// Where it is written until it is whole.
fn draft_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

type Last = Option<String>;

/// A new file, or one that a run before this left: what is whole of that stays.
fn begin(draft: &Path, header: &Header) -> anyhow::Result<(Writer<BufWriter<File>>, Last, u64)> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft);
    match created {
        Ok(file) => return Ok((Writer::new(BufWriter::new(file), header)?, None, 0)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).context(draft.display().to_string()),
    }
    let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(draft);
    let file = file.as_mut().map_err(|error| anyhow::anyhow!("{}: {error}", draft.display()))?;
    let Ok(mut reader) = Reader::over(file.try_clone()?) else {
        ensure!(
            file.metadata()?.len() <= MAX_SCRAP_BYTES,
            "{} is no archive that was begun; remove it",
            draft.display()
        );
        file.set_len(0)?;
        io::Seek::rewind(file)?;
        return Ok((Writer::new(BufWriter::new(file.try_clone()?), header)?, None, 0));
    };
    if reader.header != *header {
        bail!("{} was begun with other filters ({:?}); remove it", draft.display(), reader.header.filter);
    }
    let mut last = None;
    while let Ok(Some(signature)) = reader.next() {
        last = Some(signature["id"].as_str().context("a signature without an id")?.to_owned());
    }
    file.set_len(reader.offset)?;
    io::Seek::seek(file, io::SeekFrom::End(0))?;
    let count = reader.count;
    Ok((Writer::behind(reader, BufWriter::new(file.try_clone()?)), last, count))
}

/// Page by page, each on the disk before the next is asked for.
async fn copy<W: Write>(
    server: &Server,
    filter: &str,
    mut writer: Writer<W>,
    mut last: Last,
    progress: &mut Progress,
) -> anyhow::Result<(u64, W)> {
    loop {
        let cursor = last.map(|last| format!("&cursor={last}")).unwrap_or_default();
        let page = server.get_patiently(&format!("archive?{filter}&limit=1000{cursor}")).await?;
        let signatures = page["signatures"].as_array().context("the server's answer is no page of an archive")?;
        for signature in signatures {
            writer.put(signature)?;
        }
        writer.flush()?;
        let count = writer.count;
        progress.at(|| format!("{count} signatures exported"));
        match page["next"].as_str() {
            Some(next) => last = Some(next.to_owned()),
            None => return Ok((count, writer.end()?)),
        }
    }
}

fn tag_type(text: &str) -> Result<TagType, &'static str> {
    TagType::ALL.into_iter().find(|known| known.as_str() == text).ok_or("expected preview or internal")
}

/// What a run that ended within the first line leaves.
const MAX_SCRAP_BYTES: u64 = 4096;

const AFTER_HELP: &str = "\
The archive is one JSON object a line: what it is, the signatures with all their labels, and at the end their number
and the SHA-256 of everything before, so that sig-repo import notices a cut or a change. It is written beside FILE,
as FILE.part, and has its name once it is whole; a run that was broken off is gone on with by the same command.
It has the records. Withdrawals and revocations, signers, the audit and what was pushed beside signatures
(attestations, SBOMs) are not in it: those need a copy of the data directory.";
