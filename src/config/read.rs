//! From a path to a `Config`, or to the reasons why not.

use std::io::{self, Read};
use std::path::Path;

use super::env::Environment;
use super::fault::{Fault, Level, Place, Report};
use super::reader::Desk;
use super::{Config, Source, Strictness, stable, tree, walk};

/// The largest file that is read. A file of 1,000 models has about 300 KiB.
const FILE_BYTES_MAX: usize = 8 << 20;

/// Reads a file. There is a `Config` only when the report holds no error.
pub fn load(path: &Path, env: &Environment, strictness: Strictness) -> (Option<Config>, Report) {
    match text_of(path) {
        Ok(text) => parse(path, &text, env, strictness),
        Err(fault) => (None, Report::new(path, vec![fault])),
    }
}

/// The same for a text that is already there; `path` is only named.
pub fn parse(path: &Path, text: &str, env: &Environment, strictness: Strictness) -> (Option<Config>, Report) {
    if text.len() > FILE_BYTES_MAX {
        return (None, Report::new(path, vec![too_large()]));
    }
    let (tree, faults) = tree::read(text);
    let mut desk = Desk { env: env.clone(), strictness, faults };
    let harvest = tree.map(|tree| walk::file(&mut desk, &tree));
    let report = Report::new(path, desk.faults);
    if report.errors() > 0 {
        return (None, report);
    }
    let config = harvest.and_then(|harvest| {
        Some(Config {
            deployments: harvest.deployments,
            settings: harvest.settings,
            gateway: harvest.gateway,
            door: harvest.door?,
            source: Source { path: path.to_path_buf(), hash: stable::digest(text.as_bytes()) },
        })
    });
    (config, report)
}

fn text_of(path: &Path) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX as u64 + 1;
    let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|error| whole(unreadable(path, &error)))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let place = Place { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 };
        Fault { place, level: Level::Error, message: "this line is not UTF-8; save the file as UTF-8".to_owned() }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => directory(),
        _ if path.is_dir() => directory(),
        io::ErrorKind::PermissionDenied => "the file may not be read by this user; check its permissions".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    }
}

/// The classic: `-v ./missing.yaml:/app/config.yaml` creates a directory.
fn directory() -> String {
    "this is a directory; Docker makes one when the mounted file does not exist on the host".to_owned()
}

fn too_large() -> Fault {
    whole("the file is larger than 8 MiB".to_owned())
}

fn whole(message: String) -> Fault {
    Fault { place: Place::WHOLE, level: Level::Error, message }
}
