//! Every way a stream or an answer can end: the client is told the truth, and so are the metrics and the access line.

use nanogate::standin::{End, Frame, Standin, Step};
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::Ending;
use crate::support::standin;
use crate::traffic::{
    CHAT, COMPLETIONS, MESSAGES, RESPONSES, SENT, SHOWN, access_line, ask, completion, delta, finish, frame, gateway,
    metric, metric_becomes, post, posted, secure, shown, until,
};

const CUT: &str = "the connection to the upstream broke in the middle of its answer";
const UNFINISHED: &str = "the upstream ended its stream without finishing the answer";
const STALLED: &str = "the upstream stopped in the middle of its answer";
const SETTINGS: &str = "gateway_settings:\n  stream_idle_timeout: 0.8\n  access_log: json\n  upstream_http2: true\n";
const DONE: &str = "data: [DONE]\n\n";

/// How the streams of one route look.
struct Dialect {
    path: &'static str,
    begin: String,
    finish: String,
    /// Whether `[DONE]` follows the finish.
    done: bool,
}

impl Dialect {
    fn all() -> [Dialect; 4] {
        let text = |finish: Value| json!({"object": "text_completion", "model": SENT, "choices": [{"index": 0, "text": "a", "finish_reason": finish}]});
        let event = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
        let response = json!({"model": SENT, "output": []});
        let data = |value: &Value| format!("data: {value}\n\n");
        [
            Dialect { path: CHAT, begin: data(&delta("a")), finish: data(&finish()), done: true },
            Dialect {
                path: COMPLETIONS,
                begin: data(&text(Value::Null)),
                finish: data(&text(json!("stop"))),
                done: true,
            },
            Dialect {
                path: RESPONSES,
                begin: event(json!({"type": "response.created", "response": response})),
                finish: event(json!({"type": "response.completed", "response": response})),
                done: false,
            },
            Dialect {
                path: MESSAGES,
                begin: event(json!({"type": "message_start", "message": {"model": SENT}})),
                finish: event(json!({"type": "message_stop"})),
                done: false,
            },
        ]
    }

    /// One pure error frame of the gateway's own.
    fn error(&self, words: &str) -> String {
        self.upstream_error(words, "upstream_error", "\"upstream_stream_truncated\"", "api_error")
    }

    fn upstream_error(&self, words: &str, kind: &str, code: &str, anthropic: &str) -> String {
        let error = format!("\"error\":{{\"message\":\"{words}\",\"type\":\"{kind}\",\"param\":null,\"code\":{code}}}");
        match self.path {
            MESSAGES => format!(
                "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{anthropic}\",\"message\":\"{words}\"}}}}\n\n"
            ),
            RESPONSES => format!(
                "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":0,\"code\":{code},\"message\":\"{words}\",\
                 \"param\":null,{error}}}\n\n"
            ),
            _ => format!("data: {{{error}}}\n\n"),
        }
    }

    /// The error frame of an upstream in this dialect.
    fn said(&self) -> String {
        match self.path {
            MESSAGES => "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no room\"}}\n\n".into(),
            RESPONSES => "data: {\"type\":\"error\",\"code\":\"x\",\"message\":\"no room\",\"param\":null}\n\n".into(),
            _ => "data: {\"error\":{\"message\":\"no room\",\"type\":\"t\",\"param\":null,\"code\":\"x\"}}\n\n".into(),
        }
    }

    /// The same as the client should see it.
    fn said_shown(&self) -> String {
        let kind = if self.path == RESPONSES { "server_error" } else { "t" };
        self.upstream_error("no room", kind, "\"x\"", "overloaded_error")
    }
}

/// What the upstream says and what is then seen and counted.
struct Case {
    name: &'static str,
    frames: Vec<Frame>,
    end: End,
    seen: String,
    cause: &'static str,
}

fn case(name: &'static str, frames: &[&str], end: End, seen: &[&str], cause: &'static str) -> Case {
    let frames = frames.iter().map(|frame| Frame::from(*frame)).chain([Frame::Pause(30)]).collect();
    Case { name, frames, end, seen: seen.concat().replace(SENT, SHOWN), cause }
}

