//! The two ends of a load test: an upstream that answers as it is told, and a client that measures. Not part of the
//! gateway; `benches/load/run` starts both.
//!
//! `load upstream <port> [--tls <file for its CA>]`
//! `load client <host:port> <closed|open|streams> key=value …` prints one JSON object; `header.<name>=<value>` adds a header.
//!
//! What the upstream does is written in the prompt: `frames=100 pause_ms=10 hold_ms=0` makes a stream of 100 frames,
//! 10 ms apart, that stays open and silent for `hold_ms` before its end. Every frame carries the time it was written, so
//! that its delay is measured and not inferred. `GET /stats` tells what the upstream has counted.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["upstream", port] => runtime.block_on(upstream(port.parse()?, None)),
        ["upstream", port, "--tls", file] => runtime.block_on(upstream(port.parse()?, Some(tls(file)?))),
        ["client", target, kind, settings @ ..] => runtime.block_on(client(target, kind, settings)),
        _ => Err(
            "usage: load upstream <port> [--tls <file>] | load client <host:port> <closed|open|streams> key=value …"
                .into(),
        ),
    }
}

/// Nanoseconds on the clock both ends share.
fn now_ns() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

// The upstream.

#[derive(Default)]
struct Stats {
    connections: AtomicU64,
    requests: AtomicU64,
    full_handshakes: AtomicU64,
    resumed_handshakes: AtomicU64,
}

fn tls(ca_file: &str) -> Result<tokio_rustls::TlsAcceptor, Failure> {
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::rustls::{ServerConfig, crypto};
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    std::fs::write(ca_file, pair.cert.pem())?;
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der())?;
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

async fn upstream(port: u16, tls: Option<tokio_rustls::TlsAcceptor>) -> Result<(), Failure> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let stats = Arc::new(Stats::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        stats.connections.fetch_add(1, Ordering::Relaxed);
        let (stats, tls) = (Arc::clone(&stats), tls.clone());
        tokio::spawn(async move {
            let served = match tls {
                None => answer(stream, &stats).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => {
                        let resumed =
                            stream.get_ref().1.handshake_kind() == Some(tokio_rustls::rustls::HandshakeKind::Resumed);
                        let counter = if resumed { &stats.resumed_handshakes } else { &stats.full_handshakes };
                        counter.fetch_add(1, Ordering::Relaxed);
                        answer(stream, &stats).await
                    }
                    Err(cause) => Err(cause.into()),
                },
            };
            // The other side ends connections as it likes.
            drop(served);
        });
    }
}

const WHOLE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"up/glm","choices":[{"index":0,"message":{"role":"assistant","content":"A short answer."},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105}}"#;

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, stats: &Stats) -> Result<(), Failure> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    loop {
        let (head, length) = read_message(&mut stream, &mut bytes).await?;
        stats.requests.fetch_add(1, Ordering::Relaxed);
        let request = bytes[..head + length].to_vec();
        bytes.drain(..head + length);
        if request.starts_with(b"GET /stats ") {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let text = format!(
                r#"{{"connections":{},"requests":{},"full_handshakes":{},"resumed_handshakes":{}}}"#,
                count(&stats.connections),
                count(&stats.requests),
                count(&stats.full_handshakes),
                count(&stats.resumed_handshakes)
            );
            write_whole(&mut stream, &text).await?;
            continue;
        }
        let body = String::from_utf8_lossy(&request[head..]);
        if body.contains("\"stream\":true") {
            let told = |name: &str| body.split(name).nth(1).map_or(0, leading_number);
            write_stream(&mut stream, told("frames="), told("pause_ms="), told("hold_ms=")).await?;
        } else {
            write_whole(&mut stream, WHOLE).await?;
        }
    }
}

