//! The command line: what each command prints, what it exits with, and which of flag, variable and file wins.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use nanogate::standin::Script;
use serde_json::json;
use tempfile::TempDir;

use crate::body::CHAT;
use crate::support::gateway::{Gateway, Process, clean_command, config, config_for};
use crate::support::ports::free_port;
use crate::support::raw::{Client, keyless, post_json, try_get};
use crate::support::{DEADLINE, MASTER_KEY, UPSTREAM_KEY, chat, completion, eventually, standin};

const GOOD: &str = "model_list:\n  - model_name: glm\n    litellm_params: { model: openai/zai-org/glm-4.7, \
    api_base: \"https://nano-gpt.com/api/v1\", api_key: os.environ/NANOGPT_API_KEY }\n";

/// What a command that ends by itself exits with, prints, and complains of.
fn run(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let output = clean_command(folder).args(args).envs(env.iter().copied()).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn folder_with(file: &str, text: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join(file), text).unwrap();
    folder
}

#[test]
fn version_and_help_are_no_errors() {
    let folder = TempDir::new().unwrap();
    let (code, out, err) = run(folder.path(), &["--version"], &[]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, concat!("nanogate ", env!("CARGO_PKG_VERSION"), "\n"), ""));
    let (code, out, err) = run(folder.path(), &["--help"], &[]);
    assert!(code == 0 && err.is_empty());
    for word in ["serve", "check", "models", "health", "demo", "--config", "--port", "--num_workers", "Exit codes"] {
        assert!(out.contains(word), "the help names {word}:\n{out}");
    }
}

#[test]
fn memory_comes_from_mimalloc() {
    let folder = TempDir::new().unwrap();
    let (_, _, err) = run(folder.path(), &["--version"], &[("MIMALLOC_VERBOSE", "1")]);
    assert!(err.contains("mimalloc: process init"), "the C library's own allocator was linked:\n{err}");
}

#[test]
fn a_mistyped_line_serves_nothing() {
    let folder = folder_with("litellm_config.yaml", GOOD);
    for args in [&["--prot", "4000"][..], &["serv"], &["--port", "seventy"], &["--port", "70000"], &["check", "--x"]] {
        let (code, out, err) = run(folder.path(), args, &[]);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains("error"), "{args:?}: {err}");
    }
    let (code, _, err) = run(folder.path(), &[], &[("PORT", "seventy")]);
    assert!(code == 2 && err.contains("PORT is no port number: seventy"), "{code}: {err}");
    let (code, _, err) = run(folder.path(), &["--host", "not an address"], &[]);
    assert!(code == 2 && err.contains("not an address"), "{code}: {err}");
}

#[test]
fn check_prints_what_it_found() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
    let good = folder_with("litellm_config.yaml", GOOD);
    let key = [("LITELLM_MASTER_KEY", "sk-0123456789abcdef")];
    let (code, out, err) = run(good.path(), &["check"], &key);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "litellm_config.yaml: 1 deployments, 0 warnings: ok\n", ""));
    for name in ["two_faults", "misspelt_keys", "duplicate_keys", "wrong_types"] {
        let file = data.join(format!("{name}.yaml"));
        let folder = folder_with("broken.yaml", &std::fs::read_to_string(file).unwrap());
        let expected = std::fs::read_to_string(data.join(format!("{name}.expected"))).unwrap();
        let (code, out, _) = run(folder.path(), &["check", "-c", "broken.yaml"], &key);
        let errors = expected.lines().filter(|line| line.contains(": error: ")).count();
        assert_eq!(code, if errors > 0 { 2 } else { 0 }, "{name}:\n{out}");
        for line in expected.lines().filter(|line| line.contains(": error: ")) {
            let words = line.split_once(": error: ").map(|(_, words)| words).unwrap_or_default();
            assert!(out.contains(words), "{name} says `{words}`:\n{out}");
        }
        assert!(out.starts_with("broken.yaml:"), "places begin with the file as it was named:\n{out}");
    }
}

#[test]
fn check_is_stricter_than_serve_and_tells_no_secret() {
    let folder = folder_with("config.yaml", GOOD);
    let (code, out, _) = run(folder.path(), &["check"], &[("NANOGPT_API_KEY", "")]);
    assert!(code == 2 && out.contains("NANOGPT_API_KEY"), "{code}: {out}");
    let pasted = GOOD.replace("os.environ/NANOGPT_API_KEY", "sk-pasted-into-the-file");
    let folder = folder_with("config.yaml", &pasted);
    for command in ["check", "models"] {
        let (_, out, err) = run(folder.path(), &[command], &[]);
        assert!(!out.contains("sk-pasted") && !err.contains("sk-pasted"), "{command}: {out}{err}");
    }
}

