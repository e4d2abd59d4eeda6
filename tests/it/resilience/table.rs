//! The table: every fault, and what must come of it.

use nanogate::standin::{End, Frame, Step};
use serde_json::json;

use super::drill::{AT_ONCE, Ask, Band, Beside, Drill, Load, drill};
use super::upstreams::{Certificate, Kind, Manner, whole};
use crate::traffic::{completion, delta, finish};

/// A chapter of the table.
pub struct Topic {
    pub title: &'static str,
    pub drills: Vec<Drill>,
}

/// One retry of a lone deployment: its pause is between a quarter and half a second.
const ONE_PAUSE: Band = Band(250, 800);
/// Two retries: the second pause is twice as long.
const TWO_PAUSES: Band = Band(750, 2000);
/// A time-out of half a second and no retry.
const HALF: Band = Band(500, 1000);
/// Three time-outs of half a second and the pauses between them.
const THREE_HALVES: Band = Band(2250, 3500);

const GOOD: &str = "200, whole";
const CUT: &str = "200, then error frame upstream_stream_truncated";
const UNREACHABLE: &str = "502 upstream_unreachable";
const INVALID: &str = "502 upstream_invalid_response";
const TIMEOUT: &str = "504 upstream_timeout";

/// All of it.
pub fn topics() -> Vec<Topic> {
    vec![
        Topic { title: "No connection", drills: no_connection() },
        Topic { title: "TLS", drills: tls() },
        Topic { title: "Slow, half-dead, silent", drills: silent() },
        Topic { title: "Connections that break", drills: breaking() },
        Topic { title: "Error answers", drills: errors() },
        Topic { title: "Storms", drills: storms() },
        Topic { title: "Answers that are none", drills: malformed() },
        Topic { title: "Odd proxies in between", drills: proxies() },
        Topic { title: "HTTP/2", drills: http2() },
    ]
}

fn error(status: u16, code: &str) -> Step {
    let error = json!({"message": "in a drill", "type": "drill_error", "param": null, "code": code});
    Step::json(status, json!({"error": error}))
}

/// One step for every request.
fn always(step: Step) -> impl Fn(Ask) -> Kind + Send + Sync + 'static {
    move |_| Kind::Plays(vec![step.clone()])
}

/// A good answer, bent.
fn bent(bend: impl Fn(Step) -> Step + Send + Sync + 'static) -> impl Fn(Ask) -> Kind + Send + Sync + 'static {
    move |ask| Kind::Plays(vec![bend(whole(ask))])
}

fn socket(manner: Manner) -> impl Fn(Ask) -> Kind + Send + Sync + 'static {
    move |_| Kind::Socket(manner.clone())
}

/// A stream that breaks off behind its first words. What was sent gets time to arrive: a reset overtakes it.
fn broken_stream(end: End) -> Step {
    Step::sse([Frame::from(delta("go")), Frame::Pause(50)]).end(end)
}

fn no_connection() -> Vec<Drill> {
    let down = "Down: connections are refused (RST while connecting)";
    let full = "Half-dead: the kernel does not answer a connection";
    vec![
        drill(down, |_| Kind::Nobody).ends(UNREACHABLE, TWO_PAUSES, 3),
        drill(down, |_| Kind::Nobody).beside(Beside::Another).ends(GOOD, AT_ONCE, 2),
        drill(down, |_| Kind::Nobody).beside(Beside::Fallback).ends(GOOD, TWO_PAUSES, 4),
        drill(down, |_| Kind::Nobody).router("num_retries: 0").ends(UNREACHABLE, AT_ONCE, 1),
        drill("Restarts: connections are refused for 0.2 s, then all is well", |ask| Kind::Late(200, vec![whole(ask)]))
            .ends(GOOD, ONE_PAUSE, 2),
        drill(full, |_| Kind::Full).gateway("connect_timeout: 0.5").router("num_retries: 0").ends(TIMEOUT, HALF, 1),
        drill(full, |_| Kind::Full).gateway("connect_timeout: 0.5").beside(Beside::Another).ends(GOOD, HALF, 2),
    ]
}

