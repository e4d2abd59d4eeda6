//! How `nanogate reload` reaches the process that serves: a socket in Linux's abstract namespace, which needs no folder
//! and no rights in a read-only container, and is gone with its process.
//!
//! One word in, lines of text out, the last of them `ok` or `failed`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout_at};

/// A word longer than this is none of ours.
const WORD_BYTES_MAX: usize = 64;
/// How long a caller may take to say its word.
const WORD_WAIT: Duration = Duration::from_secs(2);
/// How long nobody is listened to after the socket itself has failed, as it does without a free descriptor.
const FAULT_PAUSE: Duration = Duration::from_millis(200);
/// Where the kernel lists sockets, abstract ones with an `@`.
const SOCKETS: &str = "/proc/net/unix";

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A process that serves requests: takes `reload`.
    Serve,
    /// The supervisor: takes `upgrade`.
    Supervise,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Role::Serve => "serve",
            Role::Supervise => "supervise",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Role::Serve => "reload",
            Role::Supervise => "upgrade",
        }
    }
}

/// What a command came to.
pub struct Reply {
    /// For people; may have several lines.
    pub text: String,
    /// Whether it was done.
    pub done: bool,
}

/// The control socket of this process and the caller that is being listened to.
pub struct Callers {
    listener: Option<UnixListener>,
    speaking: Option<Speaking>,
}

/// A caller that has not said its whole word yet.
struct Speaking {
    stream: UnixStream,
    said: Vec<u8>,
    until: Instant,
}

impl Callers {
    /// Opens the socket. Where that is not possible the log says so, and nobody will ever call.
    pub fn listen(role: Role, port: u16) -> Self {
        let listener = open(role, port)
            .inspect_err(|cause| log::warn!("`nanogate {}` will not find this process: {cause}", role.command()))
            .ok();
        Callers { listener, speaking: None }
    }

    /// The next caller that may command us, with its word. Callers that say nothing are hung up on. May be dropped and
    /// called again: who was about to speak is listened to further.
    pub async fn next(&mut self) -> (UnixStream, String) {
        loop {
            let speaking = match &mut self.speaking {
                Some(speaking) => speaking,
                None => {
                    let caller = self.accept().await;
                    self.speaking.insert(caller)
                }
            };
            let heard = timeout_at(speaking.until, speaking.listen()).await;
            if let (Some(Speaking { stream, said, .. }), Ok(Ok(()))) = (self.speaking.take(), heard) {
                return (stream, String::from_utf8_lossy(&said).trim().to_owned());
            }
        }
    }

    async fn accept(&self) -> Speaking {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        loop {
            match listener.accept().await {
                Ok((stream, _)) if may_command(&stream) => {
                    return Speaking { stream, said: Vec::new(), until: Instant::now() + WORD_WAIT };
                }
                Ok(_) => {}
                Err(cause) => {
                    log::warn!("the control socket failed: {cause}");
                    tokio::time::sleep(FAULT_PAUSE).await;
                }
            }
        }
    }
}

