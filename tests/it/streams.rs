//! Streams pass as they come: at once, byte for byte but for the promised edits, however they are cut or joined.

use std::time::{Duration, Instant};

use nanogate::standin::{Frame, Outcome, Script, Standin, Step};
use serde_json::{Value, json};

use crate::support::raw::{self, Client, Ending};
use crate::support::{DEADLINE, eventually, standin};
use crate::traffic::{
    CHAT, MESSAGES, SENT, ask, chat_stream, delta, finish, frame, gateway, metric, metric_becomes, post, posted,
    renamed, shown, until, with,
};

const DONE: &str = "data: [DONE]\n\n";

/// What a client of a streamed chat request sees of this script.
async fn seen(step: Step, sections: &str, more: Value) -> String {
    let upstream = standin(step).await;
    let gateway = gateway(&upstream, "", sections).await;
    let answer = post(&gateway, CHAT, &with(chat_stream(), more)).await;
    assert_eq!((answer.status, answer.ending), (200, Ending::Complete));
    answer.text()
}

fn sse(frames: &[&Value]) -> Step {
    Step::sse(frames.iter().map(|frame| (*frame).clone()).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_arrives_before_the_next_one_is_sent() {
    let gap = Duration::from_millis(300);
    let step = sse(&[&delta("a"), &delta("b"), &finish()]).body_delay_ms(300).gap_ms(300);
    let upstream = standin(step).await;
    let gateway = gateway(&upstream, "", "").await;
    let begun = Instant::now();
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    let head = client.head().await;
    assert!(begun.elapsed() < gap, "the head waited for the first frame: {:?}", begun.elapsed());
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    let answer = client.rest(head).await;
    let times: Vec<_> = answer.pieces.iter().map(|piece| piece.at).collect();
    // [DONE] follows the last frame at once, in a piece of its own or in the same.
    assert!(times.len() >= 3, "frames were joined: {}", answer.text());
    assert!(times[1] - times[0] > gap / 2 && times[2] - times[1] > gap / 2, "a frame waited for the next: {times:?}");
    assert!(answer.pieces[0].bytes.ends_with(b"\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_survive_every_cut_and_every_join() {
    let head = ": hello\r\n\r\nevent: x\r\nid: 7\r\nretry: 10\r\nfield: unknown\r\ndata:";
    let first = format!("{head}{}\r\n\r\n", delta("é1"));
    let raw = format!(
        "{first}data: not json\n\n: comment\n\ndata: {}\r\n\r\ndata: {}\r\rdata: [DONE]\n\n",
        delta("2"),
        finish()
    );
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    for size in (1..40).chain([raw.len() - 1, raw.len()]) {
        upstream.script(Step::sse([raw.as_str()]).split(size).end(nanogate::standin::End::Clean));
        let answer = post(&gateway, CHAT, &chat_stream()).await;
        assert_eq!(answer.text(), renamed(&raw), "cut every {size} bytes");
    }
    assert!(metric(&gateway, "nanogate_stream_odd_frames_total").await >= 40.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_tools_logprobs_and_unknown_fields_are_untouched() {
    let text = format!(
        "data: {{ \"x\" : 1.0e5, \"model\":\"{SENT}\", \"a\":\"\\u00e9\", \"choices\":[{{\"index\":1,\"delta\":{{\"tool_calls\":\
         [{{\"index\":0,\"function\":{{\"arguments\":\"{{\\\"a\\\"\"}}}}]}},\"logprobs\":{{\"content\":[]}},\
         \"finish_reason\":null}},{{\"index\":0,\"delta\":{{\"content\":\"b\"}}}}],\"x\":2}}\n\n"
    );
    let end = frame(
        json!([{"index": 0, "delta": {}, "finish_reason": "stop"}, {"index": 1, "delta": {}, "finish_reason": "tool_calls"}]),
    );
    let step = Step::sse([Frame::from(text.as_str()), Frame::from(end.clone())]);
    let seen = seen(step, "", json!({"n": 2})).await;
    assert_eq!(seen, format!("{}{}{DONE}", renamed(&text), shown(&end)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_a_megabyte_passes_whole() {
    let big = delta(&"x".repeat(1 << 20));
    let seen = seen(sse(&[&big, &finish()]), "", json!({})).await;
    assert!(seen == format!("{}{}{DONE}", shown(&big), shown(&finish())), "{} bytes", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_asked_for_and_hidden_from_who_did_not_ask() {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8});
    let last = with(finish(), json!({"usage": usage}));
    let own = with(frame(json!([])), json!({"usage": usage}));
    let hidden = format!("{}{}{DONE}", shown(&delta("a")), shown(&finish()));
    let on_finish = format!("{}{}{DONE}", shown(&delta("a")), shown(&last));
    let in_own = format!("{}{}{}{DONE}", shown(&delta("a")), shown(&finish()), shown(&own));
    let always = "general_settings: { always_include_stream_usage: true }\n";
    let (asked, refused) =
        (json!({"stream_options": {"include_usage": true}}), json!({"stream_options": {"include_usage": false}}));
    for (sections, more, shown_on_finish, shown_in_own) in [
        ("", json!({}), &hidden, &hidden),
        ("", asked, &on_finish, &in_own),
        (always, json!({}), &on_finish, &in_own),
        (always, refused, &hidden, &hidden),
    ] {
        let upstream = standin(Script::auto()).await;
        let gateway = gateway(&upstream, "", sections).await;
        let ask = with(chat_stream(), more);
        upstream.script(sse(&[&delta("a"), &last]));
        assert_eq!(&post(&gateway, CHAT, &ask).await.text(), shown_on_finish, "{ask} {sections}");
        upstream.script(sse(&[&delta("a"), &finish(), &own]));
        assert_eq!(&post(&gateway, CHAT, &ask).await.text(), shown_in_own, "{ask} {sections}");
        assert_eq!(upstream.requests()[0].json()["stream_options"]["include_usage"], true);
        let tokens = "nanogate_tokens_total{group=\"glm\",kind=\"completion\"}";
        assert!(metric_becomes(&gateway, tokens, 10.0).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_is_shown_where_the_setting_says() {
    let thought = |members: Value| frame(json!([{"index": 0, "delta": members, "finish_reason": null}]));
    let sent = thought(json!({"reasoning": "hm"}));
    for (setting, members) in [
        ("", json!({"reasoning_content": "hm"})),
        ("gateway_settings: { reasoning_field: both }\n", json!({"reasoning_content": "hm", "reasoning": "hm"})),
        ("gateway_settings: { reasoning_field: upstream }\n", json!({"reasoning": "hm"})),
    ] {
        let seen = seen(sse(&[&sent, &finish()]), setting, json!({})).await;
        let first: Value = serde_json::from_str(seen.lines().next().unwrap().trim_start_matches("data: ")).unwrap();
        assert_eq!(first["choices"][0]["delta"], members, "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_name_is_shown_when_the_setting_says_so() {
    let setting = "gateway_settings: { response_model: upstream }\n";
    let seen = seen(sse(&[&delta("a"), &finish()]), setting, json!({})).await;
    assert_eq!(seen, format!("data: {}\n\ndata: {}\n\n{DONE}", delta("a"), finish()));
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_models_pass_byte_for_byte() {
    let upstream = standin(Script::auto()).await;
    let models = [("tee", "openai/TEE/glm"), ("phala", "openai/phala/glm")];
    let base = crate::support::gateway::base(&upstream);
    let config = crate::support::gateway::config(&base, &models) + "gateway_settings: { stream_keepalive: 0.05 }\n";
    let gateway = crate::support::gateway::Gateway::start(config).await;
    let usage = json!({"usage": {"prompt_tokens": 1, "completion_tokens": 1}});
    let raw = format!("data: {}\n\ndata: {}\n\n", frame(json!([{"delta": {"reasoning": "r"}}])), with(finish(), usage));
    for model in ["tee", "phala"] {
        upstream.script(Step::sse([Frame::from(raw.as_str()), Frame::Pause(200)]));
        let answer = post(&gateway, CHAT, &with(chat_stream(), json!({"model": model}))).await;
        assert_eq!(answer.text(), format!("{raw}{DONE}"));
        let document = json!({"model": "TEE/glm", "choices": [{"message": {"reasoning": "r"}}]});
        upstream.script(Step::json(200, document.clone()));
        assert_eq!(
            post(&gateway, CHAT, &with(chat_stream(), json!({"model": model}))).await.text(),
            document.to_string()
        );
    }
    assert!(upstream.requests().iter().all(|request| request.json().get("stream_options").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_does_not_make_the_upstream_old() {
    let upstream = standin(sse(&[&delta("a"), &finish()])).await;
    let gateway = gateway(&upstream, "", "").await;
    let request = String::from_utf8(raw::post(CHAT, chat_stream().to_string().as_bytes())).unwrap();
    let answer = Client::connect(gateway.address()).await.ask(request.replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!(answer.text(), format!("{}{}{DONE}", shown(&delta("a")), shown(&finish())));
    let head = upstream.requests()[0].head.clone();
    assert!(head.starts_with(b"POST /api/v1/chat/completions HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_answer_to_a_stream_request_stays_json() {
    let document = crate::traffic::completion("whole");
    let upstream = standin(Step::json(200, document.clone())).await;
    let gateway = gateway(&upstream, "", "").await;
    let answer = post(&gateway, CHAT, &chat_stream()).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.text(), renamed(&document.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_stream_is_read_all_the_same_and_at_once() {
    let upstream = standin(sse(&[&delta("a"), &delta("b"), &finish()]).gzip().gap_ms(200)).await;
    let gateway = gateway(&upstream, "", "").await;
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    let head = client.head().await;
    assert_eq!(head.header("content-encoding"), None);
    let (first, at) = until(&mut client, "\n\n").await;
    let (_, later) = until(&mut client, "[DONE]").await;
    assert_eq!(first, shown(&delta("a")));
    assert!(later - at > Duration::from_millis(200), "the first frame waited for the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_filled_with_comments_between_frames_and_never_inside_one() {
    let half = shown(&delta("b"));
    let (one, two) = half.split_at(20);
    let frames =
        [Frame::from(shown(&delta("a"))), Frame::Pause(500), Frame::from(one), Frame::Pause(500), Frame::from(two)];
    let upstream = standin(Step::sse(frames.into_iter().chain([Frame::from(finish())]).collect::<Vec<_>>())).await;
    let gateway = gateway(&upstream, "", "gateway_settings: { stream_keepalive: 0.2 }\n").await;
    let text = post(&gateway, CHAT, &chat_stream()).await.text();
    let comments = text.matches(": keep-alive\n\n").count();
    assert!((2..=9).contains(&comments), "{text}");
    let without = text.replace(": keep-alive\n\n", "");
    assert_eq!(without, format!("{}{half}{}{DONE}", shown(&delta("a")), shown(&finish())));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_comment_precedes_the_head_and_none_is_sent_when_switched_off() {
    for (keepalive, comments) in [("0.1", 2..=9), ("0", 0..=0)] {
        let upstream = standin(sse(&[&delta("a"), &finish()]).delay_ms(300).body_delay_ms(350)).await;
        let settings = format!("gateway_settings: {{ stream_keepalive: {keepalive} }}\n");
        let gateway = gateway(&upstream, "", &settings).await;
        let begun = Instant::now();
        let mut client = posted(&gateway, CHAT, &chat_stream()).await;
        let head = client.head().await;
        assert!(begun.elapsed() >= Duration::from_millis(300), "the head came before the upstream's");
        let text = client.rest(head).await.text();
        assert!(comments.contains(&text.matches(": keep-alive\n\n").count()), "{keepalive}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_clients_get_pings() {
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
    let step = Step::sse([Frame::from(start), Frame::Pause(500), Frame::from(stop)]).end(nanogate::standin::End::Clean);
    let upstream = standin(step).await;
    let gateway = gateway(&upstream, "", "gateway_settings: { stream_keepalive: 0.2 }\n").await;
    let text = post(&gateway, MESSAGES, &ask(MESSAGES, true)).await.text();
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    assert!((1..=6).contains(&text.matches(ping).count()), "{text}");
    assert_eq!(text.replace(ping, ""), format!("{start}{stop}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_comment_falls_into_a_frame_too_long_to_be_held() {
    let long = shown(&delta(&"x".repeat(4000)));
    let (one, two) = long.split_at(3000);
    let frames = [Frame::from(one), Frame::Pause(400), Frame::from(two), Frame::from(shown(&finish()))];
    let upstream = standin(Step::sse(frames)).await;
    let settings = "gateway_settings: { stream_keepalive: 0.1, frame_bytes_max: 1024 }\n";
    let gateway = gateway(&upstream, "", settings).await;
    let text = post(&gateway, CHAT, &chat_stream()).await.text();
    assert!(text.starts_with(one) && text[one.len()..].starts_with(two), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_the_upstream_and_costs_no_memory() {
    let big = shown(&delta(&"x".repeat(60_000)));
    let flood = vec![Frame::from(big.as_str()); 1500];
    let upstream = standin(Step::sse(flood)).await;
    let gateway = gateway(&upstream, "", "").await;
    let before = gateway.rss_bytes();
    let mut client = posted(&gateway, CHAT, &chat_stream()).await;
    let head = client.head().await;
    // The upstream has stalled once no byte moved for a while; 90 MB do not fit in sockets.
    let mut last = gateway.rss_bytes();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        last = gateway.rss_bytes().max(last);
    }
    assert!(last < before + (40 << 20), "{} MiB grew to {} MiB", before >> 20, last >> 20);
    assert_eq!(upstream.requests()[0].outcome, Outcome::Pending);
    let body = client.rest(head).await.body;
    assert!(body.len() == big.len() * 1500 + shown_error_bytes(&body), "{} bytes", body.len());
    assert!(gateway.rss_peak_bytes() < before + (48 << 20));
}

/// The flood has no finish frame and ends in [DONE].
fn shown_error_bytes(body: &[u8]) -> usize {
    assert!(body.ends_with(DONE.as_bytes()));
    DONE.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_streams_at_once_are_whole() {
    let frames: Vec<Value> = (0..20).map(|n| delta(&format!("part {n}"))).chain([finish()]).collect();
    let expected: String = frames.iter().map(shown).chain([DONE.to_owned()]).collect();
    let upstream: Standin = standin(Step::sse(frames).gap_ms(20)).await;
    let gateway = gateway(&upstream, "", "").await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut client = posted(&gateway, CHAT, &chat_stream()).await;
        running.spawn(async move { client.answer().await });
    }
    while let Some(answer) = running.join_next().await {
        assert_eq!(answer.unwrap().text(), expected);
    }
    assert!(upstream.wait_for(DEADLINE, |all| all.iter().all(|one| one.outcome == Outcome::Answered)).await);
    assert_eq!(metric(&gateway, "nanogate_stream_frames_total").await, 200.0 * 22.0);
    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_begun_does_not_keep_its_request() {
    let upstream = standin(sse(&[&delta("a"), &finish()]).gap_ms(3000)).await;
    let gateway = gateway(&upstream, "", "").await;
    let large = with(chat_stream(), json!({"messages": [{"role": "user", "content": "x".repeat(500_000)}]}));
    let mut client = posted(&gateway, CHAT, &large).await;
    let head = client.head().await;
    let first = client.piece().await.expect("a first frame");
    assert!(metric_becomes(&gateway, "nanogate_buffered_bytes", 0.0).await, "the body is still in memory");
    assert_eq!(metric(&gateway, "nanogate_requests_in_flight").await, 1.0, "the stream is over already");
    let rest = client.rest(head).await;
    assert_eq!(rest.ending, Ending::Complete);
    assert!(rest.text().ends_with(DONE), "{}", rest.text());
    assert!(!first.bytes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_ended_streams_goes_back() {
    const STREAMS: u32 = 400;
    const PROMPT_BYTES: usize = 40_000;
    let upstream = standin(sse(&[&delta("a"), &finish()]).delay_ms(3000)).await;
    let gateway = gateway(&upstream, "", "").await;
    assert_eq!(post(&gateway, CHAT, &chat_stream()).await.status, 200);
    let idle = gateway.rss_bytes();
    let large = with(chat_stream(), json!({"messages": [{"role": "user", "content": "x".repeat(PROMPT_BYTES)}]}));
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        clients.push(posted(&gateway, CHAT, &large).await);
    }
    // A stream that has begun needs little; one that has not keeps its request.
    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", STREAMS.into()).await);
    let full = gateway.rss_bytes();
    for client in &mut clients {
        assert_eq!(client.answer().await.ending, Ending::Complete);
    }
    drop(clients);
    assert!(full - idle > u64::from(STREAMS) * PROMPT_BYTES as u64, "the streams took {} bytes", full - idle);
    let goes_back = eventually(DEADLINE, || gateway.rss_bytes() < idle + (full - idle) / 4).await;
    assert!(goes_back, "{idle} bytes idle, {full} with {STREAMS} streams, {} after them", gateway.rss_bytes());
}
