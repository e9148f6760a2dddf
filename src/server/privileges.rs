//! Giving up root, before any thread starts.
//!
//! A volume that Docker made belongs to root. So a process started as root takes ownership of its data
//! directory and of its own files there, for a user that owns nothing else, and becomes that user for
//! good. It follows no link and enters no other mount on the way: what lies in that directory may have
//! been planted (a link to the system's password file would be given away).

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::{
        prctl::set_no_new_privs,
        stat::{FileStat, Mode, SFlag, fstat},
    },
    unistd::{Gid, Uid, fchownat, geteuid, getresuid, setgroups, setresgid, setresuid},
};

#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    #[error("DATA_DIR={}: expected a directory of its own, not one of the system's", path.display())]
    System { path: PathBuf },
    #[error("DATA_DIR={}: expected a directory, and no symbolic link to one", path.display())]
    Link { path: PathBuf },
    #[error(
        "DATA_DIR={}: cannot take ownership of {}: {source}: a start as root needs CAP_CHOWN, CAP_SETUID and \
         CAP_SETGID, one as another user (--user) needs none",
        data_dir.display(),
        path.display()
    )]
    Ownership { data_dir: PathBuf, path: PathBuf, source: io::Error },
    #[error(
        "cannot become user {uid} ({what}: {source}): expected CAP_SETUID, CAP_SETGID and CAP_CHOWN, or a start as another user"
    )]
    Become { uid: Uid, what: &'static str, source: Errno },
    #[error("still root after becoming user {uid}")]
    StillRoot { uid: Uid },
}

/// Makes a root process an ordinary one that owns its data directory; any other process it leaves as
/// it is.
pub fn give_up(data_dir: &Path) -> Result<(), PrivilegesError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = take_ownership(data_dir)?;
    become_user(uid, gid)
}

/// Gives the directory, and what the program keeps in it, to the user that it will run as: the owner of
/// the directory, or, where that is root, one that owns nothing else.
fn take_ownership(data_dir: &Path) -> Result<(Uid, Gid), PrivilegesError> {
    let failed = |path: &Path, source: io::Error| PrivilegesError::Ownership {
        data_dir: data_dir.into(),
        path: path.into(),
        source,
    };
    if SYSTEM_DIRECTORIES.iter().any(|system| data_dir.components().eq(Path::new(system).components())) {
        return Err(PrivilegesError::System { path: data_dir.into() });
    }
    fs::create_dir_all(data_dir).map_err(|source| failed(data_dir, source))?;
    let root = match nix::fcntl::open(data_dir, DIRECTORY, Mode::empty()) {
        Ok(root) => root,
        // Linux says ENOTDIR for a link where a directory is demanded.
        Err(Errno::ELOOP | Errno::ENOTDIR) => return Err(PrivilegesError::Link { path: data_dir.into() }),
        Err(source) => return Err(failed(data_dir, source.into())),
    };
    let stat = fstat(&root).map_err(|source| failed(data_dir, source.into()))?;
    let (uid, gid) = match (stat.st_uid, stat.st_gid) {
        (0, _) => (NOBODY_ELSE, NOBODY_ELSE),
        (uid, 0) => (uid, uid),
        (uid, gid) => (uid, gid),
    };
    let taking = Taking { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), device: stat.st_dev };
    taking.take(&root, &stat).map_err(|source| failed(data_dir, source.into()))?;
    taking.own_entries(root, data_dir, Depth::Top).map_err(|(path, source)| failed(&path, source.into()))?;
    Ok((taking.uid, taking.gid))
}

struct Taking {
    uid: Uid,
    gid: Gid,
    device: nix::libc::dev_t,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Where others may keep things too.
    Top,
    Below(usize),
}

impl Taking {
    fn own_entries(&self, directory: OwnedFd, path: &Path, depth: Depth) -> Result<(), (PathBuf, Errno)> {
        let here = |source| (path.to_owned(), source);
        let mut entries = Dir::from_fd(directory).map_err(here)?;
        let names = entries.iter().map(|entry| entry.map(|entry| entry.file_name().to_owned()));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(here)?;
        for name in names {
            let name = OsStr::from_bytes(name.to_bytes());
            if name == "." || name == ".." || (depth == Depth::Top && !is_own(name)) {
                continue;
            }
            let path = path.join(name);
            self.own_entry(&entries, name, &path, depth).map_err(|error| match error {
                Entry::At(source) => (path, source),
                Entry::Below(path, source) => (path, source),
            })?;
        }
        Ok(())
    }

