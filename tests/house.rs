//! The rules of the house: which room may use which, how long files may be, and what may be named where.
//!
//! Needs no server and runs in milliseconds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a rule that is broken must fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Lines that a file may have, not counting its tests.
const LINES_MAX: usize = 500;

/// Each room with the rooms it may name. The longest prefix of a file's path decides; a room that is not listed may not be
/// named by anyone.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("eval", &["model"]),
    ("change", &["model", "eval"]),
    ("clock", &[]),
    ("config", &[]),
    ("telemetry", &["config"]),
    ("store", &["model"]),
    ("snapshot", &["model", "eval", "clock", "telemetry", "store"]),
    ("events", &["model", "clock", "telemetry"]),
    ("record", &["model", "clock", "telemetry", "store", "snapshot", "events"]),
    ("auth", &["model", "clock", "snapshot"]),
    ("control", &["model", "change", "clock", "telemetry", "store", "snapshot", "auth"]),
    ("http/evaluate", &["model", "eval", "telemetry", "snapshot", "auth", "events", "http"]),
    ("http/evalx", &["model", "eval", "telemetry", "snapshot", "auth", "http"]),
    ("http/event", &["model", "eval", "telemetry", "snapshot", "auth", "events", "http"]),
    ("http/launchdarkly", &["model", "eval", "telemetry", "snapshot", "auth", "http"]),
    ("http/ofrep", &["model", "eval", "telemetry", "snapshot", "auth", "events", "http"]),
    ("http/stream", &["model", "eval", "telemetry", "snapshot", "auth", "http"]),
    (
        "http",
        &[
            "model",
            "eval",
            "change",
            "clock",
            "telemetry",
            "store",
            "snapshot",
            "auth",
            "control",
            "events",
        ],
    ),
    (
        "app",
        &[
            "model",
            "clock",
            "config",
            "telemetry",
            "store",
            "snapshot",
            "auth",
            "control",
            "events",
            "record",
            "http",
        ],
    ),
    (
        "cli",
        &[
            "model",
            "eval",
            "change",
            "clock",
            "config",
            "telemetry",
            "store",
            "auth",
            "control",
            "http",
            "app",
        ],
    ),
    ("lib", &[]),
    ("main", &["cli"]),
];

/// Words that may stand only in some rooms.
const WORDS: &[(&str, &[&str])] = &[
    ("sqlx::", &["store"]),
    ("redis::", &["store"]),
    ("StatusCode", &["http"]),
    ("std::env::", &["config"]),
    ("SystemTime", &["clock"]),
    ("rand::", &["clock"]),
    (
        "tokio::",
        &["store", "snapshot", "control", "events", "record", "http", "app", "cli", "main"],
    ),
    ("async ", &["store", "snapshot", "control", "events", "record", "http", "app", "cli", "main"]),
    ("tracing::", &["telemetry", "snapshot", "control", "record", "http", "app", "cli"]),
];

/// Files at the top of the repository; nothing else without a reason.
const TOP: &[&str] = &[
    ".ci",
    ".dockerignore",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "benches",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "docker-compose.yml",
    "docs",
    "fuzz",
    "migrations",
    "openapi.yaml",
    "rustfmt.toml",
    "scripts",
    "src",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The path below `src`, with slashes and without the extension.
fn name_of(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).unwrap().with_extension("");
    below.to_string_lossy().replace('\\', "/")
}

/// The text without the items that are compiled for tests only; what stands behind them is kept.
fn without_tests(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        // An item at the left margin ends with its line, or with a closing brace at the left margin.
        if lines.next().is_some_and(|line| line.ends_with('{')) {
            let _ = lines.by_ref().find(|line| *line == "}");
        }
    }
    kept.join("\n")
}

