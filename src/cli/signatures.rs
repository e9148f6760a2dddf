//! Lists and withdraws the signatures of a server.

use clap::Subcommand;
use serde_json::{Value, json};

use super::server::{Server, ServerOptions};
use crate::oci::Digest;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Those of an image, each with its verification as it stands now
    List {
        digest: Digest,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Take one back for ever, under whatever tag it comes again
    Withdraw {
        #[arg(value_parser = id)]
        id: String,
        #[command(flatten)]
        server: ServerOptions,
    },
}

pub(super) fn run(command: &Command) -> Result<(), anyhow::Error> {
    match command {
        Command::List { digest, server } => {
            let signatures = super::block_on(list(&Server::new(server)?, digest))?;
            super::print(server, &json!({ "digest": digest, "signatures": signatures }), |_| table(&signatures))
        }
        Command::Withdraw { id, server } => {
            super::block_on(Server::new(server)?.delete(&format!("signatures/{id}")))?;
            super::print(server, &json!({ "id": id }), |_| format!("{id} is withdrawn"))
        }
    }
}

async fn list(server: &Server, digest: &Digest) -> anyhow::Result<Vec<Value>> {
    let mut signatures = Vec::new();
    let mut path = format!("signatures?digest={digest}&limit=1000");
    loop {
        let mut page = server.get(&path).await?;
        signatures.extend(page["signatures"].as_array_mut().map(std::mem::take).unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => path = format!("signatures?digest={digest}&limit=1000&cursor={next}"),
            None => return Ok(signatures),
        }
    }
}

/// It becomes a part of a path.
fn id(text: &str) -> Result<String, &'static str> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then(|| text.to_owned()).ok_or("expected the id of a signature, as the list shows it")
}

fn table(signatures: &[Value]) -> String {
    let line = |signature: &Value| {
        let text = |member: &str| signature[member].as_str().unwrap_or("-").to_owned();
        let worth = match signature["verified_by"]["name"].as_str() {
            Some(name) => format!("verified by {name:?}"),
            None => format!("{}: {}", text("outcome"), text("detail")),
        };
        format!("{}  {}  {}  {}  {worth}", text("id"), text("created_at"), text("tag"), text("format"))
    };
    match signatures {
        [] => "no signatures".to_owned(),
        signatures => signatures.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}
