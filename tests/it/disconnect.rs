//! A client that leaves takes its upstream request with it, in every phase, at once, and leaves nothing behind.

use std::time::{Duration, Instant};

use nanogate::standin::{End, Frame, Options, Outcome, Recorded, Script, Standin, Step};
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::gateway::{Gateway, base, config, entry};
use crate::support::raw::{Client, request};
use crate::support::tls::Authority;
use crate::support::{DEADLINE, eventually, standin};
use crate::traffic::{
    CHAT, SENT, SHOWN, chat, chat_stream, completion, delta, gateway, metric, metric_becomes, post, posted,
};

/// The promise is 100 ms; a loaded machine gets some more before it counts as broken.
const AT_ONCE: Duration = Duration::from_millis(500);

/// How a client can leave.
#[derive(Clone, Copy, Debug)]
enum Leave {
    Close,
    HalfClose,
    Reset,
}

const WAYS: [Leave; 3] = [Leave::Close, Leave::HalfClose, Leave::Reset];

/// Leaves; a half-closed connection is handed back, to stay open for reading.
async fn leave(mut client: Client, how: Leave) -> Option<Client> {
    match how {
        Leave::Close => None,
        Leave::HalfClose => {
            client.half_close().await;
            Some(client)
        }
        Leave::Reset => {
            client.reset();
            None
        }
    }
}

fn gone(request: &Recorded) -> bool {
    matches!(request.outcome, Outcome::PeerGone { .. })
}

/// Whether every request of the stand-in is dropped at once.
async fn dropped(upstream: &Standin) -> bool {
    let begun = Instant::now();
    let all = upstream.wait_for(DEADLINE, |requests| !requests.is_empty() && requests.iter().all(gone)).await;
    all && begun.elapsed() < AT_ONCE
}

