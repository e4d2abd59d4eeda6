//! One of three deployments dies under load and comes back: how many answers are good, what it costs upstream, and how
//! soon the revived one is used again.
//!
//! The load is open: requests leave by the clock, however the answers come. `NANOGATE_DRILL_RATE=500 cargo test --test it
//! -- one_dead --nocapture` is the long form.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nanogate::standin::{Options, Script, Standin, Step};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep_until;

use crate::support::gateway::{Gateway, base, entry};
use crate::support::raw::{self, Answer, Client, Ending};
use crate::support::{DEADLINE, eventually, standin};
use crate::traffic::{CHAT, SENT, SHOWN, ask, metric, metric_becomes};

/// Requests a second where the environment names no other rate: a busy machine must keep it up in a debug build.
const RATE: u32 = 200;
const HEALTHY: Duration = Duration::from_secs(2);
const DEAD: Duration = Duration::from_millis(2500);
/// What happens in the first second of the fault is not held against anybody.
const SETTLING: Duration = Duration::from_secs(1);
/// The share of good answers after that.
pub const GOOD_LEAST: f64 = 0.999;
/// Upstream calls for each request, over the whole run.
pub const CALLS_MOST: f64 = 1.25;
/// `cooldown_time` of the drill, in seconds.
pub const COOLDOWN_S: u64 = 1;
/// `timeout` of the drill, in seconds.
pub const TIMEOUT_S: u64 = 1;
/// A second rest is twice as long, a probe may be hanging when the deployment comes back, and a second for the rest.
pub const BACK_MOST: Duration = Duration::from_secs(2 * COOLDOWN_S + TIMEOUT_S + 1);
/// So many requests mean that it is in use and not just being tried.
const IN_USE: usize = 10;
/// The load goes on for a while after that.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// One at a time: each needs what a small machine has.
static TURNS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How a deployment dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Refuses,
    Hangs,
    Fails,
    Limits,
}

impl Death {
    /// All of them, with their words in the manual.
    pub const ALL: [(Death, &str); 4] = [
        (Death::Refuses, "refuses connections, the open ones are closed"),
        (Death::Hangs, "takes requests and never answers"),
        (Death::Fails, "answers 500"),
        (Death::Limits, "answers 429 without `Retry-After`"),
    ];

