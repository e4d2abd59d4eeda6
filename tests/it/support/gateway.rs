//! The gateway as its users have it: the real binary in a process of its own, with a file, an environment and flags.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nanogate::standin::Standin;
use tempfile::TempDir;

use super::ports::free_port;
use super::{DEADLINE, MASTER_KEY, UPSTREAM_KEY, eventually, raw};

/// A free port may be gone when the process binds it; then another is tried.
const STARTS_MAX: usize = 5;

/// A configuration for a plain stand-in: `glm` is `zai-org/glm-4.7`, `other` is `up/other`, `embed` is `up/embed`.
/// Sections can be appended as text.
pub fn config_for(standin: &Standin) -> String {
    config(
        &base(standin),
        &[("glm", "openai/zai-org/glm-4.7"), ("other", "openai/up/other"), ("embed", "openai/up/embed")],
    )
}

/// A model list of (`model_name`, `model`) at one base.
pub fn config(api_base: &str, models: &[(&str, &str)]) -> String {
    let mut text = "model_list:\n".to_owned();
    for (name, model) in models {
        text.push_str(&entry(name, model, api_base, ""));
    }
    text
}

/// One entry of a model list; `more` continues the `litellm_params`, as in `timeout: 1, weight: 2`.
pub fn entry(name: &str, model: &str, api_base: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!(
        "  - model_name: \"{name}\"\n    litellm_params: {{ model: \"{model}\", api_base: \"{api_base}\", \
         api_key: os.environ/NANOGPT_API_KEY{comma}{more} }}\n"
    )
}

/// The base of a plain stand-in.
pub fn base(standin: &Standin) -> String {
    format!("http://{}/api/v1", standin.address())
}

/// How a process is to be started.
pub struct Builder {
    config: String,
    env: Vec<(String, String)>,
    args: Vec<String>,
    admin: bool,
    command: Option<&'static str>,
    program: Option<PathBuf>,
    wrapper: Vec<String>,
    port: Option<u16>,
}

impl Builder {
    /// Runs this command instead of the one that is meant without any.
    pub fn command(mut self, command: &'static str) -> Self {
        self.command = Some(command);
        self
    }

    /// Runs the program through these words, as in `unshare --pid --fork`.
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Serves on this port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Runs this file instead of the built one.
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Sets a variable of the otherwise empty environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Appends a flag or its value.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Leaves the health service to the file and the environment.
    pub fn without_admin_flag(mut self) -> Self {
        self.admin = false;
        self
    }

    /// Logs at debug level.
    pub fn debug(self) -> Self {
        self.arg("--debug")
    }

    /// Starts and waits until the gateway answers.
    pub async fn start(self) -> Gateway {
        let mut last = String::new();
        for _ in 0..STARTS_MAX {
            match self.attempt().await {
                Ok(gateway) => return gateway,
                Err(log) if log.contains("cannot listen") => last = log,
                Err(log) => panic!("the gateway did not start:\n{log}"),
            }
        }
        panic!("the gateway found no port:\n{last}");
    }

    async fn attempt(&self) -> Result<Gateway, String> {
        let folder = TempDir::new().expect("a folder can be made");
        let file = folder.path().join("litellm_config.yaml");
        std::fs::write(&file, &self.config).expect("the configuration can be written");
        let (port, admin_port) = (self.port.unwrap_or_else(free_port), free_port());
        let mut command = match (&self.program, self.wrapper.split_first()) {
            (Some(program), Some((first, rest))) => {
                // Another user must be able to read the file.
                let open = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(folder.path(), open).expect("the folder is ours");
                let mut wrapped = clean(Command::new(first), folder.path());
                wrapped.arg0(first).args(rest).arg(program).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
                wrapped
            }
            (Some(program), None) => clean(Command::new(program), folder.path()),
            (None, _) => clean_command(folder.path()),
        };
        command.args(self.command);
        command.args(["--host", "127.0.0.1", "--num_workers", threads(), "--config"]).arg(&file);
        command.args(["--port", &port.to_string()]);
        if self.admin {
            command.args(["--admin-port", &admin_port.to_string()]);
        }
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn(command);
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut gateway = Gateway { process, folder, file, address: local(port), admin: local(admin_port) };
        if gateway.answers().await { Ok(gateway) } else { Err(gateway.log()) }
    }
}

/// Of the threads that serve: one in a third of the tests, always the same ones, since one has a scheduler of its own kind.
fn threads() -> &'static str {
    let test = std::thread::current();
    if test.name().is_some_and(|name| name.len().is_multiple_of(3)) { "1" } else { "2" }
}

