//! A running stream goes from one connection to the other after the proxy has let go of it. Nothing of that may be seen:
//! not the order, not a byte, not the end, nor what comes after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nanogate::standin::{End, Frame, Outcome, Script, Step};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::gateway::{Gateway, config};
use crate::support::raw::{self, Client, Ending};
use crate::support::standin;
use crate::traffic::{
    CHAT, SHOWN, access_line, chat, chat_stream, completion, delta, file, finish, gateway, metric, metric_becomes,
    post, posted, renamed, shown, until, with,
};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const DONE: &str = "data: [DONE]\n\n";

/// An upstream that writes one answer to every request, in pieces of so many bytes as the request's number says.
struct Cutter {
    gateway: Gateway,
    connections: Arc<AtomicUsize>,
    _serving: tokio::task::JoinHandle<()>,
}

impl Cutter {
    async fn start(answer: Vec<u8>, sizes: &'static [usize]) -> Self {
        Self::start_with(move |request| answer.chunks(sizes[request % sizes.len()]).map(<[u8]>::to_vec).collect(), None)
            .await
    }

    /// `pieces` of the answer to a request, by its number, with a pause after each.
    async fn start_with(
        pieces: impl Fn(usize) -> Vec<Vec<u8>> + Send + Sync + 'static,
        pause: Option<Duration>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            let pieces = Arc::new(pieces);
            let requests = Arc::new(AtomicUsize::new(0));
            while let Ok((mut connection, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                connection.set_nodelay(true).unwrap();
                let (pieces, requests) = (Arc::clone(&pieces), Arc::clone(&requests));
                tokio::spawn(async move {
                    while read_request(&mut connection).await {
                        let request = requests.fetch_add(1, Ordering::Relaxed);
                        for piece in pieces(request) {
                            connection.write_all(&piece).await.unwrap();
                            match pause {
                                Some(pause) => tokio::time::sleep(pause).await,
                                None => tokio::task::yield_now().await,
                            }
                        }
                    }
                });
            }
        });
        let gateway = Gateway::start(config(&base, &[(SHOWN, "openai/zai-org/glm-4.7")])).await;
        Cutter { gateway, connections, _serving: serving }
    }
}

async fn read_request(connection: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        if !connection.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
            return false;
        }
    }
    true
}

