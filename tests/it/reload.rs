//! Reload: a good file is live at once, a bad one changes nothing, and no request notices either.

use std::path::Path;
use std::process::Command;

use nanogate::standin::{Script, Standin, Step};
use serde_json::Value;

use crate::support::gateway::{Gateway, base, clean_command, config};
use crate::support::raw::{self, Ending};
use crate::support::{DEADLINE, eventually, standin};
use crate::traffic::{CHAT, chat_stream, delta, finish, posted, shown};

/// Runs a command of the binary against a gateway; its exit code and everything it wrote.
pub async fn command(gateway: &Gateway, words: &[&str]) -> (i32, String) {
    let mut command: Command = clean_command(gateway.folder());
    command.args(words).args(["--port", &gateway.address().port().to_string()]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("the command does not panic");
    let output = output.expect("the binary can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

/// A file that serves one model of this name.
pub fn serving(upstream: &Standin, name: &str) -> String {
    config(&base(upstream), &[(name, "openai/zai-org/glm-4.7")])
}

/// Puts a new text in the file's place as editors do: written beside it, then renamed.
pub fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).expect("the folder can be written");
    std::fs::rename(&beside, file).expect("the file can be replaced");
}

async fn models(gateway: &Gateway) -> Vec<String> {
    let list = raw::get(gateway.address(), "/v1/models").await.json();
    let entries = list["data"].as_array().cloned().unwrap_or_default();
    entries.iter().filter_map(|entry| entry["id"].as_str().map(str::to_owned)).collect()
}

async fn becomes(gateway: &Gateway, name: &str) -> bool {
    let begun = std::time::Instant::now();
    while begun.elapsed() < DEADLINE {
        if models(gateway).await == [name] {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_file_is_live_and_a_running_stream_keeps_the_old_one() {
    let frames: Vec<Value> = (0..8).map(|n| delta(&n.to_string())).chain([finish()]).collect();
    let expected: String = frames.iter().map(shown).chain(["data: [DONE]\n\n".to_owned()]).collect();
    let upstream = standin(Step::sse(frames).gap_ms(60)).await;
    let gateway = Gateway::start(serving(&upstream, "glm")).await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    let head = client.head().await;
    replace(gateway.file(), &serving(&upstream, "new"));
    let (code, text) = command(&gateway, &["reload"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("is live: 1 deployments"), "{text}");
    assert_eq!(models(&gateway).await, ["new"]);
    let answer = client.rest(head).await;
    assert_eq!((answer.text(), answer.ending), (expected, Ending::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_and_is_told_everywhere() {
    let upstream = standin(Script::auto()).await;
    let gateway = Gateway::start(serving(&upstream, "glm")).await;
    replace(gateway.file(), "model_list:\n  - model_name: x\n    litellm_params: { model: gpt-4o, timeout: soon }\n");
    let (code, text) = command(&gateway, &["reload"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("litellm_config.yaml:3:") && text.contains("error"), "{text}");
    assert_eq!(models(&gateway).await, ["glm"]);
    let info = raw::get(gateway.admin(), "/info").await.json();
    assert!(info["refused_config"]["why"].as_str().is_some_and(|why| why.contains(":3:")), "{info}");
    assert!(gateway.log().contains("the old one goes on"), "{}", gateway.log());
    replace(gateway.file(), &serving(&upstream, "again"));
    assert_eq!(command(&gateway, &["reload"]).await.0, 0);
    let info = raw::get(gateway.admin(), "/info").await.json();
    assert!(info["refused_config"].is_null(), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_reloads_too() {
    let upstream = standin(Script::auto()).await;
    let gateway = Gateway::start(serving(&upstream, "glm")).await;
    replace(gateway.file(), &serving(&upstream, "new"));
    gateway.signal("HUP");
    assert!(becomes(&gateway, "new").await, "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_reloads_itself_replaced_or_written_in_place() {
    let upstream = standin(Script::auto()).await;
    let watched = |name| serving(&upstream, name) + "gateway_settings: { watch: true }\n";
    let gateway = Gateway::start(watched("glm")).await;
    replace(gateway.file(), &watched("replaced"));
    assert!(becomes(&gateway, "replaced").await, "{}", gateway.log());
    std::fs::write(gateway.file(), watched("written")).expect("the file can be written");
    assert!(becomes(&gateway, "written").await, "{}", gateway.log());
    replace(gateway.file(), "model_list: [");
    assert!(gateway.wait_log("was not taken").await);
    assert_eq!(models(&gateway).await, ["written"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_new_process_can_change_is_said() {
    let upstream = standin(Script::auto()).await;
    let gateway = Gateway::start(serving(&upstream, "glm")).await;
    replace(gateway.file(), &(serving(&upstream, "glm") + "gateway_settings: { admin_host: 127.0.0.2, h2c: true }\n"));
    let (code, text) = command(&gateway, &["reload"]).await;
    assert_eq!(code, 0, "{text}");
    for name in ["gateway_settings.admin_host cannot change", "gateway_settings.h2c cannot change"] {
        assert!(text.contains(name), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_every_moment_loses_no_request() {
    let upstream = standin(Script::auto()).await;
    let gateway = Gateway::start(serving(&upstream, "glm")).await;
    let mut served = 0;
    for round in 0..30 {
        replace(gateway.file(), &(serving(&upstream, "glm") + &format!("# round {round}\n")));
        gateway.signal("HUP");
        for _ in 0..5 {
            let answer = raw::post_json(gateway.address(), CHAT, &crate::traffic::chat()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            served += 1;
        }
    }
    assert_eq!(served, 150);
    assert!(eventually(DEADLINE, || gateway.log().matches("is live").count() >= 2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_the_command_says_so() {
    let upstream = standin(Script::auto()).await;
    let mut gateway = Gateway::start(serving(&upstream, "glm")).await;
    gateway.signal("TERM");
    gateway.wait_exit(DEADLINE).await;
    let (code, text) = command(&gateway, &["reload"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("no running nanogate was found"), "{text}");
}