/// The binary with nothing of this process's environment but the test keys; stdin is empty, the folder its own.
pub fn clean_command(folder: &Path) -> Command {
    clean(Command::new(binary()), folder)
}

fn clean(mut command: Command, folder: &Path) -> Command {
    command.arg0("nanogate").env_clear().current_dir(folder).stdin(Stdio::null());
    command.env("LITELLM_MASTER_KEY", MASTER_KEY).env("NANOGPT_API_KEY", UPSTREAM_KEY);
    command
}

/// The binary as it was when the first test asked for it: a build that replaces the file in mid-run changes nothing.
fn binary() -> PathBuf {
    static FILE: OnceLock<File> = OnceLock::new();
    let file = FILE.get_or_init(|| File::open(env!("CARGO_BIN_EXE_nanogate")).expect("cargo has built the binary"));
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}

/// A copy of it with a path of its own, for a process that starts itself again.
pub fn binary_copy() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder can be made");
    let program = folder.path().join("nanogate");
    std::fs::copy(binary(), &program).expect("the binary can be copied");
    (folder, program)
}

/// Every process that a process made, directly or not; itself left out.
pub fn descendants(of: u32) -> Vec<u32> {
    let path = format!("/proc/{of}/task/{of}/children");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    let own: Vec<u32> = list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    own.iter().flat_map(|pid| std::iter::once(*pid).chain(descendants(*pid))).collect()
}

/// A process whose output is collected; killed when dropped.
pub struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Process {
    /// Starts it and begins to collect standard output and error into one text.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().expect("stdout is piped"), Arc::clone(&output));
        collect(child.stderr.take().expect("stderr is piped"), Arc::clone(&output));
        Process { child, output }
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit code when it has ended; -1 when a signal ended it.
    pub fn exited(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("a child can be waited for");
        status.map(|status| status.code().unwrap_or(-1))
    }

    /// Waits for its end.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Option<i32> {
        eventually(deadline, || self.exited().is_some()).await;
        self.exited()
    }

    /// Waits until it has written this.
    pub async fn wait_output(&self, text: &str) -> bool {
        eventually(DEADLINE, || self.output().contains(text)).await
    }

    /// A row of what the kernel tells about it.
    fn status(&self, row: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a Linux with /proc");
        let line = status.lines().find_map(|line| line.strip_prefix(row));
        line.expect("the kernel has this row").trim().to_owned()
    }

    /// Sends a signal by its short name: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(status.expect("`kill` can be run").success(), "SIG{name} cannot be sent");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- output of process {}\n{}---", self.id(), self.output());
        }
        // What a wrapper started under another user does not end with it; who has ended already needs no signal.
        let pids = descendants(self.id()).into_iter().map(|pid| pid.to_string());
        let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(pipe: impl Read + Send + 'static, output: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            output.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

/// A gateway that answers.
pub struct Gateway {
    process: Process,
    folder: TempDir,
    file: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Gateway {
    /// Starts one with this configuration.
    pub async fn start(config: impl Into<String>) -> Self {
        Self::builder(config).start().await
    }

    /// One with an environment or flags of its own.
    pub fn builder(config: impl Into<String>) -> Builder {
        Builder {
            config: config.into(),
            env: Vec::new(),
            args: Vec::new(),
            admin: true,
            command: None,
            wrapper: Vec::new(),
            port: None,
            program: None,
        }
    }

    /// Where the API is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the health service is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The configuration file, to be rewritten before a reload.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The working directory of the process.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Waits until the log has this.
    pub async fn wait_log(&self, text: &str) -> bool {
        self.process.wait_output(text).await
    }

    /// Sends a signal by its short name: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for the end of the process.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Option<i32> {
        self.process.wait_exit(deadline).await
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory now, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory so far, in bytes.
    pub fn rss_peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, row: &str) -> u64 {
        let text = self.process.status(row);
        let kib: u64 = text.trim_end_matches("kB").trim().parse().expect("memory is a number");
        kib * 1024
    }

    /// Whether it came to answer; false when the process ended or the deadline passed.
    async fn answers(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            // The log line is this process's own word that the port is not somebody else's.
            let own = self.process.output().contains("serving ");
            if own && raw::try_get(self.address, "/health/liveliness").await.is_ok_and(|answer| answer.status == 200) {
                return self.process.exited().is_none();
            }
            if self.process.exited().is_some() {
                // The last lines may still be in the pipe.
                eventually(Duration::from_millis(200), || self.process.output().contains("cannot listen")).await;
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }
}