fn tls() -> Vec<Drill> {
    let secure = |certificate| move |ask| Kind::Secure(certificate, vec![whole(ask)]);
    let mute = "Half-dead: accepts, and never shakes hands";
    vec![
        drill("Nothing, for comparison", secure(Certificate::Good)).ends(GOOD, AT_ONCE, 1),
        drill("The certificate has expired", secure(Certificate::Expired)).ends(UNREACHABLE, TWO_PAUSES, 3),
        drill("The certificate has expired", secure(Certificate::Expired))
            .beside(Beside::Another)
            .ends(GOOD, AT_ONCE, 2),
        drill("The certificate is for another name", secure(Certificate::OtherName)).ends(UNREACHABLE, TWO_PAUSES, 3),
        drill("The certificate is signed by an unknown authority", secure(Certificate::Unknown)).ends(
            UNREACHABLE,
            TWO_PAUSES,
            3,
        ),
        drill(mute, socket(Manner::MuteTls))
            .gateway("connect_timeout: 0.5")
            .router("num_retries: 0")
            .ends(TIMEOUT, HALF, 1),
        drill("Speaks no TLS where it is expected", socket(Manner::SaysPlainly("HTTP/1.1 400 Bad Request\r\n\r\n")))
            .ends(UNREACHABLE, TWO_PAUSES, 3),
    ]
}

