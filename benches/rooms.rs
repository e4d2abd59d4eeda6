//! What each room costs for one request or frame: captured bodies of real clients, made ones of fixed sizes, and hostile ones.
//!
//! `cargo bench` runs them all, `cargo bench -- skim` some. Absolute times say little on a shared machine: the group `copy`
//! and `serde_json` read the same bytes in the same run.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, header};
use nanogate::api::dialect::Dialect;
use nanogate::api::face::{self, Face, Reasoning};
use nanogate::api::params::Shape;
use nanogate::config::{self, Environment, Strictness};
use nanogate::gateway::stream::Stream;
use nanogate::routing::balance::Draw;
use nanogate::routing::plan::Plan;
use nanogate::snapshot::Snapshot;
use nanogate::upstream::address::Directory;
use nanogate::usage::Meter;
use nanogate::wire::json::{DEPTH_MAX_DEFAULT, skim};
use nanogate::wire::splice::Splice;
use nanogate::wire::sse::FRAME_BYTES_MAX_DEFAULT;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

const KEY: &str = "sk-bench-not-a-real-key";

/// Clients whose captured chat requests are read: from the smallest to an agent's with all its tools.
const CLIENTS: &[&str] = &["openai-node-7", "ai-sdk-7", "langchain-js", "cline-cli", "claude-code", "codex-cli"];

fn chat(content_bytes: usize) -> Bytes {
    let words = "The quick \\\"brown\\\" fox jumps over the lazy dog. ".repeat(content_bytes / 48 + 1);
    Bytes::from(format!(
        r#"{{"model":"glm","stream":true,"temperature":0.7,"max_tokens":512,"messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{words}"}}]}}"#
    ))
}

/// A picture inside of a chat: one long string without an escape.
fn picture(bytes: usize) -> Bytes {
    let base64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk".repeat(bytes / 60);
    Bytes::from(format!(
        r#"{{"model":"glm","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{base64}"}}}}]}}]}}"#
    ))
}

/// The largest JSON body a client was recorded with.
fn captured(client: &str) -> Bytes {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/captures/{client}.http"));
    let bytes = std::fs::read(&file).expect("a file of captures");
    let bodies = memchr::memmem::find_iter(&bytes, b"\r\n\r\n{").filter_map(|at| {
        let rest = &bytes[at + 4..];
        let body = &rest[..memchr::memmem::find(rest, b"\n### ").unwrap_or(rest.len())];
        let body = body.trim_ascii_end();
        skim(body, DEPTH_MAX_DEFAULT).is_ok().then(|| Bytes::copy_from_slice(body))
    });
    bodies.max_by_key(Bytes::len).expect("a JSON body")
}

