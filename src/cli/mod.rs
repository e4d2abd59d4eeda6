//! The command line: what was typed, and which command answers it. Exit codes are the ones documented here.

mod check;
mod demo;
mod explain;
mod health;
mod models;
mod reload;
mod serve;
mod supervise;

use crate::config::support;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Everything went well.
pub const OK: u8 = 0;
/// The gateway could not start, or is not healthy.
pub const FAILED: u8 = 1;
/// The configuration or the command line has errors; nothing was served.
pub const INVALID: u8 = 2;

const ABOUT: &str = "A gateway for LLM APIs that takes the place of the LiteLLM proxy container.\n\n\
    Reads LiteLLM's own configuration file and serves the OpenAI and Anthropic APIs in front of the providers it names.";

const AFTER: &str = "Without a command, `serve` is meant.\n\n\
    Exit codes: 0 ended well; 1 could not start, or (health) is not healthy; 2 the configuration or the command line \
    has errors.\n\n\
    Environment: LITELLM_MASTER_KEY, the key variables your file names (NANOGPT_API_KEY …), CONFIG_FILE_PATH, HOST, PORT, \
    NANOGATE_ADMIN_PORT, LITELLM_LOG or RUST_LOG, SSL_CERT_FILE.";

#[derive(Parser)]
#[command(name = "nanogate", version, about = ABOUT, after_help = AFTER, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (the default).
    Serve(ServeArgs),
    /// Serve under a supervisor that owns the port: upgrades and crashes refuse no connection. The image's entry point.
    Supervise(SuperviseArgs),
    /// Make the supervisor start a new generation from the binary on disk; wait and report.
    Upgrade(UpgradeArgs),
    /// Read a configuration and report every fault with its place; serve nothing.
    Check(FileArgs),
    /// List the configured models: name, upstream model, base, key variable and whether it is set.
    Models(FileArgs),
    /// Read a request body from standard input and show what would be sent upstream, member by member and why; send nothing.
    Explain(ExplainArgs),
    /// Make the running gateway read its file again; wait and report.
    Reload(CommandArgs),
    /// Ask a running gateway whether it is ready; for containers without curl.
    Health(HealthArgs),
    /// Serve the example configuration without a key, against a bundled stand-in with no model behind it.
    Demo(DemoArgs),
}

/// The flags of `serve`: LiteLLM's, and one of our own.
#[derive(Args, Clone, Default)]
struct ServeArgs {
    /// LiteLLM's configuration file [env: CONFIG_FILE_PATH; else ./litellm_config.yaml, ./config.yaml, /app/config.yaml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port of the API [env: PORT] [default: 4000]
    #[arg(long)]
    port: Option<u16>,
    /// Address to listen on [env: HOST] [default: 0.0.0.0]
    #[arg(long)]
    host: Option<String>,
    /// Threads that serve [default: one per core]
    #[arg(long = "num_workers", visible_alias = "num-workers", value_name = "N")]
    num_workers: Option<usize>,
    /// Log at debug level: each request's decisions, never its content
    #[arg(long)]
    debug: bool,
    /// The same as --debug, as LiteLLM spells it
    #[arg(long = "detailed_debug", hide = true)]
    detailed_debug: bool,
    /// Port of the health service, 0 to switch it off [env: NANOGATE_ADMIN_PORT] [default: 4001]
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Set by the supervisor: where it hands the listening sockets over
    #[arg(long, hide = true, value_name = "SOCKET")]
    upgrade_from: Option<PathBuf>,
}

#[derive(Args)]
struct SuperviseArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Share the port with another supervisor on this host, so that one container can take over from another
    #[arg(long)]
    reuse_port: bool,
}

#[derive(Args)]
struct UpgradeArgs {
    #[command(flatten)]
    command: CommandArgs,
    /// Even while the generation before the serving one is still finishing its streams
    #[arg(long)]
    anyway: bool,
}

#[derive(Args)]
struct FileArgs {
    /// LiteLLM's configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct ExplainArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The model, when the body does not name one
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The route the body is meant for
    #[arg(long, default_value = "/v1/chat/completions", value_name = "PATH")]
    route: String,
}

#[derive(Args)]
struct HealthArgs {
    /// What to ask [default: http://127.0.0.1:PORT/health/readiness, with the port of the gateway that runs here, else
    /// PORT from the environment, else 4000]
    #[arg(long)]
    url: Option<String>,
}

#[derive(Args)]
struct CommandArgs {
    /// Port of the gateway that is meant, when several run here
    #[arg(long)]
    port: Option<u16>,
}

