//! Whole files and the exact text of their reports: `tests/data/config/*.yaml` beside `*.expected`.
//!
//! First lines `# env: NAME=value` add to the environment (`NAME=` blanks it, `NAME-` unsets it); `# check` reads the file
//! as `check` does. A new file gets its text from `cargo test --lib bless -- --ignored`, and a pair of eyes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Config, Environment, Report, Strictness, parse};

const MASTER: &str = "sk-golden-master-key";
const NANO: &str = "sk-nano-golden";

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn read(path: &Path) -> (Option<Config>, Report) {
    let text = fs::read_to_string(path).unwrap();
    let mut env = BTreeMap::from([("LITELLM_MASTER_KEY", MASTER), ("NANOGPT_API_KEY", NANO)]);
    for line in text.lines().filter_map(|line| line.strip_prefix("# env: ")) {
        match line.split_once('=') {
            Some((name, value)) => env.insert(name, value),
            None => env.remove(line.trim_end_matches('-')),
        };
    }
    let strictness = if text.starts_with("# check\n") { Strictness::Check } else { Strictness::Serve };
    parse(Path::new(path.file_name().unwrap()), &text, &Environment::from_pairs(env), strictness)
}

#[test]
fn every_report_reads_as_expected() {
    assert!(files().len() >= 25);
    let mut wrong = String::new();
    for path in files() {
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        let (config, report) = read(&path);
        let found = report.to_string();
        assert_eq!(config.is_some(), report.errors() == 0, "{}", path.display());
        assert!(!found.contains(MASTER) && !found.contains(NANO), "a secret in {found}");
        if found != expected {
            wrong += &format!("--- {}\nexpected:\n{expected}found:\n{found}\n", path.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
#[ignore = "writes the expected texts"]
fn bless() {
    for path in files() {
        fs::write(path.with_extension("expected"), read(&path).1.to_string()).unwrap();
    }
}
