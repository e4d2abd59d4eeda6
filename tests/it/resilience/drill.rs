//! One drill: a gateway process before upstreams of which one misbehaves, the requests sent, and what must be seen.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::upstreams::{Kind, Upstream, whole};
use crate::support::DEADLINE;
use crate::support::gateway::{Gateway, entry};
use crate::support::raw::{Answer, Ending, post_json};
use crate::traffic::{CHAT, SENT, SHOWN, ask, metric, metric_becomes, with};

/// How the client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Plain,
    Stream,
}

/// Who else could serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nobody.
    Nobody,
    /// A second deployment of the same model, which is well and comes second.
    Another,
    /// Two more deployments of the same model, which are well; all three share the load.
    TwoMore,
    /// A fallback to another model, which is well.
    Fallback,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    One,
    InTurn(usize),
    AtOnce(usize),
}

/// How many calls reached the upstreams together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    Exactly(u64),
    UpTo(u64),
}

/// How long the slowest answer may take and must take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band(pub u64, pub u64);

/// Sooner than the shortest pause before a retry: nobody waited for anything.
pub const AT_ONCE: Band = Band(0, 250);

/// A row of the table.
pub struct Drill {
    pub wrong: &'static str,
    pub upstream: Box<dyn Fn(Ask) -> Kind + Send + Sync>,
    pub beside: Beside,
    /// More `litellm_params` of the deployment that misbehaves.
    pub params: &'static str,
    /// Members of `router_settings`.
    pub router: &'static str,
    /// Members of `gateway_settings`.
    pub gateway: &'static str,
    /// More members of the request, as JSON.
    pub member: &'static str,
    /// Whether the prompt is longer than any socket's buffers.
    pub long: bool,
    pub load: Load,
    pub asks: &'static [Ask],
    /// What every client sees; a status alone leaves the code open.
    pub seen: &'static str,
    pub took: Band,
    pub calls: Calls,
}

/// More than the buffers of two sockets hold.
const LONG_BYTES: usize = 16 << 20;

/// So much of the gateway's log is shown for a drill that went wrong.
const LOG_LINES: usize = 12;

/// What went otherwise than the table says.
#[derive(Debug)]
pub enum Fault {
    /// The answer was right and came after the band.
    Late(Duration),
    Wrong(String),
}

/// Begins a row: one deployment, one request, plain and streamed alike.
pub fn drill(wrong: &'static str, upstream: impl Fn(Ask) -> Kind + Send + Sync + 'static) -> Drill {
    Drill {
        wrong,
        upstream: Box::new(upstream),
        beside: Beside::Nobody,
        params: "",
        router: "",
        gateway: "",
        member: "",
        long: false,
        load: Load::One,
        asks: &[Ask::Plain, Ask::Stream],
        seen: "",
        took: AT_ONCE,
        calls: Calls::Exactly(1),
    }
}

impl Drill {
    pub fn beside(mut self, beside: Beside) -> Self {
        self.beside = beside;
        self
    }

    pub fn params(mut self, params: &'static str) -> Self {
        self.params = params;
        self
    }

    pub fn router(mut self, router: &'static str) -> Self {
        self.router = router;
        self
    }

    pub fn gateway(mut self, gateway: &'static str) -> Self {
        self.gateway = gateway;
        self
    }

    pub fn member(mut self, member: &'static str) -> Self {
        self.member = member;
        self
    }

    pub fn long_prompt(mut self) -> Self {
        self.long = true;
        self
    }

    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    pub fn plain(mut self) -> Self {
        self.asks = &[Ask::Plain];
        self
    }

    pub fn stream(mut self) -> Self {
        self.asks = &[Ask::Stream];
        self
    }

    /// What must be seen, when, and after how many calls.
    pub fn ends(mut self, seen: &'static str, took: Band, calls: u64) -> Self {
        (self.seen, self.took, self.calls) = (seen, took, Calls::Exactly(calls));
        self
    }

    /// The same where the number of calls depends on the moment.
    pub fn ends_within(mut self, seen: &'static str, took: Band, calls: u64) -> Self {
        (self.seen, self.took, self.calls) = (seen, took, Calls::UpTo(calls));
        self
    }

