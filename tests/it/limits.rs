//! Limits hold: so many at a time, so many a second or minute, the rest waits in a bounded line or is told when to come
//! again.

use std::time::{Duration, Instant};

use nanogate::standin::{Script, Standin, Step};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::gateway::{Gateway, base, entry};
use crate::support::raw::{self, Answer};
use crate::support::{DEADLINE, eventually, standin};
use crate::traffic::{
    CHAT, MESSAGES, ask, chat, completion, gateway, metric, metric_becomes, pool, post, posted, with,
};

fn good() -> Step {
    Step::json(200, completion("good"))
}

/// The same answer to everybody, after a while.
fn slow(delay_ms: u64) -> Script {
    Script::from(good().delay_ms(delay_ms))
}

/// Requests sent at the same time.
fn burst(gateway: &Gateway, count: usize) -> JoinSet<Answer> {
    let mut running = JoinSet::new();
    for _ in 0..count {
        let address = gateway.address();
        running.spawn(async move { raw::post_json(address, CHAT, &chat()).await });
    }
    running
}

async fn statuses(mut running: JoinSet<Answer>) -> Vec<u16> {
    let mut all = Vec::new();
    while let Some(answer) = running.join_next().await {
        all.push(answer.unwrap().status);
    }
    all.sort_unstable();
    all
}

