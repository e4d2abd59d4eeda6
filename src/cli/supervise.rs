//! `nanogate supervise`: the flags of `serve`, under a supervisor that owns the port.

use super::serve::{config_path, install_log, options};
use super::{FAILED, INVALID, SuperviseArgs, complain};
use crate::config::{self, Environment, Strictness};
use crate::server::supervisor::{Supervision, supervise};
use clap::FromArgMatches;
use std::ffi::OsString;
use std::path::PathBuf;

pub fn run(args: &SuperviseArgs) -> u8 {
    let environment = Environment::of_process();
    install_log(&args.serve, &environment);
    let Some(path) = config_path(args.serve.config.as_deref(), &environment) else {
        complain("no configuration file: use --config FILE, or set CONFIG_FILE_PATH");
        return INVALID;
    };
    let (config, report) = config::load(&path, &environment, Strictness::Serve);
    let Some(config) = config else {
        complain(report.to_string().trim_end());
        return INVALID;
    };
    let options = match options(&args.serve, &environment, &config) {
        Ok(options) => options,
        Err(words) => {
            complain(words);
            return INVALID;
        }
    };
    let Ok(program) = std::env::current_exe() else {
        complain("the binary's own path is not known");
        return FAILED;
    };
    supervise(Supervision {
        program,
        arguments: arguments(std::env::args_os()),
        listen: [Some(options.listen), options.admin].into_iter().flatten().collect(),
        reuse_port: args.reuse_port,
        places: places(&environment),
        check,
    })
}

/// Where hand-over sockets may go: /dev/shm first, which is writable in a container whose root is not and takes a socket even when
/// it is full of bytes.
fn places(environment: &Environment) -> Vec<PathBuf> {
    let own = environment.filled("TMPDIR");
    [Some("/dev/shm"), own, Some("/tmp"), Some("/run")].into_iter().flatten().map(PathBuf::from).collect()
}

/// What was typed behind `supervise`, for `serve`.
fn arguments(typed: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let behind = typed.skip_while(|word| word != "supervise").skip(1);
    behind.filter(|word| word != "--reuse-port").collect()
}

/// Whether a new generation would find a configuration it can serve.
fn check(arguments: &[OsString]) -> Result<(), String> {
    let words = [OsString::from("nanogate"), OsString::from("serve")];
    let parsed = super::grammar().try_get_matches_from(words.iter().chain(arguments));
    let cli = parsed.and_then(|matches| super::Cli::from_arg_matches(&matches)).map_err(|cause| cause.to_string())?;
    let Some(super::Command::Serve(args)) = cli.command else { return Ok(()) };
    let environment = Environment::of_process();
    let path = config_path(args.config.as_deref(), &environment).ok_or("no configuration file")?;
    let (config, report) = config::load(&path, &environment, Strictness::Serve);
    config.map(|_| ()).ok_or_else(|| report.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_serve_are_passed_on() {
        let typed = ["nanogate", "supervise", "--config", "/app/config.yaml", "--reuse-port", "--port", "4000"];
        let passed = arguments(typed.iter().map(OsString::from));
        assert_eq!(passed, ["--config", "/app/config.yaml", "--port", "4000"]);
    }
}
