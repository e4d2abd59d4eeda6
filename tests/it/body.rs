//! Request bodies of every size and framing reach the upstream whole, once per attempt, with an exact length.
//!
//! Pingora replays at most 64 KiB by itself and hangs above that; these tests guard the wrapper that replays the rest.

use bytes::Bytes;
use nanogate::standin::{Options, Recorded, Script, Standin, Step};
use serde_json::json;

use crate::support::gateway::{Gateway, config, config_for};
use crate::support::h2c::H2c;
use crate::support::raw::{Answer, Client, chunked, post, request};
use crate::support::{DEADLINE, completion, standin, tls};

pub const CHAT: &str = "/v1/chat/completions";
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// On both sides of Pingora's 64 KiB, of socket buffers, and up to the limit itself.
const SIZES: &[usize] = &[100, 63 * KIB, 70_000, MIB, 5 * MIB, 20 * MIB, 32 * MIB];
const REPLAYED: &[usize] = &[30 * KIB, 5 * MIB, 20 * MIB];

/// A chat request for `glm` of exactly so many bytes.
pub fn body_of(bytes: usize) -> Vec<u8> {
    let (open, close) = (br#"{"model":"glm","messages":[{"role":"user","content":""#, br#""}]}"#);
    let filling = bytes - open.len() - close.len();
    // No period that a lost or doubled buffer could hide behind.
    let text = (0..filling as u32).map(|at| b'a' + (at.wrapping_mul(2_654_435_761) >> 24) as u8 % 26);
    open.iter().copied().chain(text).chain(close.iter().copied()).collect()
}

/// What the upstream has to get for it.
fn mapped(body: &[u8]) -> Vec<u8> {
    [&br#"{"model":"zai-org/glm-4.7""#[..], &body[br#"{"model":"glm""#.len()..]].concat()
}

fn assert_exact(seen: &Recorded, sent: &[u8]) {
    let expected = mapped(sent);
    assert!(seen.body_complete && seen.body == expected, "the body of {} bytes arrived changed", sent.len());
    assert_eq!(seen.header("content-length"), Some(expected.len().to_string().as_str()));
    assert_eq!(seen.header("transfer-encoding"), None);
}

fn assert_one(upstream: &Standin, sent: &[u8]) {
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1, "one request for {} bytes", sent.len());
    assert_exact(&requests[0], sent);
    upstream.clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_with_a_length_arrive_whole() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    let mut client = Client::connect(gateway.address()).await;
    for size in SIZES {
        let body = body_of(*size);
        let answer = client.ask(post(CHAT, &body)).await;
        assert_eq!(answer.status, 200, "{size}: {}", answer.text());
        assert_one(&upstream, &body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_bodies_arrive_whole_and_with_a_length() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    let mut client = Client::connect(gateway.address()).await;
    for (size, chunk) in SIZES.iter().zip([1, 7, 1_000, 4_096, 65_536, 100_000, MIB]) {
        let body = body_of(*size);
        let head = chunked_head();
        let answer = client.ask([head, chunked(&body, chunk)].concat()).await;
        assert_eq!(answer.status, 200, "{size}: {}", answer.text());
        assert_one(&upstream, &body);
    }
}

/// The head of a chunked request.
pub fn chunked_head() -> Vec<u8> {
    request("GET", CHAT, &[("Transfer-Encoding", "chunked")], b"")
        .strip_prefix(b"GET")
        .map(|rest| [b"POST", rest].concat())
        .expect("it begins with its method")
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_h2c_arrive_whole() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream) + "gateway_settings:\n  h2c: true\n").await;
    let mut client = H2c::connect(gateway.address()).await;
    for (at, size) in SIZES.iter().enumerate() {
        let body = body_of(*size);
        let answer = client.post(CHAT, Bytes::from(body.clone()), at % 2 == 0).await;
        assert_eq!(answer.status(), 200, "{size}: {}", String::from_utf8_lossy(answer.body()));
        assert_one(&upstream, &body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h2c_leaves_http_1_alone() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream) + "gateway_settings:\n  h2c: true\n").await;
    let body = body_of(70_000);
    let answer = Client::connect(gateway.address()).await.ask(post(CHAT, &body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_one(&upstream, &body);
    // Shorter than what HTTP/2 begins with; and one whose first byte could be that of both.
    for head in ["GET / HTTP/1.0\r\n\r\n", "P / HTTP/1.1\r\n\r\n"] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(head).await;
        assert!(client.stirs_within(DEADLINE / 4).await, "no answer to {head}");
        assert!(client.head().await.status >= 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_and_an_empty_object_are_refused_here() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    let mut client = Client::connect(gateway.address()).await;
    for sent in [post(CHAT, b""), post(CHAT, b"{}"), [chunked_head(), b"0\r\n\r\n".to_vec()].concat()] {
        let answer = client.ask(sent).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"]["param"], "request_body");
    }
    assert_eq!(upstream.connections(), 0);
}

/// Two refusals that ask for a moment's patience, then a completion.
fn third_time_lucky() -> Script {
    let busy = || Step::json(503, json!({"error": {"message": "busy"}})).header("retry-after-ms", "1");
    Script::steps([busy(), busy(), completion()])
}

async fn replays(upstream: &Standin, gateway: &Gateway) {
    for size in REPLAYED {
        upstream.script(third_time_lucky());
        let body = body_of(*size);
        let answer = Client::connect(gateway.address()).await.ask(post(CHAT, &body)).await;
        assert_eq!(answer.status, 200, "{size}: {}", answer.text());
        assert_eq!(answer.header("x-litellm-attempted-retries"), Some("2"));
        let requests = upstream.requests();
        assert_eq!(requests.len(), 3);
        requests.iter().for_each(|seen| assert_exact(seen, &body));
        upstream.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_replayed() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    replays(&upstream, &gateway).await;
}

async fn replays_over_tls(http2: bool) {
    let authority = tls::Authority::new();
    let server = authority.server(&["localhost"]);
    let upstream = Standin::start(Options { tls: Some(server), h2: http2, ..Options::default() }).await.unwrap();
    let base = format!("https://localhost:{}/api/v1", upstream.address().port());
    let settings = format!("gateway_settings:\n  upstream_http2: {http2}\n{}", authority.setting());
    let gateway = Gateway::start(config(&base, &[("glm", "openai/zai-org/glm-4.7")]) + &settings).await;
    replays(&upstream, &gateway).await;
    upstream.script(completion());
    let body = body_of(MIB);
    let answer = Client::connect(gateway.address()).await.ask(post(CHAT, &body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = upstream.requests();
    assert!(seen.iter().all(|request| request.tls && request.http2 == http2));
    assert_one(&upstream, &body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_replayed_over_tls() {
    replays_over_tls(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_replayed_over_http_2() {
    replays_over_tls(true).await;
}

/// A brotli stream of stored bytes (RFC 7932, section 9.2: an uncompressed meta-block, then an empty last one).
fn brotli(plain: &[u8]) -> Vec<u8> {
    let length = u32::try_from(plain.len() - 1).unwrap();
    assert!(length < 1 << 16);
    let header = (length << 4) | (1 << 20);
    [&header.to_le_bytes()[..3], plain, &[0x03]].concat()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

async fn compressed(client: &mut Client, coding: &str, body: &[u8]) -> Answer {
    client.ask(request("POST", CHAT, &[("Content-Encoding", coding)], body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_arrive_plain() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    let mut client = Client::connect(gateway.address()).await;
    let (small, large) = (body_of(2_000), body_of(5 * MIB));
    for (coding, plain, packed) in [
        ("gzip", &small, gzip(&small)),
        ("gzip", &large, gzip(&large)),
        ("deflate", &small, zlib(&small)),
        ("br", &small, brotli(&small)),
        ("identity", &small, small.clone()),
        ("deflate, gzip", &small, gzip(&zlib(&small))),
    ] {
        let answer = compressed(&mut client, coding, &packed).await;
        assert_eq!(answer.status, 200, "{coding}: {}", answer.text());
        assert_eq!(upstream.requests()[0].header("content-encoding"), None);
        assert_one(&upstream, plain);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_and_unknown_codings_stop_here() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream) + "general_settings:\n  max_request_size_mb: 1\n").await;
    let mut client = Client::connect(gateway.address()).await;
    let bomb = compressed(&mut client, "gzip", &gzip(&vec![b' '; 200 * MIB])).await;
    assert_eq!(bomb.status, 413, "{}", bomb.text());
    assert_eq!(compressed(&mut client, "gzip", b"not gzip").await.status, 400);
    assert_eq!(compressed(&mut client, "zstd", b"whatever").await.status, 415);
    assert_eq!(upstream.connections(), 0);
    assert!(gateway.rss_peak_bytes() < 100 * MIB as u64, "a bomb of 200 MiB must not be kept");
}
