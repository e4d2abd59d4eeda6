//! The supervisor: PID 1 of the image, owner of the listening sockets, parent of the processes that serve.
//!
//! It plays the old process of Pingora's own hand-over: each child starts with `--upgrade` semantics and is handed the
//! sockets. So a child may be replaced, crash or be killed, and new connections wait in the kernel's queue instead of
//! being refused. It serves nothing itself and parses no request.

mod child;
mod sockets;

use super::control::{self, Callers, Reply, Role};
pub use child::READY;
use child::{Child, Start, Started};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sockets::Sockets;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Between the word to close connections and the word to end: clients of kept-alive connections hear of the change.
const PRE_DRAIN: Duration = Duration::from_secs(2);
/// A child that served this long before it died is started again at once.
const STEADY: Duration = Duration::from_secs(30);
/// The longest pause before a child that keeps dying is started again.
const RESTART_MAX: Duration = Duration::from_secs(10);
/// One serving and one draining, unless the operator asks for more.
const GENERATIONS_MAX: usize = 2;

/// What to supervise.
pub struct Supervision {
    /// The binary to start; looked up anew each time, so that a replaced file is the next generation.
    pub program: PathBuf,
    /// The arguments of `serve`.
    pub arguments: Vec<OsString>,
    /// Addresses to own, as the children write them.
    pub listen: Vec<SocketAddr>,
    /// Share the addresses with another supervisor on this host (SO_REUSEPORT).
    pub reuse_port: bool,
    /// Folders in which a hand-over may make one of its own, best first.
    pub places: Vec<PathBuf>,
    /// Checks the configuration before a new generation starts; the text says what is wrong.
    pub check: fn(&[OsString]) -> Result<(), String>,
}

/// More wishes than this at once are no operator's.
const WAITING_MAX: usize = 8;

enum Event {
    Started(Box<Started>),
    Retire(Pid),
    Restart,
}

struct Supervisor {
    supervision: Supervision,
    sockets: Arc<Sockets>,
    events: UnboundedSender<Event>,
    serving: Option<Child>,
    pending: Option<(Pid, Option<UnixStream>)>,
    pending_code: Option<u8>,
    /// Upgrades asked for while nothing served.
    waiting: Vec<(Option<UnixStream>, bool)>,
    draining: Vec<Child>,
    crashes: u32,
    ending: bool,
    exit_code: Option<u8>,
}

/// Supervises until it is told to end and all children have gone. Returns the exit code.
pub fn supervise(supervision: Supervision) -> u8 {
    let sockets = match Sockets::open(&supervision.listen, supervision.reuse_port) {
        Ok(sockets) => sockets,
        Err((address, cause)) => {
            log::error!("cannot listen on {address}: {cause}");
            return 1;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            log::error!("cannot start: {cause}");
            return 1;
        }
    };
    let code = runtime.block_on(async {
        let (events, received) = unbounded_channel();
        let supervisor = Supervisor {
            supervision,
            sockets: Arc::new(sockets),
            events,
            serving: None,
            pending: None,
            pending_code: None,
            waiting: Vec::new(),
            draining: Vec::new(),
            crashes: 0,
            ending: false,
            exit_code: None,
        };
        supervisor.run(received).await
    });
    // A hand-over that waits for a child that has gone is not waited for.
    runtime.shutdown_background();
    code
}