fn cancelled(cause: &str) -> String {
    format!("nanogate_requests_cancelled_total{{cause=\"{cause}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_for_the_head() {
    for how in WAYS {
        let upstream = standin(Step::hang()).await;
        let gateway = gateway(&upstream, "", "").await;
        let client = posted(&gateway, CHAT, &chat_stream()).await;
        assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == 1 && requests[0].body_complete).await);
        let _half = leave(client, how).await;
        assert!(dropped(&upstream).await, "{how:?}: {:?}", upstream.requests());
        assert!(metric_becomes(&gateway, &cancelled("waiting"), 1.0).await, "{how:?}");
        assert!(gateway.wait_log("chat/completions 499 ").await && gateway.wait_log("end=client_left").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_stream() {
    for how in WAYS {
        let upstream = standin(Step::sse([delta("a")]).end(End::Stall)).await;
        let gateway = gateway(&upstream, "", "").await;
        let mut client = posted(&gateway, CHAT, &chat_stream()).await;
        client.head().await;
        client.piece().await.expect("a first frame");
        let _half = leave(client, how).await;
        assert!(dropped(&upstream).await, "{how:?}");
        assert!(metric_becomes(&gateway, &cancelled("stream"), 1.0).await, "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_h2_upstream_whose_connection_lives_on() {
    let settings = "gateway_settings:\n  upstream_http2: true\n";
    for step in [Step::hang(), Step::sse([delta("a")]).end(End::Stall)] {
        let (_authority, upstream, gateway) = crate::traffic::secure(settings).await;
        upstream.script(vec![step, Step::auto()]);
        let client = posted(&gateway, CHAT, &chat_stream()).await;
        assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == 1 && requests[0].body_complete).await);
        leave(client, Leave::Close).await;
        assert!(dropped(&upstream).await, "{:?}", upstream.requests());
        assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
        assert_eq!((upstream.connections(), upstream.requests()[1].http2), (1, true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_upstream_floods_a_reader_that_stopped() {
    let flood = vec![Frame::from(crate::traffic::shown(&delta(&"x".repeat(60_000)))); 1000];
    let upstream = standin(Step::sse(flood)).await;
    let gateway = gateway(&upstream, "", "").await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    client.head().await;
    client.piece().await.expect("a first frame");
    client.reset();
    assert!(dropped(&upstream).await, "{:?}", upstream.requests()[0].outcome);
    assert!(metric_becomes(&gateway, &cancelled("stream"), 1.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_plain_answer() {
    for (path, step) in [
        (CHAT, Step::json(200, completion("whole")).end(End::Stall)),
        ("/v1/audio/speech", Step::raw(200, "audio/mpeg", vec![7; 1000]).end(End::Stall)),
    ] {
        let upstream = standin(step).await;
        let gateway = gateway(&upstream, "", "").await;
        let body = crate::traffic::with(chat(), json!({"input": "x"}));
        let client = posted(&gateway, path, &body).await;
        assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == 1 && requests[0].body_complete).await);
        leave(client, Leave::Close).await;
        assert!(dropped(&upstream).await, "{path}");
        assert!(metric_becomes(&gateway, "nanogate_requests_cancelled_total", 1.0).await, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_its_body_uploads() {
    for how in WAYS {
        let upstream = standin(Script::auto()).await;
        let gateway = gateway(&upstream, "", "").await;
        let whole = request("POST", CHAT, &[], chat().to_string().as_bytes());
        let mut client = Client::connect(gateway.address()).await;
        client.send(&whole[..whole.len() - 5]).await;
        assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 1.0).await);
        let _half = leave(client, how).await;
        assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await, "{how:?}");
        assert_eq!(metric(&gateway, "nanogate_requests_total{endpoint=\"chat\"").await, 0.0);
        assert_eq!(metric(&gateway, "nanogate_buffered_bytes").await, 0.0, "{how:?}");
        let counted = metric(&gateway, &cancelled("upload")).await;
        assert_eq!(counted, 1.0, "{how:?}\n{}", gateway.log());
        assert_eq!(upstream.requests().len(), 0, "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_pause_before_a_retry() {
    let upstream = standin(Step::json(503, json!({})).header("retry-after", "20")).await;
    let gateway = gateway(&upstream, "", "").await;
    let client = posted(&gateway, CHAT, &chat()).await;
    // A failed attempt closes its connection; after that there is only the pause.
    let paused = |requests: &[Recorded]| requests.len() == 1 && upstream.open_connections() == 0;
    assert!(upstream.wait_for(DEADLINE, paused).await);
    let begun = Instant::now();
    leave(client, Leave::Close).await;
    assert!(metric_becomes(&gateway, &cancelled("waiting"), 1.0).await);
    assert!(begun.elapsed() < Duration::from_secs(5), "the pause went on without its client");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_connection_is_being_made() {
    // The kernel accepts, and nobody ever shakes hands.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}/v1", silent.local_addr().unwrap().port());
    let settings = "gateway_settings: { connect_timeout: 1 }\n";
    let gateway = Gateway::start(config(&base, &[(SHOWN, "openai/up")]) + settings).await;
    let client = posted(&gateway, CHAT, &chat()).await;
    let (connection, _) = silent.accept().await.unwrap();
    leave(client, Leave::Close).await;
    assert!(metric_becomes(&gateway, &cancelled("waiting"), 1.0).await);
    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await);
    let mut hello = [0; 4096];
    connection.readable().await.unwrap();
    while connection.try_read(&mut hello).is_ok_and(|count| count > 0) {}
    let more = tokio::time::timeout(Duration::from_millis(300), silent.accept()).await;
    assert!(more.is_err(), "another connection was tried for a client that is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_made_after_the_client_left_carries_no_request() {
    let authority = Authority::new();
    let options = Options { tls: Some(authority.server(&["localhost"])), ..Options::default() };
    let upstream = Standin::start(options).await.unwrap();
    // Accepts at once and begins the handshake when the client has gone.
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}/api/v1", slow.local_addr().unwrap().port());
    let settings = format!("gateway_settings:\n{}", authority.setting());
    let gateway = Gateway::start(config(&base, &[(SHOWN, "openai/up")]) + &settings).await;
    let client = posted(&gateway, CHAT, &chat()).await;
    let (mut near, _) = slow.accept().await.unwrap();
    let begun = Instant::now();
    assert!(eventually(DEADLINE, || begun.elapsed() > Duration::from_millis(100)).await);
    leave(client, Leave::Close).await;
    let mut far = tokio::net::TcpStream::connect(upstream.address()).await.unwrap();
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
    assert!(metric_becomes(&gateway, &cancelled("waiting"), 1.0).await);
    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await);
    assert_eq!(upstream.connections(), 1);
    assert_eq!(upstream.requests().len(), 0, "a request was sent for a client that is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_second_deployment_is_asked_for_a_client_that_left() {
    let first = standin(Step::hang()).await;
    let second = standin(Script::auto()).await;
    let entries = [(&first, "order: 1"), (&second, "order: 2")]
        .map(|(standin, order)| entry(SHOWN, &format!("openai/{SENT}"), &base(standin), order));
    let gateway = Gateway::start(format!("model_list:\n{}", entries.concat())).await;
    let client = posted(&gateway, CHAT, &chat()).await;
    assert!(first.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    leave(client, Leave::Reset).await;
    assert!(metric_becomes(&gateway, &cancelled("waiting"), 1.0).await);
    assert_eq!(second.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_of_them_leave_nothing_behind() {
    let upstream = standin(
        Script::from(Step::auto()).by_path("/api/v1/chat/completions", Step::sse([delta("a")]).end(End::Stall)),
    )
    .await;
    let gateway = gateway(&upstream, "", "").await;
    for round in 0..4 {
        let mut clients = Vec::new();
        for _ in 0..50 {
            let mut client = posted(&gateway, CHAT, &chat_stream()).await;
            if round % 2 == 0 {
                client.head().await;
            }
            clients.push(client);
        }
        // One that leaves before its head was read is no request.
        assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == 50 * (round + 1)).await);
        for (index, client) in clients.into_iter().enumerate() {
            leave(client, WAYS[2 * (index % 2)]).await;
        }
    }
    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await);
    assert!(
        upstream.wait_for(DEADLINE, |requests| requests.iter().all(gone) && upstream.open_connections() == 0).await
    );
    assert_eq!(metric(&gateway, "nanogate_requests_cancelled_total").await, 200.0);
    assert_eq!(metric(&gateway, "nanogate_buffered_bytes").await, 0.0);
    upstream.script(Script::auto());
    assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
}
