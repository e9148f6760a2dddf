//! hosts.toml: containerd's, and Docker's from 28 on with the containerd image store.

use toml::{Table, Value};

use super::{DEFAULT_DIRECTORY, Hole, Machine, Mirror, Place, Registry, Setting, Software, is_registry_itself};
use crate::cli::doctor::{
    address::{Address, AddressError},
    files::Files,
};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HostsError {
    #[error("it is no TOML: {0}")]
    Toml(String),
    #[error("{0} should be {1}")]
    Type(String, &'static str),
    #[error("{0:?} is no URL of a mirror: {1}")]
    Address(String, AddressError),
}

/// Reads the directory of every registry below `directory`; gives the names that have one.
pub(super) fn read(files: &Files, machine: &mut Machine, directory: &str, software: Software) -> Vec<String> {
    let mut known = Vec::new();
    for name in machine.names(files, directory, &software.to_string()) {
        let file = format!("{directory}/{name}/hosts.toml");
        if !files.exists(&file) {
            continue;
        }
        known.push(name.clone());
        let Some(text) = machine.text(files, &file, &software.to_string()) else { continue };
        let registry = if name == DEFAULT_DIRECTORY { Registry::Others } else { Registry::Named(name.clone()) };
        let authority = |path: &str| {
            let path = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{name}/{path}") };
            files.bytes(&path)
        };
        match setting(&text, software, registry, &file, authority) {
            Ok(setting) => machine.settings.push(setting),
            Err(error) => machine.unknown.push(format!("{software}: {file}: {error}")),
        }
    }
    known
}

/// What one file says of one registry. `authority` reads a file of certificates.
pub(super) fn setting(
    text: &str,
    software: Software,
    registry: Registry,
    file: &str,
    authority: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Setting, HostsError> {
    // The order of hosts is that of the file.
    let table: Table = text.parse().map_err(|error: toml::de::Error| HostsError::Toml(error.message().to_owned()))?;
    let mut setting = Setting { software, registry, places: Vec::new(), holes: Vec::new(), file: file.to_owned() };
    let hosts = match table.get("host") {
        None => Table::new(),
        Some(Value::Table(hosts)) => hosts.clone(),
        Some(_) => return Err(HostsError::Type("host".to_owned(), "a table for each mirror, [host.\"URL\"]")),
    };
    for (url, host) in &hosts {
        let Value::Table(host) = host else {
            return Err(HostsError::Type(format!("host.{url:?}"), "a table"));
        };
        setting.push_host(url, host, &authority)?;
    }
    let server = match table.get("server") {
        None => None,
        Some(Value::String(server)) => Some(server.as_str()),
        Some(_) => return Err(HostsError::Type("server".to_owned(), "a string")),
    };
    match server {
        // Left out, it is the registry itself.
        None | Some("") => setting.places.push(Place::Registry),
        Some(server) if hosts.is_empty() => {
            setting.push_host(server, &table, &authority)?;
            if setting.mirrors().next().is_some() {
                setting.holes.push(Hole {
                    what: "with `server` and no [host], containerd 1.6 and 1.7 use the registry itself".to_owned(),
                    close: format!("add the same URL as [host.\"{server}\"]"),
                });
            }
        }
        Some(server) => setting.push_host(server, &table, &authority)?,
    }
    Ok(setting)
}

impl Setting {
    fn push_host(
        &mut self,
        url: &str,
        table: &Table,
        authority: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<(), HostsError> {
        let address = match url.contains("://") {
            true => url.parse(),
            false => Address::of_location(url, !is_loopback(url)),
        };
        let address = address.map_err(|error| HostsError::Address(url.to_owned(), error))?;
        if is_registry_itself(&address, &self.registry) {
            self.places.push(Place::Registry);
            return Ok(());
        }
        let capabilities = match table.get("capabilities") {
            None => None,
            Some(value) => {
                Some(strings(value).ok_or(HostsError::Type("capabilities".to_owned(), "a list of strings"))?)
            }
        };
        let may = |name: &str| capabilities.as_ref().is_none_or(|listed| listed.iter().any(|one| one == name));
        if !may("resolve") && may("pull") {
            self.holes.push(Hole {
                what: format!("{address} has no \"resolve\" in its capabilities, so tags are looked up elsewhere"),
                close: "write capabilities = [\"pull\", \"resolve\"]".to_owned(),
            });
        }
        let authorities = match table.get("ca") {
            None => Vec::new(),
            Some(value) => strings(value).ok_or(HostsError::Type("ca".to_owned(), "a path or a list of paths"))?,
        };
        self.places.push(Place::Mirror(Mirror {
            address,
            tags: may("resolve"),
            digests: may("pull"),
            authorities: authorities.iter().filter_map(|path| authority(path)).collect(),
            insecure: table.get("skip_verify").and_then(Value::as_bool).unwrap_or_default(),
        }));
        Ok(())
    }
}

/// A string, or a list of them.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Where containerd takes plain HTTP for granted.
fn is_loopback(location: &str) -> bool {
    let host = location.split(['/', ':']).next().unwrap_or_default();
    host == "localhost" || host.starts_with("127.")
}