/// What somebody might send to make the gateway work for nothing; all of about 256 KB.
fn hostile() -> Vec<(&'static str, Bytes)> {
    const SIZE: usize = 256 * 1024;
    let members = |count: usize| (0..count).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",");
    vec![
        ("brackets", "[".repeat(SIZE).into()),
        ("brackets to the limit", format!(r#"{{"a":[{}1]}}"#, "[],".repeat(SIZE / 3)).into()),
        ("escapes", format!(r#"{{"a":"{}"}}"#, "\\\"".repeat(SIZE / 2)).into()),
        ("unicode escapes", format!(r#"{{"a":"{}"}}"#, "\\ud83d\\ude00".repeat(SIZE / 12)).into()),
        ("members", format!("{{{}}}", members(SIZE / 14)).into()),
        ("the same member", format!("{{{}\"b\":0}}", "\"a\":1,".repeat(SIZE / 6)).into()),
        ("blanks", format!(r#"{{"a":{}1}}"#, " \t".repeat(SIZE / 2)).into()),
        ("no end", format!("{{\"a\":\"{}", "x".repeat(SIZE)).into()),
    ]
}

fn documents() -> Vec<(String, Bytes)> {
    let made = [("made 1 KB", chat(800)), ("made 70 KB", chat(70_000)), ("picture 4 MB", picture(4_000_000))];
    let made = made.into_iter().map(|(name, doc)| (name.to_owned(), doc));
    made.chain(CLIENTS.iter().map(|client| ((*client).to_owned(), captured(client)))).collect()
}

fn snapshot(models: usize) -> Snapshot {
    let entry = |name: &str| {
        format!(
            "  - model_name: {name}\n    litellm_params: {{ model: openai/up/{name}, api_base: \"http://127.0.0.1:9/v1\", api_key: sk-nano-not-a-real-key }}\n"
        )
    };
    let others: String = (1..models).map(|n| entry(&format!("model-{n}"))).collect();
    let text = format!("model_list:\n{}{others}litellm_settings: {{ drop_params: true }}\n", entry("glm"));
    let environment = Environment::from_pairs([("LITELLM_MASTER_KEY", KEY)]);
    let (config, report) = config::parse(Path::new("bench.yaml"), &text, &environment, Strictness::Serve);
    let config = config.unwrap_or_else(|| panic!("{report}"));
    Snapshot::build(config, &Directory::default(), None).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn json(bench: &mut Criterion) {
    for (name, doc) in documents() {
        let bytes = Throughput::Bytes(doc.len() as u64);
        let id = |group: &str| BenchmarkId::new(group, &name);
        let mut group = bench.benchmark_group("json");
        group.throughput(bytes);
        group.bench_with_input(id("copy"), &doc, |bencher, doc| bencher.iter(|| doc.to_vec()));
        group.bench_with_input(id("serde_json"), &doc, |bencher, doc| {
            bencher.iter(|| serde_json::from_slice::<serde_json::Value>(doc).is_ok());
        });
        group.bench_with_input(id("skim"), &doc, |bencher, doc| bencher.iter(|| skim(doc, DEPTH_MAX_DEFAULT).is_ok()));
        let found = skim(&doc, DEPTH_MAX_DEFAULT).expect("a sound document");
        let model = found.find(&doc, "model").expect("a model");
        group.bench_with_input(id("splice"), &doc, |bencher, doc| {
            bencher.iter(|| {
                let mut splice = Splice::new(doc, &found);
                splice.replace(model, &br#""zai-org/glm-4.7""#[..]);
                splice.finish()
            });
        });
        group.finish();
    }
    let mut group = bench.benchmark_group("hostile");
    for (name, doc) in hostile() {
        group.throughput(Throughput::Bytes(doc.len() as u64));
        group.bench_function(BenchmarkId::new("skim", name), |bencher| {
            bencher.iter(|| skim(black_box(&doc), DEPTH_MAX_DEFAULT).is_ok());
        });
        group.bench_function(BenchmarkId::new("serde_json", name), |bencher| {
            bencher.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(&doc)).is_ok());
        });
    }
    group.finish();
}

/// The whole edit of a request: rules, drops, the model's name.
fn edit(bench: &mut Criterion) {
    let snapshot = snapshot(1);
    let deployment = &snapshot.deployments[0];
    let mut group = bench.benchmark_group("edit");
    for (name, doc) in documents() {
        let found = skim(&doc, DEPTH_MAX_DEFAULT).expect("a sound document");
        group.bench_function(name, |bencher| {
            bencher.iter(|| deployment.edit(Shape::Chat, &doc, &found, &deployment.upstream_model, &[]).is_ok());
        });
    }
    group.finish();
}

fn frames() -> Vec<(&'static str, Vec<Bytes>)> {
    let frame = |delta: &str| {
        format!(
            "data: {{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up/glm\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let word = |n: usize| frame(&format!("\"content\":\" word {n}\""));
    let alike: Vec<String> = (0..64).map(word).collect();
    let turns: Vec<String> =
        (0..64).map(|n| if n % 2 == 0 { word(n) } else { frame(&format!("\"reasoning\":\"thought {n}\"")) }).collect();
    let joined = alike.concat();
    let drips = joined.as_bytes().chunks(1).map(Bytes::copy_from_slice).collect();
    let each = |frames: Vec<String>| frames.into_iter().map(Bytes::from).collect();
    vec![
        ("alike", each(alike)),
        ("by turns", each(turns)),
        ("in one read", vec![joined.into()]),
        ("byte by byte", drips),
        ("no JSON", vec![Bytes::from_static(b"data: {no json at all\n\n"); 64]),
        ("comments", vec![Bytes::from_static(b": still thinking\n\n"); 64]),
        ("one of 1 MB", vec![frame(&format!("\"content\":\"{}\"", "x".repeat(1_000_000))).into()]),
        ("without an end", vec![Bytes::from(vec![b'x'; 64 * 1024]); 16]),
    ]
}

fn stream(bench: &mut Criterion) {
    let new = || {
        let face = Face { model: Some("\"glm\"".into()), usage: false, reasoning: Reasoning::Renamed };
        Stream::new(Dialect::Chat, face, FRAME_BYTES_MAX_DEFAULT, true)
    };
    let mut group = bench.benchmark_group("stream");
    for (name, reads) in frames() {
        group.throughput(Throughput::Bytes(reads.iter().map(|read| read.len() as u64).sum()));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (new(), Meter::default()),
                |(mut stream, mut meter)| {
                    for read in &reads {
                        black_box(stream.pass(read.clone(), false, &mut meter).bytes.len());
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// A whole answer: judged, its model's name replaced.
fn answer(bench: &mut Criterion) {
    let face = Face { model: Some("\"glm\"".into()), usage: false, reasoning: Reasoning::Renamed };
    let mut group = bench.benchmark_group("answer");
    for (name, bytes) in [("15 B", 15), ("4 KB", 4096), ("1 MB", 1 << 20)] {
        let doc = Bytes::from(format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"up/glm","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105}}}}"#,
            "x".repeat(bytes)
        ));
        group.bench_function(name, |bencher| bencher.iter(|| face::answer(Dialect::Chat, &doc, &face).is_ok()));
    }
    group.finish();
}

/// A name found, its plan made and a deployment chosen.
fn plan(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("plan");
    for models in [1, 100, 5000] {
        let snapshot = snapshot(models);
        let draw = Draw { strategy: snapshot.strategy, chance: 0.5, now_ms: 1 };
        for name in ["glm", "nobody"] {
            group.bench_function(BenchmarkId::new(name, models), |bencher| {
                bencher.iter(|| {
                    let resolved = snapshot.names.find(black_box(name))?;
                    let fallbacks = snapshot.fallbacks(&resolved.group.name, &[]);
                    Plan::new(resolved, 2, fallbacks).choose(&snapshot.shares, draw)
                });
            });
        }
    }
    group.finish();
}

fn auth(bench: &mut Criterion) {
    let snapshot = snapshot(1);
    let headers = |name: header::HeaderName, value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost:4000"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        headers
    };
    let mut group = bench.benchmark_group("auth");
    for (name, headers) in [
        ("bearer", headers(header::AUTHORIZATION, &format!("Bearer {KEY}"))),
        ("x-api-key", headers(header::HeaderName::from_static("x-api-key"), KEY)),
        ("wrong", headers(header::AUTHORIZATION, "Bearer sk-somebody-else-entirely")),
        ("64 KB of key", headers(header::AUTHORIZATION, &format!("Bearer {}", "x".repeat(64 * 1024)))),
        ("none", headers(header::ACCEPT, "*/*")),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| snapshot.keyring.authenticate(black_box(&headers)).is_ok())
        });
    }
    group.finish();
}

criterion_group! {
    name = rooms;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).without_plots();
    targets = json, edit, stream, answer, plan, auth
}
criterion_main!(rooms);
