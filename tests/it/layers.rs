//! Who may know whom: a module uses only what lies below it. Every `crate::name` in `src` is read.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::support::sources::rust_files;

/// The modules, what lies highest first; those of one row do not know each other.
const ROWS: [&[&str]; 9] = [
    &["main", "cli"],
    &["app"],
    &["config"],
    &["server", "registry", "api", "dashboard"],
    &["pull"],
    &["upstream", "cache", "audit", "access"],
    &["policy"],
    &["trust", "store"],
    VOCABULARY,
];

/// What every module may use, unless it is named below.
const VOCABULARY: &[&str] = &["oci", "clock", "telemetry", "sendfile"];

/// Modules that may use less than everything below them.
const NARROW: [(&str, &[&str]); 6] = [
    ("main", &["cli"]),
    ("cli", &["app", "config", "api", "trust", "policy", "oci", "clock", "telemetry"]),
    ("server", VOCABULARY),
    ("dashboard", VOCABULARY),
    ("policy", &["trust", "oci"]),
    ("trust", &["oci"]),
];

/// Uses that a row forbids, each for a reason.
const EXCEPTIONS: [(&str, &str); 1] = [
    // The sample registry of the demo is a server of its own, and the listener is the one that there is.
    ("src/cli/demo.rs", "server"),
];

/// Words that say nothing of what is in a file.
const BANNED: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "misc", "shared", "mod"];

#[test]
fn a_module_uses_only_what_lies_below_it() {
    let mut wrong = Vec::new();
    let mut edges = 0;
    for file in sources() {
        let module = module_of(&file);
        for used in names_after_crate(&fs::read_to_string(&file).unwrap()) {
            edges += 1;
            let excepted = EXCEPTIONS.iter().any(|(path, module)| file == Path::new(path) && used == *module);
            if used != module && !excepted && !may_use(&module, &used) {
                wrong.push(format!("{}: {module} uses {used}", file.display()));
            }
        }
    }
    assert!(edges > 50, "only {edges} uses were found: the test reads wrongly");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pitfall_18_nothing_that_serves_can_write_to_a_registry() {
    let writes = |file: &PathBuf| {
        let source = fs::read_to_string(file).unwrap();
        source.lines().map(without_comment).any(|line| line.contains("Pusher") || line.contains("pusher_of"))
    };
    let (allowed, wrong): (Vec<_>, Vec<_>) = sources().filter(writes).partition(|file| {
        let makes = ["src/upstream.rs", "src/upstream/push.rs", "src/app.rs", "src/app/client.rs"];
        let uses = file.starts_with("src/cli/export") || file == Path::new("src/cli/export.rs");
        uses || makes.iter().any(|path| file == Path::new(path))
    });
    assert!(allowed.len() >= 4, "only {allowed:?} were found: the test reads wrongly");
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_module_has_a_row_and_a_name_that_says_something() {
    let known: BTreeSet<&str> = ROWS.iter().flat_map(|row| row.iter().copied()).collect();
    for file in sources() {
        let module = module_of(&file);
        assert!(module == "lib" || known.contains(module.as_str()), "{} has no row", file.display());
        for part in file.components().filter_map(|part| part.as_os_str().to_str()) {
            let name = part.strip_suffix(".rs").unwrap_or(part);
            assert!(!BANNED.contains(&name), "{}: {name} names no idea", file.display());
        }
    }
}

#[test]
fn uses_are_read_in_every_form() {
    let source = "use crate::{a::b, c, d::{e, f}, self as g};\nuse crate::h;\nlet x = crate::i::J; // crate::no\n\
                  pub(crate) fn k() {}\n//! crate::no\nlet url = \"http://\"; crate::l::m();";
    let found = names_after_crate(source).into_iter().collect::<Vec<_>>();
    assert_eq!(found, ["a", "c", "d", "h", "i", "l"]);
    assert!(may_use("pull", "store") && may_use("api", "pull") && may_use("app", "server"));
    for (module, used) in
        [("store", "trust"), ("pull", "api"), ("server", "pull"), ("policy", "clock"), ("oci", "clock")]
    {
        assert!(!may_use(module, used), "{module} must not use {used}");
    }
}

fn may_use(module: &str, used: &str) -> bool {
    if let Some((_, allowed)) = NARROW.iter().find(|(narrow, _)| *narrow == module) {
        return allowed.contains(&used);
    }
    let row = |name: &str| ROWS.iter().position(|row| row.contains(&name));
    match (row(module), row(used)) {
        (Some(module), Some(used)) => module < used,
        _ => module == "lib",
    }
}

fn sources() -> impl Iterator<Item = PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    rust_files(&root.join("src")).into_iter().map(move |file| file.strip_prefix(root).unwrap().to_owned())
}

/// `src/pull.rs` and `src/pull/decide.rs` are both of `pull`.
fn module_of(file: &Path) -> String {
    let first = file.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

fn names_after_crate(source: &str) -> BTreeSet<String> {
    let code = source.lines().map(without_comment).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads_of_group(group)),
            None => found.extend(identifier(rest)),
        }
    }
    found.remove("self");
    found
}

/// A comment begins with `//`, unless that stands in the middle of a word or a URL.
fn without_comment(line: &str) -> &str {
    line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':')).map_or(line, |(at, _)| &line[..at])
}

fn heads_of_group(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut at_head) = (0, true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            _ if at_head && !character.is_whitespace() => {
                heads.extend(identifier(&group[at..]));
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let name = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    (!name.is_empty()).then_some(name)
}