fn silent() -> Vec<Drill> {
    let hangs = "Half-dead: takes the request and never answers";
    let stalls = "Stops in the middle of its answer, the connection stays open";
    let long = "Half-dead: stops reading in the middle of a long prompt";
    vec![
        drill("Slow: half a second to the first byte", bent(|step| step.delay_ms(500))).ends(GOOD, HALF, 1),
        drill("Slow: a piece every 0.2 s, each sooner than the silence limit", bent(|step| step.split(70).gap_ms(200)))
            .gateway("stream_idle_timeout: 0.5")
            .plain()
            .ends(GOOD, Band(500, 2000), 1),
        drill(hangs, always(Step::hang())).params("timeout: 0.5").ends(TIMEOUT, THREE_HALVES, 3),
        drill(hangs, always(Step::hang())).params("timeout: 0.5").router("num_retries: 0").ends(TIMEOUT, HALF, 1),
        drill(hangs, always(Step::hang())).params("timeout: 0.5").beside(Beside::Another).ends(GOOD, HALF, 2),
        drill(hangs, always(Step::hang()))
            .params("timeout: 0.5")
            .router("num_retries: 0")
            .beside(Beside::Fallback)
            .ends(GOOD, HALF, 2),
        drill(hangs, always(Step::hang())).member(r#"{"timeout": 0.5}"#).ends(TIMEOUT, HALF, 1),
        drill("Half-dead: accepts, and reads nothing", socket(Manner::Mute))
            .params("timeout: 0.5")
            .router("num_retries: 0")
            .ends(TIMEOUT, HALF, 1),
        drill(long, socket(Manner::StopsReading))
            .params("timeout: 0.5")
            .router("num_retries: 0")
            .long_prompt()
            .plain()
            .ends(TIMEOUT, HALF, 1),
        drill("Sends half a head and no more", socket(Manner::SaysOnce("HTTP/1.1 200 OK\r\ncontent-ty")))
            .params("timeout: 0.5")
            .router("num_retries: 0")
            .ends(TIMEOUT, HALF, 1),
        drill(stalls, always(Step::json(200, completion("good")).end(End::Stall)))
            .gateway("stream_idle_timeout: 0.5")
            .router("num_retries: 0")
            .plain()
            .ends(TIMEOUT, HALF, 1),
        drill(stalls, always(Step::json(200, completion("good")).end(End::Stall)))
            .gateway("stream_idle_timeout: 0.5")
            .beside(Beside::Another)
            .plain()
            .ends(GOOD, HALF, 2),
        drill(stalls, always(Step::sse([delta("go")]).end(End::Stall)))
            .gateway("stream_idle_timeout: 0.5")
            .beside(Beside::Another)
            .stream()
            .ends(CUT, HALF, 1),
        drill(
            "Says all, `[DONE]` too, and leaves the answer open",
            always(Step::sse([Frame::from(delta("good")), finish().into(), "data: [DONE]\n\n".into()]).end(End::Stall)),
        )
        .stream()
        .ends(GOOD, Band(1000, 1500), 1),
    ]
}

fn breaking() -> Vec<Drill> {
    let read = "RST when the request was read";
    let closed = "Closes when the request was read";
    let mid = "RST in the middle of its answer";
    let head_plain = Step::raw(200, "application/json", "x").content_length(100).end(End::Reset);
    let chunked = Step::sse([Frame::from("{\"id\": \"chatcmpl-1\", \"choices\": [")])
        .header("content-type", "application/json")
        .end(End::TruncatedChunk);
    vec![
        drill("RST as soon as it has accepted", socket(Manner::Resets)).ends(UNREACHABLE, TWO_PAUSES, 3),
        drill("RST as soon as it has accepted", socket(Manner::Resets)).beside(Beside::Another).ends(GOOD, AT_ONCE, 2),
        drill(read, always(Step::reset_before_answer())).ends(UNREACHABLE, TWO_PAUSES, 3),
        drill(read, always(Step::reset_before_answer())).beside(Beside::Another).ends(GOOD, AT_ONCE, 2),
        drill("RST when the request was read, once", |ask| Kind::Plays(vec![Step::reset_before_answer(), whole(ask)]))
            .ends(GOOD, ONE_PAUSE, 2),
        drill(closed, always(Step::close_before_answer())).ends(UNREACHABLE, TWO_PAUSES, 3),
        drill("RST behind the head of its answer", always(head_plain.clone())).plain().ends(INVALID, TWO_PAUSES, 3),
        drill("RST behind the head of its answer", always(head_plain))
            .beside(Beside::Another)
            .plain()
            .ends(GOOD, AT_ONCE, 2),
        drill("RST behind the head of its answer", always(Step::sse([Frame::Pause(50)]).end(End::Reset)))
            .stream()
            .ends(CUT, AT_ONCE, 1),
        drill(mid, always(Step::json(200, completion("good")).end(End::Reset))).plain().ends(INVALID, TWO_PAUSES, 3),
        drill(mid, always(Step::json(200, completion("good")).end(End::Reset)))
            .beside(Beside::Another)
            .plain()
            .ends(GOOD, AT_ONCE, 2),
        drill(mid, always(broken_stream(End::Reset))).beside(Beside::Another).stream().ends(CUT, AT_ONCE, 1),
        drill("Closes in the middle of its answer", always(broken_stream(End::Cut)))
            .beside(Beside::Another)
            .stream()
            .ends(CUT, AT_ONCE, 1),
        drill("Cuts a chunk in two and closes", always(chunked.clone())).plain().ends(INVALID, TWO_PAUSES, 3),
        drill("Cuts a chunk in two and closes", always(chunked)).beside(Beside::Another).plain().ends(GOOD, AT_ONCE, 2),
        drill("Cuts a chunk in two and closes", always(broken_stream(End::TruncatedChunk)))
            .beside(Beside::Another)
            .stream()
            .ends(CUT, AT_ONCE, 1),
        drill("Ends its stream early, as if all were said", always(Step::sse([delta("go")]).end(End::Clean)))
            .beside(Beside::Another)
            .stream()
            .ends(CUT, AT_ONCE, 1),
        drill("Says all, `[DONE]` too, then RST instead of an end", {
            let said = [Frame::from(delta("good")), finish().into(), "data: [DONE]\n\n".into(), Frame::Pause(50)];
            always(Step::sse(said).end(End::Reset))
        })
        .stream()
        .ends(GOOD, AT_ONCE, 1),
    ]
}

fn errors() -> Vec<Drill> {
    let html = Step::raw(502, "text/html", "<html><body><h1>502 Bad Gateway</h1>nginx</body></html>");
    vec![
        drill("503", always(error(503, "no_room"))).ends("503 no_room", TWO_PAUSES, 3),
        drill("503", always(error(503, "no_room"))).beside(Beside::Another).ends(GOOD, AT_ONCE, 2),
        drill("503", always(error(503, "no_room"))).beside(Beside::Fallback).ends(GOOD, TWO_PAUSES, 4),
        drill("503 once", |ask| Kind::Plays(vec![error(503, "no_room"), whole(ask)])).ends(GOOD, ONE_PAUSE, 2),
        drill("Flapping: 503 to every other request", |ask| {
            Kind::Plays((0..8).map(|at| if at % 2 == 0 { error(503, "no_room") } else { whole(ask) }).collect())
        })
        .load(Load::InTurn(4))
        .ends(GOOD, ONE_PAUSE, 8),
        drill("500 in HTML, from a proxy before it", always(html.clone().status(500))).ends("500 500", TWO_PAUSES, 3),
        drill("502 in HTML, from a proxy before it", always(html)).beside(Beside::Another).ends(GOOD, AT_ONCE, 2),
        drill("401: the key is refused", always(error(401, "invalid_api_key"))).ends("401 invalid_api_key", AT_ONCE, 1),
        drill("401: the key is refused", always(error(401, "invalid_api_key")))
            .beside(Beside::Fallback)
            .ends(GOOD, AT_ONCE, 2),
        drill("404 in HTML", always(Step::raw(404, "text/html", "<html>not here</html>"))).ends("404 404", AT_ONCE, 1),
        drill("400: the client's own mistake", always(error(400, "bad_value"))).beside(Beside::Fallback).ends(
            "400 bad_value",
            AT_ONCE,
            1,
        ),
        drill(
            "200 whose body is only an error",
            always(Step::json(200, json!({"error": {"message": "m", "code": 503}}))),
        )
        .plain()
        .ends("503 overloaded_error", TWO_PAUSES, 3),
    ]
}

fn storms() -> Vec<Drill> {
    let limited = || error(429, "slow_down");
    let one_in_three = "500 from one deployment of three";
    vec![
        drill("429 without `Retry-After`", always(limited())).ends("429 slow_down", TWO_PAUSES, 3),
        drill("429 with `Retry-After: 1`", always(limited().header("retry-after", "1"))).ends(
            "429 slow_down",
            Band(2000, 2500),
            3,
        ),
        drill("429 with `Retry-After: 1`, once", |ask| {
            Kind::Plays(vec![error(429, "slow_down").header("retry-after", "1"), whole(ask)])
        })
        .ends(GOOD, Band(1000, 1500), 2),
        drill("429 with `Retry-After: 60`", always(limited().header("retry-after", "60"))).ends(
            "429 slow_down",
            AT_ONCE,
            1,
        ),
        drill("429 with `Retry-After: 60`", always(limited().header("retry-after", "60")))
            .beside(Beside::Another)
            .ends(GOOD, AT_ONCE, 2),
        drill("429 with `Retry-After: 60` from one deployment of three", always(limited().header("retry-after", "60")))
            .beside(Beside::TwoMore)
            .load(Load::InTurn(60))
            .ends(GOOD, AT_ONCE, 61),
        drill("429 without `Retry-After` from one deployment of three", always(limited()))
            .beside(Beside::TwoMore)
            .load(Load::InTurn(60))
            .ends(GOOD, AT_ONCE, 63),
        drill(one_in_three, always(error(500, "broken")))
            .beside(Beside::TwoMore)
            .load(Load::InTurn(60))
            .ends(GOOD, AT_ONCE, 63),
        drill(one_in_three, always(error(500, "broken"))).beside(Beside::TwoMore).load(Load::AtOnce(20)).ends_within(
            GOOD,
            Band(0, 1000),
            36,
        ),
        drill("429 to everything", always(limited())).load(Load::AtOnce(100)).ends_within(
            "429 slow_down",
            Band(0, 3000),
            220,
        ),
        drill("503 to everything", always(error(503, "no_room"))).load(Load::AtOnce(100)).ends_within(
            "503 no_room",
            Band(0, 3000),
            220,
        ),
    ]
}

fn malformed() -> Vec<Drill> {
    let document = completion("good").to_string();
    let half = Step::raw(200, "application/json", document[..document.len() / 2].to_owned());
    let packed = || Step::raw(200, "application/json", "this is no gzip").header("content-encoding", "gzip");
    vec![
        drill("200 with malformed JSON", always(half.clone())).plain().ends(INVALID, TWO_PAUSES, 3),
        drill("200 with malformed JSON", always(half)).beside(Beside::Another).plain().ends(GOOD, AT_ONCE, 2),
        drill("200 with malformed JSON, once", |ask| {
            Kind::Plays(vec![Step::raw(200, "application/json", "{\"id\": "), whole(ask)])
        })
        .plain()
        .ends(GOOD, ONE_PAUSE, 2),
        drill("200 with HTML", always(Step::raw(200, "text/html", "<html>Sign in</html>")))
            .ends(INVALID, TWO_PAUSES, 3),
        drill("200 with an empty body", always(Step::raw(200, "application/json", "")))
            .plain()
            .ends(INVALID, TWO_PAUSES, 3),
        drill(
            "Announces more than it sends, and closes",
            always(Step::json(200, completion("good")).content_length(9999)),
        )
        .plain()
        .ends(INVALID, TWO_PAUSES, 3),
        drill("Says it is gzip, and it is not", always(packed())).plain().ends(INVALID, TWO_PAUSES, 3),
        drill("Gzip that breaks off", always(Step::json(200, completion("good")).gzip().end(End::Cut)))
            .plain()
            .ends(INVALID, TWO_PAUSES, 3),
        drill("What it says is no HTTP", socket(Manner::SaysOnce("SSH-2.0-OpenSSH_9.9\r\n\r\n"))).ends(
            UNREACHABLE,
            TWO_PAUSES,
            3,
        ),
    ]
}

fn proxies() -> Vec<Drill> {
    let document = completion("good").to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{document}",
        document.len()
    );
    let stray = completion("stray").to_string();
    let twice = format!("{answer}HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{stray}", stray.len());
    vec![
        drill("Gzip although nobody asked for it", bent(Step::gzip)).ends(GOOD, AT_ONCE, 1),
        drill("100 Continue although nobody expects it", bent(|step| step.interim(100))).ends(GOOD, AT_ONCE, 1),
        drill("100 Continue twice and 103", bent(|step| step.interim(100).interim(100).interim(103)))
            .ends(GOOD, AT_ONCE, 1),
        drill("100 Continue with headers of an answer", {
            let said = format!("HTTP/1.1 100 Continue\r\ncontent-length: 0\r\nconnection: close\r\n\r\n{answer}");
            socket(Manner::Says(said))
        })
        .plain()
        .ends(GOOD, AT_ONCE, 1),
        drill("100 Continue instead of an answer, then silence", always(Step::hang().interim(100)))
            .params("timeout: 0.5")
            .router("num_retries: 0")
            .ends(TIMEOUT, HALF, 1),
        drill("100 Continue instead of an answer, then a close", always(Step::close_before_answer().interim(100)))
            .ends(UNREACHABLE, TWO_PAUSES, 3),
        drill("417 Expectation Failed", always(Step::raw(417, "text/plain", "no"))).ends("417 417", AT_ONCE, 1),
        drill("A second answer behind the first, for nobody", socket(Manner::Says(twice)))
            .plain()
            .load(Load::InTurn(3))
            .ends(GOOD, AT_ONCE, 3),
        drill(
            "Closes after each answer without saying so",
            bent(|step| step.header("connection", "keep-alive").close()),
        )
        .load(Load::InTurn(10))
        .ends(GOOD, AT_ONCE, 10),
    ]
}

