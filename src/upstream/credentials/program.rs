//! A `docker-credential-…` program, asked once, within limits.
//!
//! It is somebody else's code with a secret in its hands: it gets the name of a registry, nothing of ours,
//! and no shell; what it says beside its answer is not kept, and nothing of it outlives the question.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
    process::Stdio,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    sys::signal::{Signal, killpg},
    unistd::{AccessFlags, Pid, faccessat},
};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{Credentials, CredentialsFailure, object::Object};
use crate::{clock::Clock, oci::RegistryName};

/// What follows `docker-credential-` in a program's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialHelper(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected letters, digits, '.', '_' and '-'")]
pub struct NoSuchHelper;

/// The variables that helpers are started with; in `PATH` they are searched.
#[derive(Clone, Default)]
pub struct HelperEnvironment(Arc<[(OsString, OsString)]>);

/// A helper, and what it is asked for.
pub(in crate::upstream) struct Program {
    pub(in crate::upstream) helper: CredentialHelper,
    /// What the registry is called when it is asked for.
    pub(in crate::upstream) registry: String,
    pub(in crate::upstream) terms: Terms,
}

/// On which an upstream's helpers are asked, whichever they are.
#[derive(Clone)]
pub(in crate::upstream) struct Terms {
    pub(in crate::upstream) environment: HelperEnvironment,
    pub(in crate::upstream) limit: Duration,
    pub(in crate::upstream) clock: Clock,
    /// For the log only.
    pub(in crate::upstream) name: RegistryName,
}

/// A program and all that it has started; they end with this.
struct Group(Option<Pid>);

impl FromStr for CredentialHelper {
    type Err = NoSuchHelper;

    fn from_str(text: &str) -> Result<Self, NoSuchHelper> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_helper = !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(is_name);
        is_helper.then(|| Self(text.to_owned())).ok_or(NoSuchHelper)
    }
}

impl fmt::Display for CredentialHelper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker-credential-{}", self.0)
    }
}

impl HelperEnvironment {
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The program that would be started. What depends on the working directory is no place to look.
    pub(in crate::upstream) fn find(&self, helper: &CredentialHelper) -> Option<PathBuf> {
        let path = self.0.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_os_str());
        let directories = std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH)));
        let mut programs = directories.filter(|path| path.is_absolute()).map(|path| path.join(helper.to_string()));
        let is_program = |path: &PathBuf| {
            path.is_file() && faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
        };
        programs.find(is_program)
    }
}

impl fmt::Debug for HelperEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HelperEnvironment")
    }
}

impl Program {
    /// None: it says that it has none.
    pub(super) async fn ask(&self) -> Result<Option<Credentials>, CredentialsFailure> {
        let answer = timeout(self.terms.limit, self.run()).await.unwrap_or(Err(CredentialsFailure::HelperTimeout));
        if let Err(failure) = &answer {
            let Self { helper, registry, terms: Terms { name, .. } } = self;
            tracing::warn!(upstream = %name, %helper, "{helper} gives no credentials for {registry}: {failure}");
        }
        answer
    }

    async fn run(&self) -> Result<Option<Credentials>, CredentialsFailure> {
        let environment = &self.terms.environment;
        let program = environment.find(&self.helper).ok_or(CredentialsFailure::HelperMissing)?;
        let mut command = Command::new(program);
        command
            .arg("get")
            .env_clear()
            .envs(environment.0.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|_| CredentialsFailure::HelperNotStarted)?;
        let group = Group::of(&child);
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let asking = async {
            if let Some(mut stdin) = stdin {
                // One that knows a single registry need not read which one is meant.
                drop(stdin.write_all(self.registry.as_bytes()).await);
            }
        };
        let mut answer = Vec::new();
        let answering = async {
            match stdout {
                Some(stdout) => stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer).await,
                None => Ok(0),
            }
        };
        let ((), read) = tokio::join!(asking, answering);
        read.map_err(|_| CredentialsFailure::HelperMalformed)?;
        if answer.len() as u64 > MAX_ANSWER {
            return Err(CredentialsFailure::HelperTooLarge);
        }
        let status = child.wait().await.map_err(|_| CredentialsFailure::HelperFailed { code: None })?;
        drop(group);
        match status.success() {
            true => parse(&answer),
            false if answer.trim_ascii() == NOT_FOUND => Ok(None),
            false => Err(CredentialsFailure::HelperFailed { code: status.code() }),
        }
    }
}

