//! Answers that do not end well, and peers that do not wait.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::json;

use super::peer::{DEADLINE, Peer, post, standin};
use crate::standin::{End, Frame, Outcome, Standin, Step};

fn two_frames() -> Step {
    Step::sse([Frame::Json(json!({"a": 1})), Frame::Text("data: two\n\n".to_owned())])
}

async fn ask(standin: &Standin) -> Peer {
    let mut peer = Peer::connect(standin).await;
    peer.send(&post("/any/path", &json!({"model": "m"}))).await;
    peer
}

async fn settled(standin: &Standin, outcome: Outcome) {
    let seen =
        |requests: &[crate::standin::Recorded]| requests.first().is_some_and(|request| request.outcome == outcome);
    assert!(standin.wait_for(DEADLINE, seen).await, "{:?}", standin.requests().first().map(|request| request.outcome));
}

#[tokio::test]
async fn done_and_clean_end_whole() {
    for (end, tail) in [(End::Done, "d\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"), (End::Clean, "data: two\n\n\r\n0\r\n\r\n")] {
        let standin = standin(two_frames().end(end).close()).await;
        let (text, fin) = ask(&standin).await.rest().await;
        let text = String::from_utf8(text).unwrap();
        // "data: [DONE]" and two line ends are 14 bytes.
        assert!(fin.is_ok() && text.ends_with(&tail.replacen("d\r\n", "e\r\n", 1)), "{text}");
        assert!(text.contains("connection: close\r\n") && text.contains("data: {\"a\":1}\n\n"));
        settled(&standin, Outcome::Answered).await;
    }
}

#[tokio::test]
async fn cuts_and_truncated_chunks_are_a_fin_without_the_last_chunk() {
    for (end, tail) in [(End::Cut, "data: two\n\n\r\n"), (End::TruncatedChunk, "40\r\ndata: {\"id\":")] {
        let standin = standin(two_frames().end(end)).await;
        let (text, fin) = ask(&standin).await.rest().await;
        assert!(fin.is_ok() && text.ends_with(tail.as_bytes()), "{}", String::from_utf8_lossy(&text));
        settled(&standin, Outcome::Cut).await;
    }
}

#[tokio::test]
async fn resets_are_resets() {
    for step in
        [two_frames().end(End::Reset), Step::reset_before_answer(), Step::json(200, json!([1, 2, 3])).end(End::Reset)]
    {
        let standin = standin(step).await;
        let (_, end) = ask(&standin).await.rest().await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        settled(&standin, Outcome::Cut).await;
    }
}

#[tokio::test]
async fn a_close_before_the_answer_is_empty() {
    let standin = standin(Step::close_before_answer()).await;
    let (text, fin) = ask(&standin).await.rest().await;
    assert!(fin.is_ok() && text.is_empty());
}

#[tokio::test]
async fn a_lie_about_the_length_ends_in_a_fin() {
    let standin = standin(Step::raw(200, "text/plain", "short").content_length(100)).await;
    let (text, fin) = ask(&standin).await.rest().await;
    let text = String::from_utf8(text).unwrap();
    assert!(fin.is_ok() && text.contains("content-length: 100\r\n") && text.ends_with("short"));
    settled(&standin, Outcome::Cut).await;
}

#[tokio::test]
async fn a_peer_that_leaves_is_noticed_at_once_whatever_is_going_on() {
    for (step, frames) in [
        (two_frames().end(End::Stall), 2),
        (two_frames().gap_ms(60_000), 1),
        (Step::hang(), 0),
        (Step::auto().delay_ms(60_000), 0),
        (two_frames().body_delay_ms(60_000), 0),
    ] {
        let standin = standin(step).await;
        let mut peer = ask(&standin).await;
        assert!(standin.wait_for(DEADLINE, |requests| requests.iter().any(|request| request.body_complete)).await);
        if frames > 0 {
            peer.until(if frames == 2 { "two" } else { "\"a\":1" }).await;
        }
        assert_eq!(standin.active(), 1);
        let left_at = Instant::now();
        drop(peer);
        assert!(standin.wait_for(DEADLINE, |_| standin.active() == 0 && standin.open_connections() == 0).await);
        assert!(left_at.elapsed() < Duration::from_millis(100), "{:?}", left_at.elapsed());
        let outcome = standin.requests()[0].outcome;
        assert!(matches!(outcome, Outcome::PeerGone { frames_sent, .. } if frames_sent == frames), "{outcome:?}");
    }
}

#[tokio::test]
async fn half_a_body_is_recorded_as_half() {
    let standin = standin(Step::auto()).await;
    let mut peer = Peer::connect(&standin).await;
    peer.send("POST /v1/embeddings HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").await;
    drop(peer);
    let gone = |request: &crate::standin::Recorded| matches!(request.outcome, Outcome::PeerGone { .. });
    assert!(standin.wait_for(DEADLINE, |requests| requests.iter().any(gone)).await);
    let request = &standin.requests()[0];
    assert_eq!((request.body.as_slice(), request.body_complete), (&b"abc"[..], false));
}

#[tokio::test]
async fn dropping_it_closes_everything() {
    let standin = standin(Step::hang()).await;
    let address = standin.address();
    let mut peer = ask(&standin).await;
    assert!(standin.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    drop(standin);
    let (text, _) = peer.rest().await;
    assert!(text.is_empty());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
