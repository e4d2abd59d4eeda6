//! Upgrades for which the machine has no room, no folder or no file: refused with words, nothing left behind, no client notices.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nanogate::standin::{Script, Standin, Step};

use crate::reload::{command, serving};
use crate::support::gateway::{Gateway, Process, base, binary_copy, descendants, entry};
use crate::support::raw::{self, Ending};
use crate::support::{DEADLINE, MASTER_KEY, eventually, standin};
use crate::traffic::{CHAT, chat, chat_stream, delta, finish, posted, shown, with};

/// Files and folders that fit into each small disk of [`DISKS`], its root left out.
const INODES: usize = 8;

/// Of the places for a hand-over, /dev/shm and TMPDIR become small disks; the others cannot be written, as in a container. With
/// `no-shm` /dev/shm cannot be written either.
const DISKS: &str = r#"
set -e
for place in /tmp /run; do mount --bind $place $place; mount -o remount,bind,ro $place; done
mount -t tmpfs -o mode=1777,size=64k,nr_inodes=9 tmpfs /dev/shm
if [ "$1" = no-shm ]; then mount -o remount,ro /dev/shm; fi
mount -t tmpfs -o mode=1777,size=64k,nr_inodes=9 tmpfs /mnt
mkdir /mnt/tmp
shift
export TMPDIR=/mnt/tmp
exec "$@""#;

/// A program in a mount namespace with [`DISKS`]; none, with a word about it, where that is not permitted.
fn with_disks(which: &'static str) -> Option<[&'static str; 7]> {
    let words = ["unshare", "--mount", "sh", "-c", DISKS, "sh", which];
    let tried = Command::new(words[0]).args(&words[1..]).arg("true").output();
    let permitted = tried.as_ref().is_ok_and(|output| output.status.success());
    if !permitted {
        eprintln!("skipped: mounts in a namespace are not permitted here ({tried:?})");
    }
    permitted.then_some(words)
}

/// The small disks of a gateway as this process reaches them, /dev/shm first.
fn disks(gateway: &Gateway) -> [PathBuf; 2] {
    ["dev/shm", "mnt/tmp"].map(|place| PathBuf::from(format!("/proc/{}/root/{place}", gateway.id())))
}

fn fill_bytes(disk: &Path) {
    let mut file = std::fs::File::create(disk.join("bytes")).expect("the disk has room yet");
    let full = std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("the disk is small");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
}

/// Takes every inode but `free`.
fn fill_inodes(disk: &Path, free: usize) {
    let full = |n: usize| std::fs::File::create(disk.join(format!("inode-{n}"))).map(drop);
    let taken = (0..=INODES).take_while(|n| full(*n).is_ok()).count();
    assert!(taken <= INODES, "{} has no end", disk.display());
    for n in 0..free {
        std::fs::remove_file(disk.join(format!("inode-{n}"))).expect("it was made just now");
    }
}

fn clear(disk: &Path) {
    for name in names(disk) {
        std::fs::remove_file(disk.join(name)).expect("only fillers are there");
    }
}