    /// A line for a drill that failed.
    pub fn report(&self, ask: Ask, fault: &Fault) -> String {
        format!("- {} ({:?}, {ask:?}): {fault}", self.wrong, self.beside)
    }

    /// Plays it once, in a gateway of its own.
    pub async fn play(&self, ask: Ask) -> Result<(), Fault> {
        match timeout(DEADLINE, self.played(ask)).await {
            Ok(done) => done,
            Err(_) => wrong(format!("no end within {DEADLINE:?}")),
        }
    }

    async fn played(&self, ask: Ask) -> Result<(), Fault> {
        let ill = Upstream::start((self.upstream)(ask)).await;
        let wells = match self.beside {
            Beside::Nobody => 0,
            Beside::Another | Beside::Fallback => 1,
            Beside::TwoMore => 2,
        };
        let mut upstreams = vec![ill];
        for _ in 0..wells {
            upstreams.push(Upstream::start(Kind::Plays(vec![whole(ask)])).await);
        }
        let gateway = Gateway::start(self.config(&upstreams)).await;
        upstreams[0].begin();
        let (views, longest) = self.send(&gateway, ask).await;
        match self.look(&gateway, &mut upstreams, &views, longest).await {
            Err(Fault::Wrong(words)) => {
                let log = gateway.log();
                let lines: Vec<&str> = log.lines().collect();
                wrong(format!("{words}\n{}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")))
            }
            done => done,
        }
    }

    async fn look(
        &self,
        gateway: &Gateway,
        upstreams: &mut [Upstream],
        views: &[String],
        longest: Duration,
    ) -> Result<(), Fault> {
        // First the end of everything, then the count: nothing may come after it.
        if !metric_becomes(gateway, "nanogate_requests_in_flight", 0.0).await {
            return wrong("a request is left running");
        }
        let attempts = metric(gateway, "nanogate_upstream_attempts_total").await as u64;
        let mut calls = Some(0);
        for upstream in upstreams {
            if !upstream.is_left_alone().await {
                return wrong("an upstream call is left running");
            }
            calls = calls.zip(upstream.calls()).map(|(sum, own)| sum + own);
        }
        // Where nothing listens, the gateway's own count is all there is.
        if calls.is_some_and(|calls| calls != attempts) {
            return wrong(format!("{attempts} attempts counted, {calls:?} calls seen"));
        }
        self.judge(views, longest, attempts)
    }

    fn config(&self, upstreams: &[Upstream]) -> String {
        let (first, second) = match self.beside {
            Beside::Another => ("order: 1", "order: 2"),
            _ => ("", ""),
        };
        let params = [self.params, first].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let model = format!("openai/{SENT}");
        let mut text = format!("model_list:\n{}", entry(SHOWN, &model, &upstreams[0].base(), &params));
        let name = if self.beside == Beside::Fallback { "well" } else { SHOWN };
        for well in &upstreams[1..] {
            text.push_str(&entry(name, &model, &well.base(), second));
        }
        let fallbacks = if self.beside == Beside::Fallback { "fallbacks: [{ glm: [well] }]" } else { "" };
        let authority = upstreams[0].authority();
        section(&mut text, "router_settings", &[self.router, fallbacks]);
        section(&mut text, "gateway_settings", &[self.gateway, authority.as_str()]);
        text
    }

    fn body(&self, of: Ask) -> Value {
        let member = if self.member.is_empty() { "{}" } else { self.member };
        let body = with(ask(CHAT, of == Ask::Stream), serde_json::from_str(member).expect("the table has JSON"));
        let prompt = json!({"messages": [{"role": "user", "content": "x".repeat(LONG_BYTES)}]});
        if self.long { with(body, prompt) } else { body }
    }

    /// Sends what is to be sent; what each client saw, and how long the slowest took.
    async fn send(&self, gateway: &Gateway, of: Ask) -> (Vec<String>, Duration) {
        let (address, body) = (gateway.address(), self.body(of));
        let one = || {
            let body = body.clone();
            async move {
                let begun = Instant::now();
                let answer = post_json(address, CHAT, &body).await;
                (view(&answer, of), begun.elapsed())
            }
        };
        let mut seen = Vec::new();
        match self.load {
            Load::One => seen.push(one().await),
            Load::InTurn(count) => {
                for _ in 0..count {
                    seen.push(one().await);
                }
            }
            Load::AtOnce(count) => {
                let mut running: JoinSet<_> = (0..count).map(|_| one()).collect();
                while let Some(answer) = running.join_next().await {
                    seen.push(answer.expect("a client reads its answer"));
                }
            }
        }
        let longest = seen.iter().map(|(_, took)| *took).max().unwrap_or_default();
        (seen.into_iter().map(|(view, _)| view).collect(), longest)
    }

    fn judge(&self, views: &[String], longest: Duration, calls: u64) -> Result<(), Fault> {
        let is_seen = |view: &&String| *view == self.seen || view.split(' ').next() == Some(self.seen);
        if let Some(view) = views.iter().find(|view| !is_seen(view)) {
            return wrong(format!("a client saw `{view}` and not `{}`", self.seen));
        }
        let right = match self.calls {
            Calls::Exactly(count) => calls == count,
            Calls::UpTo(most) => calls <= most,
        };
        if !right {
            return wrong(format!("{calls} upstream calls and not {}", self.calls));
        }
        let Band(least, most) = self.took;
        if longest < Duration::from_millis(least) {
            return wrong(format!("over after {longest:?}, that is before {least} ms"));
        }
        if longest > Duration::from_millis(most) {
            return Err(Fault::Late(longest));
        }
        Ok(())
    }
}