fn cases(of: &Dialect) -> Vec<Case> {
    let (begin, last, done) = (of.begin.as_str(), of.finish.as_str(), if of.done { DONE } else { "" });
    let (broken, short, said, shown) = (of.error(CUT), of.error(UNFINISHED), of.said(), of.said_shown());
    let (broken, short, said, shown) = (broken.as_str(), short.as_str(), said.as_str(), shown.as_str());
    let mut cases = vec![
        case("whole", &[begin, last, done], End::Clean, &[begin, last, done], "done"),
        case("finish only", &[begin, last], End::Clean, &[begin, last], "done"),
        case("no last blank line", &[begin, last.trim_end()], End::Clean, &[begin, last], "done"),
        case("no finish", &[begin], End::Clean, &[begin, short], "upstream_truncated"),
        case("nothing at all", &[], End::Clean, &[short], "upstream_truncated"),
        case("half a frame", &[begin, &last[..9]], End::Clean, &[begin, short], "upstream_truncated"),
        case("cut", &[begin], End::Cut, &[begin, broken], "upstream_broken"),
        case("cut in a frame", &[begin, &last[..9]], End::Cut, &[begin, broken], "upstream_broken"),
        case("reset", &[begin], End::Reset, &[begin, broken], "upstream_broken"),
        case("reset before a frame", &[], End::Reset, &[broken], "upstream_broken"),
        case("short chunk", &[begin], End::TruncatedChunk, &[begin, broken], "upstream_broken"),
        case("stall", &[begin], End::Stall, &[begin, &of.error(STALLED)], "upstream_stalled"),
        case("error first", &[said], End::Clean, &[shown], "upstream_error_frame"),
        case("error in the middle", &[begin, said, begin], End::Clean, &[begin, shown], "upstream_error_frame"),
        case("error after finish", &[begin, last, said], End::Clean, &[begin, last, shown], "upstream_error_frame"),
        case("error, then stall", &[begin, said], End::Stall, &[begin, shown], "upstream_error_frame"),
        case("error, then reset", &[begin, said], End::Reset, &[begin, shown], "upstream_error_frame"),
    ];
    if of.done {
        cases.push(case("done only", &[begin, DONE], End::Clean, &[begin, DONE], "done"));
        cases.push(case("error and done", &[begin, said, DONE], End::Clean, &[begin, shown], "upstream_error_frame"));
    }
    cases
}

/// Plays all cases of one route, one after the other.
async fn play(of: &Dialect, upstream: &Standin, gateway: &Gateway) {
    for (index, case) in cases(of).into_iter().enumerate() {
        let truncated = format!("nanogate_streams_truncated_total{{cause=\"{}\"}}", case.cause);
        let before = metric(gateway, &truncated).await;
        upstream.script(Step::sse(case.frames).end(case.end));
        let answer = post(gateway, of.path, &ask(of.path, true)).await;
        let what = format!("{} {}", of.path, case.name);
        assert_eq!((answer.status, answer.ending), (200, Ending::Complete), "{what}");
        assert_eq!(answer.text(), case.seen, "{what}");
        let line = access_line(gateway, index + 1).await;
        assert_eq!((&line["end"], &line["stream"]), (&json!(case.cause), &json!("true")), "{what}: {line}");
        let counted = if case.cause == "done" { 0.0 } else { 1.0 };
        assert_eq!(metric(gateway, &truncated).await - before, counted, "{what}");
    }
    assert_eq!(upstream.requests().len(), cases(of).len(), "an opened stream was tried again");
}

async fn over_h1(of: Dialect) {
    let upstream = standin(Step::auto()).await;
    play(&of, &upstream, &gateway(&upstream, "", SETTINGS).await).await;
}

