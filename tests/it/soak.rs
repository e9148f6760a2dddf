//! A short form of `cargo bench --bench soak`: the same load, the same looks.

use std::{path::Path, time::Duration};

use crate::mixed_load;

#[test]
fn mixed_load_leaves_no_memory_no_descriptor_and_no_wrong_byte_behind() {
    mixed_load::run(Path::new(env!("CARGO_BIN_EXE_sig-repo")), Duration::from_secs(20)).unwrap();
}