fn wrong<T>(words: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Wrong(words.into()))
}

fn section(text: &mut String, name: &str, members: &[&str]) {
    let members: Vec<&str> = members.iter().copied().filter(|member| !member.is_empty()).collect();
    if !members.is_empty() {
        text.push_str(&format!("{name}: {{ {} }}\n", members.join(", ")));
    }
}

/// An answer in the words of the table.
fn view(answer: &Answer, ask: Ask) -> String {
    let status = answer.status;
    if status != 200 {
        let error = &answer.json()["error"];
        let code = error["code"].as_str().or(error["type"].as_str()).unwrap_or("no error envelope").to_owned();
        let complete = if answer.ending == Ending::Complete { "" } else { ", cut" };
        return format!("{status} {code}{complete}");
    }
    match (ask, answer.ending) {
        (_, Ending::Closed | Ending::Reset) => "200, cut".to_owned(),
        (Ask::Plain, Ending::Complete) => plain_view(&answer.json()),
        (Ask::Stream, Ending::Complete) => stream_view(&answer.text()),
    }
}

fn plain_view(answer: &Value) -> String {
    match answer["choices"][0]["message"]["content"].as_str() {
        Some("good") => "200, whole".to_owned(),
        other => format!("200, content {other:?}"),
    }
}

fn stream_view(text: &str) -> String {
    let frames: Vec<&str> = text.split_terminator("\n\n").filter_map(|frame| frame.strip_prefix("data: ")).collect();
    let documents: Vec<Value> = frames.iter().filter_map(|frame| serde_json::from_str(frame).ok()).collect();
    let errors: Vec<&Value> = documents.iter().filter(|frame| !frame["error"].is_null()).collect();
    let said: String = documents.iter().filter_map(|frame| frame["choices"][0]["delta"]["content"].as_str()).collect();
    match errors.as_slice() {
        [] if said == "good" && frames.last() == Some(&"[DONE]") => "200, whole".to_owned(),
        // Pure, and the last of all.
        [error] if documents.last() == Some(error) && error.as_object().is_some_and(|frame| frame.len() == 1) => {
            format!("200, then error frame {}", error["error"]["code"].as_str().unwrap_or("without a code"))
        }
        _ => format!("200, {text:?}"),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Late(took) => write!(f, "only after {took:?}"),
            Fault::Wrong(words) => f.write_str(words),
        }
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Calls::Exactly(count) => write!(f, "{count}"),
            Calls::UpTo(most) => write!(f, "at most {most}"),
        }
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        match self {
            Band(0, most) => write!(f, "< {} s", seconds(*most)),
            Band(least, most) => write!(f, "{}–{} s", seconds(*least), seconds(*most)),
        }
    }
}
