//! A disk so small that a test can fill it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use crate::{process::run, world::mount};

pub(super) struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    pub(super) fn mount(place: &Path) -> Self {
        fs::create_dir_all(place).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=64m,mode=755", "small", place.to_str().unwrap()]);
        Self { place: place.to_owned() }
    }

    /// Takes every byte that is left.
    pub(super) fn fill(&mut self) {
        let mut ballast = fs::File::create(self.place.join("ballast")).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still writes to it keeps it until then.
        let mut umount = std::process::Command::new("umount");
        let ran = run(umount.arg("--lazy").arg(&self.place));
        if !std::thread::panicking() {
            ran.expect("umount");
        }
    }
}
