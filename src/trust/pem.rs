//! PEM as whoever signs a log's entries or a layer's annotations writes it: with lines of whatever length.

use rustls_pki_types::pem::PemObject;
pub(super) use rustls_pki_types::pem::SectionKind;

/// The one block of `text`. With two, one reader would take the first and another the last.
pub(super) fn block(text: &[u8]) -> Option<(SectionKind, Vec<u8>)> {
    let mut blocks = <(SectionKind, Vec<u8>)>::pem_slice_iter(text);
    match (blocks.next(), blocks.next()) {
        (Some(Ok(block)), None) => Some(block),
        _ => None,
    }
}
