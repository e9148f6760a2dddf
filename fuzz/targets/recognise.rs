//! What a stranger's signature is, by its content alone, and that it stays the same in whatever it comes.

#![no_main]

use sig_repo::trust::{Annotations, Envelope, EnvelopeError, Format, MAX_SIGNATURE_BYTES};
use sig_repo_fuzz::{Target, bounded, fixtures};

struct Recognise;

impl Target for Recognise {
    fn new() -> Self {
        Self
    }

    fn seeds() -> Vec<Vec<u8>> {
        let bundles =
            ["sigstore/bundle", "sigstore/public"].map(|directory| fixtures::files_ending(directory, ".json"));
        let notation = [".jws", ".cose"].map(|end| fixtures::files_ending("notation", end));
        let openpgp = fixtures::files_ending("openpgp", ".gpg");
        let foreign = fixtures::files_ending("trust", ".json");
        let raw = fixtures::text("trust/signatures.tsv");
        let raw = raw.lines().filter_map(|line| Some(fixtures::decoded(line.rsplit('\t').next()?)));
        [bundles.concat(), notation.concat(), openpgp, foreign, raw.collect()].concat()
    }

    fn run(&self, input: &[u8]) {
        let none = Annotations::new();
        let recognised = bounded(input, || Envelope::recognise(input, None, &none));
        for format in Format::ALL {
            drop(bounded(input, || Envelope::parse(format, input, None, &none)));
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        let envelope = match recognised {
            Ok(envelope) => envelope,
            Err(EnvelopeError::Unsupported { format }) => return assert_eq!(format, Format::Dsse),
            Err(EnvelopeError::Malformed { .. }) => return,
        };
        let hash = envelope.normalised_hash();
        let stated =
            Envelope::parse(envelope.format(), input, None, &none).expect("it was recognised as of this format");
        assert_eq!((stated.format(), stated.normalised_hash()), (envelope.format(), hash));
        // One layer of base64 is taken off, so what is wrapped already means something else when wrapped again.
        let is_wrapped = input.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(byte));
        let wrapped = fixtures::encoded(input);
        if !is_wrapped && wrapped.len() <= MAX_SIGNATURE_BYTES {
            let wrapped = Envelope::recognise(wrapped.as_bytes(), None, &none).expect("in base64 it is the same");
            assert_eq!((wrapped.format(), wrapped.normalised_hash()), (envelope.format(), hash));
        }
    }
}

sig_repo_fuzz::target!(Recognise);
