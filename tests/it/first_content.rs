//! Until the first content of a stream nothing is lost: it may still come from elsewhere, and the wait for it is limited.

use std::time::{Duration, Instant};

use nanogate::standin::{End, Frame, Script, Standin, Step};
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, base, entry};
use crate::support::h2c::H2c;
use crate::support::{DEADLINE, standin};
use crate::traffic::{
    CHAT, MESSAGES, RESPONSES, ask, chat, chat_stream, completion, delta, finish, frame, gateway, metric,
    metric_becomes, pool, post, posted, shown, until, with,
};

fn role() -> Value {
    frame(json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]))
}

fn error(status: u16) -> Value {
    json!({"error": {"message": "no luck", "type": "t", "param": null, "code": status}})
}

/// Two deployments, the second one well.
async fn two(first: Step, sections: &str) -> (Standin, Standin, Gateway) {
    let (ill, well) = (standin(first).await, standin(Step::sse([role(), delta("well"), finish()])).await);
    let gateway = pool(&[(&ill, "order: 1"), (&well, "order: 2")], sections).await;
    (ill, well, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_goes_wrong_before_its_content_comes_from_elsewhere() {
    let whole = [shown(&role()), shown(&delta("well")), shown(&finish())].concat() + "data: [DONE]\n\n";
    for ill in [
        Step::sse([role(), error(503)]),
        Step::sse([error(500)]),
        Step::sse([role()]).end(End::Cut),
        Step::sse([role()]).end(End::Reset),
        Step::sse([role()]).end(End::Clean),
        Step::sse([role(), role()]).gap_ms(50).end(End::TruncatedChunk),
        Step::sse([Frame::Text(": waiting\n\n".into())]).end(End::Clean),
        Step::raw(200, "text/event-stream", ""),
    ] {
        let (upstream, other, gateway) = two(ill.clone(), "").await;
        let answer = post(&gateway, CHAT, &chat_stream()).await;
        assert_eq!((answer.status, answer.text()), (200, whole.clone()), "{ill:?}");
        assert_eq!(answer.header("x-litellm-attempted-retries"), Some("1"));
        assert_eq!((upstream.requests().len(), other.requests().len()), (1, 1), "{ill:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fallbacks_fire_for_streams_in_every_dialect() {
    let created = json!({"type": "response.created", "response": {"id": "r", "model": "up", "output": []}});
    let start = json!({"type": "message_start", "message": {"id": "m", "model": "up", "content": []}});
    for (path, first) in [(CHAT, role()), (RESPONSES, created), (MESSAGES, start)] {
        let upstream = standin(Script::auto().by_model("up/a", Step::sse([first]).end(End::Cut))).await;
        let entries = ["a", "b"].map(|name| entry(name, &format!("openai/up/{name}"), &base(&upstream), "")).concat();
        let sections = "litellm_settings: { num_retries: 0, fallbacks: [{ a: [b] }] }\n";
        let gateway = Gateway::start(format!("model_list:\n{entries}{sections}")).await;
        let answer = post(&gateway, path, &with(ask(path, true), json!({"model": "a"}))).await;
        assert_eq!((answer.status, answer.header("x-litellm-model-group")), (200, Some("b")), "{}", answer.text());
        assert!(!answer.text().contains("truncated"), "{}", answer.text());
        assert_eq!(upstream.requests().len(), 2, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_first_content_an_error_is_told_and_nothing_is_tried_again() {
    for ill in [
        Step::sse([role(), delta("a"), error(503)]).gap_ms(50),
        Step::sse([role(), delta("a")]).gap_ms(50).end(End::Reset),
        Step::sse([role(), json!({"object": "x", "choices": [{"index": 0, "delta": {"reasoning": "hm"}}]})])
            .gap_ms(50)
            .end(End::Cut),
    ] {
        let (_ill, other, gateway) = two(ill.clone(), "").await;
        let answer = post(&gateway, CHAT, &chat_stream()).await;
        assert!(answer.status == 200 && answer.text().contains("\"error\""), "{ill:?}: {}", answer.text());
        assert_eq!(other.requests().len(), 0, "{ill:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_error_frame_is_shown_when_nobody_is_left_and_the_clients_mistakes_go_nowhere() {
    let upstream = standin(Step::sse([role(), error(503)])).await;
    let gateway_of_two = pool(&[(&upstream, ""), (&upstream, "order: 1")], "").await;
    let answer = post(&gateway_of_two, CHAT, &with(chat_stream(), json!({"num_retries": 1}))).await;
    assert!(answer.status == 200 && answer.text().contains("no luck"), "{}", answer.text());
    assert_eq!(upstream.requests().len(), 2);
    upstream.clear();
    upstream.script(Step::sse([role(), error(400)]));
    let answer = post(&gateway_of_two, CHAT, &chat_stream()).await;
    assert!(answer.status == 200 && answer.text().contains("no luck"), "{}", answer.text());
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_deployments_head_goes_out_with_the_upstreams_head() {
    let upstream = standin(Step::sse([Frame::Json(role())]).end(End::Stall)).await;
    let gateway = gateway(&upstream, "", "").await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    assert_eq!(client.head().await.status, 200);
    until(&mut client, "assistant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_stream_is_let_go_when_the_first_comment_is_due() {
    let slow = Step::sse([Frame::Json(role()), Frame::Pause(700), Frame::Json(delta("late"))]).end(End::Reset);
    let (_ill, other, gateway) = two(slow, "gateway_settings: { stream_keepalive: 0.2 }\n").await;
    let begun = Instant::now();
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    assert_eq!(client.head().await.status, 200);
    let (text, at) = until(&mut client, ": keep-alive\n\n").await;
    assert_eq!(text, shown(&role()) + ": keep-alive\n\n");
    assert!(at - begun >= Duration::from_millis(190) && at - begun < Duration::from_millis(650), "{:?}", at - begun);
    let (text, _) = until(&mut client, "upstream_stream_truncated").await;
    assert!(text.contains("late"), "{text}");
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_without_end_is_held_within_bounds() {
    let announcements = std::iter::repeat_with(role).take(1_000);
    let (_ill, other, gateway) = two(Step::sse(announcements).end(End::Stall), "").await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_the_first_content_has_a_limit_and_another_deployment_a_chance() {
    let sections = "gateway_settings: { ttft_timeout: 0.3, stream_keepalive: 0.1 }\n";
    for ill in [Step::sse([role()]).end(End::Stall), Step::hang()] {
        let (upstream, _well, gateway) = two(ill.clone(), sections).await;
        let answer = post(&gateway, CHAT, &chat_stream()).await;
        assert!(answer.status == 200 && answer.text().contains("well"), "{ill:?}: {}", answer.text());
        assert_eq!(answer.header("x-litellm-attempted-retries"), Some("1"));
        assert_eq!(metric(&gateway, "nanogate_upstream_attempts_total").await, 2.0);
        assert!(crate::traffic::metrics(&gateway).await.contains("outcome=\"timeout_ttft\""));
        assert!(crate::support::eventually(DEADLINE, || upstream.active() == 0).await, "the first is dropped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_another_chance_it_is_a_504_with_its_own_words() {
    let upstream = standin(Step::sse([role()]).end(End::Stall)).await;
    let sections = "litellm_settings: { num_retries: 0 }\ngateway_settings: { ttft_timeout: 0.3 }\n";
    let gateway = gateway(&upstream, "", sections).await;
    let begun = Instant::now();
    let answer = post(&gateway, CHAT, &chat_stream()).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &json!("upstream_timeout")));
    assert!(answer.text().contains("first content"), "{}", answer.text());
    assert!(begun.elapsed() >= Duration::from_millis(290) && begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    // Content in time, and a plain answer: no limit of this kind.
    upstream.script(Step::sse([delta("a"), delta("b"), finish()]).gap_ms(400));
    assert!(post(&gateway, CHAT, &chat_stream()).await.text().ends_with("data: [DONE]\n\n"));
    upstream.script(Step::json(200, completion("slow")).delay_ms(500));
    assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_2_client_gets_what_was_held_in_order() {
    let slow = Step::sse([Frame::Json(role()), Frame::Pause(500), Frame::Json(delta("late")), Frame::Json(finish())]);
    let (_ill, other, gateway) = two(slow, "gateway_settings: { stream_keepalive: 0.2, h2c: true }\n").await;
    let mut client = H2c::connect(gateway.address()).await;
    let answer = client.post(CHAT, chat_stream().to_string().into(), true).await;
    let text = String::from_utf8(answer.into_body()).unwrap().replace(": keep-alive\n\n", "");
    assert_eq!(text, [shown(&role()), shown(&delta("late")), shown(&finish())].concat() + "data: [DONE]\n\n");
    assert_eq!(other.requests().len(), 0);
}
