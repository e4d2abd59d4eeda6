//! The end of the process: nothing that runs is cut, nothing that idles holds it up.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nanogate::standin::{End, Script, Step};
use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::h2c::H2c;
use crate::support::raw::{Client, Ending, request};
use crate::support::{DEADLINE, eventually, standin};
use crate::traffic::{CHAT, chat, chat_stream, delta, file, finish, gateway, post, posted, shown};

const SOON: Duration = Duration::from_secs(1);

/// Whether the process ends well within this time, and how long it took.
async fn ends_within(gateway: &mut Gateway, limit: Duration) -> Duration {
    let begun = Instant::now();
    assert_eq!(gateway.wait_exit(DEADLINE).await, Some(0), "{}", gateway.log());
    let taken = begun.elapsed();
    assert!(taken < limit, "ended after {taken:?}\n{}", gateway.log());
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_gateway_ends_at_once_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let upstream = standin(Script::auto()).await;
        let mut gateway = gateway(&upstream, "", "").await;
        // An idle upstream connection and an idle client connection are nothing in flight.
        let mut client = Client::connect(gateway.address()).await;
        client.ask(request("POST", CHAT, &[], chat().to_string().as_bytes())).await;
        gateway.signal(signal);
        ends_within(&mut gateway, SOON).await;
        assert!(client.ends_within(SOON).await, "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http_2_connection_holds_nothing_up() {
    let upstream = standin(Script::auto()).await;
    let mut gateway = gateway(&upstream, "", "gateway_settings: { h2c: true }\n").await;
    let mut client = H2c::connect(gateway.address()).await;
    assert_eq!(client.post(CHAT, Bytes::from(chat().to_string()), true).await.status(), 200);
    gateway.signal("TERM");
    ends_within(&mut gateway, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_stream_completes_and_nobody_new_comes_in() {
    let frames: Vec<Value> = (0..20).map(|n| delta(&n.to_string())).chain([finish()]).collect();
    let expected: String = frames.iter().map(shown).chain(["data: [DONE]\n\n".to_owned()]).collect();
    let upstream = standin(Step::sse(frames).gap_ms(60)).await;
    let mut gateway = gateway(&upstream, "", "").await;
    let mut idle = Client::connect(gateway.address()).await;
    idle.ask(request("GET", "/v1/models", &[], b"")).await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    let head = client.head().await;
    gateway.signal("TERM");
    let address = gateway.address();
    let begun = Instant::now();
    while Client::try_connect(address).await.is_ok() {
        assert!(begun.elapsed() < SOON, "new connections are still accepted");
    }
    assert!(idle.ends_within(SOON).await, "an idle connection was kept");
    let answer = client.rest(head).await;
    assert_eq!((answer.text(), answer.ending), (expected, Ending::Complete));
    ends_within(&mut gateway, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_given_while_draining_closes_its_connection() {
    let upstream = standin(Step::auto().delay_ms(400)).await;
    let mut gateway = gateway(&upstream, "", "").await;
    let mut client = posted(&gateway, CHAT, &chat()).await;
    assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    gateway.signal("TERM");
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.ending), (200, Ending::Complete));
    assert!(client.ends_within(SOON).await);
    ends_within(&mut gateway, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_never_good_while_draining() {
    let upstream = standin(Step::hang()).await;
    let mut gateway = gateway(&upstream, "", "gateway_settings: { grace_period: 1 }\n").await;
    let _client = posted(&gateway, CHAT, &chat()).await;
    assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    gateway.signal("TERM");
    assert!(gateway.wait_log("asked to end").await);
    for address in [gateway.address(), gateway.admin()] {
        let begun = Instant::now();
        // Until the listener is closed a connection may still be taken; it hears 503 or nothing.
        while let Ok(answer) = crate::support::raw::try_get(address, "/health/readiness").await {
            assert!(answer.status == 503 || begun.elapsed() < Duration::from_millis(50), "{}", answer.text());
            assert!(begun.elapsed() < SOON);
        }
    }
    ends_within(&mut gateway, SOON * 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_period_ends_what_never_ends() {
    let upstream = standin(Step::sse([delta("a")]).end(End::Stall)).await;
    let mut gateway = gateway(&upstream, "", "gateway_settings: { grace_period: 1 }\n").await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    client.head().await;
    gateway.signal("TERM");
    let taken = ends_within(&mut gateway, SOON * 3).await;
    assert!(taken > Duration::from_millis(700), "the stream got only {taken:?}");
    assert!(gateway.log().contains("the grace period is over: 1 requests are cut"), "{}", gateway.log());
    while client.piece().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let upstream = standin(Step::sse([delta("a")]).end(End::Stall)).await;
    let mut gateway = gateway(&upstream, "", "").await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    client.head().await;
    gateway.signal("TERM");
    assert!(gateway.wait_log("asked to end").await);
    gateway.signal("TERM");
    ends_within(&mut gateway, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_does_not_end_it() {
    let upstream = standin(Script::auto()).await;
    let mut gateway = Gateway::start(file(&upstream, "", "")).await;
    gateway.signal("HUP");
    assert!(
        eventually(DEADLINE, || gateway.log().to_lowercase().contains("hup") || gateway.log().contains("reload")).await
    );
    assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    assert_eq!(gateway.wait_exit(Duration::from_millis(100)).await, None);
}