async fn over_h2(of: Dialect) {
    let (_authority, upstream, gateway) = secure(SETTINGS).await;
    play(&of, &upstream, &gateway).await;
    assert!(upstream.requests().iter().all(|request| request.http2 && request.tls));
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_ends_truthfully_over_h1() {
    let [chat, ..] = Dialect::all();
    over_h1(chat).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_ends_truthfully_over_h2() {
    let [chat, ..] = Dialect::all();
    over_h2(chat).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_end_truthfully_over_h1() {
    let [_, completions, ..] = Dialect::all();
    over_h1(completions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_end_truthfully_over_h2() {
    let [_, completions, ..] = Dialect::all();
    over_h2(completions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_end_truthfully_over_h1() {
    let [_, _, responses, _] = Dialect::all();
    over_h1(responses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_end_truthfully_over_h2() {
    let [_, _, responses, _] = Dialect::all();
    over_h2(responses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_end_truthfully_over_h1() {
    let [.., messages] = Dialect::all();
    over_h1(messages).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_end_truthfully_over_h2() {
    let [.., messages] = Dialect::all();
    over_h2(messages).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_error_frame_becomes_a_pure_one() {
    let mixed = json!({"model": SENT, "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}],
        "error": {"status": 503, "message": "died", "code": "provider_down"}});
    let upstream = standin(Step::sse([delta("a"), mixed])).await;
    let gateway = gateway(&upstream, "", "").await;
    let text = post(&gateway, CHAT, &ask(CHAT, true)).await.text();
    let pure = "data: {\"error\":{\"message\":\"died\",\"type\":\"overloaded_error\",\"param\":null,\"code\":\"provider_down\"}}\n\n";
    assert_eq!(text, format!("{}{pure}", shown(&delta("a"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_key_never_shows_in_an_error_frame() {
    let key = crate::support::UPSTREAM_KEY;
    let upstream = standin(Step::sse([json!({"error": {"message": format!("bad key {key}!"), "code": 401}})])).await;
    let gateway = gateway(&upstream, "", "").await;
    let text = post(&gateway, CHAT, &ask(CHAT, true)).await.text();
    assert!(text.contains("bad key ***!") && !text.contains(key), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_finished_choice_of_two_is_no_finished_stream() {
    let both = json!([{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]);
    for end in [End::Clean, End::Cut] {
        let upstream = standin(Step::sse([frame(both.clone()), finish()]).end(end)).await;
        let gateway = gateway(&upstream, "", "").await;
        let text = post(&gateway, CHAT, &ask(CHAT, true)).await.text();
        assert!(text.contains("upstream_stream_truncated"), "{end:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_said_everything_may_end_badly() {
    for end in [End::Cut, End::Reset, End::Stall] {
        let upstream = standin(Step::sse([delta("a"), finish()]).end(end)).await;
        let gateway = gateway(&upstream, "", SETTINGS).await;
        let answer = post(&gateway, CHAT, &ask(CHAT, true)).await;
        assert_eq!(answer.text(), format!("{}{}", shown(&delta("a")), shown(&finish())), "{end:?}");
        assert_eq!(answer.ending, Ending::Complete, "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_h2_stream_reset_is_a_cut_and_spares_the_connection() {
    let (_authority, upstream, gateway) = secure(SETTINGS).await;
    let [chat, ..] = Dialect::all();
    upstream.script(vec![Step::sse([delta("a").into(), Frame::Pause(30)]).h2_rst(), Step::auto()]);
    let text = post(&gateway, CHAT, &ask(CHAT, true)).await.text();
    assert_eq!(text, format!("{}{}", shown(&delta("a")), chat.error(CUT)));
    assert_eq!(post(&gateway, CHAT, &ask(CHAT, false)).await.status, 200);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goaway_lets_the_stream_finish_and_the_next_request_connect_anew() {
    let (_authority, upstream, gateway) = secure(SETTINGS).await;
    upstream.script(Step::sse([delta("a").into(), Frame::Pause(100), Frame::from(finish())]).goaway());
    for round in 1..=2 {
        let text = post(&gateway, CHAT, &ask(CHAT, true)).await.text();
        assert_eq!(text, format!("{}{}{DONE}", shown(&delta("a")), shown(&finish())));
        assert_eq!(upstream.connections(), round);
    }
}

/// A plain answer that serves for every route.
fn plain() -> Step {
    let more = json!({"output": [], "type": "message", "content": []});
    Step::json(200, crate::traffic::with(completion(&"x".repeat(2000)), more))
}

async fn plain_breaks_off(upstream: &Standin, gateway: &Gateway) {
    for path in [CHAT, COMPLETIONS, RESPONSES, MESSAGES] {
        for end in [End::Cut, End::Reset] {
            upstream.script(vec![plain().end(end), plain()]);
            let answer = post(gateway, path, &ask(path, false)).await;
            let retries = answer.header("x-litellm-attempted-retries");
            assert_eq!((answer.status, retries), (200, Some("1")), "{path} {end:?}");
            upstream.script(plain().end(end));
            let body = crate::traffic::with(ask(path, false), json!({"num_retries": 0}));
            let answer = post(gateway, path, &body).await;
            assert_eq!((answer.status, answer.ending), (502, Ending::Complete), "{path} {end:?}");
            assert!(answer.text().contains("broke "), "{}", answer.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_answer_that_breaks_off_is_asked_for_again_or_a_502() {
    let upstream = standin(Step::auto()).await;
    plain_breaks_off(&upstream, &gateway(&upstream, "", "").await).await;
    let (_authority, upstream, gateway) = secure(SETTINGS).await;
    plain_breaks_off(&upstream, &gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_answer_that_stalls_is_a_504() {
    let upstream = standin(Step::json(200, completion("whole")).end(End::Stall)).await;
    let gateway = gateway(&upstream, "", SETTINGS).await;
    let body = crate::traffic::with(ask(CHAT, false), json!({"num_retries": 0}));
    let answer = post(&gateway, CHAT, &body).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &json!("upstream_timeout")));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_cut_after_their_head_never_look_whole() {
    let audio = Step::raw(200, "audio/mpeg", vec![7; 100_000]);
    let upstream = standin(audio.clone().end(End::Cut)).await;
    let gateway = gateway(&upstream, "", SETTINGS).await;
    let speech = json!({"model": SHOWN, "input": "hi", "voice": "x"});
    for (step, length) in [(audio.clone().end(End::Cut), "100000"), (audio.end(End::Stall), "100000")] {
        upstream.script(step);
        let answer = post(&gateway, "/v1/audio/speech", &speech).await;
        assert_eq!((answer.status, answer.header("content-length")), (200, Some(length)));
        assert_ne!(answer.ending, Ending::Complete);
        assert_eq!(answer.body, vec![7; 50_000]);
    }
    assert!(metric_becomes(&gateway, "nanogate_streams_truncated_total", 2.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_behind_a_frame_too_long_to_be_held_stands_on_its_own() {
    let long = shown(&delta(&"x".repeat(4000)));
    let upstream = standin(Step::sse([Frame::from(&long[..3000])]).end(End::Stall)).await;
    let settings = "gateway_settings: { stream_idle_timeout: 0.3, frame_bytes_max: 1024 }\n";
    let gateway = gateway(&upstream, "", settings).await;
    let mut client = posted(&gateway, CHAT, &ask(CHAT, true)).await;
    client.head().await;
    let (text, _) = until(&mut client, "upstream_stream_truncated").await;
    assert!(text.contains("\n\ndata: {\"error\""), "{text}");
}
