//! Our own archive: one JSON object a line, so that it is written and read as a stream, and looked into with any tool.
//!
//! The first line says what it is, `{"archive":"sig-repo","version":1,"filter":{…}}`; each line after it is one
//! signature as `GET /api/v1/archive` gives it; the last, `{"end":{"signatures":N,"sha256":"…"}}`, has the hash of all
//! bytes before it, so that neither a cut nor a change goes unseen.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    archive: String,
    version: u32,
    /// What was asked for, as the query of the API.
    pub(super) filter: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct End {
    end: Sum,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    signatures: u64,
    sha256: String,
}

/// Reads an archive line by line; the hash is that of all that was read.
pub(super) struct Reader {
    lines: BufReader<File>,
    hash: Context,
    pub(super) header: Header,
    /// Signatures so far.
    pub(super) count: u64,
    /// Where the last whole line ended.
    pub(super) offset: u64,
    pub(super) ended: bool,
}

impl Header {
    pub(super) fn new(filter: String) -> Self {
        Self { archive: NAME.to_owned(), version: VERSION, filter }
    }
}

/// Whether a file begins as an archive does.
pub(super) fn is_archive(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(START.len() as u64).read_to_end(&mut start)?;
    Ok(start == START)
}

impl Reader {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Self::over(file).with_context(|| path.display().to_string())
    }

    pub(super) fn over(mut file: File) -> anyhow::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let header = Header::new(String::new());
        let mut reader = Self {
            lines: BufReader::new(file),
            hash: Context::new(&SHA256),
            header,
            count: 0,
            offset: 0,
            ended: false,
        };
        let line = reader.line()?.context("it is empty")?;
        reader.header = serde_json::from_slice(&line).context("the first line is not an archive's")?;
        ensure!(reader.header.archive == NAME, "an archive of {:?}, not of {NAME}", reader.header.archive);
        let version = reader.header.version;
        ensure!(version == VERSION, "an archive of version {version}; this release reads version {VERSION}");
        reader.take(&line);
        Ok(reader)
    }

    /// The next signature; none at the end, which has to be there and to fit.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Value>> {
        let number = self.count + 2;
        let Some(line) = self.line()? else { bail!("it was cut off after {} signatures", self.count) };
        if let Ok(End { end }) = serde_json::from_slice::<End>(&line) {
            let sum = Sum { signatures: self.count, sha256: hex::encode(self.hash.clone().finish()) };
            ensure!(end == sum, "it was changed: the checksum of its {} signatures is not that of its end", self.count);
            self.ended = true;
            ensure!(self.lines.fill_buf()?.is_empty(), "there is something behind its end");
            return Ok(None);
        }
        let signature = serde_json::from_slice(&line).with_context(|| format!("line {number} is no signature"))?;
        self.take(&line);
        self.count += 1;
        Ok(Some(signature))
    }

    /// Reads all of it, and keeps nothing: says how many signatures there are.
    pub(super) fn check(path: &Path) -> anyhow::Result<u64> {
        let mut reader = Self::open(path)?;
        while reader.next().with_context(|| path.display().to_string())?.is_some() {}
        Ok(reader.count)
    }

    /// What a writer that goes on has to know.
    pub(super) fn into_hash(self) -> Context {
        self.hash
    }

    /// A whole line without its end; none where the file ends within one.
    fn line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => Ok(Some(line)),
            Some(_) if line.len() as u64 + 1 >= MAX_LINE_BYTES => bail!("a line has more than {MAX_LINE_BYTES} bytes"),
            _ => Ok(None),
        }
    }

    fn take(&mut self, line: &[u8]) {
        self.hash.update(line);
        self.hash.update(b"\n");
        self.offset += line.len() as u64 + 1;
    }
}

pub(super) struct Writer<W> {
    out: W,
    hash: Context,
    pub(super) count: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, header: &Header) -> anyhow::Result<Self> {
        let mut writer = Self { out, hash: Context::new(&SHA256), count: 0 };
        writer.line(&serde_json::to_vec(header)?)?;
        Ok(writer)
    }

    /// Goes on behind what a reader has read.
    pub(super) fn behind(reader: Reader, out: W) -> Self {
        Self { out, count: reader.count, hash: reader.into_hash() }
    }

    pub(super) fn put(&mut self, signature: &Value) -> anyhow::Result<()> {
        self.count += 1;
        self.line(&serde_json::to_vec(signature)?)
    }

    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }

    pub(super) fn end(mut self) -> anyhow::Result<W> {
        let sum = Sum { signatures: self.count, sha256: hex::encode(self.hash.clone().finish()) };
        self.line(&serde_json::to_vec(&End { end: sum })?)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.hash.update(line);
        self.hash.update(b"\n");
        self.out.write_all(line)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }
}

const NAME: &str = "sig-repo";
const VERSION: u32 = 1;
const START: &[u8] = br#"{"archive":"sig-repo""#;
/// A signature and its payload of a megabyte each, in base64, with all that stands beside them.
const MAX_LINE_BYTES: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn archive(signatures: u64) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &Header::new("type=preview".to_owned())).unwrap();
        for n in 0..signatures {
            writer.put(&json!({ "id": n })).unwrap();
        }
        writer.end().unwrap()
    }

    fn read(bytes: &[u8]) -> anyhow::Result<u64> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        Reader::check(file.path())
    }

    #[test]
    fn an_archive_comes_back_and_no_cut_or_change_goes_unseen() {
        let whole = archive(3);
        assert_eq!(read(&whole).unwrap(), 3);
        assert!(whole.starts_with(START));
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "changed at {at}");
        }
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        for (bad, expected) in [
            ([lines[0], lines[2], lines[1], lines[3], lines[4]].concat(), "it was changed"),
            ([lines[0], lines[1], lines[3], lines[4]].concat(), "it was changed"),
            ([lines[0], lines[1], lines[2], lines[3]].concat(), "it was cut off after 3 signatures"),
            ([&whole, lines[1]].concat(), "behind its end"),
            (
                b"{\"archive\":\"sig-repo\",\"version\":2,\"filter\":\"\"}\n".to_vec(),
                "of version 2; this release reads",
            ),
            (b"{}\n".to_vec(), "the first line is not an archive's"),
        ] {
            let error = format!("{:#}", read(&bad).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_writer_goes_on_where_another_was_cut_off() {
        let whole = archive(3);
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [&lines[..3].concat()[..], &lines[3][..4]].concat()).unwrap();
        let mut reader = Reader::open(file.path()).unwrap();
        while let Ok(Some(_)) = reader.next() {}
        assert_eq!((reader.count, reader.offset as usize), (2, lines[..3].concat().len()));
        let mut writer = Writer::behind(reader, Vec::new());
        writer.put(&json!({ "id": 2 })).unwrap();
        assert_eq!([lines[..3].concat(), writer.end().unwrap()].concat(), whole);
    }
}
