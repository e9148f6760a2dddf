use std::{fs::File, io, io::Read as _, path::Path};

use secrecy::SecretString;

use super::{
    error::{ConfigError, Origin, Shown},
    setting::{ActedOn, Setting},
};

/// What somebody set, as text, and where.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) source: Source,
    pub(super) origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The text is the value.
    Value,
    /// The text names the file with the value, a secret.
    FileOf,
}

impl Given {
    /// The value in its final type, or the error that says what was expected.
    pub(super) fn parse<T>(
        &self,
        setting: &Setting,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        parse(&self.text).ok_or_else(|| self.unusable(setting, expected))
    }

    pub(super) fn unusable(&self, setting: &Setting, expected: &str) -> ConfigError {
        ConfigError::Value { origin: self.origin.clone(), value: self.shown(setting), expected: expected.to_owned() }
    }

    pub(super) fn secret(&self) -> Result<SecretString, ConfigError> {
        match self.source {
            Source::Value => Ok(self.text.clone().into()),
            Source::FileOf => read_secret(self.text.as_ref()).map_err(|source| ConfigError::Unreadable {
                origin: self.origin.clone(),
                value: Shown::new(&self.text),
                source,
            }),
        }
    }

    /// A setting that this release does not act on is never ignored.
    pub(super) fn check_acted_on(&self, setting: &Setting) -> Result<(), ConfigError> {
        let (origin, value) = (self.origin.clone(), self.shown(setting));
        match setting.acted_on {
            ActedOn::Yes => Ok(()),
            ActedOn::Only(values) if values.iter().any(|value| self.text.eq_ignore_ascii_case(value)) => Ok(()),
            ActedOn::Only(values) => Err(ConfigError::NotThisValue { origin, value, expected: values.join(", ") }),
            ActedOn::No => Err(ConfigError::NotActedOn { origin, value }),
        }
    }

    fn shown(&self, setting: &Setting) -> Shown {
        match self.source {
            Source::Value if setting.is_secret() => Shown::SECRET,
            Source::Value | Source::FileOf => Shown::new(&self.text),
        }
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Given({})", self.origin)
    }
}

/// One secret, without the newline that editors and `echo` put after it.
fn read_secret(path: &Path) -> io::Result<SecretString> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SECRET_BYTES).read_to_string(&mut text)?;
    let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(secret.to_owned().into())
}

const MAX_SECRET_BYTES: u64 = 64 * 1024;
