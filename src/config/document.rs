//! The file: YAML, strictly.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use super::{
    error::{ConfigError, FileProblem, Origin, escaped},
    given::{Given, Source},
    setting::{AUTH_TOKEN, EXPLAINED, FILE_KEY_SUFFIX, Kind, SETTINGS, Setting, UPSTREAM_KEYS, UPSTREAMS},
};

/// What a file says, key by key, every key known and none twice.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) settings: BTreeMap<&'static str, Given>,
    pub(super) upstreams: Vec<Entry>,
}

/// One entry of the list of upstreams.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) keys: BTreeMap<&'static str, Given>,
    /// Where it begins.
    pub(super) origin: Origin,
}

impl Document {
    pub(super) fn read(file: &Path) -> Result<Self, ConfigError> {
        let no_file = |source| ConfigError::NoFile { file: file.into(), source };
        let mut text = String::new();
        let mut opened = File::open(file).map_err(no_file)?;
        (&mut opened).take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(no_file)?;
        Self::parse(file, &text)
    }

    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let reader = Reader { file: Arc::new(file.into()), text };
        let documents = MarkedYaml::load_from_str(text)
            .map_err(|error| reader.problem(error.marker().line(), FileProblem::Syntax(error.info().to_owned())))?;
        let mut found = Self::default();
        match documents.as_slice() {
            [] => {}
            [root] => {
                reader.explain(root)?;
                reader.section(root, "", &mut found)?;
            }
            [_, second, ..] => {
                let shape = FileProblem::Shape { key: "the file".to_owned(), expected: "one YAML document" };
                return Err(reader.problem(line(second), shape));
            }
        }
        Ok(found)
    }
}

struct Reader<'a> {
    file: Arc<PathBuf>,
    text: &'a str,
}

/// What a key stands for, at the place where it was found.
enum Known {
    Setting(&'static Setting, Source),
    Section,
}

impl Reader<'_> {
    /// Keys of other proxies, wherever they stand, before they are unknown.
    fn explain(&self, node: &MarkedYaml<'_>) -> Result<(), ConfigError> {
        match &node.data {
            YamlData::Mapping(entries) => entries.iter().try_for_each(|(key, value)| {
                let name = key.data.as_str().unwrap_or_default();
                match EXPLAINED.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) {
                    Some((_, explanation)) => {
                        Err(self.problem(line(key), FileProblem::Explained { key: escaped(name), explanation }))
                    }
                    None => self.explain(value),
                }
            }),
            YamlData::Sequence(items) => items.iter().try_for_each(|item| self.explain(item)),
            _ => Ok(()),
        }
    }

    fn section(&self, node: &MarkedYaml<'_>, prefix: &str, found: &mut Document) -> Result<(), ConfigError> {
        for (key, name, value) in self.entries(node, prefix)? {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if path.eq_ignore_ascii_case(UPSTREAMS) {
                found.upstreams = self.upstreams(value)?;
                continue;
            }
            match known(SETTINGS, &path) {
                Some(Known::Section) => self.section(value, &path, found)?,
                Some(Known::Setting(setting, source)) => {
                    if let Some(given) = self.given(setting, source, line(key), value)? {
                        insert(&mut found.settings, setting, given)?;
                    }
                }
                None => return Err(self.unknown(key, &name, prefix, SETTINGS)),
            }
        }
        Ok(())
    }

    fn upstreams(&self, node: &MarkedYaml<'_>) -> Result<Vec<Entry>, ConfigError> {
        let items = match &node.data {
            YamlData::Sequence(items) => items.as_slice(),
            YamlData::Value(Scalar::Null) => &[],
            _ => return Err(self.shape(node, UPSTREAMS, "a list of entries with name and remoteurl")),
        };
        items.iter().map(|item| self.upstream(item)).collect()
    }

    fn upstream(&self, item: &MarkedYaml<'_>) -> Result<Entry, ConfigError> {
        let mut keys = BTreeMap::new();
        for (key, name, value) in self.entries(item, "upstreams[]")? {
            let Some(Known::Setting(setting, source)) = known(UPSTREAM_KEYS, &name) else {
                return Err(self.unknown(key, &name, "", UPSTREAM_KEYS));
            };
            if let Some(given) = self.given(setting, source, line(key), value)? {
                insert(&mut keys, setting, given)?;
            }
        }
        Ok(Entry { keys, origin: self.origin(line(item), "upstreams[]") })
    }

    /// The entries of a mapping, with their keys as text and none of them twice in any spelling.
    fn entries<'n, 'y>(
        &self,
        node: &'n MarkedYaml<'y>,
        path: &str,
    ) -> Result<Vec<(&'n MarkedYaml<'y>, String, &'n MarkedYaml<'y>)>, ConfigError> {
        let mapping = match &node.data {
            YamlData::Mapping(mapping) => mapping,
            // A section whose every line is commented out.
            YamlData::Value(Scalar::Null) => return Ok(Vec::new()),
            _ => return Err(self.shape(node, if path.is_empty() { "the file" } else { path }, "keys with values")),
        };
        let mut entries: Vec<(_, String, _)> = Vec::with_capacity(mapping.len());
        for (key, value) in mapping {
            let Some(name) = key.data.as_str() else {
                return Err(self.shape(key, if path.is_empty() { "the file" } else { path }, "a name as the key"));
            };
            if entries.iter().any(|(_, other, _)| other.eq_ignore_ascii_case(name)) {
                return Err(self.problem(line(key), FileProblem::Twice { key: escaped(name) }));
            }
            entries.push((key, name.to_owned(), value));
        }
        Ok(entries)
    }

    fn given(
        &self,
        setting: &'static Setting,
        source: Source,
        line: usize,
        value: &MarkedYaml<'_>,
    ) -> Result<Option<Given>, ConfigError> {
        let path = match source {
            Source::Value => setting.path.to_owned(),
            Source::FileOf => format!("{}{FILE_KEY_SUFFIX}", setting.path),
        };
        let text = match (&value.data, setting.kind) {
            _ if setting.path == AUTH_TOKEN => String::new(),
            (YamlData::Value(Scalar::Null), _) => return Ok(None),
            (YamlData::Value(_), _) => self.scalar(value, &path)?,
            (YamlData::Sequence(items), Kind::List) => {
                items.iter().map(|item| self.scalar(item, &path)).collect::<Result<Vec<_>, _>>()?.join(",")
            }
            (_, Kind::List) => return Err(self.shape(value, &path, "a list")),
            (_, Kind::Text | Kind::Secret) => return Err(self.shape(value, &path, "a single value")),
        };
        let origin = self.origin(line, &path);
        match (text.is_empty() && setting.path != AUTH_TOKEN, setting.empty_is_unset) {
            (false, _) => Ok(Some(Given { text, source, origin })),
            (true, true) => Ok(None),
            (true, false) => Err(ConfigError::Empty { origin, expected: "a value, or no such key" }),
        }
    }

    /// A scalar as it was written: a password `0123` is no number.
    fn scalar(&self, node: &MarkedYaml<'_>, path: &str) -> Result<String, ConfigError> {
        match &node.data {
            YamlData::Value(Scalar::String(text)) => Ok(text.to_string()),
            YamlData::Value(Scalar::Null) => Err(self.shape(node, path, "a value")),
            YamlData::Value(_) => {
                let (start, end) = (node.span.start.index(), node.span.end.index());
                let written = self.text.chars().skip(start).take(end.saturating_sub(start)).collect::<String>();
                match written.trim() {
                    alias if alias.starts_with('*') => Err(self.shape(node, path, "the value itself, not an alias")),
                    tagged if tagged.starts_with('!') => Err(self.shape(node, path, "the value without a tag")),
                    written => Ok(written.to_owned()),
                }
            }
            _ => Err(self.shape(node, path, "a single value")),
        }
    }

    fn unknown(&self, key: &MarkedYaml<'_>, name: &str, prefix: &str, among: &'static [Setting]) -> ConfigError {
        let suggestion = suggestion(name, prefix, among);
        self.problem(line(key), FileProblem::UnknownKey { key: escaped(&join(prefix, name)), suggestion })
    }

    fn shape(&self, node: &MarkedYaml<'_>, key: &str, expected: &'static str) -> ConfigError {
        self.problem(line(node), FileProblem::Shape { key: key.to_owned(), expected })
    }

    fn problem(&self, line: usize, problem: FileProblem) -> ConfigError {
        ConfigError::File { file: self.file.as_ref().clone(), line, problem }
    }

    fn origin(&self, line: usize, path: &str) -> Origin {
        Origin::File { file: Arc::clone(&self.file), line, path: path.to_owned() }
    }
}

