use std::collections::BTreeMap;

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{
    document::Document,
    environment::Environment,
    error::ConfigError,
    given::Given,
    setting::{SETTINGS, Setting},
};

/// The file with the environment over it, each value with the place it came from.
pub(super) struct Merged {
    layers: Figment,
    file: BTreeMap<&'static str, Given>,
    environment: BTreeMap<&'static str, Given>,
}

/// Somebody's value for a setting.
#[derive(Clone, Copy)]
pub(super) struct Set<'a> {
    pub(super) setting: &'static Setting,
    pub(super) given: &'a Given,
    pub(super) by_environment: bool,
}

struct Layer<'a>(&'static str, &'a BTreeMap<&'static str, Given>);

impl Merged {
    pub(super) fn new(document: &Document, environment: &Environment) -> Result<Self, ConfigError> {
        let (file, environment) = (document.settings.clone(), environment.settings.clone());
        let layers = Figment::new().merge(Layer(FILE, &file)).merge(Layer(ENVIRONMENT, &environment));
        let merged = Self { layers, file, environment };
        for set in SETTINGS.iter().filter_map(|setting| merged.find(setting.path)) {
            set.given.check_acted_on(set.setting)?;
        }
        Ok(merged)
    }

    /// What counts for the setting at this path of the table.
    pub(super) fn find(&self, path: &'static str) -> Option<Set<'_>> {
        let setting = SETTINGS.iter().find(|setting| setting.path == path).expect("the path is one of the table");
        let value = self.layers.find_value(path).ok()?;
        let by_environment = self.layers.get_metadata(value.tag())?.name == ENVIRONMENT;
        let layer = if by_environment { &self.environment } else { &self.file };
        Some(Set { setting, given: layer.get(path)?, by_environment })
    }

    /// The value in its final type, if somebody set it.
    pub(super) fn parsed<T>(
        &self,
        path: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        self.find(path).map(|set| set.given.parse(set.setting, expected, parse)).transpose()
    }
}

impl Provider for Layer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut root = Dict::new();
        for (path, given) in self.1 {
            let mut section = &mut root;
            let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
            for key in parents.split('.').filter(|key| !key.is_empty()) {
                let below = section.entry(key.to_owned()).or_insert_with(|| Value::from(Dict::new()));
                let Value::Dict(_, dict) = below else { unreachable!("no path of the table is the parent of another") };
                section = dict;
            }
            section.insert(last.to_owned(), Value::from(given.text.clone()));
        }
        Ok(Map::from([(Profile::Default, root)]))
    }
}

const FILE: &str = "file";
const ENVIRONMENT: &str = "environment";