    fn own_entry(&self, parent: &Dir, name: &OsStr, path: &Path, depth: Depth) -> Result<(), Entry> {
        let entry = match open_entry(parent, name, ENTRY) {
            Ok(entry) => entry,
            Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EXDEV) => return skip(path, "on another mount"),
            Err(source) => return Err(Entry::At(source)),
        };
        let stat = fstat(&entry).map_err(Entry::At)?;
        if stat.st_dev != self.device {
            return skip(path, "on another mount");
        }
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG if stat.st_nlink > 1 => skip(path, "a file with another name elsewhere"),
            SFlag::S_IFREG => self.take(&entry, &stat).map_err(Entry::At),
            SFlag::S_IFDIR => {
                let Some(below) = depth.below() else { return skip(path, "too deep") };
                let directory = open_entry(parent, name, DIRECTORY).map_err(Entry::At)?;
                let opened = fstat(&directory).map_err(Entry::At)?;
                if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
                    return skip(path, "replaced at this moment");
                }
                self.take(&entry, &stat).map_err(Entry::At)?;
                self.own_entries(directory, path, below).map_err(|(path, source)| Entry::Below(path, source))
            }
            SFlag::S_IFLNK => skip(path, "a link"),
            _ => skip(path, "neither a file nor a directory"),
        }
    }

    fn take(&self, entry: &OwnedFd, stat: &FileStat) -> Result<(), Errno> {
        if (stat.st_uid, stat.st_gid) == (self.uid.as_raw(), self.gid.as_raw()) {
            return Ok(());
        }
        fchownat(entry, "", Some(self.uid), Some(self.gid), AtFlags::AT_EMPTY_PATH)
    }
}

impl Depth {
    fn below(self) -> Option<Self> {
        match self {
            Self::Top => Some(Self::Below(1)),
            Self::Below(depth) => (depth < MAX_DEPTH).then_some(Self::Below(depth + 1)),
        }
    }
}

enum Entry {
    At(Errno),
    Below(PathBuf, Errno),
}

/// Opens a name as itself: no link is followed, no device or pipe opened, no mount entered.
fn open_entry(parent: &Dir, name: &OsStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH);
    match openat2(parent.as_fd(), name, how) {
        // An older kernel, or a sandbox that does not know the call: the device number is left to tell
        // one mount from another.
        Err(Errno::ENOSYS | Errno::EPERM) => openat(parent.as_fd(), name, flags, Mode::empty()),
        opened => opened,
    }
}

fn skip(path: &Path, why: &'static str) -> Result<(), Entry> {
    tracing::warn!("{} keeps its owner: it is {why}", path.display());
    Ok(())
}

/// What the program itself makes in its data directory, and the trust directory that is put there.
fn is_own(name: &OsStr) -> bool {
    OWN_NAMES.iter().any(|own| {
        let rest = name.as_bytes().strip_prefix(own.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
    })
}

fn become_user(uid: Uid, gid: Gid) -> Result<(), PrivilegesError> {
    let step = |what, done: Result<(), Errno>| done.map_err(|source| PrivilegesError::Become { uid, what, source });
    step("setgroups", setgroups(&[]))?;
    step("setresgid", setresgid(gid, gid, gid))?;
    // With the last of the three user ids goes every capability: the kernel clears the permitted, the
    // effective and the ambient set (capabilities(7)), and no_new_privs keeps the rest out of reach.
    step("setresuid", setresuid(uid, uid, uid))?;
    step("no_new_privs", set_no_new_privs())?;
    let now = getresuid().map_err(|source| PrivilegesError::Become { uid, what: "getresuid", source })?;
    if [now.real, now.effective, now.saved] != [uid; 3]
        || setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok()
    {
        return Err(PrivilegesError::StillRoot { uid });
    }
    Ok(())
}

/// Owns nothing on any system that follows the custom of distroless images.
const NOBODY_ELSE: u32 = 65_532;
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const ENTRY: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const OWN_NAMES: [&str; 4] = ["records", "memory", "trust", "cache"];
/// Deeper than anything the program makes.
const MAX_DEPTH: usize = 8;
/// Given away, these would take the system with them.
const SYSTEM_DIRECTORIES: [&str; 16] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp",
    "/usr", "/var",
];
