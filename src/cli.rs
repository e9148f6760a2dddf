//! The command line: arguments in, exit code out.
//!
//! Each command says on one line why it failed. What the commands do, the modules below do.

mod archive;
mod cache;
mod check;
mod clock;
mod demo;
mod doctor;
mod export;
mod healthcheck;
mod image;
mod import;
mod layout;
mod prefetch;
mod progress;
mod registry;
mod roots;
mod serve;
mod server;
mod signatures;
mod signers;
mod submit;
mod tally;
mod trust;
mod verify;
mod verify_blob;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::config::{self, Config};

/// A signature repository for container images, and the registry mirror that enforces it.
///
/// Pulls through it are verified against the signatures that were submitted to it. What is not
/// trusted stays refused: by default images whose tag begins with preview or internal, with
/// POLICY_DEFAULT=enforce all of them.
#[derive(Debug, Parser)]
#[command(name = "sig-repo", version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// A YAML file with settings; the environment wins over it. SIG_REPO_CONFIG names it too.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server (what happens without a command, too)
    Serve,
    /// Read and check every setting, and exit: 0 if a start would go ahead
    Check,
    /// Ask the server that these settings describe whether it lives: 0 if it does
    Healthcheck,
    /// Say that the system's clock is right, after it was ahead by mistake; with the server stopped
    Clock(clock::Options),
    /// Show the whole thing on this machine: a sample registry, the mirror, a signed and an unsigned image
    Demo(demo::Options),
    /// Say whether an image is signed by somebody trusted, and by which evidence
    Verify(verify::Options),
    /// Verify a file by the sigstore bundle that comes with it, with cosign's flags and without asking any server
    VerifyBlob(Box<verify_blob::Options>),
    /// Submit a signature to a server, or make one and submit it
    Submit(Box<submit::Options>),
    /// List or withdraw the signatures of an image
    #[command(subcommand)]
    Signatures(signatures::Command),
    /// Bring signatures into a server: from a registry, an image layout, a tree of OpenPGP signatures, an archive
    Import(Box<import::Options>),
    /// Take signatures out of a server: into an archive, an image layout, a registry, a tree of OpenPGP signatures
    Export(Box<export::Options>),
    /// List, add or revoke the signers that a server trusts
    #[command(subcommand)]
    Signers(signers::Command),
    /// Have a server fetch images before anybody asks for them
    Prefetch(prefetch::Options),
    /// Verify the blobs that are kept
    #[command(subcommand)]
    Cache(cache::Command),
    /// Renew the trusted root of sigstore that keyless signatures are verified with
    Trust(trust::Options),
    /// Find out from a client's side what its mirror setting lets through, and which setting closes it
    Doctor(doctor::Options),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // cosign's code for it, so that scripts made for cosign's command meet no other.
        Err(error) if error.use_stderr() && std::env::args().any(|argument| argument == VERIFY_BLOB) => {
            eprint!("{error}");
            return ExitCode::FAILURE;
        }
        Err(error) => error.exit(),
    };
    let file = arguments.config;
    let done = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(file),
        Command::Check => check::run(file),
        Command::Healthcheck => healthcheck::run(file),
        Command::Clock(options) => clock::run(file, &options),
        Command::Demo(options) => demo::run(&options),
        Command::Verify(options) => {
            return verify::run(file, &options).unwrap_or_else(|error| failed(&error, ExitCode::from(2)));
        }
        Command::VerifyBlob(options) => verify_blob::run(file, &options),
        Command::Submit(options) => submit::run(&options),
        Command::Signatures(command) => signatures::run(&command),
        Command::Import(options) => {
            return import::run(file, &options).unwrap_or_else(|error| failed(&error, ExitCode::from(2)));
        }
        Command::Export(options) => {
            return export::run(file, &options).unwrap_or_else(|error| failed(&error, ExitCode::from(2)));
        }
        Command::Signers(command) => signers::run(&command),
        Command::Prefetch(options) => {
            return prefetch::run(&options).unwrap_or_else(|error| failed(&error, ExitCode::from(2)));
        }
        Command::Cache(command) => {
            return cache::run(file, &command).unwrap_or_else(|error| failed(&error, ExitCode::from(2)));
        }
        Command::Trust(options) => {
            return trust::run(file, &options).unwrap_or_else(|error| failed(&error, ExitCode::from(2)));
        }
        Command::Doctor(options) => {
            return doctor::run(&options).unwrap_or_else(|error| failed(&error, ExitCode::from(2)));
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, ExitCode::FAILURE),
    }
}

fn failed(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    eprintln!("sig-repo: {}", one_line(error));
    code
}

fn configuration(file: Option<PathBuf>) -> Result<Config, anyhow::Error> {
    Ok(Config::of_process(file)?)
}

/// A secret that a command takes from the environment, where no list of processes shows it.
fn secret(variable: &str) -> Option<String> {
    config::variable_of_process(variable)?.into_string().ok()
}

/// A password, from a file where the option names one, else from the environment.
fn password(option: &str, file: Option<&Path>, variable: &str) -> anyhow::Result<String> {
    let Some(path) = file else { return secret(variable).with_context(|| format!("expected {variable} or {option}")) };
    let text = std::fs::read_to_string(path).with_context(|| format!("{option} {}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks a server from a command that does nothing else meanwhile.
fn block_on<T>(asking: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(asking)
}

/// What a server answered, for programs or, put into words, for people.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn print(options: &server::ServerOptions, answer: &Value, words: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
    match options.json {
        true => println!("{}", serde_json::to_string_pretty(answer)?),
        false => println!("{}", printable(&words(answer))),
    }
    Ok(())
}

/// Labels are other people's text: no control character of theirs reaches the terminal.
fn printable(text: &str) -> String {
    text.replace(|letter: char| letter.is_control() && letter != '\n', "\u{fffd}")
}

/// The error and its causes, as far as it does not say them itself.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line.replace('\n', " ")
}

const VERIFY_BLOB: &str = "verify-blob";

const AFTER_HELP: &str = "\
Settings come from the environment, or from a YAML file. The first ones to know:
  PORT             the port to listen on                             8080
  DATA_DIR         where signatures are kept                         /data
  TRUST_DIR        what is put here is trusted (*.pub, *.json)       $DATA_DIR/trust
  PREVIEW_TAG_TTL  life of the signature of a preview tag            7d
  POLICY_DEFAULT   enforce, audit or skip for all other tags         audit
  PROXY_REMOTEURL  the registry that is mirrored                     https://registry-1.docker.io
  AUTH_ENABLED     true: the API asks for AUTH_USER, AUTH_PASSWORD   false
  LOG_LEVEL        debug, info, warn or error                        info

Try it on this machine, without the internet:   sig-repo demo";