#[derive(Args)]
struct DemoArgs {
    /// Port of the API
    #[arg(long, default_value_t = 4000)]
    port: u16,
    /// Port of the health service, 0 to switch it off
    #[arg(long, default_value_t = 4001)]
    admin_port: u16,
    /// Answer at once instead of at a human pace
    #[arg(long)]
    instant: bool,
    /// Serve only the stand-in upstream, on this address, and no gateway (for load tests)
    #[arg(long, value_name = "ADDRESS")]
    only_upstream: Option<std::net::SocketAddr>,
}

/// The command line with LiteLLM's other flags beside ours: a compose file that sets one still starts.
fn grammar() -> clap::Command {
    let foreign = |mut command: clap::Command| {
        for row in foreign_flags() {
            let flag = Arg::new(row.key).long(row.key).num_args(0..=1).action(ArgAction::Append).hide(true);
            command = command.arg(flag);
        }
        command
    };
    foreign(Cli::command()).mut_subcommand("serve", foreign).mut_subcommand("supervise", foreign)
}

fn foreign_flags() -> impl Iterator<Item = &'static support::Row> {
    let known = |row: &&support::Row| !matches!(row.status, support::Status::Honoured(_));
    support::rows().iter().filter(|row| row.section == support::Section::Flag).filter(known)
}

/// A line for each flag of LiteLLM's that was given and does nothing.
fn warn_of_foreign(matches: &ArgMatches) {
    let serve = matches.subcommand_matches("serve").or_else(|| matches.subcommand_matches("supervise"));
    for row in foreign_flags() {
        let given = |matches: &ArgMatches| matches.value_source(row.key).is_some();
        if given(matches) || serve.is_some_and(given) {
            let (support::Status::Unsupported(words) | support::Status::Unused(words)) = row.status else { continue };
            complain(format_args!("warning: --{} does nothing here: {words}", row.key));
        }
    }
}

/// Writes a line to standard error. A full disk or a closed pipe behind it changes nothing: `eprintln!` would panic, and a
/// generation that cannot get rid of a warning would not start.
fn complain(words: impl Display) {
    let _ = std::io::stderr().write_all(format!("{words}\n").as_bytes());
}

/// Writes a line to standard output, in the same way: what a command came to is told by its exit code too.
fn say(words: impl Display) {
    let _ = std::io::stdout().write_all(format!("{words}\n").as_bytes());
}

/// Runs the command the process was started with.
pub fn run() -> ExitCode {
    let parsed = grammar().try_get_matches().and_then(|matches| {
        warn_of_foreign(&matches);
        Cli::from_arg_matches(&matches)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to standard output.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { INVALID } else { OK });
        }
    };
    let code = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Supervise(args)) => supervise::run(&args),
        Some(Command::Upgrade(args)) => reload::upgrade(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Models(args)) => models::run(&args),
        Some(Command::Explain(args)) => explain::run(&args),
        Some(Command::Reload(args)) => reload::run(&args),
        Some(Command::Health(args)) => health::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
    };
    // The last requests' lines may still be gathering.
    log::logger().flush();
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        grammar().debug_assert();
    }

    #[test]
    fn flags_of_litellm_that_do_nothing_are_no_error() {
        let line = ["nanogate", "--config", "x.yaml", "--telemetry", "False", "--run_gunicorn", "--port", "1"];
        let matches = grammar().try_get_matches_from(line).expect("a compose file's flags are accepted");
        let cli = Cli::from_arg_matches(&matches).expect("ours are read beside them");
        assert_eq!(cli.serve.port, Some(1));
        assert!(grammar().try_get_matches_from(["nanogate", "--no-such-flag"]).is_err());
    }

    #[test]
    fn litellm_flags_work_with_and_without_the_command() {
        for line in [
            &["nanogate", "--config", "/app/config.yaml", "--port", "4000", "--num_workers", "8", "--detailed_debug"][..],
            &["nanogate", "serve", "-c", "/app/config.yaml", "--port", "4000", "--num_workers", "8", "--host", "::"],
        ] {
            let cli = Cli::try_parse_from(line).expect("LiteLLM's flags are accepted");
            let args = match cli.command {
                Some(Command::Serve(args)) => args,
                _ => cli.serve,
            };
            assert_eq!((args.port, args.num_workers), (Some(4000), Some(8)));
            assert_eq!(args.config, Some(PathBuf::from("/app/config.yaml")));
        }
    }
}
