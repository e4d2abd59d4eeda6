//! Names lead to addresses, again and again: a move is followed, a dead address passed over, a lost name remembered.

use std::fs;
use std::time::Duration;

use nanogate::standin::{Options, Standin, Step};

use crate::support::gateway::{Gateway, binary_copy, config};
use crate::support::{DEADLINE, eventually, standin};
use crate::traffic::{CHAT, SHOWN, chat, completion, post};

/// Puts the test's hosts file in the place of the machine's, for one process and those it starts.
const OWN_HOSTS: &str = "mount --bind \"$HOSTS\" /etc/hosts && exec \"$@\"";

/// Whether this machine lets an ordinary user have mounts of his own.
fn may_mount() -> bool {
    let tried = std::process::Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    tried.is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_followed_where_it_goes() {
    if !may_mount() {
        eprintln!("skipped: this machine lets nobody have mounts of his own");
        return;
    }
    let good = || Step::json(200, completion("good"));
    let first = standin(good()).await;
    let port = first.address().port();
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    // Nobody listens on the first address.
    fs::write(&hosts, "127.0.0.2 up.test\n127.0.0.1 up.test\n").unwrap();
    let settings = "gateway_settings: { dns_refresh: 0.1 }\n";
    let (_folder, program) = binary_copy();
    let gateway = Gateway::builder(config(&format!("http://up.test:{port}/v1"), &[(SHOWN, "openai/up")]) + settings)
        .env("HOSTS", hosts.to_str().unwrap())
        .program(&program)
        .wrapper(&["unshare", "-Urm", "sh", "-c", OWN_HOSTS, "sh"])
        .start()
        .await;
    let answer = post(&gateway, CHAT, &chat()).await;
    assert_eq!((answer.status, answer.header("x-litellm-attempted-retries")), (200, Some("0")), "{}", answer.text());

    let listen = format!("127.0.0.3:{port}").parse().unwrap();
    let second = Standin::start(Options { listen, ..Options::default() }).await.unwrap();
    second.script(good());
    fs::write(&hosts, "127.0.0.3 up.test\n").unwrap();
    let begun = std::time::Instant::now();
    while second.requests().is_empty() {
        assert!(begun.elapsed() < DEADLINE, "the move was not followed:\n{}", gateway.log());
        assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    }

    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    assert!(gateway.wait_log("cannot resolve upstream up.test, keeping its last addresses").await);
    first.clear();
    second.clear();
    assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    assert!(eventually(Duration::from_secs(1), || second.requests().len() == 1).await && first.requests().is_empty());
}
