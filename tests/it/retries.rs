//! Trying again: as often as was said, only what may help, only before the first byte, and never past the client's time.

use std::time::{Duration, Instant};

use nanogate::standin::{End, Script, Standin, Step};
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, base, entry};
use crate::support::raw::Answer;
use crate::support::standin;
use crate::traffic::{
    CHAT, SHOWN, chat, chat_stream, completion, delta, file, gateway, metric_becomes, pool, post, post_with, with,
};

/// A failure that asks for no patience.
fn busy(status: u16) -> Step {
    Step::json(status, json!({"error": {"message": "busy", "type": "t", "param": null, "code": "c"}}))
        .header("retry-after-ms", "1")
}

fn good() -> Step {
    Step::json(200, completion("good"))
}

fn bad_request(words: &str) -> Step {
    Step::json(400, json!({"error": {"message": words, "type": "invalid_request_error", "param": null, "code": null}}))
}

fn counts(answer: &Answer) -> (u16, Option<&str>, Option<&str>) {
    (answer.status, answer.header("x-litellm-attempted-retries"), answer.header("x-litellm-attempted-fallbacks"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_comes_from_the_header_the_body_the_file_or_is_two() {
    let upstream = standin(busy(503)).await;
    let default = gateway(&upstream, "", "").await;
    let none = gateway(&upstream, "", "litellm_settings: { num_retries: 0 }\n").await;
    let four = gateway(&upstream, "", "router_settings: { num_retries: 4 }\n").await;
    let (plain, one) = (chat(), with(chat(), json!({"num_retries": 1})));
    let header: &[(&str, &str)] = &[("x-litellm-num-retries", "3")];
    for (gateway, body, headers, attempts) in [
        (&default, &plain, &[][..], 3),
        (&none, &plain, &[][..], 1),
        (&four, &plain, &[][..], 5),
        (&four, &one, &[][..], 2),
        (&none, &one, &[][..], 2),
        (&default, &one, header, 4),
    ] {
        upstream.clear();
        let answer = post_with(gateway, CHAT, headers, body).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["error"]["message"], "busy", "the last answer's own words");
        assert_eq!(upstream.requests().len(), attempts, "{body} {headers:?}");
        assert_eq!(answer.header("x-litellm-attempted-retries"), Some((attempts - 1).to_string().as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_pass_is_tried_again_and_each_try_has_the_whole_body() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    for step in [
        busy(408),
        busy(429),
        busy(500),
        busy(502),
        busy(503),
        busy(529),
        Step::raw(200, "application/json", "{\"cut"),
        Step::raw(200, "text/html", "<html>"),
        Step::raw(200, "application/json", ""),
        Step::json(200, json!({"error": {"message": "m", "code": 503}})),
    ] {
        upstream.clear();
        upstream.script(vec![step.clone(), good()]);
        let answer = post(&gateway, CHAT, &chat()).await;
        assert_eq!(counts(&answer), (200, Some("1"), Some("0")), "{step:?}");
        assert_eq!(upstream.requests().len(), 2, "{step:?}");
        assert_eq!(upstream.requests()[0].body, upstream.requests()[1].body);
    }
    for status in [400, 401, 402, 403, 404, 405, 409, 413, 415, 422, 451] {
        upstream.clear();
        upstream.script(vec![busy(status), good()]);
        assert_eq!(counts(&post(&gateway, CHAT, &chat()).await), (status, Some("0"), Some("0")));
        assert_eq!(upstream.requests().len(), 1, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_a_failure_and_a_pooled_one_found_closed_is_none() {
    for step in [Step::reset_before_answer(), Step::close_before_answer()] {
        let upstream = standin(vec![step.clone(), good(), step.clone(), good()]).await;
        let gateway = gateway(&upstream, "", "").await;
        assert_eq!(counts(&post(&gateway, CHAT, &chat()).await), (200, Some("1"), Some("0")), "{step:?}");
        assert_eq!(counts(&post(&gateway, CHAT, &chat()).await), (200, Some("0"), Some("0")), "{step:?}");
        assert_eq!(upstream.requests().len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_does_not_fit_leaves_the_upstreams_own_words() {
    let answer = json!({"error": {"message": "busy", "type": "t", "param": null, "code": "c"}});
    let upstream = standin(Step::json(503, answer)).await;
    let gateway = gateway(&upstream, "", "").await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let address = gateway.address();
        let body = with(chat(), json!({"timeout": 0.4}));
        running.spawn(async move { crate::support::raw::post_json(address, CHAT, &body).await });
    }
    while let Some(answer) = running.join_next().await {
        // A pause that barely fitted leaves too little time for the next try, which is then a 504.
        let (status, text) = answer.map(|answer| (answer.status, answer.text())).unwrap();
        assert!(status == 504 || text.contains("busy"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_as_long_as_the_upstream_asks_and_none_follows_the_last_try() {
    let upstream = standin(vec![Step::json(429, json!({})).header("retry-after", "1"), good()]).await;
    let gateway = gateway(&upstream, "", "").await;
    assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    let times: Vec<Instant> = upstream.requests().iter().map(|request| request.received_at).collect();
    let pause = times[1] - times[0];
    assert!(pause >= Duration::from_secs(1) && pause < Duration::from_secs(3), "{pause:?}");
    upstream.script(Step::json(429, json!({})).header("retry-after", "20"));
    let begun = Instant::now();
    let answer = post(&gateway, CHAT, &with(chat(), json!({"num_retries": 0}))).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("20")));
    assert!(begun.elapsed() < Duration::from_secs(5), "a pause after the last try");
    // Longer than anybody waits: no retry at all.
    upstream.clear();
    upstream.script(Step::json(429, json!({})).header("retry-after", "3600"));
    assert_eq!(counts(&post(&gateway, CHAT, &chat()).await), (429, Some("0"), Some("0")));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_own_sdk_is_told_whether_and_when_to_try_again() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "litellm_settings: { num_retries: 0, cooldown_time: 0 }\n").await;
    let plain = |status: u16| Step::json(status, json!({"error": {"message": "m"}}));
    for (step, should, after) in [
        (plain(400), Some("false"), None),
        (plain(401), Some("false"), None),
        (plain(404), Some("false"), None),
        (plain(409), Some("false"), None),
        (plain(409).header("x-should-retry", "true"), Some("true"), None),
        (plain(500), None, Some("1")),
        (plain(429).header("retry-after", "9"), None, Some("9")),
        (plain(429).header("retry-after-ms", "1"), None, None),
        (Step::json(503, json!({})).end(End::Cut), Some("true"), Some("1")),
        (Step::reset_before_answer(), Some("true"), Some("1")),
        (Step::raw(200, "text/html", "<html>"), Some("true"), Some("1")),
    ] {
        upstream.script(step.clone());
        let answer = post(&gateway, CHAT, &chat()).await;
        let seen = (answer.header("x-should-retry"), answer.header("retry-after"));
        assert_eq!(seen, (should, after), "{step:?}: {}", answer.status);
    }
    // While it rests, the time is that of its rest.
    let gateway = resting(&upstream).await;
    upstream.script(plain(500));
    for _ in 0..3 {
        post(&gateway, CHAT, &chat()).await;
    }
    let seconds: u64 = post(&gateway, CHAT, &chat()).await.header("retry-after").unwrap().parse().unwrap();
    assert!((10..=30).contains(&seconds), "{seconds}");
}

/// A gateway without retries whose deployments rest for half a minute.
async fn resting(upstream: &Standin) -> Gateway {
    gateway(upstream, "", "litellm_settings: { num_retries: 0, cooldown_time: 30 }\n").await
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_pauses_grow() {
    let upstream = standin(Step::json(500, json!({}))).await;
    let gateway = gateway(&upstream, "", "").await;
    post(&gateway, CHAT, &chat()).await;
    let times: Vec<Instant> = upstream.requests().iter().map(|request| request.received_at).collect();
    let (first, second) = (times[1] - times[0], times[2] - times[1]);
    assert!(first >= Duration::from_millis(250) && first < Duration::from_millis(2000), "{first:?}");
    assert!(second >= Duration::from_millis(500) && second < Duration::from_millis(3000), "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_deployment_is_tried_at_once() {
    let ill = standin(Step::json(503, json!({})).header("retry-after", "20")).await;
    let well = standin(good()).await;
    let gateway = pool(&[(&ill, "order: 1"), (&well, "order: 2")], "").await;
    let begun = Instant::now();
    let answer = post(&gateway, CHAT, &chat()).await;
    assert_eq!(counts(&answer), (200, Some("1"), Some("0")));
    assert!(begun.elapsed() < Duration::from_secs(5), "a pause although another deployment was there");
    assert_eq!((ill.requests().len(), well.requests().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_refuses_is_a_502_after_its_tries() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v1", nobody.local_addr().unwrap());
    drop(nobody);
    let gateway = Gateway::start(format!("model_list:\n{}", entry(SHOWN, "openai/up", &base, ""))).await;
    let answer = post(&gateway, CHAT, &with(chat(), json!({"num_retries": 1}))).await;
    assert_eq!(counts(&answer), (502, Some("1"), Some("0")));
    assert_eq!(answer.json()["error"]["code"], "upstream_unreachable");
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_share_and_orders_rank() {
    let (heavy, light, idle) = (standin(good()).await, standin(good()).await, standin(good()).await);
    let gateway =
        pool(&[(&heavy, "order: 1, weight: 3"), (&light, "order: 1, weight: 1"), (&idle, "order: 2")], "").await;
    for _ in 0..120 {
        assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    }
    let share = heavy.requests().len();
    // 90 are expected; beyond these bounds is seven standard deviations.
    assert!((57..120).contains(&share) && share + light.requests().len() == 120, "{share}");
    assert_eq!(idle.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opened_stream_is_never_tried_again() {
    let upstream = standin(vec![Step::sse([delta("a")]).end(End::Cut), Step::auto()]).await;
    let gateway = gateway(&upstream, "", "").await;
    let answer = post(&gateway, CHAT, &chat_stream()).await;
    assert!(answer.text().contains("upstream_stream_truncated"));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_not_begun_is_tried_again() {
    let upstream = standin(vec![busy(503), Step::reset_before_answer(), Step::auto()]).await;
    let gateway = gateway(&upstream, "", "").await;
    let answer = post(&gateway, CHAT, &chat_stream()).await;
    assert_eq!(counts(&answer), (200, Some("2"), Some("0")));
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_own_time_ends_all_trying() {
    let upstream = standin(Step::json(503, json!({})).header("retry-after", "3")).await;
    let gateway = gateway(&upstream, "", "").await;
    for (headers, body) in [
        (&[("x-litellm-timeout", "1.5")][..], chat()),
        (&[][..], with(chat(), json!({"timeout": 1.5}))),
        (&[][..], with(chat_stream(), json!({"stream_timeout": 1.5}))),
    ] {
        upstream.clear();
        let begun = Instant::now();
        assert_eq!(post_with(&gateway, CHAT, headers, &body).await.status, 503, "{body}");
        assert!(begun.elapsed() < Duration::from_millis(2900), "{:?}", begun.elapsed());
        assert_eq!(upstream.requests().len(), 1, "{body}");
    }
    upstream.script(Step::hang());
    let begun = Instant::now();
    let answer = post(&gateway, CHAT, &with(chat(), json!({"timeout": 0.4}))).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &json!("upstream_timeout")));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_time_out_is_per_try() {
    let upstream = standin(vec![Step::hang(), good()]).await;
    let gateway = gateway(&upstream, "timeout: 0.8", "").await;
    assert_eq!(counts(&post(&gateway, CHAT, &chat()).await), (200, Some("1"), Some("0")));
    assert!(metric_becomes(&gateway, "nanogate_upstream_attempts_total", 2.0).await);
}

/// A gateway of four groups on one stand-in, with this section.
async fn groups(upstream: &Standin, section: &str) -> Gateway {
    let entries: String =
        ["a", "b", "c", "big"].map(|name| entry(name, &format!("openai/up/{name}"), &base(upstream), "")).concat();
    Gateway::start(format!("model_list:\n{entries}{section}")).await
}

fn to(model: &str, more: Value) -> Value {
    with(with(chat(), json!({"model": model, "num_retries": 0})), more)
}

fn models(upstream: &Standin) -> Vec<String> {
    upstream.requests().iter().map(|request| request.json()["model"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_lists_are_followed_in_order_and_named() {
    let script = Script::from(busy(500)).by_model("up/c", good());
    let upstream = standin(script).await;
    let gateway = groups(&upstream, "litellm_settings: { fallbacks: [{ a: [b, c] }] }\n").await;
    let answer = post(&gateway, CHAT, &to("a", json!({}))).await;
    assert_eq!(counts(&answer), (200, Some("0"), Some("2")));
    assert_eq!(answer.header("x-litellm-model-group"), Some("c"));
    assert_eq!(answer.json()["model"], "a", "the client sees the name it used");
    assert_eq!(models(&upstream), ["up/a", "up/b", "up/c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_fall_back_and_the_clients_mistakes_do_not() {
    let upstream = standin(Script::auto()).await;
    let gateway = groups(&upstream, "router_settings: { fallbacks: [{ a: [b] }] }\n").await;
    for (step, fallbacks) in
        [(busy(401), "1"), (busy(404), "1"), (busy(429), "1"), (busy(413), "0"), (bad_request("bad"), "0")]
    {
        upstream.script(Script::from(good()).by_model("up/a", step.clone()));
        let answer = post(&gateway, CHAT, &to("a", json!({}))).await;
        assert_eq!(answer.header("x-litellm-attempted-fallbacks"), Some(fallbacks), "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_prompts_and_declined_content_have_lists_of_their_own() {
    let section = "litellm_settings:\n  context_window_fallbacks: [{ a: [big] }]\n  content_policy_fallbacks: [{ a: [c] }]\n  fallbacks: [{ a: [b] }]\n";
    let upstream = standin(Script::auto()).await;
    let gateway = groups(&upstream, section).await;
    for (words, group) in [("maximum context length is 10", "big"), ("content_policy_violation", "c"), ("a typo", "a")]
    {
        upstream.script(Script::from(good()).by_model("up/a", bad_request(words)));
        let answer = post(&gateway, CHAT, &to("a", json!({}))).await;
        assert_eq!(answer.header("x-litellm-model-group"), Some(group), "{words}");
        assert_eq!(answer.status, if group == "a" { 400 } else { 200 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn default_fallbacks_serve_groups_without_a_list_and_a_request_may_bring_its_own() {
    let section = "litellm_settings: { default_fallbacks: [c], fallbacks: [{ a: [b] }] }\n";
    let upstream = standin(Script::auto()).await;
    let gateway = groups(&upstream, section).await;
    for (model, more, group, status) in [
        ("a", json!({}), "b", 200),
        ("big", json!({}), "c", 200),
        ("a", json!({"fallbacks": ["big"]}), "big", 200),
        ("a", json!({"fallbacks": [{"a": ["c"]}]}), "c", 200),
        ("a", json!({"disable_fallbacks": true}), "a", 500),
    ] {
        upstream.script(Script::from(good()).by_model(&format!("up/{model}"), busy(500)));
        let answer = post(&gateway, CHAT, &to(model, more.clone())).await;
        assert_eq!((answer.status, answer.header("x-litellm-model-group")), (status, Some(group)), "{model} {more}");
    }
    assert!(upstream.requests().iter().all(|request| request.json().get("fallbacks").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_422_is_repaired_once_and_never_for_ever() {
    let complaint = json!({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]});
    let upstream = standin(vec![Step::json(422, complaint.clone()), good()]).await;
    let gateway = Gateway::start(file(&upstream, "", "litellm_settings: { drop_params: true }\n")).await;
    let body = with(chat(), json!({"seed": 7, "top_p": 0.5}));
    assert_eq!(post(&gateway, CHAT, &body).await.status, 200);
    let second = upstream.requests()[1].json();
    assert!(second.get("seed").is_none() && second["top_p"] == 0.5, "{second}");
    upstream.clear();
    upstream.script(vec![Step::json(422, complaint.clone()), Step::json(422, complaint).end(End::Cut)]);
    assert_eq!(post(&gateway, CHAT, &body).await.status, 502);
    assert!(upstream.requests().len() <= 4, "{} tries", upstream.requests().len());
}
