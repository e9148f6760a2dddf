//! What cosign left in the registry.

use std::{collections::BTreeMap, fs};

use bytes::Bytes;

use super::{
    Lab,
    cosign::{Form, Kind},
};
use crate::{images::Image, world::World};

/// A signature as whoever verifies it finds it.
#[derive(Debug)]
pub(crate) enum Artifact {
    Bundle(Bytes),
    Classic { payload: Bytes, annotations: BTreeMap<String, String> },
}

impl Lab {
    /// Takes the only signature of its form away from the image, or from beside the file.
    pub(crate) fn take(&self, world: &World, kind: Kind, image: &Image) -> Artifact {
        match kind.form {
            Form::Blob => Artifact::Bundle(fs::read(self.bundle_of_blob()).unwrap().into()),
            Form::Bundle | Form::Attestation => Artifact::Bundle(world.registry.take_referrer(image)),
            Form::Classic => {
                let [(payload, annotations)] = <[_; 1]>::try_from(world.registry.take_signatures(image)).expect("one");
                Artifact::Classic { payload, annotations }
            }
        }
    }
}
