//! Mutation that goes down into what is wrapped: the bytes in a text's base64, in DER, in CBOR and in the
//! packets of OpenPGP. Around what was changed the lengths are made right again, without which hardly any
//! change gets past the first check.

mod base64_text;
mod cbor;
mod der;
mod packets;

use libfuzzer_sys::fuzzer_mutate;

/// Takes the place of libFuzzer's own mutation, which it ends in.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(u64::from(seed) | 1 << 40);
    // Nothing is wrapped in little, and what shrinks has to do so as libFuzzer wants it.
    if size < 4 || max_size < size || random.one_in(3) {
        return fuzzer_mutate(data, size, max_size);
    }
    let changed = changed(&data[..size], max_size, &mut random, MAX_DEPTH);
    let kept = changed.len().min(max_size);
    data[..kept].copy_from_slice(&changed[..kept]);
    kept
}

/// `bytes`, changed somewhere within.
fn changed(bytes: &[u8], room: usize, random: &mut Random, depth: usize) -> Vec<u8> {
    if depth > 0 && !random.one_in(6) {
        for wrapping in [base64_text::changed, der::changed, cbor::changed, packets::changed] {
            if let Some(changed) = wrapping(bytes, room, random, depth - 1) {
                return changed;
            }
        }
    }
    match random.one_in(40) {
        true => repeated(bytes, room, random),
        false => plainly(bytes, room),
    }
}

fn plainly(bytes: &[u8], room: usize) -> Vec<u8> {
    let most = room.max(bytes.len()).max(1);
    let mut changed = bytes.to_vec();
    changed.resize(most, 0);
    let size = fuzzer_mutate(&mut changed, bytes.len(), most);
    changed.truncate(size);
    changed
}

/// With a part of it many times over, as what is made to be slow has.
fn repeated(bytes: &[u8], room: usize, random: &mut Random) -> Vec<u8> {
    let (one, other) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
    let (from, to) = (one.min(other), one.max(other));
    let fit = room.saturating_sub(bytes.len()) / (to - from).max(1);
    let times = random.below(fit.min(512) + 1);
    [&bytes[..from], &bytes[from..to].repeat(times + 1), &bytes[to..]].concat()
}

/// One of several parts that stand one after the other is changed, doubled, dropped or put elsewhere.
fn reordered<T: Clone>(parts: &mut Vec<T>, random: &mut Random) {
    let at = random.below(parts.len());
    let other = random.below(parts.len());
    match random.below(3) {
        0 => drop(parts.remove(at)),
        1 => parts.insert(other, parts[at].clone()),
        _ => parts.swap(at, other),
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

const MAX_DEPTH: usize = 12;