fn chunk(bytes: &str) -> String {
    format!("{:x}\r\n{bytes}\r\n", bytes.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_and_reads_may_be_cut_anywhere() {
    let mut expected = String::new();
    let mut answer = HEAD.to_owned();
    let mut left_over = String::new();
    for number in 0..400usize {
        let text = match number % 50 {
            // Longer than several reads.
            49 => "x".repeat(50_000),
            // Longer than one read.
            30 => "y".repeat(12_000),
            _ => format!("piece {number} \"é\" \\ {}", "z".repeat(number % 37)),
        };
        let frame = shown(&delta(&text)).replace(SHOWN, "zai-org/glm-4.7");
        expected.push_str(&shown(&delta(&text)));
        left_over.push_str(&frame);
        match number % 7 {
            // Frames that share a chunk.
            2 | 3 => {}
            // Frames that are cut by chunks.
            4 => {
                let rest = left_over.split_off(left_over.len() / 2);
                answer.push_str(&chunk(&std::mem::replace(&mut left_over, rest)));
            }
            // A chunk of another form than the usual.
            6 if number % 5 == 0 => {
                answer.push_str(&format!("{:04X};name=\"value\"\r\n{left_over}\r\n", left_over.len()));
                left_over.clear();
            }
            _ => answer.push_str(&chunk(&std::mem::take(&mut left_over))),
        }
    }
    left_over.push_str(&shown(&finish()).replace(SHOWN, "zai-org/glm-4.7"));
    left_over.push_str(DONE);
    answer.push_str(&chunk(&left_over));
    answer.push_str("0\r\nx-trailer: 1\r\n\r\n");
    expected.push_str(&shown(&finish()));
    expected.push_str(DONE);

    static SIZES: &[usize] = &[13, 100, 1_000, 4_096, 8_191, 8_192, 50_000, 5_000_000];
    let cutter = Cutter::start(answer.into_bytes(), SIZES).await;
    let mut client = Client::connect(cutter.gateway.address()).await;
    for size in SIZES {
        let answer = client.ask(raw::post(CHAT, chat_stream().to_string().as_bytes())).await;
        assert_eq!((answer.status, answer.ending), (200, Ending::Complete), "{size}");
        assert!(answer.text() == expected, "cut every {size} bytes: {} of {}", answer.text().len(), expected.len());
    }
    assert_eq!(cutter.connections.load(Ordering::Relaxed), 1, "the upstream's connection goes on after each stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_may_end_later_than_its_bytes() {
    let mut pieces = vec![HEAD.to_owned()];
    for number in 0..20 {
        let chunk = chunk(&shown(&delta(&number.to_string())));
        let (bytes, end) = chunk.split_at(chunk.len() - 2);
        pieces.extend([bytes.to_owned(), end.to_owned()]);
    }
    pieces.push(chunk(DONE) + "0\r\n\r\n");
    let pieces: Vec<Vec<u8>> = pieces.into_iter().map(String::into_bytes).collect();
    let cutter = Cutter::start_with(move |_| pieces.clone(), Some(Duration::from_millis(1))).await;
    let expected: String = (0..20).map(|number| shown(&delta(&number.to_string()))).collect();
    for _ in 0..10 {
        let answer = post(&cutter.gateway, CHAT, &chat_stream()).await;
        assert_eq!(answer.text(), format!("{expected}{DONE}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_keeps_its_order() {
    let numbers = 0..2_000;
    let mut answer = HEAD.to_owned();
    for number in numbers.clone() {
        answer.push_str(&chunk(&shown(&delta(&number.to_string()))));
    }
    answer.push_str(&chunk(DONE));
    answer.push_str("0\r\n\r\n");
    let expected: String = numbers.map(|number| shown(&delta(&number.to_string()))).collect();
    let cutter = Cutter::start(answer.into_bytes(), &[10_000_000, 300, 700, 60_000]).await;
    for _ in 0..40 {
        let answer = post(&cutter.gateway, CHAT, &chat_stream()).await;
        assert!(answer.text() == format!("{expected}{DONE}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_relayed_is_counted() {
    let frames: Vec<Frame> = (0..50).map(|_| Frame::from(delta("a"))).chain([Frame::from(finish())]).collect();
    let upstream = standin(Step::sse(frames).gap_ms(2)).await;
    let sections = "gateway_settings: { access_log: json }\n";
    let gateway = Gateway::start(file(&upstream, "", sections)).await;
    let answer = post(&gateway, CHAT, &chat_stream()).await;
    let line = access_line(&gateway, 1).await;
    assert_eq!(line["bytes_out"], answer.text().len());
    assert_eq!(line["end"], "done");
    assert_eq!(metric(&gateway, "nanogate_stream_frames_total").await, 52.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_got_before_it_left_is_counted() {
    let frames: Vec<Frame> = (0..50).map(|_| Frame::from(delta("a"))).collect();
    let upstream = standin(Step::sse(frames).gap_ms(1).end(End::Stall)).await;
    let gateway = Gateway::start(file(&upstream, "", "gateway_settings: { access_log: json }\n")).await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    client.head().await;
    let mut seen = 0;
    while seen < 50 * shown(&delta("a")).len() {
        seen += client.piece().await.expect("the stream goes on").bytes.len();
    }
    drop(client);
    let line = access_line(&gateway, 1).await;
    assert_eq!((&line["bytes_out"], &line["end"]), (&seen.into(), &"client_left".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_in_a_relay_is_filled_and_limited() {
    let frames = [Frame::from(delta("a")), Frame::Pause(20), Frame::from(delta("b"))];
    let upstream = standin(Step::sse(frames).end(End::Stall)).await;
    let settings = "gateway_settings: { stream_keepalive: 0.1, stream_idle_timeout: 0.6 }\n";
    let gateway = gateway(&upstream, "", settings).await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    client.head().await;
    until(&mut client, &shown(&delta("b"))).await;
    let (text, _) = until(&mut client, "\"error\"").await;
    assert!(text.matches(": keep-alive\n\n").count() >= 3, "{text}");
    assert!(metric_becomes(&gateway, "nanogate_streams_truncated_total{cause=\"upstream_stalled\"}", 1.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_slow_to_take_a_stream_is_no_silent_upstream() {
    let frame = shown(&delta(&"x".repeat(8_000)));
    let upstream = standin(Step::sse(vec![Frame::from(frame.as_str()); 4_000])).await;
    let settings = "gateway_settings: { stream_keepalive: 0.05, stream_idle_timeout: 0.3 }\n";
    let gateway = gateway(&upstream, "", settings).await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    let head = client.head().await;
    // More than twice the time that an upstream may be silent for; 32 MB do not fit in sockets.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        assert_eq!(upstream.requests()[0].outcome, Outcome::Pending);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = client.rest(head).await;
    let text = answer.text().replace(": keep-alive\n\n", "");
    assert_eq!(answer.ending, Ending::Complete);
    assert!(text == frame.repeat(4_000) + DONE, "{} bytes, {}", text.len(), &text[text.len().saturating_sub(200)..]);
}

/// One answer in one write: how it is cut into reads is not left to chance.
fn whole_stream(contents: &[&str], end: &str) -> Vec<u8> {
    let frames = contents.iter().map(|content| chunk(&shown(&delta(content)))).collect::<String>();
    format!("{HEAD}{frames}{end}0\r\n\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_in_the_read_of_its_content_is_not_begun_anew() {
    let cutter = Cutter::start(whole_stream(&["a"], ""), &[10_000]).await;
    let body = with(chat_stream(), serde_json::json!({"num_retries": 2}));
    let answer = post(&cutter.gateway, CHAT, &body).await;
    let text = answer.text();
    assert!(text.starts_with(&shown(&delta("a"))) && text.contains("upstream_stream_truncated"), "{text}");
    assert_eq!((answer.status, answer.ending), (200, Ending::Complete));
    assert!(metric_becomes(&cutter.gateway, "nanogate_upstream_attempts_total", 1.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_are_served_after_the_stream() {
    let pieces = ["a", "b", "c"].map(|content| chunk(&shown(&delta(content))).into_bytes());
    let cutter = Cutter::start_with(
        move |_| {
            let mut answer = vec![HEAD.as_bytes().to_vec()];
            answer.extend(pieces.clone());
            answer.push((chunk(DONE) + "0\r\n\r\n").into_bytes());
            answer
        },
        Some(Duration::from_millis(30)),
    )
    .await;
    let expected = ["a", "b", "c"].map(|content| shown(&delta(content))).concat() + DONE;
    let request = raw::post(CHAT, chat_stream().to_string().as_bytes());
    let mut client = Client::connect(cutter.gateway.address()).await;
    // Two at once, a third while the first is relayed, in two halves.
    client.send([&request[..], &request[..]].concat()).await;
    let head = client.head().await;
    until(&mut client, &shown(&delta("a"))).await;
    let (begun, rest) = request.split_at(request.len() / 2);
    client.send(begun).await;
    let answer = client.rest(head).await;
    assert_eq!(shown(&delta("a")) + &answer.text(), expected);
    assert_eq!(client.answer().await.text(), expected);
    client.send(rest).await;
    assert_eq!(client.answer().await.text(), expected);
    assert_eq!(client.ask(&request).await.text(), expected);
    assert_eq!(cutter.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_wants_its_connection_closed_gets_the_whole_stream_first() {
    let frames: Vec<Frame> = (0..20).map(|_| Frame::from(delta("a"))).chain([Frame::from(finish())]).collect();
    let upstream = standin(Step::sse(frames).gap_ms(2)).await;
    let gateway = gateway(&upstream, "", "").await;
    let body = chat_stream().to_string();
    let mut client = Client::connect(gateway.address()).await;
    let request = raw::request("POST", CHAT, &[("connection", "close")], body.as_bytes());
    let answer = client.ask(request).await;
    let expected = shown(&delta("a")).repeat(20) + &shown(&finish()) + DONE;
    assert_eq!((answer.text(), answer.ending), (expected, Ending::Complete));
    assert!(client.try_head().await.unwrap().is_none(), "the connection ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_leaves_nothing_to_the_next() {
    let document = completion("whole");
    let whole = || Step::json(200, document.clone()).header("x-request-id", "of-the-upstream");
    let stream = || Step::sse([Frame::from(delta("a")), Frame::from(finish())]);
    // What the hooks are given serves one request after the other; only some of them use more of it than its wrapper.
    let steps =
        [whole().gzip(), whole(), stream().gzip(), stream(), Step::json(404, json!({})), stream(), whole().gzip()];
    let expected = [true, true, false, false, true, false, true];
    let upstream = standin(Script::steps([steps.clone(), steps].concat())).await;
    let gateway = gateway(&upstream, "", "").await;
    let (plain, streamed) = (renamed(&document.to_string()), shown(&delta("a")) + &shown(&finish()) + DONE);
    let mut client = Client::connect(gateway.address()).await;
    for (place, is_whole) in expected.into_iter().cycle().take(14).enumerate() {
        let body = if is_whole { chat() } else { chat_stream() };
        let answer = client.ask(raw::post(CHAT, body.to_string().as_bytes())).await;
        assert_eq!(answer.ending, Ending::Complete, "{place}");
        assert_eq!(answer.header("content-encoding"), None, "{place}");
        if place % 7 == 4 {
            assert_eq!(answer.status, 404, "{place}");
            continue;
        }
        assert_eq!((answer.status, answer.text()), (200, if is_whole { &plain } else { &streamed }.clone()), "{place}");
        // The upstream's own name for the request stands instead of the gateway's, not beside it.
        let ids = answer.head.headers.iter().filter(|(name, _)| name == "x-request-id").map(|(_, id)| id.as_str());
        let ids: Vec<&str> = ids.collect();
        assert_eq!((ids.len(), ids[0] == "of-the-upstream"), (1, is_whole), "{place}: {ids:?}");
    }
}
