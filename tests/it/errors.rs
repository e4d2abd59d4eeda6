//! Errors: the upstream's keep its words, ours name what is wrong, and neither says what it must not.

use nanogate::standin::{End, Script, Step};
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, base, entry};
use crate::support::raw::{Answer, Client, Ending, get, keyless, request};
use crate::support::{UPSTREAM_KEY, standin};
use crate::traffic::{
    CHAT, COMPLETIONS, MESSAGES, RESPONSES, SHOWN, ask, chat, completion, gateway, post, post_with, with,
};

const ROUTES: [&str; 4] = [CHAT, COMPLETIONS, RESPONSES, MESSAGES];
const STATUSES: [u16; 18] = [400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 418, 422, 429, 500, 502, 503, 504, 529];

/// A gateway that never tries again.
async fn once(upstream: &nanogate::standin::Standin) -> Gateway {
    gateway(upstream, "", "litellm_settings: { num_retries: 0 }\n").await
}

/// The members of an error, whatever the dialect.
fn error(answer: &Answer, path: &str) -> (Value, Value) {
    let body = answer.json();
    if path == MESSAGES {
        assert_eq!(body["type"], "error", "{body}");
    }
    let error = &body["error"];
    assert!(error["message"].is_string() && error["type"].is_string(), "{path}: {body}");
    if path != MESSAGES {
        assert!(error.get("param").is_some() && error.get("code").is_some(), "{path}: {body}");
    }
    (error["message"].clone(), error["type"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_error_keeps_its_status_and_every_byte() {
    let openai =
        "{ \"error\": {\"message\":\"no\",\"type\":\"odd\",\"param\":\"temperature\",\"code\":17, \"more\":1} }";
    let anthropic = "{ \"type\":\"error\",\"error\":{\"type\":\"odd_error\",\"message\":\"no\"},\"request_id\":\"r\" }";
    let upstream = standin(Script::auto()).await;
    let gateway = once(&upstream).await;
    for path in ROUTES {
        let document = if path == MESSAGES { anthropic } else { openai };
        for stream in [false, true] {
            for status in STATUSES {
                upstream.script(Step::raw(status, "application/json", document));
                let answer = post(&gateway, path, &ask(path, stream)).await;
                assert_eq!((answer.status, answer.text().as_str()), (status, document), "{path}");
                assert_eq!(answer.header("content-type"), Some("application/json"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_is_no_envelope_becomes_one() {
    let long = format!("<html>{}", "é".repeat(600));
    let cut: String = long.chars().take(500).collect();
    let cases = [
        ("text/html", long.as_str(), cut.as_str()),
        ("application/json", "{\"error\":\"Insufficient balance\",\"status\":402}", "Insufficient balance"),
        ("application/json", "\"just text\"", "\"just text\""),
        ("application/json", "{\"detail\":\"nope\"}", "\"nope\""),
        ("application/json", "{\"message\":\"slow down\",\"code\":\"rate_limited\"}", "slow down"),
        ("text/plain", "boom", "boom"),
    ];
    let upstream = standin(Script::auto()).await;
    let gateway = once(&upstream).await;
    for path in ROUTES {
        for (kind, body, words) in cases {
            for status in [402, 500] {
                upstream.script(Step::raw(status, kind, body));
                let answer = post(&gateway, path, &ask(path, false)).await;
                assert_eq!(answer.status, status, "{path} {body}");
                assert_eq!(error(&answer, path).0, words, "{path} {status}");
                assert_eq!(answer.header("content-type"), Some("application/json"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_without_a_body_keeps_its_status_and_its_headers() {
    let upstream = standin(Script::auto()).await;
    let gateway = once(&upstream).await;
    for path in ROUTES {
        for status in STATUSES {
            let step = Step::raw(status, "text/plain", "")
                .header("retry-after", "7")
                .header("x-ratelimit-remaining-requests", "0");
            upstream.script(step);
            let answer = post(&gateway, path, &ask(path, false)).await;
            assert_eq!(answer.status, status, "{path}");
            assert!(error(&answer, path).0.as_str().is_some_and(|words| words.contains("without a body")));
            assert_eq!(answer.header("retry-after"), Some("7"), "{path} {status}");
            assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("0"), "{path} {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_help_pass_and_headers_that_tell_do_not() {
    let secret = [
        ("set-cookie", "a=b"),
        ("server", "cloud"),
        ("via", "1.1 x"),
        ("x-powered-by", "php"),
        ("cf-ray", "1"),
        ("alt-svc", "h3"),
        ("location", "http://10.0.0.1/"),
    ];
    let open = [
        ("retry-after", "7"),
        ("x-ratelimit-limit-requests", "5"),
        ("x-should-retry", "false"),
        ("x-request-id", "up-1"),
        ("anthropic-ratelimit-tokens-limit", "1"),
    ];
    let upstream = standin(Script::auto()).await;
    let gateway = once(&upstream).await;
    for step in [Step::json(429, json!({})), Step::json(200, completion("a")), Step::sse([crate::traffic::finish()])] {
        let step = secret.iter().chain(&open).fold(step, |step, (name, value)| step.header(name, value));
        upstream.script(step);
        let answer = post(&gateway, CHAT, &chat()).await;
        for (name, value) in open {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        for (name, _) in secret {
            assert_eq!(answer.header(name), None, "{name}");
        }
        let address = upstream.address().to_string();
        assert!(!String::from_utf8_lossy(&answer.head.raw).contains(&address));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_key_never_comes_back() {
    let words = format!("Incorrect API key provided: {UPSTREAM_KEY}. {UPSTREAM_KEY}");
    let upstream = standin(Script::auto()).await;
    let gateway = once(&upstream).await;
    for step in [
        Step::json(401, json!({"error": {"message": words, "type": "t", "param": null, "code": null}})),
        Step::json(401, json!({"error": words})),
        Step::raw(500, "text/html", words.clone()),
        Step::json(200, json!({"error": {"message": words, "code": 401}})),
    ] {
        upstream.script(step);
        let answer = post(&gateway, CHAT, &chat()).await;
        assert!(!answer.text().contains(UPSTREAM_KEY) && answer.text().contains("***"), "{}", answer.text());
    }
    assert!(!gateway.log().contains(UPSTREAM_KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_that_is_only_an_error_gets_the_errors_status() {
    let upstream = standin(Script::auto()).await;
    let gateway = once(&upstream).await;
    for path in ROUTES {
        for (code, status) in
            [(json!(429), 429), (json!("503"), 503), (json!("odd"), 502), (json!(200), 502), (Value::Null, 502)]
        {
            upstream.script(Step::json(
                200,
                json!({"type": "error", "error": {"message": "no", "type": "t", "code": code}}),
            ));
            let answer = post(&gateway, path, &ask(path, false)).await;
            assert_eq!(answer.status, status, "{path} {code}: {}", answer.text());
            assert_eq!(error(&answer, path).0, "no");
        }
    }
    // A response that failed is an answer all the same.
    let failed = json!({"object": "response", "status": "failed", "output": [], "error": {"code": "server_error", "message": "m"}});
    upstream.script(Step::json(200, failed.clone()));
    let answer = post(&gateway, RESPONSES, &ask(RESPONSES, false)).await;
    assert_eq!((answer.status, answer.json()), (200, failed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_a_502() {
    let upstream = standin(Script::auto()).await;
    let gateway = once(&upstream).await;
    for path in ROUTES {
        for step in [
            Step::raw(200, "application/json", "{\"cut\":"),
            Step::raw(200, "application/json", ""),
            Step::raw(200, "application/json", "[]"),
            Step::raw(200, "application/json", "null"),
            Step::raw(200, "text/html", "<html>hello</html>"),
            Step::raw(204, "application/json", ""),
            Step::raw(302, "text/html", "moved").header("location", "http://127.0.0.1:9/secret"),
            Step::raw(301, "text/html", "").header("location", "http://127.0.0.1:9/secret"),
        ] {
            upstream.script(step.clone());
            let answer = post(&gateway, path, &ask(path, false)).await;
            assert_eq!(answer.status, 502, "{path} {step:?}");
            let kind = error(&answer, path).1;
            assert_eq!(kind, if path == MESSAGES { "api_error" } else { "upstream_error" });
            if path != MESSAGES {
                assert_eq!(answer.json()["error"]["code"], "upstream_invalid_response", "{step:?}");
            }
            assert!(!answer.text().contains("secret") && !answer.text().contains("127.0.0.1"));
        }
    }
    upstream.script(Step::json(200, json!({"id": "x"})));
    assert_eq!(post(&gateway, CHAT, &chat()).await.status, 502, "a chat answer without choices");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_can_be_named_in_a_report() {
    let upstream = standin(Step::json(200, completion("a")).header("x-request-id", "up-1")).await;
    let gateway = gateway(&upstream, "", "").await;
    let mut answers = vec![
        post(&gateway, CHAT, &chat()).await,
        post(&gateway, CHAT, &json!({})).await,
        get(gateway.address(), "/v1/models").await,
        get(gateway.address(), "/nowhere").await,
        get(gateway.address(), "/health/liveliness").await,
        get(gateway.address(), CHAT).await,
    ];
    answers.push(Client::connect(gateway.address()).await.ask(keyless("POST", CHAT, &[], b"{}")).await);
    assert_eq!(answers[0].header("x-request-id"), Some("up-1"));
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 400, 200, 404, 200, 405, 401]);
    for answer in answers {
        for name in ["x-request-id", "x-litellm-call-id"] {
            assert!(answer.header(name).is_some_and(|id| !id.is_empty()), "{} {name}", answer.status);
        }
    }
    for body in [chat(), json!({})] {
        let answer = post_with(&gateway, CHAT, &[("x-litellm-call-id", "my-own")], &body).await;
        assert_eq!(answer.header("x-litellm-call-id"), Some("my-own"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_named_with_its_nearest() {
    let upstream = standin(Script::auto()).await;
    let entries = entry("deepseek-v3.2", "openai/up", &base(&upstream), "");
    let gateway = Gateway::start(format!("model_list:\n{entries}")).await;
    for (model, words, near) in [
        (json!("deepseek-v32"), "model=deepseek-v32", true),
        (json!("gpt-17-turbo"), "model=gpt-17-turbo", false),
        (json!(""), "model=.", false),
        (Value::Null, "model=.", false),
    ] {
        let answer = post(&gateway, CHAT, &with(chat(), json!({"model": model}))).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"], &error["param"]), (400, &json!("model_not_found"), &json!("model")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        assert_eq!(message.contains("Did you mean `deepseek-v3.2`?"), near, "{message}");
    }
    let answer = post(&gateway, CHAT, &with(chat(), json!({"model": 7}))).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("model")));
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_names_the_right_ones_and_a_wrong_path_is_said_to_be_one() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    for (method, path, status, allow) in [
        ("GET", CHAT, 405, Some("POST, OPTIONS")),
        ("PUT", MESSAGES, 405, Some("POST, OPTIONS")),
        ("DELETE", "/v1/models", 405, Some("GET, HEAD, OPTIONS")),
        ("PATCH", "/v1/responses/resp_1", 405, Some("GET, DELETE, OPTIONS")),
        ("GET", "/v1/nowhere", 404, None),
        ("GET", "/", 404, None),
        ("POST", "/v1/chat", 404, None),
        ("POST", "/key/generate", 501, None),
        ("GET", "/spend/logs", 501, None),
    ] {
        let answer = Client::connect(gateway.address()).await.ask(request(method, path, &[], b"")).await;
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {path}");
        error(&answer, CHAT);
    }
    // Neither 404 nor 405 needs a key.
    for (path, status) in [("/v1/nowhere", 404), (CHAT, 405)] {
        let answer = Client::connect(gateway.address()).await.ask(keyless("GET", path, &[], b"")).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_may_read_every_answer() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    for (path, body) in
        [(CHAT, chat()), (CHAT, crate::traffic::chat_stream()), (CHAT, json!({})), ("/nowhere", json!({}))]
    {
        let answer = post_with(&gateway, path, &[("Origin", "https://a.test")], &body).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path} {}", answer.status);
        assert_eq!(post(&gateway, path, &body).await.header("access-control-allow-origin"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_our_own_error_and_calls_nobody() {
    let upstream = standin(Script::auto()).await;
    let params = format!(
        "model_list:\n  - model_name: {SHOWN}\n    litellm_params: {{ model: openai/up, api_base: \"{}\", api_key: os.environ/NOT_SET }}\n",
        base(&upstream)
    );
    let gateway = Gateway::start(params + &entry("other", "openai/up", &base(&upstream), "")).await;
    let answer = post(&gateway, CHAT, &chat()).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (500, &json!("missing_credentials")));
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(post(&gateway, CHAT, &with(chat(), json!({"model": "other"}))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_outlives_every_error() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "timeout: 0.8", "litellm_settings: { num_retries: 0 }\n").await;
    let mut client = Client::connect(gateway.address()).await;
    let ask = |body: &Value| request("POST", CHAT, &[], body.to_string().as_bytes());
    for (step, body, status) in [
        (Step::json(500, json!({})), chat(), 500),
        (Step::raw(200, "text/html", "<html>"), chat(), 502),
        (Step::close_before_answer(), chat(), 502),
        (Step::hang(), chat(), 504),
        (Step::auto(), json!({}), 400),
        (Step::auto(), json!({"model": "unknown", "messages": []}), 400),
        (Step::sse([crate::traffic::delta("a")]).end(End::Cut), crate::traffic::chat_stream(), 200),
        (Step::sse([json!({"error": {"message": "m"}})]), crate::traffic::chat_stream(), 200),
        (Step::json(200, completion("a")), chat(), 200),
    ] {
        upstream.script(step);
        let answer = client.ask(ask(&body)).await;
        assert_eq!((answer.status, answer.ending), (status, Ending::Complete), "{body}");
    }
    for (method, path, status) in [("GET", CHAT, 405), ("GET", "/nowhere", 404), ("GET", "/v1/models", 200)] {
        assert_eq!(client.ask(request(method, path, &[], b"")).await.status, status, "{path}");
    }
    assert_eq!(client.ask(keyless("POST", CHAT, &[], b"{}")).await.status, 401);
    assert_eq!(client.ask(ask(&json!({"model": 7, "messages": []}))).await.status, 400);
}