fn leading_number(text: &str) -> u64 {
    text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

async fn write_whole(stream: &mut (impl AsyncWrite + Unpin), body: &str) -> Result<(), Failure> {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await?;
    Ok(stream.flush().await?)
}

async fn write_stream(
    stream: &mut (impl AsyncWrite + Unpin),
    frames: u64,
    pause_ms: u64,
    hold_ms: u64,
) -> Result<(), Failure> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut next = tokio::time::Instant::now();
    let mut chunk = String::new();
    for _ in 0..frames {
        let data = format!(
            r#"data: {{"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"up/glm","choices":[{{"index":0,"delta":{{"content":"at={}"}},"finish_reason":null}}]}}"#,
            now_ns()
        );
        chunk.clear();
        write!(chunk, "{:x}\r\n{data}\n\n\r\n", data.len() + 2)?;
        stream.write_all(chunk.as_bytes()).await?;
        stream.flush().await?;
        if pause_ms > 0 {
            next += Duration::from_millis(pause_ms);
            tokio::time::sleep_until(next).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(hold_ms)).await;
    let end = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"up/glm\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    stream.write_all(format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len()).as_bytes()).await?;
    Ok(stream.flush().await?)
}

/// Reads until a head and the body its Content-Length announces are there; their lengths.
async fn read_message(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Result<(usize, usize), Failure> {
    loop {
        if let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") {
            let head = end + 4;
            let length = content_length(&bytes[..head]).unwrap_or(0);
            if bytes.len() >= head + length {
                return Ok((head, length));
            }
        }
        if stream.read_buf(bytes).await? == 0 {
            return Err("closed".into());
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:")
            .then(|| leading_number(std::str::from_utf8(value).ok()?.trim()).try_into().ok())?
    })
}

// The client.

struct Plan {
    target: String,
    request: Vec<u8>,
    seconds: f64,
    connections: usize,
    rate: f64,
}

#[derive(Default)]
struct Seen {
    latencies_ns: Vec<u64>,
    delays_ns: Vec<u64>,
    frames: u64,
    failed: u64,
    first_failure: Option<String>,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.latencies_ns.extend(other.latencies_ns);
        self.delays_ns.extend(other.delays_ns);
        self.frames += other.frames;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    fn note(&mut self, outcome: Result<(), Failure>, since_ns: u64) {
        match outcome {
            Ok(()) => self.latencies_ns.push(now_ns() - since_ns),
            Err(cause) => {
                self.failed += 1;
                self.first_failure.get_or_insert(cause.to_string());
            }
        }
    }
}

async fn client(target: &str, kind: &str, settings: &[&str]) -> Result<(), Failure> {
    let settings: HashMap<&str, &str> = settings.iter().filter_map(|setting| setting.split_once('=')).collect();
    let number = |name: &str, usual: f64| settings.get(name).map_or(Ok(usual), |text| text.parse::<f64>());
    let told = format!(
        "frames={} pause_ms={} hold_ms={}",
        number("frames", 0.0)?,
        number("pause_ms", 0.0)?,
        number("hold_ms", 0.0)?
    );
    let prompt = "x".repeat(number("prompt", 500.0)? as usize);
    let stream = if kind == "streams" { ",\"stream\":true" } else { "" };
    let model = settings.get("model").unwrap_or(&"glm");
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{told} {prompt}"}}]{stream}}}"#);
    let mut more = String::new();
    for place in 0..number("headers", 0.0)? as usize {
        write!(more, "X-More-{place}: of the same\r\n")?;
    }
    for (name, value) in settings.iter().filter_map(|(name, value)| Some((name.strip_prefix("header.")?, value))) {
        write!(more, "{name}: {value}\r\n")?;
    }
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {target}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nAccept: */*\r\nUser-Agent: bench/1\r\n{more}Content-Length: {}\r\n\r\n{body}",
        settings.get("key").unwrap_or(&"sk-load-not-a-real-key"),
        body.len()
    );
    let plan = Arc::new(Plan {
        target: target.to_owned(),
        request: request.into_bytes(),
        seconds: number("seconds", 5.0)?,
        connections: number("connections", 16.0)? as usize,
        rate: number("rate", 1000.0)?,
    });
    let begun = Instant::now();
    let taken = Arc::new(AtomicU64::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for place in 0..plan.connections {
        let apart = Duration::from_secs_f64(number("spread", 0.0)? * place as f64 / plan.connections as f64);
        let (plan, taken) = (Arc::clone(&plan), Arc::clone(&taken));
        let kind = kind.to_owned();
        workers.spawn(async move {
            tokio::time::sleep(apart).await;
            let mut seen = Seen::default();
            match (Connection::open(&plan.target).await, kind.as_str()) {
                (Err(cause), _) => seen.note(Err(cause), 0),
                (Ok(connection), "closed") => closed(&plan, begun, connection, &mut seen).await,
                (Ok(connection), "open") => open(&plan, begun, &taken, connection, &mut seen).await,
                (Ok(connection), _) => streams(&plan, begun, connection, &mut seen).await,
            }
            seen
        });
    }
    let mut seen = Seen::default();
    while let Some(worker) = workers.join_next().await {
        seen.add(worker?);
    }
    report(seen, begun.elapsed());
    Ok(())
}

fn report(mut seen: Seen, elapsed: Duration) {
    let summary = |values: &mut Vec<u64>| {
        values.sort_unstable();
        let at = |share: f64| {
            values
                .get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1)))
                .map_or(0.0, |ns| *ns as f64 / 1000.0)
        };
        format!(r#"{{"p50":{:.1},"p90":{:.1},"p99":{:.1},"max":{:.1}}}"#, at(0.5), at(0.9), at(0.99), at(1.0))
    };
    println!(
        r#"{{"seconds":{:.3},"requests":{},"failed":{},"frames":{},"latency_us":{},"delay_us":{},"failure":{:?}}}"#,
        elapsed.as_secs_f64(),
        seen.latencies_ns.len(),
        seen.failed,
        seen.frames,
        summary(&mut seen.latencies_ns),
        summary(&mut seen.delays_ns),
        seen.first_failure.unwrap_or_default()
    );
}

struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    async fn open(target: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, bytes: Vec::with_capacity(16 * 1024) })
    }

    async fn ask(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request).await?;
        let (head, length) = read_message(&mut self.stream, &mut self.bytes).await?;
        let ok = self.bytes.starts_with(b"HTTP/1.1 200") && length > 0;
        self.bytes.drain(..head + length);
        if ok { Ok(()) } else { Err("not 200".into()) }
    }
}

/// One request after the other on one connection, at least one.
async fn closed(plan: &Plan, begun: Instant, mut connection: Connection, seen: &mut Seen) {
    loop {
        let since = now_ns();
        let outcome = connection.ask(&plan.request).await;
        let broken = outcome.is_err();
        seen.note(outcome, since);
        if broken || begun.elapsed().as_secs_f64() >= plan.seconds {
            return;
        }
    }
}

/// Requests by the clock: each is timed from when it was due, not from when a connection was free for it.
async fn open(plan: &Plan, begun: Instant, taken: &AtomicU64, mut connection: Connection, seen: &mut Seen) {
    let begun_ns = now_ns() - begun.elapsed().as_nanos() as u64;
    loop {
        let due = taken.fetch_add(1, Ordering::Relaxed) as f64 / plan.rate;
        if due >= plan.seconds {
            return;
        }
        let due_ns = begun_ns + (due * 1e9) as u64;
        let left = due_ns.saturating_sub(now_ns());
        // A timer that wakes late is the client's own fault; a connection that was not free in time is the server's.
        let since = if left > 0 {
            tokio::time::sleep(Duration::from_nanos(left)).await;
            now_ns()
        } else {
            due_ns
        };
        let outcome = connection.ask(&plan.request).await;
        let broken = outcome.is_err();
        seen.note(outcome, since);
        if broken {
            return;
        }
    }
}

/// One stream after the other on one connection; each frame's delay is read off the frame.
async fn streams(plan: &Plan, begun: Instant, mut connection: Connection, seen: &mut Seen) {
    loop {
        let since = now_ns();
        if let Err(cause) = stream(plan, &mut connection, since, seen).await {
            seen.note(Err(cause), since);
            return;
        }
        if begun.elapsed().as_secs_f64() >= plan.seconds {
            return;
        }
    }
}

async fn stream(plan: &Plan, connection: &mut Connection, since: u64, seen: &mut Seen) -> Result<(), Failure> {
    connection.stream.write_all(&plan.request).await?;
    connection.bytes.clear();
    let mut first = true;
    loop {
        if connection.stream.read_buf(&mut connection.bytes).await? == 0 {
            return Err("a stream was cut".into());
        }
        let now = now_ns();
        let text = &connection.bytes;
        let mut from = 0;
        while let Some(at) = memchr::memmem::find(&text[from..], b"\"at=") {
            let digits = from + at + 4;
            let Some(end) = memchr::memchr(b'"', &text[digits..]) else { break };
            let written: u64 = std::str::from_utf8(&text[digits..digits + end])?.parse()?;
            seen.delays_ns.push(now.saturating_sub(written));
            seen.frames += 1;
            if std::mem::take(&mut first) {
                if !text.starts_with(b"HTTP/1.1 200") {
                    return Err("not 200".into());
                }
                seen.latencies_ns.push(now - since);
            }
            from = digits + end;
        }
        if text.ends_with(b"\r\n0\r\n\r\n") {
            if memchr::memmem::find(text, b"data: [DONE]").is_none() {
                return Err("a stream without its end".into());
            }
            return Ok(());
        }
        if !first {
            // What may be the beginning of a number or of the end is kept.
            let read = from.max(text.len().saturating_sub(512));
            connection.bytes.drain(..read);
        }
    }
}
