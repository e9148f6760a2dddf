//! The report: what was looked at, what was found, what to change.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use super::{
    address::Address,
    family::Family,
    files::Looked,
    probe::{Found, Probe, TestImage},
    settings::{Machine, Place, Setting},
    verdict::{self, Judged, Verdict},
};

pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    verdicts: Vec<Verdict>,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, verdicts: Vec::new() }
    }

    pub(super) fn url(&mut self, address: &Address, probe: &Probe, image: &TestImage) -> io::Result<()> {
        writeln!(self.out, "{address}")?;
        let found = match &probe.found {
            Ok(found) => found,
            Err(error) => {
                self.verdicts.push(Verdict::Unknown);
                self.verdict(Verdict::Unknown, "every client")?;
                self.paragraph("why", &error.to_string())?;
                return writeln!(self.out);
            }
        };
        self.line(&format!("/v2/ is answered {}{}", found.base.as_u16(), pace(found)))?;
        if let Some(origin) = &found.redirected {
            self.line(&format!("redirects to {origin}: write that URL into the clients' settings"))?;
        }
        self.line(match found.is_ours {
            true => "it is sig-repo that answers",
            false => "it does not show itself as sig-repo",
        })?;
        self.line(&format!("a pull of {image}, which must be refused, is"))?;
        for family in Family::ALL {
            let judged = verdict::of_family(found, family);
            self.judged(family.name(), &judged)?;
        }
        if found.http2 {
            self.http2(found)?;
        }
        let whole = verdict::of_whole(found);
        self.verdicts.push(whole.verdict);
        for why in &whole.why {
            self.paragraph("note", why)?;
        }
        for close in &whole.close {
            self.paragraph("to do", close)?;
        }
        writeln!(self.out)
    }

    /// No client of today offers it here, so this alone changes no verdict.
    fn http2(&mut self, found: &Found) -> io::Result<()> {
        let text = match found.needs_the_phrase() {
            true => {
                "HTTP/2 is offered here. The clients that were tried speak HTTP/1.1 all the same; one that took it would \
                 get no reason phrase, and classic Docker would be let round. Turn HTTP/2 off at the hop for this host, \
                 or set TRUSTED_PROXIES"
            }
            false => "HTTP/2 is offered here; the refusals above do without a reason phrase, so nothing rests on that",
        };
        self.paragraph("note", text)
    }

    pub(super) fn looked(&mut self, machine: &Machine) -> io::Result<()> {
        writeln!(self.out, "Settings of this machine")?;
        let absent: BTreeSet<_> = machine
            .looked
            .iter()
            .filter(|(_, looked)| *looked == Looked::Absent)
            .map(|(path, _)| path.as_str())
            .collect();
        for (path, looked) in &machine.looked {
            match looked {
                Looked::Read => self.line(&format!("{path}: read"))?,
                Looked::Unreadable(error) => self.line(&format!("{path}: {error}"))?,
                Looked::Absent => {}
            }
        }
        if !absent.is_empty() {
            self.paragraph("not there", &absent.into_iter().collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }

    pub(super) fn settings(&mut self, machine: &Machine, judged: &[Judged]) -> io::Result<()> {
        for (setting, judged) in machine.settings.iter().zip(judged) {
            self.judged(&format!("{}, {}: asks {}", setting.software, setting.registry, places(setting)), judged)?;
        }
        for unknown in &machine.unknown {
            self.verdicts.push(Verdict::Unknown);
            self.verdict(Verdict::Unknown, unknown)?;
        }
        if machine.settings.is_empty() && machine.unknown.is_empty() {
            self.line("no client was found")?;
        }
        for note in &machine.notes {
            self.paragraph("note", note)?;
        }
        writeln!(self.out)
    }

    /// The last line, and what it means for the exit code.
    pub(super) fn end(self) -> io::Result<Verdict> {
        let count = |wanted: Verdict| self.verdicts.iter().filter(|verdict| **verdict == wanted).count();
        let (held, round, unknown) = (count(Verdict::Held), count(Verdict::Round), count(Verdict::Unknown));
        let worst = match (round, unknown, held) {
            (1.., ..) => Verdict::Round,
            (0, 0, 1..) => Verdict::Held,
            _ => Verdict::Unknown,
        };
        let text = match worst {
            Verdict::Round => "something would be walked round: see above for what closes it",
            Verdict::Held => "everything is held",
            Verdict::Unknown if self.verdicts.is_empty() => {
                "there was nothing to look at: give the mirror's URL, or a machine with clients (--root)"
            }
            Verdict::Unknown => "not everything could be told",
        };
        writeln!(self.out, "{text}")?;
        Ok(worst)
    }

    fn judged(&mut self, subject: &str, judged: &Judged) -> io::Result<()> {
        self.verdicts.push(judged.verdict);
        self.verdict(judged.verdict, subject)?;
        for why in &judged.why {
            self.paragraph("why", why)?;
        }
        for close in &judged.close {
            self.paragraph("to do", close)?;
        }
        Ok(())
    }

    fn verdict(&mut self, verdict: Verdict, subject: &str) -> io::Result<()> {
        let word = match verdict {
            Verdict::Held => "held",
            Verdict::Unknown => "unknown",
            Verdict::Round => "WALKED ROUND",
        };
        writeln!(self.out, "  {word:13}{}", printable(subject))
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "  {}", printable(text))
    }

    /// Words are wrapped; lines that begin with a blank are to be copied, and stay as they are.
    fn paragraph(&mut self, head: &str, text: &str) -> io::Result<()> {
        let mut head = format!("{head}: ");
        for line in text.lines().map(printable) {
            if line.starts_with(' ') {
                writeln!(self.out, "{INDENT}  {line}")?;
                continue;
            }
            let mut row = String::new();
            for word in line.split_whitespace() {
                if !row.is_empty() && row.len() + 1 + word.len() > WIDTH {
                    writeln!(self.out, "{INDENT}{row}")?;
                    row = String::new();
                }
                row += if row.is_empty() { &head } else { " " };
                row += word;
                head = String::new();
            }
            writeln!(self.out, "{INDENT}{row}")?;
        }
        Ok(())
    }
}

/// Names of files and answers of servers are other people's text, and this is a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn pace(found: &Found) -> &'static str {
    if found.base_slow { ", slowly: Docker leaves after 15 seconds" } else { " at once" }
}

/// In the order in which they are asked.
fn places(setting: &Setting) -> String {
    let mut places: Vec<_> = setting
        .places
        .iter()
        .map(|place| match place {
            Place::Mirror(mirror) => mirror.address.to_string(),
            Place::Registry => "the registry itself".to_owned(),
        })
        .collect();
    // A strict setting names the mirror twice.
    places.dedup();
    places.join(", then ")
}

const INDENT: &str = "               ";
/// Of the words, without what they are indented by.
const WIDTH: usize = 90;