fn names(disk: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(disk).expect("the disk can be read");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn nothing_of_ours(gateway: &Gateway) -> bool {
    disks(gateway).iter().all(|disk| names(disk).iter().all(|name| !name.starts_with("nanogate")))
}

async fn upgrade(gateway: &Gateway) -> (i32, String) {
    command(gateway, &["upgrade"]).await
}

/// An upgrade is refused with these words, and everything is as it was.
async fn is_refused(gateway: &Gateway, because: &[&str]) {
    let before = descendants(gateway.id());
    let (code, text) = upgrade(gateway).await;
    assert_eq!(code, 1, "{text}");
    assert!(because.iter().all(|words| text.contains(words)), "{text}");
    assert_eq!(descendants(gateway.id()), before);
    serves(gateway).await;
}

/// An upgrade succeeds, and the generation before ends.
async fn is_done(gateway: &Gateway) {
    let before = descendants(gateway.id());
    let (code, text) = upgrade(gateway).await;
    assert_eq!(code, 0, "{text}");
    let replaced = || descendants(gateway.id()).iter().all(|pid| !before.contains(pid));
    assert!(eventually(DEADLINE, replaced).await, "{}", gateway.log());
    serves(gateway).await;
}

async fn serves(gateway: &Gateway) {
    let answer = raw::post_json(gateway.address(), CHAT, &chat()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn upstream() -> Standin {
    standin(Script::auto()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_refuse_an_upgrade_until_there_is_room() {
    let Some(wrapper) = with_disks("all") else { return };
    let (_folder, program) = binary_copy();
    let frames: Vec<_> = (0..60).map(|n| delta(&n.to_string())).chain([finish()]).collect();
    let expected: String = frames.iter().map(shown).chain(["data: [DONE]\n\n".to_owned()]).collect();
    let slow = standin(Step::sse(frames).gap_ms(60)).await;
    let upstream = upstream().await;
    let file = serving(&upstream, "glm") + &entry("slow", "openai/zai-org/glm-4.7", &base(&slow), "");
    let gateway = Gateway::builder(file).command("supervise").program(&program).wrapper(&wrapper).start().await;
    let body = with(chat_stream(), serde_json::json!({"model": "slow"}));
    let mut client = posted(&gateway, CHAT, &body).await;
    let head = client.head().await;
    for disk in disks(&gateway) {
        fill_bytes(&disk);
        fill_inodes(&disk, 0);
    }
    is_refused(&gateway, &["/dev/shm: No space left", "/mnt/tmp: No space left", "/tmp: Read-only", "TMPDIR"]).await;
    assert!(nothing_of_ours(&gateway));
    disks(&gateway).iter().for_each(|disk| clear(disk));
    is_done(&gateway).await;
    assert!(nothing_of_ours(&gateway));
    let answer = client.rest(head).await;
    assert_eq!((answer.text(), answer.ending), (expected.replace("\"glm\"", "\"slow\""), Ending::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_full_of_bytes_takes_a_hand_over_and_one_without_inodes_is_passed_over() {
    let Some(wrapper) = with_disks("all") else { return };
    let (_folder, program) = binary_copy();
    let upstream = upstream().await;
    let builder = Gateway::builder(serving(&upstream, "glm")).command("supervise").program(&program);
    let gateway = builder.wrapper(&wrapper).start().await;
    let [shm, own] = disks(&gateway);
    fill_bytes(&shm);
    fill_inodes(&own, 0);
    is_done(&gateway).await;
    clear(&own);
    // Enough for the folder, not for the socket in it.
    fill_inodes(&shm, 1);
    is_done(&gateway).await;
    assert!(nothing_of_ours(&gateway));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_for_sockets_that_is_gone_is_named_and_used_when_it_is_back() {
    let Some(wrapper) = with_disks("no-shm") else { return };
    let (_folder, program) = binary_copy();
    let upstream = upstream().await;
    let builder = Gateway::builder(serving(&upstream, "glm")).command("supervise").program(&program);
    let gateway = builder.wrapper(&wrapper).start().await;
    let [_, own] = disks(&gateway);
    is_done(&gateway).await;
    std::fs::remove_dir(&own).expect("nothing is left in it");
    is_refused(&gateway, &["/dev/shm: Read-only", "/mnt/tmp: No such file"]).await;
    std::fs::create_dir(&own).expect("its disk has room");
    is_done(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_for_sockets_the_start_ends_with_words() {
    let Some(wrapper) = with_disks("no-shm") else { return };
    let (folder, program) = binary_copy();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, serving(&upstream().await, "glm")).expect("the folder is ours");
    let mut process = Command::new(wrapper[0]);
    process.env("LITELLM_MASTER_KEY", MASTER_KEY);
    process.args(&wrapper[1..]).args(["sh", "-c", "rmdir $TMPDIR; exec \"$@\"", "sh"]).arg(&program);
    process.args(["supervise", "--port", "0", "--admin-port", "0", "--config"]).arg(&file);
    let mut process = Process::spawn(process);
    assert_eq!(process.wait_exit(DEADLINE).await, Some(1), "{}", process.output());
    assert!(process.wait_output("no folder for the hand-over socket can be made").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_stops_neither_start_nor_upgrade() {
    let (_folder, program) = binary_copy();
    let upstream = upstream().await;
    // The first word is what the harness waits for; the unknown key is a warning that every generation tries to write.
    let wrapper = ["sh", "-c", "echo serving without a log; exec \"$@\" 2>/dev/full", "sh"];
    let file = serving(&upstream, "glm") + "litellm_settings: { no_such_key: 1 }\n";
    let builder = Gateway::builder(file).command("supervise").arg("--telemetry").arg("False");
    let gateway = builder.program(&program).wrapper(&wrapper).start().await;
    is_done(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_configuration_refuses_an_upgrade() {
    let (folder, program) = binary_copy();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    let upstream = upstream().await;
    let builder = Gateway::builder(serving(&upstream, "glm")).command("supervise").program(&program);
    // Root reads what nobody may.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let builder = if is_root { builder.wrapper(&nobody) } else { builder };
    let gateway = builder.start().await;
    let permit = |mode| {
        std::fs::set_permissions(gateway.file(), std::fs::Permissions::from_mode(mode)).expect("the file is ours");
    };
    permit(0o000);
    is_refused(&gateway, &["litellm_config.yaml", "may not be read by this user"]).await;
    // A child that is lost meanwhile cannot be replaced before the file can be read again; the supervisor goes on trying.
    let lost = descendants(gateway.id())[0];
    assert!(Command::new("kill").args(["-KILL", &lost.to_string()]).status().is_ok_and(|status| status.success()));
    assert!(gateway.wait_log("did not start").await);
    permit(0o644);
    serves(&gateway).await;
    is_done(&gateway).await;
}
