//! A second attempt beside a silent first: the first good answer wins, the other call ends, and nobody pays for more.

use std::time::{Duration, Instant};

use nanogate::standin::{End, Script, Standin, Step};
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, base};
use crate::support::{DEADLINE, eventually, standin};
use crate::traffic::{
    CHAT, SENT, access_line, ask, chat, chat_stream, completion, delta, finish, gateway, metric, metric_becomes, pool,
    post, posted, secure, shown, with,
};

const HEDGED: &str = "gateway_settings: { hedge_after: 0.2, access_log: json }\n";

fn says(words: &str) -> Step {
    Step::json(200, completion(words))
}

fn busy(status: u16) -> Step {
    Step::json(status, json!({"error": {"message": "busy"}})).header("retry-after-ms", "1")
}

/// Two deployments, called in this order.
async fn two(first: impl Into<Script>, second: impl Into<Script>) -> (Standin, Standin, Gateway) {
    let (one, other) = (standin(first).await, standin(second).await);
    let gateway = pool(&[(&one, "order: 1"), (&other, "order: 2")], HEDGED).await;
    (one, other, gateway)
}

fn calls(one: &Standin, other: &Standin) -> (usize, usize) {
    (one.requests().len(), other.requests().len())
}

/// Whether neither stand-in is busy any more, soon.
async fn quiet(one: &Standin, other: &Standin) -> bool {
    eventually(Duration::from_secs(1), || one.active() + other.active() == 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_answers_when_the_first_is_silent_and_the_first_is_dropped() {
    let (one, other, gateway) = two(Step::hang(), says("other")).await;
    let begun = Instant::now();
    let answer = post(&gateway, CHAT, &chat()).await;
    let took = begun.elapsed();
    assert_eq!((answer.status, answer.header("x-gateway-hedge")), (200, Some("won")), "{}", answer.text());
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "other");
    assert_eq!(answer.header("x-litellm-attempted-retries"), Some("0"));
    assert!(took >= Duration::from_millis(190) && took < Duration::from_secs(2), "{took:?}");
    assert!(quiet(&one, &other).await, "the silent call goes on");
    assert_eq!(calls(&one, &other), (1, 1));
    assert_eq!(other.requests()[0].json()["model"], SENT);
    assert_eq!(metric(&gateway, "nanogate_hedges_total{cause=\"won\"}").await, 1.0);
    let attempts = access_line(&gateway, 1).await["attempts"].as_str().unwrap().to_owned();
    let words: Vec<&str> = attempts.split([':', ',']).collect();
    assert_eq!((words.len(), words[1], words[4]), (6, "overtaken", "ok"), "{attempts}");
    // The connection serves the next request, and a quick answer has no rival.
    one.script(says("one"));
    let answer = post(&gateway, CHAT, &chat()).await;
    assert_eq!((answer.status, answer.header("x-gateway-hedge")), (200, None));
    assert_eq!(calls(&one, &other), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_wins_when_it_answers_first() {
    let (one, other, gateway) = two(says("one").delay_ms(500), Step::hang()).await;
    let answer = post(&gateway, CHAT, &chat()).await;
    assert_eq!((answer.status, answer.header("x-gateway-hedge")), (200, Some("lost")));
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "one");
    assert!(quiet(&one, &other).await, "the second call goes on");
    assert_eq!(calls(&one, &other), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_deployment_is_asked_twice() {
    let upstream = standin(vec![Step::hang(), says("again")]).await;
    let gateway = gateway(&upstream, "", HEDGED).await;
    let answer = post(&gateway, CHAT, &chat()).await;
    assert_eq!((answer.status, answer.header("x-gateway-hedge")), (200, Some("won")));
    assert!(eventually(DEADLINE, || upstream.active() == 0).await);
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(upstream.requests()[0].body, upstream.requests()[1].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_first_leaves_the_second_its_chance() {
    for first in [busy(503).delay_ms(400), busy(401).delay_ms(400), Step::reset_before_answer().delay_ms(400)] {
        let (one, other, gateway) = two(first.clone(), says("other").delay_ms(500)).await;
        let answer = post(&gateway, CHAT, &chat()).await;
        assert_eq!((answer.status, answer.header("x-gateway-hedge")), (200, Some("won")), "{first:?}");
        assert_eq!(calls(&one, &other), (1, 1), "{first:?}");
        assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_second_leaves_the_first_its_chance() {
    for second in [busy(500), Step::reset_before_answer(), Step::raw(200, "x", "").status(404)] {
        let (one, other, gateway) = two(says("one").delay_ms(600), second.clone()).await;
        let answer = post(&gateway, CHAT, &chat()).await;
        assert_eq!((answer.status, answer.header("x-gateway-hedge")), (200, Some("failed")), "{second:?}");
        assert_eq!(answer.json()["choices"][0]["message"]["content"], "one");
        assert_eq!(calls(&one, &other), (1, 1), "{second:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_both_fail_the_retries_go_on_and_the_last_words_are_the_upstreams() {
    let (one, other, gateway) = two(busy(503).delay_ms(400), busy(500).delay_ms(300)).await;
    let answer = post(&gateway, CHAT, &with(chat(), json!({"num_retries": 1}))).await;
    assert!(
        matches!(answer.status, 500 | 503) && answer.text().contains("busy"),
        "{} {}",
        answer.status,
        answer.text()
    );
    let (first, second) = calls(&one, &other);
    assert_eq!(first + second, 3, "the first, its rival, one retry");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_large_bodies_and_tls_pass_through_the_second_whole() {
    let frames = || [delta("a"), delta("b"), finish()];
    let (one, other, gateway) = two(Step::hang(), Step::sse(frames()).gap_ms(20)).await;
    let body = with(chat_stream(), json!({"messages": [{"role": "user", "content": "x".repeat(5 << 20)}]}));
    let answer = post(&gateway, CHAT, &body).await;
    assert_eq!(answer.text(), frames().iter().map(shown).collect::<String>() + "data: [DONE]\n\n");
    assert_eq!(other.requests()[0].body, one.requests()[0].body);
    let (_authority, upstream, gateway) = secure("gateway_settings:\n  hedge_after: 0.2\n").await;
    upstream.script(vec![Step::hang(), Step::sse(frames())]);
    let answer = post(&gateway, CHAT, &chat_stream()).await;
    assert_eq!(answer.text(), frames().iter().map(shown).collect::<String>() + "data: [DONE]\n\n");
    assert_eq!(answer.header("x-gateway-hedge"), Some("won"));
    assert!(eventually(DEADLINE, || upstream.active() == 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_behind_a_won_hedge_says_so() {
    let (_one, _other, gateway) = two(Step::hang(), Step::sse([delta("a")]).end(End::Reset)).await;
    let answer = post(&gateway, CHAT, &with(chat_stream(), json!({"num_retries": 0}))).await;
    assert!(answer.status == 200 && answer.text().contains("upstream_stream_truncated"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_both_calls() {
    let (one, other, gateway) = two(Step::hang(), Step::hang()).await;
    let client = posted(&gateway, CHAT, &chat()).await;
    assert!(other.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    drop(client);
    assert!(quiet(&one, &other).await);
    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await);
    let line = access_line(&gateway, 1).await;
    assert_eq!(line["end"], "client_left", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hedges_are_paid_from_the_retry_budget() {
    let (one, other) = (standin(Step::hang()).await, standin(Step::hang()).await);
    let sections = "litellm_settings: { num_retries: 0 }\ngateway_settings: { hedge_after: 0.2, retry_budget: 0.1 }\n";
    let gateway = pool(&[(&one, "order: 1, timeout: 1.5"), (&other, "order: 2")], sections).await;
    let mut clients = Vec::new();
    for _ in 0..160 {
        clients.push(posted(&gateway, CHAT, &chat()).await);
    }
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 504);
    }
    let (first, second) = calls(&one, &other);
    assert_eq!(first, 160);
    // A tenth of the traffic, and the hundred that ten seconds bring.
    assert!((100..=136).contains(&second), "{second}");
    assert!(metric(&gateway, "nanogate_hedges_total{cause=\"unaffordable\"}").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_by_default_and_pictures_are_never_asked_for_twice() {
    let upstream = standin(vec![says("late").delay_ms(700)]).await;
    let off = gateway(&upstream, "", "").await;
    assert_eq!(post(&off, CHAT, &chat()).await.status, 200);
    assert_eq!(upstream.requests().len(), 1);
    let on = Gateway::start(format!(
        "model_list:\n{}{HEDGED}",
        crate::support::gateway::entry("glm", &format!("openai/{SENT}"), &base(&upstream), "")
    ))
    .await;
    upstream.clear();
    let picture: Value = json!({"model": "glm", "prompt": "a gate"});
    assert_eq!(post(&on, "/v1/images/generations", &picture).await.status, 200);
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(post(&on, "/v1/embeddings", &json!({"model": "glm", "input": "a"})).await.status, 200);
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(post(&on, "/v1/messages", &ask("/v1/messages", false)).await.status, 200);
    assert_eq!(upstream.requests().len(), 5);
}
