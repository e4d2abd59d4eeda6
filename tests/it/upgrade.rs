//! Upgrade: a new generation takes over from the old one, or does not, and no client notices either.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nanogate::standin::{Script, Standin, Step};
use serde_json::Value;
use tempfile::TempDir;

use crate::reload::{command, replace, serving};
use crate::support::gateway::{Gateway, base, binary_copy, descendants, entry};
use crate::support::raw::{self, Client, Ending, request};
use crate::support::{DEADLINE, eventually, standin};
use crate::traffic::{CHAT, chat, chat_stream, delta, finish, posted, shown, with};

const SOON: Duration = Duration::from_secs(3);

/// A connection that fails after this long was taken by a socket that nobody served any more.
const HUNG: Duration = Duration::from_secs(2);

/// Connections to the stand-ins that may idle in the pool once the load has ended.
const POOLED_MAX: usize = 64;

async fn supervised(upstream: &Standin) -> Gateway {
    static COPY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = COPY.get_or_init(binary_copy);
    Gateway::builder(serving(upstream, "glm")).command("supervise").program(program).start().await
}

/// The processes that serve under this supervisor, oldest first.
fn children(gateway: &Gateway) -> Vec<u32> {
    let path = format!("/proc/{0}/task/{0}/children", gateway.id());
    let list = std::fs::read_to_string(path).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A stream of `count` frames, 60 ms apart, and what a client sees of it.
fn slow_stream(count: usize) -> (Script, String) {
    let frames: Vec<Value> = (0..count).map(|n| delta(&n.to_string())).chain([finish()]).collect();
    let text = frames.iter().map(shown).chain(["data: [DONE]\n\n".to_owned()]).collect();
    (Step::sse(frames).gap_ms(60).into(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_the_generation_that_accepted_it() {
    let (script, expected) = slow_stream(60);
    let upstream = standin(script).await;
    let gateway = supervised(&upstream).await;
    let old = children(&gateway);
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    let head = client.head().await;
    let (code, text) = command(&gateway, &["upgrade"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(eventually(DEADLINE, || children(&gateway).iter().any(|pid| !old.contains(pid))).await);
    let answer = raw::get(gateway.address(), "/health/readiness").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = client.rest(head).await;
    assert_eq!((answer.text(), answer.ending), (expected, Ending::Complete));
    assert!(
        eventually(DEADLINE, || children(&gateway).iter().all(|pid| !old.contains(pid))).await,
        "{}",
        gateway.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_upgrade_waits_for_the_first_unless_asked_otherwise() {
    let (script, _) = slow_stream(120);
    let upstream = standin(script).await;
    let gateway = supervised(&upstream).await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    client.head().await;
    assert_eq!(command(&gateway, &["upgrade"]).await.0, 0);
    let (code, text) = command(&gateway, &["upgrade"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("still finishing its streams"), "{text}");
    let (code, text) = command(&gateway, &["upgrade", "--anyway"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(children(&gateway).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_comes_while_something_else_happens_is_answered() {
    let upstream = standin(Script::auto()).await;
    let gateway = supervised(&upstream).await;
    let mut caller = call(&gateway);
    for n in 1..=3 {
        let status = std::process::Command::new("kill").args(["-HUP", &gateway.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
        assert!(eventually(DEADLINE, || gateway.log().matches(" is live: ").count() >= n).await, "{}", gateway.log());
    }
    writeln!(caller, "dance").expect("the supervisor has not hung up");
    let mut answer = String::new();
    caller.read_to_string(&mut answer).expect("the supervisor answers");
    assert_eq!(answer, "`dance` is not understood\nfailed\n");
}

/// A connection to the control socket of the supervisor, over which nothing has been said yet.
fn call(gateway: &Gateway) -> UnixStream {
    let listing = std::fs::read_to_string("/proc/net/unix").expect("Linux lists its sockets");
    let prefix = format!("nanogate/supervise/{}/", gateway.address().port());
    let mut names = listing.lines().filter_map(|line| line.rsplit(' ').next()?.strip_prefix('@'));
    let name = names.find(|name| name.starts_with(&prefix));
    let address = UnixAddress::from_abstract_name(name.expect("the supervisor listens")).expect("a short name");
    UnixStream::connect_addr(&address).expect("the supervisor listens")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_does_not_take_over() {
    let upstream = standin(Script::auto()).await;
    let gateway = supervised(&upstream).await;
    let serving_now = children(&gateway);
    replace(gateway.file(), "model_list: [");
    let (code, text) = command(&gateway, &["upgrade"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("litellm_config.yaml:1:"), "{text}");
    assert_eq!(children(&gateway), serving_now);
    let answer = raw::post_json(gateway.address(), CHAT, &chat()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_that_crashes_at_start_does_not_take_over() {
    let (_folder, program) = binary_copy();
    let upstream = standin(Script::auto()).await;
    let gateway = Gateway::builder(serving(&upstream, "glm")).command("supervise").program(&program).start().await;
    let broken = program.with_extension("broken");
    std::fs::write(&broken, "#!/bin/sh\nexit 7\n").expect("a file can be written");
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).expect("and made executable");
    std::fs::rename(&broken, &program).expect("and put in the binary's place");
    let (code, text) = command(&gateway, &["upgrade"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("the old one goes on"), "{text}");
    assert_eq!(raw::get(gateway.address(), "/health/liveliness").await.status, 200);
    assert!(eventually(DEADLINE, || children(&gateway).len() == 1).await, "a zombie is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_child_is_replaced_while_connections_wait() {
    let upstream = standin(Script::auto()).await;
    let gateway = supervised(&upstream).await;
    let killed = children(&gateway)[0];
    let status = std::process::Command::new("kill").args(["-KILL", &killed.to_string()]).status();
    assert!(status.expect("`kill` can be run").success());
    let answer = raw::post_json(gateway.address(), CHAT, &chat()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!children(&gateway).contains(&killed));
    assert!(gateway.wait_log("starting another").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_supervisor_ends_with_its_streams() {
    let (script, expected) = slow_stream(50);
    let upstream = standin(script).await;
    let mut gateway = supervised(&upstream).await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    let head = client.head().await;
    gateway.signal("TERM");
    let address = gateway.address();
    let refused = eventually(SOON, || std::net::TcpStream::connect(address).is_err()).await;
    assert!(refused, "connections are taken that nobody serves");
    let answer = client.rest(head).await;
    assert_eq!((answer.text(), answer.ending), (expected, Ending::Complete));
    assert_eq!(gateway.wait_exit(SOON).await, Some(0), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_does_not_outlive_a_killed_supervisor() {
    let upstream = standin(Script::auto()).await;
    let mut gateway = supervised(&upstream).await;
    let child = children(&gateway)[0];
    gateway.signal("KILL");
    gateway.wait_exit(SOON).await;
    let gone = || !std::path::Path::new(&format!("/proc/{child}/exe")).exists();
    assert!(eventually(DEADLINE, gone).await, "process {child} is left");
}

/// Counts of a load that runs until it is told to stop.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    served: AtomicU64,
    failed: AtomicU64,
    /// Of those, the ones that took longer than [`HUNG`] to fail.
    hung: AtomicU64,
}

impl Load {
    fn note(&self, good: bool) {
        let counter = if good { &self.served } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// One connection a request.
    async fn connecting(self: Arc<Self>, address: std::net::SocketAddr, body: Vec<u8>) {
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let good = match Client::try_connect(address).await {
                Ok(mut client) => {
                    let close = [("Connection", "close")];
                    client.send(request("POST", CHAT, &close, &body)).await;
                    matches!(client.try_head().await, Ok(Some(head)) if head.status == 200)
                }
                Err(_) => false,
            };
            self.note(good);
            self.hung.fetch_add(u64::from(!good && begun.elapsed() > HUNG), Ordering::Relaxed);
        }
    }

    /// Long streams, each of which has to arrive whole.
    async fn streaming(self: Arc<Self>, address: std::net::SocketAddr, expected: String) {
        let body = with(chat_stream(), serde_json::json!({"model": "slow"})).to_string().into_bytes();
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = Client::connect(address).await;
            client.send(request("POST", CHAT, &[("Connection", "close")], &body)).await;
            let Ok(Some(head)) = client.try_head().await else {
                self.note(false);
                continue;
            };
            let answer = client.rest(head).await;
            self.note(answer.ending == Ending::Complete && answer.text() == expected);
        }
    }

    /// One connection as long as the gateway keeps it, without a look whether it was closed in between.
    async fn keeping(self: Arc<Self>, address: std::net::SocketAddr, body: Vec<u8>) {
        let mut kept: Option<Client> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = match kept.take() {
                Some(client) => client,
                None => Client::connect(address).await,
            };
            client.send(request("POST", CHAT, &[], &body)).await;
            let Ok(Some(head)) = client.try_head().await else {
                self.note(false);
                continue;
            };
            let closes = head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let answer = client.rest(head).await;
            self.note(answer.status == 200 && answer.ending == Ending::Complete);
            kept = (!closes).then_some(client);
        }
    }
}

/// How often the drill goes round; a longer one is asked for by `NANOGATE_DRILL_ROUNDS`.
#[expect(clippy::disallowed_methods, reason = "a test's own switch, not the gateway's")]
fn drill_rounds() -> usize {
    std::env::var("NANOGATE_DRILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

/// How many files a process has open.
fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let row = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    row.and_then(|row| row.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_request_fails_across_reloads_upgrades_and_refusals() {
    let upstream = standin(Script::auto()).await;
    let (script, expected) = slow_stream(50);
    let expected = expected.replace("\"glm\"", "\"slow\"");
    let streams = standin(script).await;
    let file = serving(&upstream, "glm") + &entry("slow", "openai/zai-org/glm-4.7", &base(&streams), "");
    let (_folder, program) = binary_copy();
    let gateway = Gateway::builder(file.clone()).command("supervise").program(&program).start().await;
    let load = Arc::new(Load::default());
    let small = chat().to_string().into_bytes();
    let large = serde_json::json!({"model": "glm", "messages": [{"role": "user", "content": "x".repeat(5 << 20)}]});
    assert_eq!(raw::post_json(gateway.address(), CHAT, &chat()).await.status, 200);
    let files_before = (open_files(gateway.id()), open_files(children(&gateway)[0]));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..3 {
        clients.spawn(Arc::clone(&load).keeping(gateway.address(), small.clone()));
        clients.spawn(Arc::clone(&load).connecting(gateway.address(), small.clone()));
    }
    clients.spawn(Arc::clone(&load).keeping(gateway.address(), large.to_string().into_bytes()));
    for _ in 0..50 {
        clients.spawn(Arc::clone(&load).streaming(gateway.address(), expected.clone()));
    }
    let mut rss_before = 0;
    for round in 0..drill_rounds() {
        replace(gateway.file(), &(file.clone() + &format!("# {round}\n")));
        assert_eq!(command(&gateway, &["reload"]).await.0, 0);
        if round == 0 {
            rss_before = rss_kib(children(&gateway)[0]);
        }
        let (code, text) = command(&gateway, &["upgrade"]).await;
        assert_eq!(code, 0, "{text}");
        assert!(eventually(DEADLINE, || children(&gateway).len() == 1).await, "{}", gateway.log());
        replace(gateway.file(), "model_list: [");
        assert_eq!(command(&gateway, &["reload"]).await.0, 1);
        assert_eq!(command(&gateway, &["upgrade"]).await.0, 1);
        crash_at_start(&gateway, &program).await;
    }
    load.stop.store(true, Ordering::Relaxed);
    while clients.join_next().await.is_some() {}
    let (served, failed) = (load.served.load(Ordering::Relaxed), load.failed.load(Ordering::Relaxed));
    assert_eq!(failed, 0, "of {} requests\n{}", served + failed, gateway.log());
    assert!(served > 100, "only {served} requests were made");
    let last = children(&gateway)[0];
    let files_after = || (open_files(gateway.id()), open_files(last));
    let rss_after = rss_kib(last);
    eprintln!("{served} requests, files {files_before:?} -> {:?}, rss {rss_before} -> {rss_after} KiB", files_after());
    assert!(
        eventually(DEADLINE, || files_after().0 == files_before.0 && files_after().1 <= files_before.1 + POOLED_MAX)
            .await,
        "{files_before:?} files became {:?}",
        files_after()
    );
    let left = || {
        std::fs::read_dir("/dev/shm").map_or(0, |all| all.flatten().filter(|file| is_of(file, gateway.id())).count())
    };
    assert!(eventually(DEADLINE, || left() == 0).await, "hand-over folders are left");
    assert!(rss_after < 2 * rss_before.max(64 << 10), "{rss_before} KiB became {rss_after}");
}

fn is_of(file: &std::fs::DirEntry, pid: u32) -> bool {
    file.file_name().to_string_lossy().starts_with(&format!("nanogate-{pid}-"))
}

/// An upgrade to a program that ends at once, and the good one back in its place.
async fn crash_at_start(gateway: &Gateway, program: &std::path::Path) {
    let good = program.with_extension("good");
    std::fs::rename(program, &good).expect("the folder is ours");
    std::fs::write(program, "#!/bin/sh\nexit 7\n").expect("a file can be written");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("and made executable");
    assert_eq!(command(gateway, &["upgrade"]).await.0, 1);
    std::fs::rename(&good, program).expect("the folder is ours");
}

/// PID 1 of a namespace and nobody in particular, as in the image.
const AS_IN_THE_IMAGE: &[&str] = &[
    "unshare",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--no-new-privs",
];

#[tokio::test(flavor = "multi_thread")]
async fn as_pid_1_and_an_ordinary_user_it_upgrades_reaps_and_ends() {
    let allowed = std::process::Command::new("unshare").args(&AS_IN_THE_IMAGE[1..]).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: namespaces cannot be made here");
        return;
    }
    let (folder, program) = binary_copy();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    let upstream = standin(Script::auto()).await;
    let builder = Gateway::builder(serving(&upstream, "glm")).command("supervise").program(&program);
    let mut gateway = builder.wrapper(AS_IN_THE_IMAGE).start().await;
    let first = descendants(gateway.id());
    assert_eq!(first.len(), 2, "PID 1 and the one that serves");
    let (code, text) = command(&gateway, &["upgrade"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(eventually(DEADLINE, || descendants(gateway.id()).len() == 2).await, "{}", gateway.log());
    let serving_now = descendants(gateway.id())[1];
    assert!(!first.contains(&serving_now));
    let status = std::process::Command::new("kill").args(["-KILL", &serving_now.to_string()]).status();
    assert!(status.expect("`kill` can be run").success());
    let answer = raw::post_json(gateway.address(), CHAT, &chat()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let supervisor = descendants(gateway.id())[0];
    let status = std::process::Command::new("kill").args(["-TERM", &supervisor.to_string()]).status();
    assert!(status.expect("`kill` can be run").success());
    assert_eq!(gateway.wait_exit(SOON).await, Some(0), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_supervisors_share_a_port_and_one_takes_over() {
    const CLIENTS: u64 = 12;
    let upstream = standin(Script::auto()).await;
    let (script, expected) = slow_stream(80);
    let streams = standin(script).await;
    let file = serving(&upstream, "glm") + &entry("slow", "openai/zai-org/glm-4.7", &base(&streams), "");
    let (_folder, program) = binary_copy();
    let start = |port: Option<u16>| {
        let builder = Gateway::builder(file.clone()).command("supervise").program(&program);
        let builder = builder.arg("--reuse-port");
        match port {
            Some(port) => builder.port(port).start(),
            None => builder.start(),
        }
    };
    let mut old = start(None).await;
    let load = Arc::new(Load::default());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(Arc::clone(&load).connecting(old.address(), chat().to_string().into_bytes()));
    }
    let body = with(chat_stream(), serde_json::json!({"model": "slow"}));
    let mut client = posted(&old, CHAT, &body).await;
    let head = client.head().await;
    let new = start(Some(old.address().port())).await;
    old.signal("TERM");
    let stream = client.rest(head).await;
    assert_eq!((stream.text(), stream.ending), (expected.replace("\"glm\"", "\"slow\""), Ending::Complete));
    assert_eq!(old.wait_exit(DEADLINE).await, Some(0), "{}", old.log());
    let served = load.served.load(Ordering::Relaxed);
    assert!(eventually(DEADLINE, || load.served.load(Ordering::Relaxed) > served + 50).await, "{}", new.log());
    load.stop.store(true, Ordering::Relaxed);
    while clients.join_next().await.is_some() {}
    // What the kernel had dealt to the old socket in its last moment is reset (docs/operations.md): of each client at most
    // the one connection it was making.
    let (failed, hung) = (load.failed.load(Ordering::Relaxed), load.hung.load(Ordering::Relaxed));
    assert!(
        failed <= CLIENTS && hung == 0,
        "{failed} failed and {hung} hung of {}",
        load.served.load(Ordering::Relaxed)
    );
}