    fn step(self) -> Option<Step> {
        let error = json!({"error": {"message": "in a drill", "type": "t", "param": null, "code": "c"}});
        match self {
            Death::Refuses => None,
            Death::Hangs => Some(Step::hang()),
            Death::Fails => Some(Step::json(500, error)),
            Death::Limits => Some(Step::json(429, error)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_connections() {
    survives(Death::Refuses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_never_answers() {
    survives(Death::Hangs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_500() {
    survives(Death::Fails).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_429() {
    survives(Death::Limits).await;
}

#[expect(clippy::disallowed_methods, reason = "a test's own switch, not the gateway's")]
fn rate() -> u32 {
    std::env::var("NANOGATE_DRILL_RATE").map_or(RATE, |rate| rate.parse().expect("a rate is a number"))
}

async fn survives(death: Death) {
    let _turn = TURNS.lock().await;
    let rate = rate();
    let (mut ill, wells) = (Ill::new(death).await, [standin(Script::auto()).await, standin(Script::auto()).await]);
    let gateway = Gateway::start(config([ill.base(), base(&wells[0]), base(&wells[1])])).await;

    let load = Load::start(gateway.address(), rate);
    load.goes_on_for(HEALTHY).await;
    let fault = ill.die().await;
    load.goes_on_for(DEAD).await;
    let revived = ill.revive().await;
    let used = ill.is_used().await;
    let back = used.then(|| revived.elapsed());
    load.goes_on_for(AFTERWARDS).await;
    let sent = load.end().await;

    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await, "requests are left running");
    for standin in ill.standin.iter().chain(&wells) {
        let quiet = standin.wait_for(DEADLINE, |_| standin.active() == 0).await;
        assert!(quiet, "{} upstream calls are left running", standin.active());
    }
    let attempts = metric(&gateway, "nanogate_upstream_attempts_total").await;
    let settled: Vec<&Sent> = sent.iter().filter(|sent| sent.due >= fault + SETTLING).collect();
    let bad = |sent: &[&Sent]| sent.iter().filter(|sent| !sent.good).count();
    let good = 1.0 - bad(&settled) as f64 / settled.len() as f64;
    let calls = attempts / sent.len() as f64;
    println!(
        "{death:?} at {rate}/s: {} requests, {} bad; after the first second {} of {} bad, {:.3} % good, the slowest \
         {:?}; {calls:.3} upstream calls each; used again after {back:?}; the load was late by {:?} at most",
        sent.len(),
        bad(&sent.iter().collect::<Vec<_>>()),
        bad(&settled),
        settled.len(),
        good * 100.0,
        settled.iter().map(|sent| sent.took).max().unwrap_or_default(),
        sent.iter().map(|sent| sent.late).max().unwrap_or_default(),
    );
    assert!(good >= GOOD_LEAST, "{} of {} answers are bad", bad(&settled), settled.len());
    assert!(calls > 1.0, "the fault was never felt");
    assert!(calls <= CALLS_MOST, "{calls} upstream calls for each request");
    assert!(back.is_some_and(|back| back <= BACK_MOST), "used again only after {back:?}");
}

fn config(bases: [String; 3]) -> String {
    let params = format!("timeout: {TIMEOUT_S}");
    // An access line for each request would bury what the gateway says.
    let entries = bases.map(|base| entry(SHOWN, &format!("openai/{SENT}"), &base, &params)).concat();
    format!(
        "model_list:\n{entries}router_settings: {{ cooldown_time: {COOLDOWN_S} }}\ngateway_settings: {{ access_log: \"off\" }}\n"
    )
}

/// The deployment that dies and comes back.
struct Ill {
    death: Death,
    address: SocketAddr,
    /// None while nobody listens.
    standin: Option<Standin>,
    /// Requests from before it came back.
    before: usize,
}

impl Ill {
    async fn new(death: Death) -> Self {
        let standin = standin(Script::auto()).await;
        Ill { death, address: standin.address(), standin: Some(standin), before: 0 }
    }

    fn base(&self) -> String {
        format!("http://{}/api/v1", self.address)
    }

    async fn die(&mut self) -> Instant {
        let begun = Instant::now();
        match (self.death.step(), &self.standin) {
            (Some(step), Some(standin)) => standin.script(step),
            _ => {
                self.standin = None;
                // It is closed by a task that has only been told to end.
                let address = self.address;
                let refuses = || std::net::TcpStream::connect(address).is_err();
                assert!(eventually(DEADLINE, refuses).await, "it goes on listening");
            }
        }
        begun
    }

    async fn revive(&mut self) -> Instant {
        match &self.standin {
            Some(standin) => {
                standin.script(Script::auto());
                self.before = standin.requests().len();
            }
            None => {
                let options = Options { listen: self.address, ..Options::default() };
                self.standin = Some(Standin::start(options).await.expect("its port is free still"));
            }
        }
        Instant::now()
    }

    /// Waits until it gets its share again.
    async fn is_used(&self) -> bool {
        let Some(standin) = &self.standin else { return false };
        standin.wait_for(DEADLINE, |requests| requests.len() >= self.before + IN_USE).await
    }
}

/// What became of one request.
struct Sent {
    due: Instant,
    /// How long after that it left.
    late: Duration,
    took: Duration,
    good: bool,
}

/// Requests that leave by the clock until told to end.
struct Load {
    over: watch::Sender<bool>,
    running: JoinHandle<Vec<Sent>>,
}

impl Load {
    fn start(address: SocketAddr, rate: u32) -> Self {
        let over = watch::Sender::new(false);
        let told = over.subscribe();
        let running = tokio::spawn(async move {
            let (begun, idle) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
            let mut requests = JoinSet::new();
            for number in 0.. {
                let due = begun + Duration::from_secs(1) * number / rate;
                sleep_until(due.into()).await;
                if *told.borrow() {
                    break;
                }
                requests.spawn(send(address, number, due, Arc::clone(&idle)));
            }
            let mut sent = Vec::new();
            while let Some(ended) = requests.join_next().await {
                sent.push(ended.expect("a request that breaks is a bad one"));
            }
            sent
        });
        Load { over, running }
    }

    /// The schedule of the drill, not a wait for something to have happened.
    async fn goes_on_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Sends no more and waits for the last answers.
    async fn end(self) -> Vec<Sent> {
        self.over.send_replace(true);
        self.running.await.expect("the load runs to its end")
    }
}

/// Every other request is a stream. Connections are kept, as clients keep them.
async fn send(address: SocketAddr, number: u32, due: Instant, idle: Arc<Mutex<Vec<Client>>>) -> Sent {
    let late = due.elapsed();
    let stream = number % 2 == 1;
    let request = raw::post(CHAT, ask(CHAT, stream).to_string().as_bytes());
    let pooled = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let answered = match pooled {
        // An idle connection may have been closed meanwhile; a client then opens another.
        Some(client) => match exchange(client, &request).await {
            Ok(done) => Ok(done),
            Err(_) => anew(address, &request).await,
        },
        None => anew(address, &request).await,
    };
    let good = match answered {
        Ok((answer, client)) => {
            if answer.ending == Ending::Complete && answer.header("connection") != Some("close") {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
            }
            is_good(&answer, stream)
        }
        Err(_) => false,
    };
    Sent { due, late, took: due.elapsed(), good }
}

async fn anew(address: SocketAddr, request: &[u8]) -> io::Result<(Answer, Client)> {
    exchange(Client::try_connect(address).await?, request).await
}

async fn exchange(mut client: Client, request: &[u8]) -> io::Result<(Answer, Client)> {
    client.try_send(request).await?;
    let head = client.try_head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((client.rest(head).await, client))
}

fn is_good(answer: &Answer, stream: bool) -> bool {
    let whole = if stream {
        answer.text().ends_with("data: [DONE]\n\n") && !answer.text().contains("\"error\"")
    } else {
        answer.json()["choices"][0]["message"]["content"].is_string()
    };
    answer.status == 200 && answer.ending == Ending::Complete && whole
}