/// The code of a file without comments and tests; empty for files of tests.
fn code_of(path: &Path) -> String {
    let name = name_of(path);
    if name.ends_with("/tests") || name.contains("/tests/") {
        return String::new();
    }
    let text = without_tests(&fs::read_to_string(path).unwrap());
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The room of a file, and the rooms that it may name.
fn room_of(name: &str) -> (&'static str, &'static [&'static str]) {
    let is_in = |room: &str| name == room || name.starts_with(&format!("{room}/"));
    let found = ROOMS.iter().filter(|(room, _)| is_in(room)).max_by_key(|(room, _)| room.len());
    let (room, may_use) = found.unwrap_or_else(|| panic!("src/{name}.rs is in no room"));
    (room, may_use)
}

/// The words that follow each `crate::`; a `{` gives an empty one, which is refused.
fn names_after_crate(code: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let rests = code.split("crate::").skip(1);
    rests.map(|rest| rest.chars().take_while(|c| is_word(*c)).collect()).collect()
}

fn violations(name: &str, code: &str) -> Vec<String> {
    let (room, may_use) = room_of(name);
    let own = room.split('/').next().unwrap_or_default();
    let mut found = Vec::new();
    for used in names_after_crate(code) {
        if used != own && !may_use.contains(&used.as_str()) {
            found.push(format!("src/{name}.rs: `{room}` may not use `{used}`"));
        }
    }
    for (word, rooms) in WORDS {
        if code.contains(word) && !rooms.contains(&own) {
            found.push(format!("src/{name}.rs: `{word}` may not stand in `{room}`"));
        }
    }
    found
}

#[test]
fn rooms_use_only_the_rooms_they_may() {
    let mut found = Vec::new();
    for path in rust_files(&root().join("src")) {
        found.extend(violations(&name_of(&path), &code_of(&path)));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_rule_sees_what_it_must_see() {
    for (name, code) in [
        ("eval/evaluate", "use crate::store::Store;"),
        ("eval/evaluate", "use crate::{model, store};"),
        ("model/flag", "use crate::eval::Outcome;"),
        ("http/ofrep/evaluate", "let store = crate::store::Store::new();"),
        ("http/stream", "use crate::control::Control;"),
        ("control/flag", "use sqlx::PgPool;"),
        ("change/apply", "pub async fn apply() {}"),
    ] {
        assert!(!violations(name, code).is_empty(), "{name}: {code}");
    }
    assert!(violations("eval/evaluate", "use crate::model::context::Context;").is_empty());
    let behind = "#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}\nuse crate::http;\n";
    assert_eq!(without_tests(behind), "use crate::http;");
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for path in rust_files(&root().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{}: opens without `//!`", path.display());
        let n_lines = without_tests(&text).lines().count();
        let is_test = name_of(&path).contains("/tests");
        assert!(is_test || n_lines <= LINES_MAX, "{}: {n_lines} lines", path.display());
    }
}

#[test]
fn nothing_unexpected_stands_at_the_top() {
    let ignored = ["target", ".git", "vexil-data", "vexil-demo", "proptest-regressions"];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(TOP.contains(&name.as_str()) || ignored.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |dialect: &str| -> BTreeSet<String> {
        let folder = root().join("migrations").join(dialect);
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("postgres"), names("sqlite"));
    let listed = fs::read_to_string(root().join("src/store/migrate.rs")).unwrap();
    for name in names("sqlite") {
        assert!(listed.contains(&name), "migrations/*/{name} is not in src/store/migrate.rs");
    }
}

#[test]
fn the_configuration_table_is_complete() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `VEXIL_"));
    let documented: BTreeSet<String> =
        rows.map(|rest| format!("VEXIL_{}", rest.split('`').next().unwrap_or_default())).collect();
    let settings = vexil::config::SETTINGS.iter().map(|name| (*name).to_owned());
    assert_eq!(documented, settings.collect());
    let config = fs::read_to_string(root().join("src/config.rs")).unwrap();
    for name in vexil::config::SETTINGS {
        assert!(config.contains(&format!("env = \"{name}\"")), "{name} is not a setting");
    }
}