impl Supervisor {
    async fn run(mut self, mut events: UnboundedReceiver<Event>) -> u8 {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::hangup(),
            SignalKind::user_defined2(),
            SignalKind::child(),
        ];
        let signals: std::io::Result<Vec<_>> = kinds.into_iter().map(signal).collect();
        let Some([mut term, mut int, mut quit, mut hup, mut usr2, mut chld]) =
            signals.ok().and_then(|signals| <[_; 6]>::try_from(signals).ok())
        else {
            log::error!("signals cannot be watched");
            return 1;
        };
        let port = self.supervision.listen.first().map_or(0, SocketAddr::port);
        let mut callers = Callers::listen(Role::Supervise, port);
        self.start(None);
        loop {
            if let Some(code) = self.finished() {
                return code;
            }
            tokio::select! {
                _ = term.recv() => self.end(),
                _ = int.recv() => self.end(),
                _ = quit.recv() => self.end(),
                _ = hup.recv() => self.forward(Signal::SIGHUP),
                _ = usr2.recv() => self.upgrade(None, false),
                _ = chld.recv() => self.reap(),
                Some(event) = events.recv() => self.note(event),
                (stream, word) = callers.next() => self.command(stream, &word),
            }
        }
    }

    /// The exit code, once there is nothing left to do.
    fn finished(&self) -> Option<u8> {
        let nobody = self.serving.is_none() && self.pending.is_none() && self.draining.is_empty();
        (nobody && (self.ending || self.exit_code.is_some())).then(|| self.exit_code.unwrap_or(0))
    }

    fn command(&mut self, stream: UnixStream, word: &str) {
        match word {
            "upgrade" => self.upgrade(Some(stream), false),
            "upgrade anyway" => self.upgrade(Some(stream), true),
            other => reply(Some(stream), false, format!("`{other}` is not understood")),
        }
    }

    /// Begins a new generation, unless something speaks against it. While a first or lost child is being started, the
    /// wish waits for it.
    fn upgrade(&mut self, caller: Option<UnixStream>, anyway: bool) {
        if self.serving.is_none() && !self.ending && self.waiting.len() < WAITING_MAX {
            self.waiting.push((caller, anyway));
            return;
        }
        let against = if self.ending {
            Some("the gateway is ending".to_owned())
        } else if self.pending.is_some() {
            Some("a new generation is starting already".to_owned())
        } else if self.draining.len() + 1 >= GENERATIONS_MAX && !anyway && !self.draining.is_empty() {
            let since = self.draining[0].since.elapsed().as_secs();
            let pid = self.draining[0].pid;
            Some(format!(
                "the generation before (pid {pid}) is still finishing its streams, for {since} s; \
                          `nanogate upgrade --anyway` starts another all the same"
            ))
        } else {
            (self.supervision.check)(&self.supervision.arguments).err()
        };
        match against {
            Some(why) => {
                log::error!("no upgrade, the serving generation goes on: {why}");
                reply(caller, false, why);
            }
            None => self.start(caller),
        }
    }

    /// Spawns a child; [`Event::Started`] tells what became of it.
    fn start(&mut self, caller: Option<UnixStream>) {
        let start = Start {
            program: &self.supervision.program,
            arguments: &self.supervision.arguments,
            sockets: &self.sockets,
            places: &self.supervision.places,
        };
        match start.spawn() {
            Ok((pid, ready)) => {
                self.pending = Some((pid, caller));
                let events = self.events.clone();
                tokio::spawn(async move {
                    // The loop ends only after this answer or with the process.
                    let _ = events.send(Event::Started(Box::new(ready.wait().await)));
                });
            }
            Err(why) => {
                log::error!("{why}");
                reply(caller, false, why);
                if self.serving.is_none() && self.crashes == 0 {
                    self.exit_code = Some(1);
                }
                self.try_again();
            }
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Started(started) => self.started(*started),
            Event::Retire(pid) => {
                if self.draining.iter().any(|child| child.pid == pid) {
                    send(pid, Signal::SIGTERM);
                }
            }
            Event::Restart => {
                if self.serving.is_none() && self.pending.is_none() && !self.ending {
                    self.start(None);
                }
            }
        }
    }

    fn started(&mut self, started: Started) {
        let Some((pid, caller)) = self.pending.take_if(|(pid, _)| *pid == started.child.pid) else { return };
        if let Some(why) = started.failure {
            log::error!("the new process {pid} did not start: {why}");
            send(pid, Signal::SIGKILL);
            reply(caller, false, format!("the new process did not start, the old one goes on: {why}"));
            if self.serving.is_none() && self.crashes == 0 {
                // The very first child never served: its exit code is ours, as if it had been started directly.
                self.exit_code = Some(self.code_of(pid));
            }
            self.try_again();
            return;
        }
        log::info!("process {pid} serves");
        if self.ending {
            send(pid, Signal::SIGTERM);
        }
        if let Some(mut old) = self.serving.replace(started.child) {
            send(old.pid, Signal::SIGUSR1);
            old.since = Instant::now();
            let (events, retiring) = (self.events.clone(), old.pid);
            self.draining.push(old);
            tokio::spawn(async move {
                tokio::time::sleep(PRE_DRAIN).await;
                let _ = events.send(Event::Retire(retiring));
            });
        }
        reply(caller, true, format!("process {pid} serves; the one before finishes what it has begun"));
        for (caller, anyway) in std::mem::take(&mut self.waiting) {
            self.upgrade(caller, anyway);
        }
    }

    /// The exit code of a child that has been killed or has ended by itself.
    fn code_of(&self, pid: Pid) -> u8 {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => u8::try_from(code).unwrap_or(1),
            Ok(_) => 1,
            // Collected already.
            Err(_) => self.pending_code.unwrap_or(1),
        }
    }

    /// Collects every child that ended, ours or inherited as PID 1.
    fn reap(&mut self) {
        loop {
            let (pid, words, code) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    (pid, format!("exit code {code}"), u8::try_from(code).unwrap_or(1))
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, signal.as_str().to_owned(), 1),
                Ok(_) | Err(_) => return,
            };
            self.draining.retain(|child| child.pid != pid);
            if self.pending.as_ref().is_some_and(|(pending, _)| *pending == pid) {
                self.pending_code = Some(code);
            }
            if self.serving.as_ref().is_some_and(|child| child.pid == pid) {
                self.lost(&words);
            }
        }
    }

    /// The serving child died: connections wait in the queue until the next one takes them.
    fn lost(&mut self, how: &str) {
        let Some(child) = self.serving.take() else { return };
        if self.ending {
            return;
        }
        self.crashes = if child.since.elapsed() > STEADY { 1 } else { self.crashes + 1 };
        log::error!("process {} ended ({how}); starting another", child.pid);
        if self.pending.is_none() {
            self.try_again();
        }
    }

    /// Starts another child when none serves: at once after the first crash, then with growing pauses.
    fn try_again(&mut self) {
        if self.serving.is_some() || self.ending {
            return;
        }
        if self.crashes == 0 {
            // Never served: the supervisor ends with it.
            return;
        }
        let pause = Duration::from_millis(250).saturating_mul(1 << (self.crashes - 1).min(10)).min(RESTART_MAX);
        let pause = if self.crashes == 1 { Duration::ZERO } else { pause };
        self.crashes += 1;
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = events.send(Event::Restart);
        });
    }

    fn forward(&self, signal: Signal) {
        if let Some(child) = &self.serving {
            send(child.pid, signal);
        }
    }

    /// Lets all children finish; the second time it ends them.
    fn end(&mut self) {
        let signal = if self.ending { Signal::SIGKILL } else { Signal::SIGTERM };
        self.ending = true;
        // While they are open here, the kernel puts connections into a queue that nobody empties any more.
        self.sockets = Arc::default();
        let pending = self.pending.as_ref().map(|(pid, _)| *pid);
        let children = self.serving.iter().chain(&self.draining).map(|child| child.pid);
        for pid in children.chain(pending) {
            send(pid, signal);
        }
    }
}

fn send(pid: Pid, signal: Signal) {
    if let Err(cause) = kill(pid, signal) {
        log::debug!("{} cannot be sent to {pid}: {cause}", signal.as_str());
    }
}

fn reply(caller: Option<UnixStream>, done: bool, text: String) {
    if let Some(stream) = caller {
        tokio::spawn(control::answer(stream, Reply { text, done }));
    }
}
