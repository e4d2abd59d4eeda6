//! What was found wrong in the file, where, and what would be right.
//!
//! Faults are collected, never thrown: a user fixes a file once, not once per start. A message may name keys, names and
//! harmless values; it never holds a secret, which is why this file does not see the file's text.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where in the file. Lines and columns count from 1, columns in characters; line 0 means the file as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1; 0 for the whole file.
    pub line: u32,
    /// Column in characters, from 1; 0 for the whole file.
    pub column: u32,
}

impl Place {
    /// The file as a whole, or something outside it such as the environment.
    pub const WHOLE: Place = Place { line: 0, column: 0 };
}

/// How much a fault matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing is served with this file.
    Error,
    /// Served, but something will not happen as written.
    Warning,
    /// Worth knowing once.
    Note,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        })
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where it is.
    pub place: Place,
    /// How much it matters.
    pub level: Level,
    /// What is wrong and what would be right, in one line, without any secret.
    pub message: String,
}

/// Everything found in one file, sorted by place.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file as the user named it.
    pub path: PathBuf,
    /// The faults, by place, each once.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Sorts the faults and drops repetitions: a YAML anchor used ten times is wrong in one place only.
    pub fn new(path: &Path, mut faults: Vec<Fault>) -> Self {
        faults.sort();
        faults.dedup();
        Report { path: path.to_path_buf(), faults }
    }

    /// How many errors there are. With any, nothing is served.
    pub fn errors(&self) -> usize {
        self.count(Level::Error)
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.count(Level::Warning)
    }

    fn count(&self, level: Level) -> usize {
        self.faults.iter().filter(|fault| fault.level == level).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for Fault { place, level, message } in &self.faults {
            match place.line {
                0 => writeln!(f, "{path}: {level}: {message}")?,
                line => writeln!(f, "{path}:{line}:{}: {level}: {message}", place.column)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_sorted_counted_and_without_repetitions() {
        let fault =
            |line, level, message: &str| Fault { place: Place { line, column: 3 }, level, message: message.to_owned() };
        let whole = Fault { place: Place::WHOLE, level: Level::Note, message: "whole".into() };
        let twice = fault(2, Level::Warning, "twice");
        let report =
            Report::new(Path::new("c.yaml"), vec![fault(9, Level::Error, "last"), twice.clone(), whole, twice]);
        assert_eq!(report.to_string(), "c.yaml: note: whole\nc.yaml:2:3: warning: twice\nc.yaml:9:3: error: last\n");
        assert_eq!((report.errors(), report.warnings()), (1, 1));
    }
}
