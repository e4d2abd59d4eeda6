//! How `nanogate reload` reaches the process that serves: a socket in Linux's abstract namespace, which needs no folder
//! and no rights in a read-only container, and is gone with its process.
//!
//! One word in, lines of text out, the last of them `ok` or `failed`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// A word longer than this is none of ours.
const WORD_BYTES_MAX: u64 = 64;
/// How long a caller may take to say its word.
const WORD_WAIT: Duration = Duration::from_secs(2);
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
}

/// What a command came to.
pub struct Reply {
    /// For people; may have several lines.
    pub text: String,
    /// Whether it was done.
    pub done: bool,
}

/// Opens the control socket of this process.
///
/// # Errors
/// When the name is taken or sockets are not allowed.
pub fn open(role: Role, port: u16) -> io::Result<UnixListener> {
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

/// Accepts one caller and reads its word; none for a caller that may not command us or says nothing.
///
/// # Errors
/// When the socket itself fails.
pub async fn accept(listener: &UnixListener) -> io::Result<Option<(UnixStream, String)>> {
    let (mut stream, _) = listener.accept().await?;
    if !may_command(&stream) {
        return Ok(None);
    }
    let mut word = String::new();
    let (read, _) = stream.split();
    let mut line = tokio::io::BufReader::new(read.take(WORD_BYTES_MAX));
    match tokio::time::timeout(WORD_WAIT, line.read_line(&mut word)).await {
        Ok(Ok(_)) => Ok(Some((stream, word.trim().to_owned()))),
        _ => Ok(None),
    }
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
        let listener = open(Role::Supervise, 1).expect("the name is free");
        let asking = tokio::task::spawn_blocking(|| command(Role::Supervise, Some(1), "upgrade", WORD_WAIT));
        let (stream, word) = accept(&listener).await.unwrap().expect("we may command ourselves");
        assert_eq!(word, "upgrade");
        answer(stream, Reply { text: "one\ntwo".to_owned(), done: false }).await;
        let reply = asking.await.unwrap().unwrap();
        assert_eq!((reply.text.as_str(), reply.done), ("one\ntwo", false));
        drop(listener);
        assert!(command(Role::Supervise, Some(1), "upgrade", WORD_WAIT).is_err());
    }
}
