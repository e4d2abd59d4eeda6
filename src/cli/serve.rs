//! `nanogate serve`: read the configuration, say what is wrong with it, and serve.

use super::{FAILED, INVALID, OK, ServeArgs, complain};
use crate::config::{self, Config, Environment, Strictness};
use crate::server::{self, Options};
use crate::telemetry::logging;
use log::LevelFilter;
use std::path::{Path, PathBuf};

const PORT: u16 = 4000;
const HOST: &str = "0.0.0.0";
const ADMIN_PORT: u16 = 4001;
const ADMIN_HOST: &str = "127.0.0.1";

/// Where a configuration is looked for when none is named.
const USUAL_PLACES: [&str; 3] = ["litellm_config.yaml", "config.yaml", "/app/config.yaml"];

pub fn run(args: &ServeArgs) -> u8 {
    let environment = Environment::of_process();
    install_log(args, &environment);
    let Some(path) = config_path(args.config.as_deref(), &environment) else {
        complain("no configuration file: use --config FILE, or set CONFIG_FILE_PATH");
        return INVALID;
    };
    let (config, report) = config::load(&path, &environment, Strictness::Serve);
    if !report.faults.is_empty() {
        complain(report.to_string().trim_end());
    }
    let Some(config) = config else { return INVALID };
    match options(args, &environment, &config) {
        Ok(options) => serve(config, &options),
        Err(words) => {
            complain(words);
            INVALID
        }
    }
}

/// Serves and turns a start that failed into words and an exit code.
pub fn serve(config: Config, options: &Options) -> u8 {
    match server::serve(config, options) {
        Ok(()) => OK,
        Err(cause) => {
            log::error!("{cause}");
            FAILED
        }
    }
}

/// The file to read: the flag, the variable, or the usual places.
pub fn config_path(named: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let named = named.map(Path::to_owned).or_else(|| environment.get("CONFIG_FILE_PATH").map(PathBuf::from));
    named.or_else(|| USUAL_PLACES.iter().map(PathBuf::from).find(|path| path.exists()))
}

pub fn install_log(args: &ServeArgs, environment: &Environment) {
    let wished = environment.get("LITELLM_LOG").and_then(logging::level);
    let level =
        if args.debug || args.detailed_debug { LevelFilter::Debug } else { wished.unwrap_or(LevelFilter::Info) };
    logging::install(environment.get("RUST_LOG"), level);
}

pub fn options(args: &ServeArgs, environment: &Environment, config: &Config) -> Result<Options, String> {
    let port_of = |name: &str| match environment.get(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse::<u16>().map(Some).map_err(|_| format!("{name} is no port number: {text}")),
    };
    let port = match args.port {
        Some(port) => port,
        None => port_of("PORT")?.unwrap_or(PORT),
    };
    let host = args.host.as_deref().or_else(|| environment.get("HOST")).unwrap_or(HOST);
    let admin_port = match args.admin_port.or(config.gateway.admin_port) {
        Some(port) => port,
        None => port_of("NANOGATE_ADMIN_PORT")?.unwrap_or(ADMIN_PORT),
    };
    let admin_host = config.gateway.admin_host.as_deref().unwrap_or(ADMIN_HOST);
    let admin = match admin_port {
        0 => None,
        port => Some(server::listen_address(admin_host, port)?),
    };
    let threads = args.num_workers.filter(|threads| *threads > 0).unwrap_or_else(default_threads);
    Ok(Options {
        listen: server::listen_address(host, port)?,
        admin,
        threads,
        upgrade_from: args.upgrade_from.clone(),
        config_path: config.source.path.clone(),
        environment: environment.clone(),
    })
}

/// One thread a core the process may use.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
