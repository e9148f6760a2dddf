//! Lists, adds and revokes the signers of a server.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::server::{Server, ServerOptions};
use crate::trust::SignerId;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Whom the server trusts, by files and by its API
    List {
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Trust somebody from the next request on
    Add {
        name: String,
        /// A public key (*.pub, *.pem), or a signer described in JSON as TRUST_DIR has it
        file: PathBuf,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Trust somebody no more, whatever file has them too
    Revoke {
        id: SignerId,
        /// From then on (RFC 3339), not from now
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// What they signed before counts on, where a log or a timestamp authority says when that was
        #[arg(long)]
        keep_earlier: bool,
        #[command(flatten)]
        server: ServerOptions,
    },
}

pub(super) fn run(command: &Command) -> Result<(), anyhow::Error> {
    match command {
        Command::List { server } => {
            let list = super::block_on(Server::new(server)?.get("signers"))?;
            super::print(server, &list, |list| {
                list["signers"].as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
            })
        }
        Command::Add { name, file, server } => {
            let signer = super::block_on(Server::new(server)?.post("signers", &described(name, file)?))?;
            super::print(server, &signer, line)
        }
        Command::Revoke { id, at, keep_earlier, server } => {
            let at = at.as_ref().map(|at| format!("&at={}", at.replace('+', "%2B"))).unwrap_or_default();
            let path = format!("signers/{id}?keep_earlier={keep_earlier}{at}");
            let signer = super::block_on(Server::new(server)?.delete(&path))?;
            super::print(server, &signer, line)
        }
    }
}

/// The signer that a file describes, under this name.
fn described(name: &str, file: &PathBuf) -> anyhow::Result<Value> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("pub" | "pem") => Ok(json!({ "name": name, "public_key": text })),
        Some("json") => {
            let mut signer: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
            let members = signer.as_object_mut().with_context(|| format!("{}: not an object", file.display()))?;
            members.insert("name".to_owned(), name.into());
            Ok(signer)
        }
        _ => bail!("{}: expected a file *.pub, *.pem or *.json", file.display()),
    }
}

fn line(signer: &Value) -> String {
    let text = |member: &str| signer[member].as_str().unwrap_or("-").to_owned();
    let mut line = format!("{}  {}  {}  {}", text("id"), text("origin"), text("kind"), text("name"));
    for (member, word) in [("not_before", "from"), ("not_after", "until"), ("revoked_at", "revoked since")] {
        if let Some(time) = signer[member].as_str() {
            line = format!("{line}  {word} {time}");
        }
    }
    line
}
