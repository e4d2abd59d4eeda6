//! `nanogate reload`: the running gateway reads its file again; this command waits and says what came of it.

use super::{CommandArgs, FAILED, OK, UpgradeArgs, complain, say};
use crate::server::control::{self, Role};
use std::time::Duration;

/// Reading and resolving take moments; a gateway that needs longer is not well.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(args: &CommandArgs) -> u8 {
    command(Role::Serve, args.port, "reload")
}

/// `nanogate upgrade`: the supervisor starts a new generation; this command waits and says what came of it.
pub fn upgrade(args: &UpgradeArgs) -> u8 {
    command(Role::Supervise, args.command.port, if args.anyway { "upgrade anyway" } else { "upgrade" })
}

fn command(role: Role, port: Option<u16>, word: &str) -> u8 {
    match control::command(role, port, word, PATIENCE) {
        Ok(reply) => {
            say(reply.text);
            if reply.done { OK } else { FAILED }
        }
        Err(words) => {
            complain(words);
            FAILED
        }
    }
}
