//! One serving process: spawned, handed the sockets, waited for until it says that it is ready.

use super::sockets::{Folder, Sockets};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A child that is not ready after this long never will be.
const READY_MAX: Duration = Duration::from_secs(10);
/// How often the child's hand-over socket is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What a ready child writes on its standard output, which is a pipe to here.
pub const READY: &str = "ready";

/// A child that has been started.
pub struct Child {
    /// Its process.
    pub pid: Pid,
    /// When it began to serve, or to drain.
    pub since: Instant,
    /// Held open: a child whose standard input ends has lost its supervisor.
    _leash: Option<ChildStdin>,
}

/// What is started.
pub struct Start<'a> {
    /// The binary.
    pub program: &'a Path,
    /// The arguments of `serve`.
    pub arguments: &'a [OsString],
    /// What is handed over.
    pub sockets: &'a Arc<Sockets>,
    /// Where the hand-over may happen.
    pub places: &'a [PathBuf],
}

/// The way from a spawned process to a serving one.
pub struct Ready {
    pid: Pid,
    folder: Folder,
    sockets: Arc<Sockets>,
    leash: Option<ChildStdin>,
    output: Option<ChildStdout>,
}

/// What became of a start.
pub struct Started {
    /// The child.
    pub child: Child,
    /// Why it does not serve; none when it does.
    pub failure: Option<String>,
}

impl Start<'_> {
    /// Spawns the process.
    ///
    /// # Errors
    /// A sentence.
    pub fn spawn(&self) -> Result<(Pid, Ready), String> {
        let folder = Folder::make(self.places)?;
        let spawned = Command::new(self.program)
            .arg("serve")
            .args(self.arguments)
            .arg("--upgrade-from")
            .arg(folder.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = spawned.map_err(|cause| format!("{} cannot be started: {cause}", self.program.display()))?;
        let pid = i32::try_from(child.id()).map(Pid::from_raw).map_err(|_| "an impossible process id".to_owned())?;
        let (leash, output) = (child.stdin.take(), child.stdout.take());
        Ok((pid, Ready { pid, folder, sockets: Arc::clone(self.sockets), leash, output }))
    }
}

impl Ready {
    /// Hands the sockets over and waits for the child's word.
    pub async fn wait(mut self) -> Started {
        let (socket, sockets) = (self.folder.socket(), Arc::clone(&self.sockets));
        let output = self.output.take();
        tokio::task::spawn_blocking(move || hand_over(&socket, &sockets));
        let listening = tokio::task::spawn_blocking(move || says_ready(output));
        let failure = match tokio::time::timeout(READY_MAX, listening).await {
            Ok(Ok(true)) => None,
            Ok(_) => Some("it ended before it was ready; its own lines in the log say why".to_owned()),
            Err(_) => Some(format!("it was not ready after {} s", READY_MAX.as_secs())),
        };
        let child = Child { pid: self.pid, since: Instant::now(), _leash: self.leash.take() };
        Started { child, failure }
    }
}

/// Pingora's sender sleeps a second when the receiver is not there yet, so its socket is waited for first; no longer than its
/// folder exists, which goes when the child has.
fn hand_over(socket: &Path, sockets: &Sockets) {
    let begun = Instant::now();
    while !socket.exists() {
        if begun.elapsed() > READY_MAX || !socket.parent().is_some_and(Path::exists) {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "on a thread of its own")]
        std::thread::sleep(LOOK_EVERY);
    }
    let Some(path) = socket.to_str() else { return };
    if let Err(cause) = sockets.descriptors().send_to_sock(path) {
        log::warn!("the sockets could not be handed over: {cause}");
    }
}

/// Whether the child wrote its word before its output ended.
fn says_ready(output: Option<ChildStdout>) -> bool {
    let Some(output) = output else { return false };
    BufReader::new(output).lines().map_while(Result::ok).any(|line| line == READY)
}
