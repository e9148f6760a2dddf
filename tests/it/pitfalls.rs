//! The list of pitfalls names tests that exist.

use std::{fs, path::Path};

use crate::support::sources::rust_files;

#[test]
fn every_test_that_the_list_of_pitfalls_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = Vec::new();
    for (directory, crate_name) in
        [("src", None), ("tests/it", Some("it")), ("tests/clients", Some("clients")), ("tests/image", Some("image"))]
    {
        for file in rust_files(&root.join(directory)) {
            let mut module: Vec<String> = crate_name.map(str::to_owned).into_iter().collect();
            module.extend(module_of(file.strip_prefix(root.join(directory)).unwrap()));
            tests.extend(tests_in(&module, &fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(tests.len() > 300, "only {} tests were found: the test reads wrongly", tests.len());

    let list = fs::read_to_string(root.join("tests/pitfalls.md")).unwrap();
    let rows: Vec<&str> = list.lines().filter(|line| line.starts_with("- [")).collect();
    assert_eq!(rows.len(), 57);
    let mut wrong = Vec::new();
    for row in rows {
        let names = names_in(row);
        if row.starts_with("- [x]") && names.is_empty() {
            wrong.push(format!("no test is named: {row}"));
        }
        wrong.extend(names.into_iter().filter(|name| !tests.iter().any(|test| is_named(test, name))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_and_tests_are_read_in_every_form() {
    let row = "- [x] 1. A `mediaType`: `it::a::{b, c}`, `it::d::e_…`, `it::{f, g}::…`";
    assert_eq!(names_in(row), ["it::a::b", "it::a::c", "it::d::e_…", "it::f::…", "it::g::…"]);
    let source = "#[test]\nfn a() {}\nfn b() {}\nmod tests {\n    #[tokio::test(flavor = \"multi_thread\")]\n    \
                  #[ignore = \"needs root\"]\n    async fn c() {\n    }\n}\n#[test]\nfn d() {}\n";
    assert_eq!(tests_in(&["m".to_owned()], source), ["m::a", "m::tests::c", "m::d"]);
    let module = module_of(Path::new("store/tests/model.rs")).collect::<Vec<_>>();
    assert_eq!(module, ["store", "tests", "model"]);
    assert!(
        is_named("it::a::d::bc", "it::a::b…")
            && !is_named("it::a::b::c", "it::a::b…")
            && is_named("it::a::b", "it::a")
            && !is_named("it::ab::c", "it::a")
    );
    assert!(is_named("it::a::b", "it::a::…") && !is_named("it::b::a", "it::a::…"));
}

/// A whole name, a module with tests in it, or the beginning of names anywhere in a module; `a::…::b` is a
/// `b` anywhere in `a`.
fn is_named(test: &str, name: &str) -> bool {
    if let Some((module, last)) = name.split_once("::…::") {
        return test.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
            && test.rsplit("::").next() == Some(last);
    }
    if name.strip_suffix("::…") == Some(test) {
        return true;
    }
    match name.strip_suffix('…').and_then(|name| name.rsplit_once("::")) {
        Some((module, beginning)) => {
            let rest = test.strip_prefix(module).and_then(|rest| rest.strip_prefix("::"));
            rest.is_some_and(|rest| rest.rsplit("::").next().is_some_and(|name| name.starts_with(beginning)))
        }
        None => test.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")),
    }
}

/// What stands between backticks and is a path; `a::{b, c}` are two.
fn names_in(row: &str) -> Vec<String> {
    let quoted = row.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::"));
    quoted
        .flat_map(|quoted| match quoted.split_once('{') {
            Some((module, rest)) => {
                let (names, after) = rest.split_once('}').unwrap_or((rest, ""));
                names.split(", ").map(|name| format!("{module}{name}{after}")).collect()
            }
            None => vec![quoted.to_owned()],
        })
        .collect()
}

fn module_of(file: &Path) -> impl Iterator<Item = String> {
    let parts: Vec<_> = file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    parts.into_iter().filter(|part| part != "main" && part != "lib")
}

/// The functions of a file that an attribute with the word `test` stands over. Where a macro makes them,
/// the names that it is given count, of modules too.
fn tests_in(module: &[String], source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inner: Vec<(usize, &str)> = Vec::new();
    let mut is_test = false;
    let has_macro = source.contains("\nmacro_rules! ");
    for line in source.lines() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if let Some((name, _)) = code.split_once(": ").filter(|_| has_macro && code.ends_with(','))
            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            found.push(format!("{}::{name}", module.join("::")));
        }
        if code.starts_with('}') && inner.last().is_some_and(|(at, _)| *at == indent) {
            inner.pop();
        } else if let Some(name) = code.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            inner.push((indent, name));
        } else if code.starts_with("#[") {
            is_test |= code.starts_with("#[test]") || code.starts_with("#[tokio::test");
            continue;
        } else if let Some((_, rest)) = code.split_once("fn ")
            && is_test
        {
            let name = rest.split('(').next().unwrap_or_default();
            let path = module.iter().map(String::as_str).chain(inner.iter().map(|(_, name)| *name)).chain([name]);
            found.push(path.collect::<Vec<_>>().join("::"));
        }
        is_test = false;
    }
    found
}