/// The most requests a stand-in was busy with at a time, seen from outside until `done`.
async fn busiest(upstream: &Standin, done: impl Fn() -> bool) -> u64 {
    let mut most = 0;
    eventually(DEADLINE, || {
        most = most.max(upstream.active());
        done()
    })
    .await;
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_gets_no_more_at_a_time_than_it_may_and_the_rest_waits() {
    let upstream = standin(slow(100)).await;
    let gateway = gateway(&upstream, "max_parallel_requests: 2", "").await;
    let running = burst(&gateway, 8);
    let most = busiest(&upstream, || upstream.requests().len() == 8).await;
    assert_eq!(statuses(running).await, [200; 8]);
    assert_eq!(most, 2);
    assert!(metric_becomes(&gateway, "nanogate_requests_queued", 0.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_has_a_limit_of_its_own_over_all_groups() {
    for section in
        ["gateway_settings: { max_parallel_requests: 2 }\n", "general_settings: { global_max_parallel_requests: 2 }\n"]
    {
        let upstream = standin(slow(100)).await;
        let entries = ["a", "b", "c"].map(|name| entry(name, "openai/up", &base(&upstream), "")).concat();
        let gateway = Gateway::start(format!("model_list:\n{entries}{section}")).await;
        let mut running = JoinSet::new();
        for n in 0..9 {
            let (address, model) = (gateway.address(), ["a", "b", "c"][n % 3]);
            let body = json!({"model": model, "messages": []});
            running.spawn(async move { raw::post_json(address, CHAT, &body).await });
        }
        let most = busiest(&upstream, || upstream.requests().len() == 9).await;
        assert_eq!(statuses(running).await, [200; 9], "{section}");
        assert_eq!(most, 2, "{section}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_line_is_a_429_in_the_clients_dialect_that_says_when() {
    let upstream = standin(Step::hang()).await;
    let gateway = gateway(&upstream, "max_parallel_requests: 1", "gateway_settings: { queue: 1 }\n").await;
    let _served = posted(&gateway, CHAT, &chat()).await;
    assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    let waiting = posted(&gateway, CHAT, &chat()).await;
    assert!(metric_becomes(&gateway, "nanogate_requests_queued", 1.0).await);
    let answer = post(&gateway, CHAT, &chat()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    assert_eq!(answer.header("x-should-retry"), Some("true"));
    assert_eq!(answer.json()["error"]["code"], "gateway_rate_limited");
    let answer = post(&gateway, MESSAGES, &ask(MESSAGES, false)).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert_eq!(metric(&gateway, "nanogate_requests_limited_total{cause=\"queue_full\"}").await, 2.0);
    // Who leaves the line makes room in it.
    drop(waiting);
    assert!(metric_becomes(&gateway, "nanogate_requests_queued", 0.0).await);
    assert_eq!(upstream.requests().len(), 1, "nobody who waited or was refused reached the upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_its_own_limit_or_the_clients() {
    let upstream = standin(Step::hang()).await;
    let sections = "gateway_settings: { queue_timeout: 0.3 }\n";
    let gateway = gateway(&upstream, "max_parallel_requests: 1", sections).await;
    let _served = posted(&gateway, CHAT, &chat()).await;
    assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    for (body, least) in [(chat(), 290), (with(chat(), json!({"timeout": 0.1})), 90)] {
        let begun = Instant::now();
        let answer = post(&gateway, CHAT, &body).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{body}");
        assert!(begun.elapsed() >= Duration::from_millis(least) && begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_come_first_served() {
    let upstream = standin(slow(30)).await;
    let gateway = gateway(&upstream, "max_parallel_requests: 1", "").await;
    let mut clients = Vec::new();
    for n in 0..6 {
        let body = with(chat(), json!({"messages": [n]}));
        clients.push(posted(&gateway, CHAT, &body).await);
        let arrived = f64::from(n);
        let queued = || async { metric(&gateway, "nanogate_requests_queued").await + upstream.requests().len() as f64 };
        let begun = Instant::now();
        while queued().await < arrived + 1.0 && begun.elapsed() < DEADLINE {}
    }
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200);
    }
    let order: Vec<Value> = upstream.requests().iter().map(|request| request.json()["messages"][0].clone()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5].map(Value::from));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_deployment_makes_way_for_another_and_a_full_group_for_its_fallback() {
    let (small, large) = (standin(Step::hang()).await, standin(good()).await);
    let gateway = pool(&[(&small, "order: 1, max_parallel_requests: 1"), (&large, "order: 2")], "").await;
    let _served = posted(&gateway, CHAT, &chat()).await;
    assert!(small.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    assert_eq!((small.requests().len(), large.requests().len()), (1, 1));

    let entries =
        entry("a", "openai/a", &base(&small), "max_parallel_requests: 1") + &entry("b", "openai/b", &base(&large), "");
    let gateway =
        Gateway::start(format!("model_list:\n{entries}litellm_settings: {{ fallbacks: [{{ a: [b] }}] }}\n")).await;
    let body = json!({"model": "a", "messages": []});
    let _served = posted(&gateway, CHAT, &body).await;
    assert!(small.wait_for(DEADLINE, |requests| requests.len() == 2).await);
    let answer = post(&gateway, CHAT, &body).await;
    assert_eq!((answer.status, answer.header("x-litellm-model-group")), (200, Some("b")));
}

#[tokio::test(flavor = "multi_thread")]
async fn rpm_and_tpm_are_weights_by_default_and_limits_where_somebody_says_so() {
    for (sections, limited) in [
        ("", false),
        ("gateway_settings: { queue: 0 }\n", true),
        (
            "router_settings: { optional_pre_call_checks: [enforce_model_rate_limits] }\ngateway_settings: { queue_timeout: 0.05 }\n",
            true,
        ),
        (
            "router_settings: { routing_strategy: usage-based-routing-v2 }\ngateway_settings: { queue_timeout: 0.05 }\n",
            true,
        ),
    ] {
        for params in ["rpm: 3", "tpm: 24"] {
            let upstream = standin(good()).await;
            let gateway = gateway(&upstream, params, sections).await;
            // Each answer reports 8 tokens.
            for _ in 0..3 {
                assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200, "{sections} {params}");
            }
            assert!(metric_becomes(&gateway, "nanogate_tokens_total", 24.0).await);
            let answer = post(&gateway, CHAT, &chat()).await;
            assert_eq!(answer.status, if limited { 429 } else { 200 }, "{sections} {params}");
            if limited {
                let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=60).contains(&seconds), "{seconds}");
                assert_eq!(upstream.requests().len(), 3);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pace_is_kept_in_every_second_and_retries_count_too() {
    let busy = Step::json(503, json!({})).header("retry-after-ms", "1");
    let upstream = standin(Script::steps((0..5).map(|_| busy.clone())).then(good())).await;
    let gateway = gateway(&upstream, "", "gateway_settings: { requests_per_second: 10 }\n").await;
    let begun = Instant::now();
    let all = statuses(burst(&gateway, 20)).await;
    assert!(all.iter().filter(|status| **status == 200).count() >= 18, "{all:?}");
    assert!(
        upstream.requests().len() >= 22 && begun.elapsed() >= Duration::from_millis(1_900),
        "{:?}",
        begun.elapsed()
    );
    let mut at: Vec<Instant> = upstream.requests().iter().map(|request| request.received_at).collect();
    at.sort_unstable();
    // A request may travel a little longer than the one ten places before it.
    assert!(at.windows(11).all(|some| some[10] - some[0] >= Duration::from_millis(900)), "{at:?}");
}
