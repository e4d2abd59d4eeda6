//! Who gets in: decided by the head alone, told to nobody, and no credential crosses to the other side.

use nanogate::standin::{Script, Standin, Step};
use serde_json::{Value, json};

use crate::body::CHAT;
use crate::support::gateway::{Gateway, config_for};
use crate::support::raw::{Answer, Client, get, keyless, try_get};
use crate::support::{MASTER_KEY, UPSTREAM_KEY, chat, completion, standin};

const WRONG: &str = "sk-wrong-and-secret";

async fn site(sections: &str) -> (Standin, Gateway) {
    let upstream = standin(completion()).await;
    let gateway = Gateway::builder(config_for(&upstream) + sections).debug().start().await;
    (upstream, gateway)
}

async fn with(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    let body = chat("glm").to_string();
    Client::connect(gateway.address()).await.ask(keyless("POST", CHAT, headers, body.as_bytes())).await
}

fn assert_denied(answer: &Answer, what: &str) {
    let error = &answer.json()["error"];
    assert_eq!(answer.status, 401, "{what}: {}", answer.text());
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
    assert_eq!((&error["type"], &error["code"], &error["param"]), (&json!("auth_error"), &json!("401"), &Value::Null));
}

/// No credential of anybody is in a text.
fn assert_discreet(text: &str, what: &str) {
    for key in [MASTER_KEY, UPSTREAM_KEY, WRONG] {
        assert!(!text.contains(key), "{what} tells a key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_header_with_the_key_opens() {
    let (upstream, gateway) = site("").await;
    let bearer = |scheme: &str| format!("{scheme} {MASTER_KEY}");
    let forms = [
        ("Authorization", bearer("Bearer")),
        ("authorization", bearer("bearer")),
        ("AUTHORIZATION", bearer("BEARER")),
        ("x-litellm-api-key", MASTER_KEY.to_owned()),
        ("x-litellm-api-key", bearer("Bearer")),
        ("api-key", MASTER_KEY.to_owned()),
        ("x-api-key", MASTER_KEY.to_owned()),
        ("x-goog-api-key", MASTER_KEY.to_owned()),
        ("Ocp-Apim-Subscription-Key", MASTER_KEY.to_owned()),
    ];
    for (name, value) in &forms {
        assert_eq!(with(&gateway, &[(name, value)]).await.status, 200, "{name}");
    }
    for seen in upstream.requests() {
        let head = String::from_utf8_lossy(&seen.head).into_owned();
        assert!(!head.contains(MASTER_KEY), "the client's key stays here");
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    }
    assert_eq!(upstream.requests().len(), forms.len());
    assert_discreet(&gateway.log(), "the debug log");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_stays_outside() {
    let (upstream, gateway) = site("general_settings:\n  allow_requests_on_db_unavailable: true\n").await;
    let right = format!("Bearer {MASTER_KEY}");
    let wrong = format!("Bearer {WRONG}");
    let cookie = format!("token={MASTER_KEY}; api-key={MASTER_KEY}");
    let rows: &[&[(&str, &str)]] = &[
        &[],
        &[("Authorization", &wrong)],
        &[("Authorization", MASTER_KEY)],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Basic c2stdGVzdC1tYXN0ZXI=")],
        &[("x-api-key", WRONG)],
        &[("x-api-key", "sk-test-maste")],
        &[("x-api-key", "sk-test-master1")],
        &[("x-api-key", "SK-TEST-MASTER")],
        &[("Cookie", &cookie)],
        &[("X-Unknown-Key", MASTER_KEY)],
        // The first that is present decides, even when a later one would open.
        &[("x-litellm-api-key", WRONG), ("Authorization", &right)],
        &[("Authorization", &wrong), ("x-api-key", MASTER_KEY)],
        &[("api-key", WRONG), ("x-api-key", MASTER_KEY)],
    ];
    for headers in rows {
        let answer = with(&gateway, headers).await;
        assert_denied(&answer, &format!("{headers:?}"));
        assert_discreet(&answer.text(), "the answer");
    }
    assert_eq!(with(&gateway, &[("Authorization", &wrong), ("x-litellm-api-key", MASTER_KEY)]).await.status, 200);
    assert_eq!(with(&gateway, &[("Authorization", ""), ("x-api-key", MASTER_KEY)]).await.status, 200);
    assert_eq!(upstream.requests().len(), 2, "nobody else reached the upstream");
    assert_discreet(&gateway.log(), "the debug log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_query_opens_nothing_and_is_not_logged() {
    let (upstream, gateway) = site("").await;
    for path in [format!("{CHAT}?key={MASTER_KEY}"), format!("/v1/models?api_key={MASTER_KEY}")] {
        let method = if path.starts_with(CHAT) { "POST" } else { "GET" };
        let answer = Client::connect(gateway.address()).await.ask(keyless(method, &path, &[], b"")).await;
        assert_denied(&answer, "a key in the query");
    }
    assert_eq!(upstream.connections(), 0);
    assert!(gateway.wait_log("/v1/models 401").await);
    assert_discreet(&gateway.log(), "the debug log");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_body_of_a_stranger() {
    let (upstream, gateway) = site("").await;
    for framing in ["Content-Length: 1000", "Content-Length: 99999999999", "Transfer-Encoding: chunked"] {
        let head = format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {WRONG}\r\n{framing}\r\n\r\n");
        assert_denied(&Client::connect(gateway.address()).await.ask(head).await, framing);
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_speaks_the_language_of_its_route() {
    let (_upstream, gateway) = site("").await;
    let answer = Client::connect(gateway.address()).await.ask(keyless("POST", "/v1/messages", &[], b"{}")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        (&answer.json()["type"], &answer.json()["error"]["type"]),
        (&json!("error"), &json!("authentication_error"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_needs_no_key_and_names_nothing() {
    let (upstream, gateway) = site("").await;
    for path in ["/health/liveliness", "/health/liveness", "/health/readiness", "/health"] {
        assert_eq!(try_get(gateway.address(), path).await.unwrap().status, 200, "{path}");
    }
    for (method, path, status) in [("GET", "/v1/nowhere", 404), ("DELETE", CHAT, 405), ("GET", "/v1/models", 401)] {
        let answer = Client::connect(gateway.address()).await.ask(keyless(method, path, &[], b"")).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let stranger = try_get(gateway.address(), "/health").await.unwrap().text();
    let known = get(gateway.address(), "/health").await.text();
    assert!(!stranger.contains("glm") && known.contains("glm"), "{stranger}\n{known}");
    assert!(!known.contains(&upstream.address().to_string()) && !stranger.contains("127.0.0.1"));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_pages_tell_no_secret() {
    let (_upstream, gateway) = site("").await;
    assert_eq!(with(&gateway, &[("x-api-key", MASTER_KEY)]).await.status, 200);
    for path in ["/v1/models", "/v1/model/info", "/model_group/info", "/health", "/health/readiness"] {
        let answer = get(gateway.address(), path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_discreet(&answer.text(), path);
    }
    for path in ["/metrics", "/info", "/health", "/"] {
        let answer = try_get(gateway.admin(), path).await.unwrap();
        assert_discreet(&answer.text(), path);
        assert_discreet(&String::from_utf8_lossy(&answer.head.raw), path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_cookies_cross_neither_way() {
    let (upstream, gateway) = site("general_settings:\n  forward_client_headers_to_llm_api: true\n").await;
    upstream.script(completion().header("set-cookie", "session=upstream").header("authorization", "Bearer sk-echo"));
    let right = format!("Bearer {MASTER_KEY}");
    let headers = [
        ("x-litellm-api-key", MASTER_KEY),
        ("Authorization", right.as_str()),
        ("api-key", "sk-client-2"),
        ("x-api-key", "sk-client-3"),
        ("x-goog-api-key", "sk-client-4"),
        ("Ocp-Apim-Subscription-Key", "sk-client-5"),
        ("Proxy-Authorization", "Basic sk-client-6"),
        ("Cookie", "session=client"),
        ("X-Billing-Mode", "paygo"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "by-hop"),
    ];
    let answer = with(&gateway, &headers).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = String::from_utf8_lossy(&upstream.requests()[0].head).to_lowercase();
    for word in [MASTER_KEY, "sk-client", "cookie", "session", "x-hop", "by-hop"] {
        assert!(!seen.contains(word), "`{word}` crossed:\n{seen}");
    }
    assert!(seen.contains("x-billing-mode: paygo"), "other client headers do cross:\n{seen}");
    let head = String::from_utf8_lossy(&answer.head.raw).to_lowercase();
    assert!(!head.contains("cookie") && !head.contains("sk-echo"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_repeats_its_key_is_not_repeated() {
    let (upstream, gateway) = site("").await;
    let words = format!("Incorrect API key provided: {UPSTREAM_KEY}.");
    let bodies = [
        Step::json(
            401,
            json!({"error": {"message": words, "type": "invalid_request_error", "code": "invalid_api_key"}}),
        ),
        Step::raw(401, "text/plain", words.clone()),
    ];
    for step in bodies {
        upstream.script(Script::from(step));
        let answer = with(&gateway, &[("x-api-key", MASTER_KEY)]).await;
        assert_eq!(answer.status, 401);
        assert_discreet(&answer.text(), "the error");
    }
    assert_discreet(&gateway.log(), "the debug log");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_door_is_open_and_says_so() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::builder(config_for(&upstream))
        .env("LITELLM_MASTER_KEY", "")
        .env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true")
        .start()
        .await;
    assert_eq!(with(&gateway, &[]).await.status, 200);
    assert_eq!(with(&gateway, &[("x-api-key", WRONG)]).await.status, 200);
    assert!(gateway.log().contains("everything is open to everyone"));
}