#[test]
fn without_a_file_or_with_a_bad_one_nothing_is_served() {
    let folder = TempDir::new().unwrap();
    let (code, _, err) = run(folder.path(), &[], &[]);
    assert!(code == 2 && err.contains("no configuration file"), "{code}: {err}");
    let (code, _, err) = run(folder.path(), &["--config", "missing.yaml"], &[]);
    assert!(code == 2 && err.contains("missing.yaml"), "{code}: {err}");
    for (text, key) in [("model_list: [", MASTER_KEY), (GOOD, ""), (GOOD, "sk-1234"), ("model_list: []\n", MASTER_KEY)]
    {
        let folder = folder_with("config.yaml", text);
        let (code, _, err) = run(folder.path(), &[], &[("LITELLM_MASTER_KEY", key)]);
        assert!(code == 2 && err.contains("config.yaml"), "{code}: {err}");
    }
}

#[test]
fn models_are_listed_with_the_state_of_their_keys() {
    let text = GOOD.to_owned()
        + "  - model_name: other\n    litellm_params: { model: openai/b, \
        api_base: \"http://h/v1\", api_key: os.environ/OTHER_KEY }\n";
    let folder = folder_with("config.yaml", &text);
    let (code, out, _) = run(folder.path(), &["models"], &[]);
    let rows: Vec<Vec<&str>> =
        out.lines().map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect()).collect();
    assert_eq!(code, 0);
    assert_eq!(rows[0], ["MODEL", "UPSTREAM MODEL", "BASE", "KEY"]);
    assert_eq!(rows[1], ["glm", "zai-org/glm-4.7", "https://nano-gpt.com/api/v1", "NANOGPT_API_KEY (set)"]);
    assert_eq!(rows[2], ["other", "b", "http://h/v1", "OTHER_KEY (NOT SET)"]);
    assert!(!out.contains(UPSTREAM_KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_asks_a_running_gateway() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    let folder = gateway.folder();
    let port = gateway.address().port().to_string();
    let (code, out, _) = run(folder, &["health"], &[("PORT", &port)]);
    assert!(code == 0 && out.contains("200"), "{code}: {out}");
    let url = |path: &str| format!("http://{}{path}", gateway.address());
    assert_eq!(run(folder, &["health", "--url", &url("/health/liveliness")], &[]).0, 0);
    assert_eq!(run(folder, &["health", "--url", &url("/v1/nowhere")], &[]).0, 1);
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    assert_eq!(run(folder, &["health", "--url", &nobody], &[]).0, 1);
    assert_eq!(run(folder, &["health", "--url", "ftp://x"], &[]).0, 2);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_answers_without_any_environment() {
    let folder = TempDir::new().unwrap();
    let (port, admin) = (free_port(), free_port());
    let mut command = clean_command(folder.path());
    command.env_clear().args(["demo", "--instant", "--port", &port.to_string(), "--admin-port", &admin.to_string()]);
    let demo = Process::spawn(command);
    assert!(demo.wait_output("serving ").await);
    assert!(demo.output().contains("NO MODEL IS BEHIND THIS"));
    let address = ([127, 0, 0, 1], port).into();
    wait_alive(address).await;
    let mut client = Client::connect(address).await;
    for stream in [false, true] {
        let ask = json!({"model": "glm-4.7", "stream": stream, "messages": [{"role": "user", "content": "Hello"}]});
        let key = [("Authorization", "Bearer sk-demo")];
        let answer = client.ask(keyless("POST", CHAT, &key, ask.to_string().as_bytes())).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.text().ends_with("data: [DONE]\n\n"), stream);
    }
    assert_eq!(post_json(address, CHAT, &chat("glm-4.7")).await.status, 401, "its key is sk-demo");
    assert_eq!(try_get(([127, 0, 0, 1], admin).into(), "/health").await.unwrap().status, 200);
}

async fn wait_alive(address: SocketAddr) {
    let begun = std::time::Instant::now();
    while !try_get(address, "/health/liveliness").await.is_ok_and(|answer| answer.status == 200) {
        assert!(begun.elapsed() < DEADLINE, "nobody on {address}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A gateway started as described serves on this port and ends well when asked to.
async fn serves_on(port: u16, folder: &Path, args: &[&str], env: &[(&str, &str)]) {
    let mut command = clean_command(folder);
    command.args(args).envs(env.iter().copied());
    let mut process = Process::spawn(command);
    assert!(process.wait_output("serving ").await, "{args:?} {env:?}");
    let address = ([127, 0, 0, 1], port).into();
    wait_alive(address).await;
    process.signal("TERM");
    assert_eq!(process.wait_exit(DEADLINE).await, Some(0), "{args:?} {env:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_right_after_the_start_ends_well() {
    let folder = folder_with("litellm_config.yaml", GOOD);
    for _ in 0..10 {
        let mut command = clean_command(folder.path());
        command.args(["--host", "127.0.0.1", "--port", &free_port().to_string(), "--admin-port", "0"]);
        let mut process = Process::spawn(command);
        assert!(process.wait_output("serving ").await);
        process.signal("TERM");
        assert_eq!(process.wait_exit(DEADLINE).await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_win_over_variables_and_variables_over_defaults() {
    let folder = folder_with("litellm_config.yaml", GOOD);
    std::fs::write(folder.path().join("other.yaml"), GOOD).unwrap();
    let (port, wrong, admin) = (free_port(), free_port().to_string(), free_port().to_string());
    let text = port.to_string();
    let here = folder.path();
    let off = ["--admin-port", "0"];
    serves_on(port, here, &["serve", "--port", &text, off[0], off[1]], &[("PORT", &wrong)]).await;
    serves_on(port, here, &off, &[("PORT", &text), ("HOST", "127.0.0.1")]).await;
    serves_on(port, here, &["--host", "localhost", off[0], off[1]], &[("PORT", &text), ("HOST", "192.0.2.1")]).await;
    serves_on(port, here, &[], &[("PORT", &text), ("NANOGATE_ADMIN_PORT", &admin)]).await;
    std::fs::write(here.join("litellm_config.yaml"), "model_list: [").unwrap();
    serves_on(port, here, &off, &[("PORT", &text), ("CONFIG_FILE_PATH", "other.yaml")]).await;
    let line = ["--config", "other.yaml", "--num_workers", "1", "--detailed_debug", off[0], off[1]];
    serves_on(port, here, &line, &[("PORT", &text), ("CONFIG_FILE_PATH", "missing.yaml")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_told_in_a_sentence() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    let taken = gateway.address().port().to_string();
    let (free, admin) = (free_port().to_string(), gateway.admin().port().to_string());
    for args in [["--port", &taken, "--admin-port", "0"], ["--port", &free, "--admin-port", &admin]] {
        let file = gateway.file().display().to_string();
        let args = [&["--config", &file, "--host", "127.0.0.1"][..], &args].concat();
        let (code, _, err) = run(gateway.folder(), &args, &[]);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("cannot listen on 127.0.0.1:") && !err.contains("panicked"), "{err}");
    }
    assert_eq!(post_json(gateway.address(), CHAT, &chat("glm")).await.status, 200, "the first is unharmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_that_cannot_be_read_are_told_in_a_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
    let glm = [("glm", "openai/zai-org/glm-4.7")];
    let garbage = folder_with("ca.pem", "this is no certificate\n");
    let file = garbage.path().join("ca.pem").display().to_string();
    let own = |path: &str| format!("gateway_settings:\n  upstream_ca_file: \"{path}\"\n");
    let missing = "/nonexistent/ca.pem";
    let cases = [(own(missing), None), (own(&file), None), (String::new(), Some(missing))];
    for (settings, system) in cases {
        let folder = folder_with("config.yaml", &(config(&base, &glm) + &settings));
        let port = free_port().to_string();
        let mut command = clean_command(folder.path());
        command.args(["--port", &port, "--host", "127.0.0.1", "--admin-port", "0"]);
        command.envs(system.map(|path| ("SSL_CERT_FILE", path)));
        let mut process = Process::spawn(command);
        assert!(eventually(DEADLINE, || process.exited().is_some()).await, "nobody could be trusted: no start");
        assert!(process.wait_output("ca.pem").await, "the file is named");
        let log = process.output();
        assert!(matches!(process.exited(), Some(1 | 2)) && !log.contains("panicked"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_its_key_fails_alone() {
    let upstream = standin(Script::auto()).await;
    let text = config_for(&upstream).replace("NANOGPT_API_KEY", "OWN_KEY")
        + "  - model_name: keyless\n    litellm_params: { model: openai/x, api_base: \"http://127.0.0.1:9/v1\", \
           api_key: os.environ/NOT_SET }\n";
    let gateway = Gateway::builder(text).env("OWN_KEY", "sk-own").start().await;
    assert!(gateway.log().contains("NOT_SET"), "the start says which variable is missing");
    assert_eq!(post_json(gateway.address(), CHAT, &chat("glm")).await.status, 200);
    let answer = post_json(gateway.address(), CHAT, &chat("keyless")).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (500, Some("missing_credentials")));
    assert_eq!(upstream.requests()[0].header("authorization"), Some("Bearer sk-own"));
}