impl Speaking {
    /// Reads up to the end of the line, of the connection or of what a word may be.
    async fn listen(&mut self) -> io::Result<()> {
        while self.said.len() < WORD_BYTES_MAX && !self.said.ends_with(b"\n") {
            if self.stream.read_buf(&mut self.said).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Opens the control socket of this process.
///
/// # Errors
/// When the name is taken or sockets are not allowed.
fn open(role: Role, port: u16) -> io::Result<UnixListener> {
    let name = format!("nanogate/{}/{port}/{}/{}", role.word(), pid_namespace(), std::process::id());
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// The number of the PID namespace we are in. Containers on the host's network share one list of names, in which each of
/// them may well be process 1.
fn pid_namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

/// Root and the user we run as.
fn may_command(stream: &UnixStream) -> bool {
    let own = std::fs::metadata("/proc/self").map(|own| own.uid());
    stream.peer_cred().is_ok_and(|caller| caller.uid() == 0 || own.is_ok_and(|own| own == caller.uid()))
}

/// Answers and hangs up.
pub async fn answer(mut stream: UnixStream, reply: Reply) {
    let end = if reply.done { "ok" } else { "failed" };
    let text = format!("{}\n{end}\n", reply.text.trim_end());
    // A caller that hung up does not want to know.
    let _ = stream.write_all(text.as_bytes()).await;
}

/// Sends a word to the process of this role, found by itself; `port` chooses among several.
///
/// # Errors
/// A sentence: nobody there, several there, no answer.
pub fn command(role: Role, port: Option<u16>, word: &str, patience: Duration) -> Result<Reply, String> {
    let listing = std::fs::read_to_string(SOCKETS).map_err(|cause| format!("{SOCKETS} cannot be read: {cause}"))?;
    let names = find(&listing, role, port, &pid_namespace());
    let name = match names.as_slice() {
        [] => return Err("no running nanogate was found here".to_owned()),
        [name] => name,
        several => return Err(format!("several are running: {}; choose one with --port", several.join(", "))),
    };
    ask(name, word, patience).map_err(|cause| format!("{name} does not answer: {cause}"))
}

/// The port of the one gateway that serves here, as its control socket names it; none when there is no one or several.
pub fn serving_port() -> Option<u16> {
    let listing = std::fs::read_to_string(SOCKETS).ok()?;
    let mut ports: Vec<u16> = find(&listing, Role::Serve, None, &pid_namespace())
        .iter()
        .filter_map(|name| name.split('/').nth(2)?.parse().ok())
        .collect();
    ports.dedup();
    match ports.as_slice() {
        [port] => Some(*port),
        _ => None,
    }
}

/// Names in the kernel's list: those of our own PID namespace, or, when it has none and a port says which is meant, those of
/// others. Without a port a container on the host's network would reload its neighbour, and call itself healthy when that is.
fn find(listing: &str, role: Role, port: Option<u16>, namespace: &str) -> Vec<String> {
    let prefix = match port {
        Some(port) => format!("@nanogate/{}/{port}/", role.word()),
        None => format!("@nanogate/{}/", role.word()),
    };
    let listening = listing.lines().filter_map(|line| line.rsplit(' ').next());
    let mut names: Vec<String> =
        listening.filter(|name| name.starts_with(&prefix)).map(|name| name[1..].to_owned()).collect();
    names.sort();
    names.dedup();
    let is_own = |name: &String| name.split('/').nth(3) == Some(namespace);
    if port.is_none() || names.iter().any(is_own) {
        names.retain(is_own);
    }
    names
}

fn ask(name: &str, word: &str, patience: Duration) -> io::Result<Reply> {
    let mut stream = StdStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    stream.set_read_timeout(Some(patience))?;
    writeln!(stream, "{word}")?;
    let lines: Vec<String> = BufReader::new(stream).lines().collect::<io::Result<_>>()?;
    match lines.split_last() {
        Some((end, text)) => Ok(Reply { text: text.join("\n"), done: end == "ok" }),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_role_and_port() {
        let listing = "Num RefCount ...\n\
            0000: 00000002 00000000 00010000 0001 01 1 @nanogate/serve/4000/11/7\n\
            0000: 00000003 00000000 00000000 0001 03 2 @nanogate/serve/4000/11/7\n\
            0000: 00000002 00000000 00010000 0001 01 3 @nanogate/serve/5000/11/9\n\
            0000: 00000002 00000000 00010000 0001 01 4 @nanogate/supervise/4000/11/1\n\
            0000: 00000002 00000000 00010000 0001 01 5 /run/other.sock\n";
        let find = |role, port| find(listing, role, port, "11");
        assert_eq!(find(Role::Serve, None), ["nanogate/serve/4000/11/7", "nanogate/serve/5000/11/9"]);
        assert_eq!(find(Role::Serve, Some(5000)), ["nanogate/serve/5000/11/9"]);
        assert_eq!(find(Role::Supervise, None), ["nanogate/supervise/4000/11/1"]);
        assert!(find(Role::Serve, Some(1)).is_empty());
    }

    #[test]
    fn other_namespaces_are_reached_by_port_only() {
        let listing = "0 1 @nanogate/supervise/4000/11/1\n0 2 @nanogate/supervise/4000/22/1\n";
        let find = |port, namespace| find(listing, Role::Supervise, port, namespace);
        for port in [None, Some(4000)] {
            assert_eq!(find(port, "22"), ["nanogate/supervise/4000/22/1"]);
        }
        assert!(find(None, "33").is_empty());
        assert_eq!(find(Some(4000), "33").len(), 2);
    }

    #[tokio::test]
    async fn a_word_gets_its_answer() {
        let mut callers = Callers::listen(Role::Supervise, 1);
        let asking = tokio::task::spawn_blocking(|| command(Role::Supervise, Some(1), "upgrade", WORD_WAIT));
        let (stream, word) = callers.next().await;
        assert_eq!(word, "upgrade");
        answer(stream, Reply { text: "one\ntwo".to_owned(), done: false }).await;
        let reply = asking.await.unwrap().unwrap();
        assert_eq!((reply.text.as_str(), reply.done), ("one\ntwo", false));
        drop(callers);
        assert!(command(Role::Supervise, Some(1), "upgrade", WORD_WAIT).is_err());
    }

    fn call(port: u16) -> StdStream {
        let name = format!("nanogate/serve/{port}/{}/{}", pid_namespace(), std::process::id());
        StdStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).expect("somebody listens")
    }

    #[tokio::test]
    async fn who_is_about_to_speak_when_something_else_happens_is_heard_all_the_same() {
        let mut callers = Callers::listen(Role::Serve, 2);
        let mut caller = call(2);
        for part in ["", "re", "lo"] {
            write!(caller, "{part}").unwrap();
            // Something else is ready as soon as the caller has been looked at.
            tokio::select! {
                biased;
                _ = callers.next() => panic!("the word has no end yet"),
                () = async {} => {}
            }
        }
        writeln!(caller, "ad").unwrap();
        assert_eq!(callers.next().await.1, "reload");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_too_much_keeps_nobody_waiting() {
        let mut callers = Callers::listen(Role::Serve, 3);
        let mut silent = call(3);
        let mut loud = call(3);
        let words = "x".repeat(2 * WORD_BYTES_MAX);
        write!(loud, "{words}").unwrap();
        let (_, word) = callers.next().await;
        assert!(word.len() >= WORD_BYTES_MAX && words.starts_with(&word), "{word}");
        assert_eq!(io::Read::read(&mut silent, &mut [0]).unwrap(), 0);
    }
}