fn http2() -> Vec<Drill> {
    let http2 = |step: Step| move |_: Ask| Kind::Http2(vec![step.clone()]);
    let goaway = "GOAWAY before its answer, which is finished";
    let rst = "RST_STREAM in the middle of its answer";
    let drills = vec![
        drill(goaway, |ask| Kind::Http2(vec![whole(ask).goaway()])).load(Load::InTurn(20)).ends(GOOD, AT_ONCE, 20),
        drill("GOAWAY in the middle of a stream, which is finished", {
            let said = [Frame::from(delta("go")), Frame::Pause(100), delta("od").into(), finish().into()];
            http2(Step::sse(said).goaway())
        })
        .stream()
        .ends(GOOD, AT_ONCE, 1),
        drill("RST_STREAM when the request was read", http2(Step::reset_before_answer().h2_rst())).ends(
            UNREACHABLE,
            TWO_PAUSES,
            3,
        ),
        drill("RST_STREAM when the request was read", http2(Step::reset_before_answer().h2_rst()))
            .beside(Beside::Another)
            .ends(GOOD, AT_ONCE, 2),
        drill(rst, http2(Step::json(200, completion("good")).h2_rst())).plain().ends(INVALID, TWO_PAUSES, 3),
        drill(rst, http2(Step::json(200, completion("good")).h2_rst()))
            .beside(Beside::Another)
            .plain()
            .ends(GOOD, AT_ONCE, 2),
        drill(rst, http2(broken_stream(End::Reset).h2_rst())).beside(Beside::Another).stream().ends(CUT, AT_ONCE, 1),
        drill("The whole connection is reset in the middle of a stream", http2(broken_stream(End::Reset)))
            .beside(Beside::Another)
            .stream()
            .ends(CUT, AT_ONCE, 1),
        drill("Takes the request and never answers", http2(Step::hang()))
            .params("timeout: 0.5")
            .router("num_retries: 0")
            .ends(TIMEOUT, HALF, 1),
    ];
    drills.into_iter().map(|drill| drill.gateway("upstream_http2: true")).collect()
}