fn insert(
    found: &mut BTreeMap<&'static str, Given>,
    setting: &'static Setting,
    given: Given,
) -> Result<(), ConfigError> {
    let second = given.origin.clone();
    match found.insert(setting.path, given) {
        Some(first) => Err(ConfigError::Both { first: first.origin, second }),
        None => Ok(()),
    }
}

fn known(among: &'static [Setting], path: &str) -> Option<Known> {
    let file_of = path.len().checked_sub(FILE_KEY_SUFFIX.len()).and_then(|end| path.split_at_checked(end));
    among.iter().find_map(|setting| {
        if setting.path.eq_ignore_ascii_case(path) {
            return Some(Known::Setting(setting, Source::Value));
        }
        if let Some((secret, suffix)) = file_of
            && setting.is_secret()
            && setting.path.eq_ignore_ascii_case(secret)
            && suffix.eq_ignore_ascii_case(FILE_KEY_SUFFIX)
        {
            return Some(Known::Setting(setting, Source::FileOf));
        }
        let (head, tail) = setting.path.split_at_checked(path.len())?;
        (head.eq_ignore_ascii_case(path) && tail.starts_with('.')).then_some(Known::Section)
    })
}

/// The known key that was probably meant: one of the same section that looks like it, else the same
/// name in another section.
fn suggestion(name: &str, prefix: &str, among: &'static [Setting]) -> Option<String> {
    let below = |path: &'static str| match prefix {
        "" => Some(path),
        _ => {
            let (head, tail) = path.split_at_checked(prefix.len())?;
            head.eq_ignore_ascii_case(prefix).then(|| tail.strip_prefix('.'))?
        }
    };
    let siblings = among.iter().map(|setting| setting.path).chain((prefix.is_empty()).then_some(UPSTREAMS));
    let lower = name.to_ascii_lowercase();
    let near = siblings
        .filter_map(below)
        .filter_map(|rest| rest.split('.').next())
        .map(|sibling| (strsim::osa_distance(&lower, &sibling.to_ascii_lowercase()), sibling))
        .min()
        .filter(|(distance, sibling)| *distance <= sibling.len().div_ceil(3))
        .map(|(_, sibling)| join(prefix, sibling));
    let same_name =
        |setting: &&Setting| setting.path.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(name));
    near.or_else(|| among.iter().find(same_name).map(|setting| setting.path.to_owned()))
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn line(node: &MarkedYaml<'_>) -> usize {
    node.span.start.line()
}

/// What is longer is no configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;
