use std::{
    fmt,
    io::{self, Write},
    str::FromStr,
};

use jiff::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets,
    fmt::{MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("debug, info, warn or error")]
pub struct LevelError;

impl FromStr for LogLevel {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            _ => Err(LevelError),
        }
    }
}

/// Starts the log of this process: one line per event on standard error. A second call changes nothing.
pub fn init(level: LogLevel, now: impl Fn() -> Timestamp + Send + Sync + 'static) {
    let own = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // What the libraries below us tell in detail may carry headers, and so credentials.
    let filter = Targets::new().with_target(OWN_TARGET, own).with_default(own.min(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .with_timer(LogTime(now))
        .with_writer(Lines(io::stderr));
    if tracing_subscriber::registry().with(lines).with(filter).try_init().is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(location, "panic: {}", panic.payload_as_str().unwrap_or("without a message"));
        }));
    }
}

struct LogTime<F>(F);

impl<F: Fn() -> Timestamp> FormatTime for LogTime<F> {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.3}", (self.0)())
    }
}

/// Makes writers that keep each event on one line: what a stranger wrote into a name or a header can
/// neither begin a line of its own nor move the cursor of the terminal it is read on.
struct Lines<F>(F);

struct Line<W>(W);

impl<'a, W: Write, F: Fn() -> W + 'a> MakeWriter<'a> for Lines<F> {
    type Writer = Line<W>;

    fn make_writer(&'a self) -> Line<W> {
        Line((self.0)())
    }
}

impl<W: Write> Write for Line<W> {
    /// Takes one whole event: the subscriber formats it before it writes.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut line = String::with_capacity(text.len() + 1);
        for character in text.chars() {
            if is_printed_as_is(character) {
                line.push(character);
            } else {
                line.extend(character.escape_default());
            }
        }
        line.push('\n');
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Not so: controls, line and paragraph separators, and what reverses the direction of a line.
fn is_printed_as_is(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

const OWN_TARGET: &str = "sig_repo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_begin_a_line_of_its_own() {
        let mut written = Vec::new();
        Line(&mut written)
            .write_all("INFO refused image=a\n2026 INFO admitted\r\x1b[2J\u{2028}\u{202e}x ä\n".as_bytes())
            .unwrap();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "INFO refused image=a\\n2026 INFO admitted\\r\\u{1b}[2J\\u{2028}\\u{202e}x ä\n"
        );
    }

    #[test]
    fn the_four_levels_are_known_whatever_their_case() {
        assert_eq!("debug".parse(), Ok(LogLevel::Debug));
        assert_eq!("WARN".parse(), Ok(LogLevel::Warn));
        assert_eq!("trace".parse::<LogLevel>(), Err(LevelError));
        assert_eq!("".parse::<LogLevel>(), Err(LevelError));
    }
}
