//! The bundled stand-in upstream: plays NanoGPT for `nanogate demo`, the integration tests and load tests.
//!
//! No model is behind it, and its texts say so. By default it answers by path, as NanoGPT would: chat completions
//! (plain, streamed, tools, JSON schemas), completions, embeddings, images, audio, moderations, rerank, models,
//! responses and Anthropic messages, under `/api/v1`, `/v1`, `/api/v1legacy`, `/api/v1thinking`,
//! `/api/subscription/v1` and `/api/paid/v1`. A [`Script`] replaces that, down to the byte.
//!
//! Words in a model name provoke what a real upstream does on a bad day, so that anyone can watch it:
//!
//! | the model has | what happens |
//! |---|---|
//! | `error-429`, `error-500`, any `error-4xx` or `error-5xx` | that status, with NanoGPT's body for it |
//! | `error-frame` | a stream that begins well and ends in an error frame; 500 without a stream |
//! | `slow` | three seconds to the first token, a quarter of a second to each next |
//! | `cut` | the connection closes in mid-answer |
//! | `reset` | the connection is reset in mid-answer |
//! | `stall` | the answer stops in the middle and the connection stays open |
//! | `think`, `thinking` | reasoning comes before the content |
//!
//! It names no other room: HTTP/1.1 is written here by hand, for the sake of control, and HTTP/2 is the `h2` crate.

mod auto;
mod h1;
mod h1_read;
mod h2;
mod listen;
mod play;
mod record;
mod script;
mod script_json;
mod socket;
mod step;
#[cfg(test)]
mod tests;
mod visit;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::rustls::ServerConfig;

pub use record::{Outcome, Recorded};
pub use script::Script;
pub use step::{End, Frame, Step};

use record::Log;
use visit::Stage;

/// No request body is taken in beyond this, whatever the script says.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// A running stand-in. Dropping it stops it and closes its connections.
pub struct Standin {
    address: SocketAddr,
    stage: Arc<Stage>,
    listening: AbortHandle,
}

/// How a stand-in is to run. The default is plain HTTP on a free port of the loopback, instant and recording.
#[derive(Clone)]
pub struct Options {
    pub listen: SocketAddr,
    /// TLS with this configuration; its ALPN list is replaced according to `h2`.
    pub tls: Option<Arc<ServerConfig>>,
    /// Offers HTTP/2 to TLS peers.
    pub h2: bool,
    /// The pace of automatic answers.
    pub pace: Pace,
    /// Keeps what is received; without it only counters move.
    pub record: bool,
    /// Answers `POST /__standin/script` (a list of steps as JSON) and `GET /__standin/requests` (counters).
    pub control: bool,
}

/// How fast automatic answers come. Both times vary by a third.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub first_token_ms: u64,
    pub token_gap_ms: u64,
}

impl Pace {
    /// About as fast as a good model.
    pub const fn human() -> Self {
        Self { first_token_ms: 300, token_gap_ms: 25 }
    }

    /// No waiting.
    pub const fn instant() -> Self {
        Self { first_token_ms: 0, token_gap_ms: 0 }
    }
}

impl Default for Options {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen, tls: None, h2: false, pace: Pace::instant(), record: true, control: false }
    }
}

impl Standin {
    /// Binds and serves on the current tokio runtime.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let stage = Arc::new(Stage::new(options.pace, options.control, Log::new(options.record)));
        let tls = options.tls.map(|config| listen::acceptor(&config, options.h2));
        let listening = tokio::spawn(listen::run(listener, tls, stage.clone())).abort_handle();
        Ok(Self { address, stage, listening })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the script and starts it from its first step.
    pub fn script(&self, script: impl Into<Script>) {
        self.stage.set_script(script.into());
    }

    /// Everything that reached it so far, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.stage.log.requests()
    }

    /// Forgets the requests recorded so far; counters and script stay.
    pub fn clear(&self) {
        self.stage.log.clear();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.stage.log.counts().connections
    }

    /// Connections open now.
    pub fn open_connections(&self) -> u64 {
        self.stage.log.counts().open
    }

    /// Requests being read or answered now.
    pub fn active(&self) -> u64 {
        self.stage.log.counts().active
    }

    /// Waits until the condition holds, looking again at each change of requests or connections; false at the deadline.
    /// The condition may ask for the counters, but not for `requests()`: it is shown them under their lock.
    pub async fn wait_for(&self, deadline: Duration, condition: impl Fn(&[Recorded]) -> bool) -> bool {
        self.stage.log.wait_for(deadline, condition).await
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
