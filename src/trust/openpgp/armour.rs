use base64::{Engine, engine::general_purpose::STANDARD};

use super::packet::OpenPgpFlaw;

/// RFC 9580, section 6: the bytes of every block of a text, one after the other; none where the bytes
/// are no text of blocks. Each must be of the kind `label`, and nothing but space may stand between
/// them. The checksum is not looked at, as the RFC demands.
pub(super) fn unarmoured(bytes: &[u8], label: &str) -> Result<Option<Vec<u8>>, OpenPgpFlaw> {
    if bytes.first().is_none_or(|first| first & 0x80 != 0) {
        return Ok(None);
    }
    let text = str::from_utf8(bytes).map_err(|_| OpenPgpFlaw::Armour)?;
    let (begin, end) = (format!("-----BEGIN PGP {label}-----"), format!("-----END PGP {label}-----"));
    let mut lines = text.lines().map(str::trim_end).skip_while(|line| line.is_empty()).peekable();
    let mut whole = Vec::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        if line != begin {
            return Err(OpenPgpFlaw::Armour);
        }
        while lines.next_if(|line| line.contains(':')).is_some() {}
        if lines.next() != Some("") {
            return Err(OpenPgpFlaw::Armour);
        }
        let mut base64 = String::new();
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                Some(line) if line.starts_with('=') && !base64.is_empty() => {}
                Some(line) => base64.push_str(line),
                None => return Err(OpenPgpFlaw::Armour),
            }
        }
        whole.extend(STANDARD.decode(base64).map_err(|_| OpenPgpFlaw::Armour)?);
    }
    Ok(Some(whole))
}
