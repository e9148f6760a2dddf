//! What one envelope can cost: the dearest of each format that our limits let in, either forged by somebody who knows whom
//! we trust, or true and with as much evidence as there is room for. Fails where one costs more than is promised.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod cases;
mod chain;

use std::{hint::black_box, process::ExitCode, time::Duration};

use nix::sys::resource::{UsageWho, getrusage};
use sig_repo::trust::{Envelope, Subject, verify};

use crate::cases::{Case, Expected};

/// For one envelope with one trusted signer of its kind.
const LIMIT_MS: f64 = 5.0;
/// CPU time is known by the hundredth of a second or better, so that each is repeated for as long; the least of some such
/// rounds is what the machine was least disturbed in.
const ROUND: Duration = Duration::from_millis(50);
const ROUNDS: usize = 8;

fn main() -> ExitCode {
    let mut dearest = 0.0_f64;
    println!("| format | the dearest envelope | ms | the first of its image |");
    println!("|---|---|---|---|");
    for case in cases::all() {
        let milliseconds = least(&case, Manifest::Known) * 1e3;
        dearest = dearest.max(milliseconds);
        println!("| {} | {} | {milliseconds:.2} | {:.2} |", case.format, case.what, least(&case, Manifest::New) * 1e3);
    }
    println!();
    match dearest <= LIMIT_MS {
        true => {
            println!("≤ {LIMIT_MS} ms: reached");
            ExitCode::SUCCESS
        }
        false => {
            println!("≤ {LIMIT_MS} ms: missed by {:.0} %", (dearest / LIMIT_MS - 1.0) * 100.0);
            ExitCode::FAILURE
        }
    }
}

/// What is known of the image's manifest when an envelope's turn comes: it is hashed and read once for all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manifest {
    New,
    Known,
}

/// Seconds of CPU, as it comes from the store: parsed anew each time.
fn least(case: &Case, manifest: Manifest) -> f64 {
    let subject = || Subject::new(&case.digest, Some(&case.manifest), case.repository.as_ref());
    let known = subject();
    let judge = || {
        let new = (manifest == Manifest::New).then(subject);
        let (signature, payload) = (black_box(&case.signature), case.payload.as_deref());
        let envelope = Envelope::recognise(signature, payload, &case.annotations);
        envelope.map(|envelope| {
            let outcome = verify(&envelope, new.as_ref().unwrap_or(&known), &case.root, case.now);
            black_box(envelope.normalised_hash());
            outcome
        })
    };
    // What is refused early, or for another reason than it was made for, costs nothing and proves nothing.
    let found = judge();
    let is_as_expected = match (&found, case.expected) {
        (Ok(outcome), Expected::Verified) => outcome.is_verified(),
        (Ok(outcome), Expected::Rejected(code)) => outcome.code() == Some(code),
        (Err(_), _) => false,
    };
    assert!(is_as_expected, "{} {}: {found:?}", case.format, case.what);

    let round = || {
        let (begun, mut times) = (cpu(), 0);
        loop {
            drop(black_box(judge()));
            times += 1;
            let took = cpu() - begun;
            if took >= ROUND {
                return took.as_secs_f64() / f64::from(times);
            }
        }
    };
    (0..ROUNDS).map(|_| round()).fold(f64::MAX, f64::min)
}

/// What this thread has used so far.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("every thread has a usage");
    let spent = [usage.user_time(), usage.system_time()];
    spent.iter().map(|time| Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64)).sum()
}
