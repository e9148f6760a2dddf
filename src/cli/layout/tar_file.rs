//! A layout in a tar file: looked through once, read where it lies, unpacked nowhere.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use tar::{Archive, EntryType};

pub(super) struct TarFile {
    file: Arc<File>,
    /// Where each file begins, and its length.
    members: HashMap<String, (u64, u64)>,
}

impl TarFile {
    pub(super) fn read(mut file: File) -> anyhow::Result<Self> {
        let length = file.metadata()?.len();
        let mut magic = [0; 4];
        if file.read(&mut magic)? == magic.len() {
            ensure!(
                !COMPRESSED.iter().any(|start| magic.starts_with(start)),
                "the tar file is compressed; unpack it first"
            );
        }
        file.seek(SeekFrom::Start(0))?;
        let mut archive = Archive::new(&file);
        let mut members = HashMap::new();
        let mut count = 0;
        // Raw, as the reader would else take names and sizes of any length from extended headers.
        for entry in archive.entries_with_seek().context("not a tar file")?.raw(true) {
            let mut entry = entry.context("not a tar file, or a broken one")?;
            count += 1;
            ensure!(count <= MAX_MEMBERS, "more than {MAX_MEMBERS} files");
            let size = entry.header().entry_size().context("a member without a size")?;
            let kind = entry.header().entry_type();
            let raw = entry.path_bytes().into_owned();
            let name = String::from_utf8_lossy(&raw).into_owned();
            match kind {
                EntryType::Regular | EntryType::Continuous => {}
                EntryType::Directory => {
                    relative(&name)?;
                    continue;
                }
                EntryType::XHeader | EntryType::XGlobalHeader => {
                    ensure!(size <= MAX_HEADER_BYTES, "an extended header of {size} bytes");
                    let renamed =
                        entry.pax_extensions()?.into_iter().flatten().any(|extension| {
                            extension.map_or(true, |extension| RENAMING.contains(&extension.key_bytes()))
                        });
                    ensure!(!renamed, "an extended header gives a file another name or size, which no layout needs");
                    continue;
                }
                other => bail!("{name:?} is neither a file nor a directory (type {:?})", char::from(other.as_byte())),
            }
            let offset = entry.raw_file_position();
            ensure!(offset.checked_add(size).is_some_and(|end| end <= length), "it ends within {name:?}");
            let name = relative(&name)?.to_owned();
            ensure!(members.insert(name.clone(), (offset, size)).is_none(), "{name:?} is in it twice");
        }
        Ok(Self { members, file: Arc::new(file) })
    }

    pub(super) fn member(&self, name: &str) -> Option<(Arc<File>, u64, u64)> {
        self.members.get(name).map(|(offset, len)| (Arc::clone(&self.file), *offset, *len))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }
}

/// A name that leads nowhere but down.
fn relative(name: &str) -> anyhow::Result<&str> {
    let name = name.strip_prefix("./").unwrap_or(name);
    ensure!(!name.starts_with('/') && !name.split('/').any(|part| part == ".."), "{name:?} leads out of the tar file");
    Ok(name)
}

/// gzip, zstd, bzip2, xz.
const COMPRESSED: [&[u8]; 4] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], b"BZh", &[0xfd, b'7', b'z', b'X']];
const RENAMING: [&[u8]; 3] = [b"path", b"size", b"linkpath"];
const MAX_MEMBERS: usize = 1 << 20;
const MAX_HEADER_BYTES: u64 = 64 << 10;