/// The answer to `get`; whatever else stands in it does not matter here.
pub(in crate::upstream) fn parse(answer: &[u8]) -> Result<Option<Credentials>, CredentialsFailure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    const MALFORMED: CredentialsFailure = CredentialsFailure::HelperMalformed;
    let Object(Answer { username, secret }) = serde_json::from_slice(answer).map_err(|_| MALFORMED)?;
    match (username.is_empty(), secret.is_empty()) {
        (false, false) => Credentials::of(&username, &secret.into()).map(Some).ok_or(MALFORMED),
        // The other way to say that there are none: docker-credential-pass.
        (true, true) => Ok(None),
        _ => Err(MALFORMED),
    }
}

impl Group {
    fn of(leader: &Child) -> Self {
        Self(leader.id().and_then(|id| id.try_into().ok()).map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error says that nobody is left.
            killpg(group, Signal::SIGKILL).ok();
        }
    }
}

/// How a helper says that it has none: on its output, with a code other than 0.
const NOT_FOUND: &[u8] = b"credentials not found in native keychain";
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const MAX_NAME: usize = 128;
const MAX_ANSWER: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::{super::Form, *};

    #[test]
    fn a_helper_is_a_name_and_no_path() {
        for name in ["ecr-login", "gcloud", "acr-env", "a.b_c-1", &"x".repeat(MAX_NAME)] {
            assert_eq!(name.parse::<CredentialHelper>().unwrap().to_string(), format!("docker-credential-{name}"));
        }
        for name in ["", "/bin/sh", "../x", "a/b", "a b", "a;b", "a\n", "$x", "ä", &"x".repeat(MAX_NAME + 1)] {
            assert_eq!(name.parse::<CredentialHelper>(), Err(NoSuchHelper), "{name:?}");
        }
    }

    #[test]
    fn an_answer_is_a_user_and_a_secret() {
        let good = parse(br#"{"ServerURL":"https://r.example","Username":"AWS","Secret":"hunter2","More":[1]}"#);
        let Form::Basic(header) = good.ok().flatten().unwrap().form else { panic!("no password") };
        assert_eq!(header, "Basic QVdTOmh1bnRlcjI=");
        let token = parse(br#"{"Username":"<token>","Secret":"hunter2"}"#).ok().flatten().unwrap();
        assert!(matches!(token.form, Form::IdentityToken(_)));
        let none = parse(br#"{"ServerURL":"https://r.example","Username":"","Secret":""}"#);
        assert!(none.ok().unwrap().is_none());
        for bad in [
            "",
            "null",
            "[]",
            "\"hunter2\"",
            r#"["AWS","hunter2"]"#,
            "{}",
            r#"{"Username":"AWS"}"#,
            r#"{"Username":"AWS","Secret":null}"#,
            r#"{"Username":"AWS","Secret":""}"#,
            r#"{"Username":"","Secret":"hunter2"}"#,
            r#"{"Username":"a:b","Secret":"hunter2"}"#,
            r#"{"Username":"AWS","Secret":"hunter2","Secret":"hunter3"}"#,
            r#"{"Username":"AWS","Secret":"hunter2"} {}"#,
            r#"{"username":"AWS","secret":"hunter2"}"#,
            "credentials not found in native keychain",
        ] {
            assert_eq!(parse(bad.as_bytes()).err(), Some(CredentialsFailure::HelperMalformed), "{bad}");
        }
    }

    #[test]
    fn programs_are_searched_in_absolute_directories_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("docker-credential-x");
        let helper = "x".parse::<CredentialHelper>().unwrap();
        let find = |path: &str| HelperEnvironment::new([("PATH".into(), path.into())]).find(&helper);
        let path = directory.path().to_str().unwrap();
        std::fs::write(&file, "").unwrap();
        assert_eq!(find(path), None, "what cannot be executed is no program");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find(&format!("/nowhere:{path}")), Some(file));
        let relative = format!("..{}{path}", "/..".repeat(20));
        assert!(std::path::Path::new(&relative).join("docker-credential-x").exists());
        assert_eq!(find(&relative), None);
        assert_eq!(find(""), None);
    }
}
