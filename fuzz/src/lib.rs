//! What the fuzz targets have in common: each is a type that says what its inputs begin as and what must
//! hold of every input.

mod cost;
pub mod fixtures;
mod judge;
mod mutation;
pub mod roots;

pub use self::{
    cost::bounded,
    judge::{Judge, Named, keyless, openpgp, public_key, signer},
    mutation::mutate,
};

pub trait Target: Sized {
    /// With all that stays the same from input to input.
    fn new() -> Self;

    /// What mutation begins with: the fixtures that the program's own tests verify.
    fn seeds() -> Vec<Vec<u8>>;

    /// Panics where something does not hold that has to.
    fn run(&self, input: &[u8]);
}

/// Writes the seeds of a target where the environment asks for them, and ends the process.
pub fn give_seeds<T: Target>() {
    let Some(directory) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (at, seed) in T::seeds().iter().enumerate() {
        let path = std::path::Path::new(&directory).join(format!("seed-{at:03}"));
        std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    std::process::exit(0);
}

/// Makes a [`Target`] the one of this program.
#[macro_export]
macro_rules! target {
    ($target:ty) => {
        static TARGET: std::sync::LazyLock<$target> = std::sync::LazyLock::new($crate::Target::new);

        libfuzzer_sys::fuzz_target!(
            init: {
                $crate::give_seeds::<$target>();
                std::sync::LazyLock::force(&TARGET);
            },
            |input: &[u8]| { $crate::Target::run(&*TARGET, input) }
        );

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutate(data, size, max_size, seed)
        });
    };
}
