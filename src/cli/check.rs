//! `nanogate check`: the whole report of a configuration, and an exit code for pipelines.

use super::serve::config_path;
use super::{FileArgs, INVALID, OK};
use crate::config::{self, Environment, Strictness};

pub fn run(args: &FileArgs) -> u8 {
    let environment = Environment::of_process();
    let Some(path) = config_path(args.config.as_deref(), &environment) else {
        eprintln!("no configuration file: use --config FILE");
        return INVALID;
    };
    let (config, report) = config::load(&path, &environment, Strictness::Check);
    print!("{report}");
    let (errors, warnings) = (report.errors(), report.warnings());
    match config.filter(|_| errors == 0) {
        Some(config) => {
            println!("{}: {} deployments, {warnings} warnings: ok", path.display(), config.deployments.len());
            OK
        }
        None => {
            println!("{}: {errors} errors, {warnings} warnings", path.display());
            INVALID
        }
    }
}
