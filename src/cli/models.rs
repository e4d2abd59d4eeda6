//! `nanogate models`: the configured models as a table.

use super::serve::config_path;
use super::{FileArgs, INVALID, OK};
use crate::config::{self, Environment, Listed, Strictness};

pub fn run(args: &FileArgs) -> u8 {
    let environment = Environment::of_process();
    let Some(path) = config_path(args.config.as_deref(), &environment) else {
        eprintln!("no configuration file: use --config FILE");
        return INVALID;
    };
    let (config, report) = config::load(&path, &environment, Strictness::Serve);
    if !report.faults.is_empty() {
        eprint!("{report}");
    }
    let Some(config) = config else { return INVALID };
    let mut rows = vec![["MODEL", "UPSTREAM MODEL", "BASE", "KEY"].map(str::to_owned)];
    rows.extend(config.listing().into_iter().map(row));
    print!("{}", table(&rows));
    OK
}

fn row(listed: Listed<'_>) -> [String; 4] {
    let key = match (listed.key_variable, listed.key_set) {
        (Some(variable), true) => format!("{variable} (set)"),
        (Some(variable), false) => format!("{variable} (NOT SET)"),
        (None, true) => "in the file".to_owned(),
        (None, false) => "none".to_owned(),
    };
    [listed.name.to_owned(), listed.upstream_model.to_owned(), listed.base, key]
}

/// Columns as wide as their widest cell.
fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [name, model, base, key] in rows {
        text.push_str(&format!("{name:0$}  {model:1$}  {base:2$}  {key}\n", widths[0], widths[1], widths[2]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb", "c", "d"], ["aaa", "b", "c", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "a    bb  c  d\naaa  b   c  d\n");
    }
}
