//! The house rules, held by a test: layers, sizes, and the few things no file may do (ARCHITECTURE.md).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Room and its layer; a room may name rooms of deeper layers only.
const LAYERS: &[(&str, u8)] = &[
    ("main", 0),
    ("cli", 1),
    ("server", 2),
    ("gateway", 3),
    ("admin", 3),
    ("snapshot", 4),
    ("api", 5),
    ("auth", 5),
    ("downstream", 5),
    ("routing", 5),
    ("upstream", 5),
    ("usage", 5),
    ("config", 6),
    ("telemetry", 6),
    ("wire", 7),
    // Beside the house: named by cli and tests, names nobody.
    ("standin", 8),
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
/// Tables of data may be long; control flow may not.
const DATA_TABLES: &[&str] = &["config/support.rs"];
/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "common", "manager", "handler", "types", "misc"];

struct Source {
    /// Path below src/, with slashes.
    name: String,
    /// Everything before the file's test module.
    code: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap_or_default()
    }

    fn is_test(&self) -> bool {
        let stem = self.name.rsplit('/').next().unwrap_or_default();
        stem == "tests.rs" || self.name.contains("/tests/") || stem == "golden.rs"
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    assert!(paths.len() > 40, "the sources are not where this test looks");
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("a source file is readable text");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            let name = path.strip_prefix(&root).expect("found below the root").to_string_lossy().replace('\\', "/");
            Source { name, code, text }
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder is readable") {
        let path = entry.expect("a folder entry is readable").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn layer(room: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == room).map(|(_, layer)| *layer)
}

/// Lines of code without comments, with their numbers.
fn code_lines(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_room_names_only_rooms_below_it() {
    let mut faults = Vec::new();
    for source in sources() {
        let room = source.room().to_owned();
        if room == "lib" {
            continue;
        }
        let Some(own) = layer(&room) else {
            faults.push(format!("{}: the room `{room}` has no layer", source.name));
            continue;
        };
        for (at, line) in code_lines(&source.code) {
            for part in line.split("crate::").skip(1) {
                let named: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(other) = layer(&named).filter(|_| named != room) else { continue };
                let beside = named == "standin" && room == "cli";
                if !beside && (other <= own || named == "standin") {
                    faults.push(format!("{}:{at}: {room} may not name {named}", source.name));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn foreign_types_stay_in_their_rooms() {
    let rules: &[(&str, &[&str])] = &[
        ("pingora_proxy::", &["gateway", "server"]),
        ("custom::server::Session", &["gateway"]),
        ("HttpPeer", &["upstream", "gateway"]),
        ("server::Server", &["server"]),
        ("std::env::var", &["config"]),
        ("std::env::vars", &["config"]),
        ("process::exit", &[]),
        ("granit_parser", &["config"]),
        ("prometheus_client", &["telemetry"]),
    ];
    let mut faults = Vec::new();
    for source in sources() {
        for (at, line) in code_lines(&source.code) {
            for (word, rooms) in rules {
                if line.contains(word) && !rooms.contains(&source.room()) && !source.is_test() {
                    faults.push(format!("{}:{at}: `{word}` does not belong here", source.name));
                }
            }
        }
        if source.text.contains("custom::server::Session") && source.name != "gateway/replay.rs" {
            faults.push(format!("{}: only gateway/replay.rs touches Pingora's doc-hidden trait", source.name));
        }
    }
    report(&faults);
}

#[test]
fn files_say_what_they_are_and_stay_small() {
    let mut faults = Vec::new();
    let mut sizes = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let table = DATA_TABLES.contains(&source.name.as_str());
        if !source.text.starts_with("//!") {
            faults.push(format!("{}: does not begin with what it is (`//!`)", source.name));
        }
        if lines > FILE_LINES_MAX && !table {
            faults.push(format!("{}: {lines} lines", source.name));
        }
        let stem = source.name.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if EMPTY_NAMES.contains(&stem) {
            faults.push(format!("{}: the name says nothing", source.name));
        }
        sizes.push(lines);
    }
    sizes.sort_unstable();
    let (median, most) = (sizes[sizes.len() / 2], sizes[sizes.len() * 9 / 10]);
    if median > 170 || most > 420 {
        faults.push(format!("files grow: median {median} lines, nine of ten under {most}"));
    }
    report(&faults);
}

#[test]
fn functions_fit_on_a_screen() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let mut open: Option<(usize, usize, &str)> = None;
        for (at, line) in source.code.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let word = line.trim_start();
            let starts =
                ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(super) fn ", "pub(super) async fn ", "const fn "];
            if starts.iter().any(|start| word.starts_with(start)) {
                open = Some((at, indent, word));
                continue;
            }
            let Some((start, _, name)) = open.filter(|(_, depth, _)| word == "}" && indent == *depth) else { continue };
            if at - start + 1 > FUNCTION_LINES_MAX {
                faults.push(format!("{}:{}: {} lines: {name}", source.name, start + 1, at - start + 1));
            }
            open = None;
        }
    }
    report(&faults);
}

#[test]
fn nothing_is_left_undone_and_nothing_panics_by_accident() {
    let words = ["TODO", "FIXME", "todo!(", "unimplemented!(", ".unwrap()", "#[allow(", "println!(\"debug"];
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (at, line) in source.code.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{}: {word}", source.name, at + 1));
            }
        }
    }
    report(&faults);
}

/// The image builds the dependencies first, with empty sources in place of all that `Cargo.toml` names.
#[test]
fn the_dockerfile_makes_a_source_for_each_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dockerfile = fs::read_to_string(root.join("Dockerfile")).unwrap();
    let step = dockerfile.split_once("RUN mkdir -p src").expect("a step that makes sources").1;
    let makes_sources = step.split_once("&& deploy/binary").expect("and builds them").0.replace("\\\n", " ");
    let folder = tempfile::tempdir().unwrap();
    for name in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root.join(name), folder.path().join(name)).unwrap();
    }
    let script = format!("mkdir -p src{makes_sources}");
    assert!(Command::new("sh").args(["-euc", &script]).current_dir(&folder).status().unwrap().success(), "{script}");
    // Cargo looks for the sources only when it is about to build; so it is asked for something that is not there.
    let build = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--locked", "--bin", "no-such-thing"])
        .current_dir(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&build.stderr);
    assert!(said.contains("no bin target named"), "{said}");
}
