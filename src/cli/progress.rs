//! How far long work has come: a line on standard error that is written anew where somebody looks, and a line now and
//! then where it goes to a file.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use crate::clock::Clock;

pub(super) struct Progress {
    clock: Clock,
    terminal: bool,
    shown: Option<Instant>,
    open: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { clock: Clock::system(), terminal: io::stderr().is_terminal(), shown: None, open: false }
    }

    /// Says it, unless something was said a moment ago.
    pub(super) fn at(&mut self, words: impl FnOnce() -> String) {
        let now = self.clock.instant();
        let pause = if self.terminal { LOOKED_AT } else { LOGGED };
        // What is over in a moment needs no word in a log.
        let last = *self.shown.get_or_insert(now);
        if now.saturating_duration_since(last) < pause {
            return;
        }
        self.shown = Some(now);
        let words = super::printable(&words());
        if self.terminal {
            eprint!("\r\x1b[K{words}");
            self.open = true;
            drop(io::stderr().flush());
        } else {
            eprintln!("{words}");
        }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, words: &str) {
        self.clear();
        eprintln!("{}", super::printable(words).replace('\n', " "));
    }

    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.open) {
            eprint!("\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

const LOOKED_AT: Duration = Duration::from_millis(200);
const LOGGED: Duration = Duration::from_secs(10);
