use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::{Random, changed as changed_within};

/// A text with one of its pieces of base64 changed.
pub(super) fn changed(bytes: &[u8], room: usize, random: &mut Random, depth: usize) -> Option<Vec<u8>> {
    let text = str::from_utf8(bytes).ok()?;
    let runs = runs(text);
    let (from, to) = *runs.get(random.below(runs.len()))?;
    let (before, run, after) = (&bytes[..from], &text[from..to], &bytes[to..]);
    // With the line ends that PEM has.
    let lines = run.contains('\n');
    let run: String = run.split_ascii_whitespace().collect();
    let (decoded, url_safe) = match STANDARD.decode(&run) {
        Ok(decoded) => (decoded, false),
        Err(_) => (URL_SAFE_NO_PAD.decode(&run).ok()?, true),
    };
    let within = (room.saturating_sub(before.len() + after.len())) / 4 * 3;
    let decoded = changed_within(&decoded, within.max(decoded.len()), random, depth);
    let run = if url_safe { URL_SAFE_NO_PAD.encode(decoded) } else { STANDARD.encode(decoded) };
    let run = if lines { in_lines(&run) } else { run };
    Some([before, run.as_bytes(), after].concat())
}

fn runs(text: &str) -> Vec<(usize, usize)> {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
    let bytes = text.as_bytes();
    let mut runs = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let Some(from) = bytes[at..].iter().position(|byte| is_base64(*byte)).map(|from| at + from) else { break };
        let is_within = |to: usize| is_base64(bytes[to]) || (bytes[to] == b'\n' && to - from >= 64);
        let to = (from..bytes.len()).find(|to| !is_within(*to)).unwrap_or(bytes.len());
        // Within armour and PEM the line of the label comes after the last.
        let to = text[from..to].find("-----").map_or(to, |end| from + end);
        if to - from >= SHORTEST {
            runs.push((from, to));
        }
        at = to + 1;
        while bytes.get(at) == Some(&b'-') {
            at += 1;
        }
    }
    runs
}

fn in_lines(run: &str) -> String {
    let lines: Vec<_> = run.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    lines.join("\n") + "\n"
}

/// Shorter pieces are rather words.
const SHORTEST: usize = 24;
