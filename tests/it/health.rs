//! Health, metrics, logs: what an operator sees, and what nobody may.

use nanogate::standin::{Script, Step};
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::{Client, get, keyless, request, try_get};
use crate::support::{MASTER_KEY, UPSTREAM_KEY, standin};
use crate::traffic::{
    CHAT, SENT, SHOWN, access_line, admin, chat, chat_stream, completion, delta, file, finish, gateway, lines, metric,
    metric_becomes, metrics, post, with,
};

const ROUTES: [&str; 4] = ["/health", "/health/liveliness", "/health/liveness", "/health/readiness"];

#[tokio::test(flavor = "multi_thread")]
async fn health_is_open_to_get_and_head_and_calls_nobody() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    for path in ROUTES {
        let answer = try_get(gateway.address(), path).await.unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{path}");
        let mut client = Client::connect(gateway.address()).await;
        client.send(keyless("HEAD", path, &[], b"")).await;
        let head = client.head().await;
        assert_eq!((head.status, head.header("content-length")), (200, answer.header("content-length")), "{path}");
        assert!(client.unread().is_empty());
        assert_eq!(client.ask(keyless("POST", path, &[], b"{}")).await.status, 405);
    }
    assert_eq!(try_get(gateway.address(), ROUTES[1]).await.unwrap().text(), "\"I'm alive!\"");
    assert_eq!(try_get(gateway.address(), ROUTES[3]).await.unwrap().json()["status"], "healthy");
    assert_eq!((upstream.requests().len(), upstream.connections()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_shown_to_a_key_only() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    let open = try_get(gateway.address(), "/health").await.unwrap();
    assert_eq!((&open.json()["healthy_count"], &open.json()["healthy_endpoints"]), (&json!(1), &json!([])));
    let wrong = Client::connect(gateway.address())
        .await
        .ask(keyless("GET", "/health", &[("Authorization", "Bearer sk-wrong")], b""))
        .await;
    assert!(!wrong.text().contains(SHOWN), "{}", wrong.text());
    let named = get(gateway.address(), "/health").await;
    assert_eq!(named.json()["healthy_endpoints"][0]["model_name"], SHOWN);
    for text in [named.text(), open.text()] {
        assert!(!text.contains(UPSTREAM_KEY) && !text.contains(&upstream.address().to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_what_traffic_shows() {
    let upstream = standin(Step::json(500, json!({}))).await;
    let gateway = gateway(&upstream, "", "litellm_settings: { num_retries: 0 }\n").await;
    for _ in 0..3 {
        post(&gateway, CHAT, &chat()).await;
    }
    assert!(metric_becomes(&gateway, "nanogate_upstream_attempts_total", 3.0).await);
    let ill = get(gateway.address(), "/health").await.json();
    assert_eq!(
        (&ill["unhealthy_count"], &ill["unhealthy_endpoints"][0]["last_failure_status"]),
        (&json!(1), &json!(500))
    );
    upstream.script(Script::auto());
    assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    assert!(metric_becomes(&gateway, "nanogate_upstream_attempts_total", 4.0).await);
    assert_eq!(get(gateway.address(), "/health").await.json()["healthy_count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_serves_its_pages_without_a_key() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    for path in ROUTES.iter().chain(&["/metrics", "/info", "/"]) {
        assert_eq!(admin(&gateway, path).await.status, 200, "{path}");
    }
    assert_eq!(admin(&gateway, "/health").await.json()["healthy_endpoints"][0]["model_name"], SHOWN);
    // The request that told the test of the start may still be leaving.
    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await);
    let info = admin(&gateway, "/info").await.json();
    assert_eq!((&info["name"], &info["pid"]), (&json!("nanogate"), &json!(gateway.id())));
    assert_eq!(
        (&info["config"]["deployments"], &info["draining"], &info["in_flight"]),
        (&json!(1), &json!(false), &json!(0))
    );
    assert!(!info.to_string().contains(UPSTREAM_KEY) && !info.to_string().contains(MASTER_KEY));
    assert_eq!(admin(&gateway, CHAT).await.status, 404);
    assert_eq!(Client::connect(gateway.admin()).await.ask(request("POST", "/metrics", &[], b"")).await.status, 405);
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_can_be_switched_off() {
    let upstream = standin(Script::auto()).await;
    let by_file = Gateway::builder(file(&upstream, "", "gateway_settings: { admin_port: 0 }\n"));
    let by_variable = Gateway::builder(file(&upstream, "", "")).env("NANOGATE_ADMIN_PORT", "0");
    for builder in [by_file, by_variable] {
        let gateway = builder.without_admin_flag().start().await;
        assert!(gateway.log().contains("no health service"), "{}", gateway.log());
        assert!(Client::try_connect(gateway.admin()).await.is_err());
        assert_eq!(get(gateway.address(), "/metrics").await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_of_metrics_is_right_after_known_traffic() {
    let usage = json!({"usage": {"prompt_tokens": 3, "completion_tokens": 5}, "x_nanogpt_pricing": {"costUsd": 0.25}});
    let stream = Step::sse([delta("a"), with(finish(), usage)]);
    let upstream =
        standin(vec![Step::json(200, completion("a")), stream, Step::json(404, json!({"error": "no"}))]).await;
    let sections = "litellm_settings: { num_retries: 0, drop_params: true }\n";
    let gateway = gateway(&upstream, "additional_drop_params: [user]", sections).await;
    let plain = with(chat(), json!({"user": "u"}));
    for body in [&plain, &chat_stream(), &chat()] {
        post(&gateway, CHAT, body).await;
    }
    Client::connect(gateway.address()).await.ask(keyless("POST", CHAT, &[], b"{}")).await;
    post(&gateway, CHAT, &json!({"model": "unknown", "messages": []})).await;
    assert!(
        metric_becomes(&gateway, "nanogate_requests_total{endpoint=\"chat\",group=\"\",status=\"400\"}", 1.0).await
    );
    let sent: usize = [&plain, &chat_stream(), &chat()].map(|body| body.to_string().len()).iter().sum();
    let unknown = json!({"model": "unknown", "messages": []}).to_string().len();
    for (name, value) in [
        ("requests_total{endpoint=\"chat\",group=\"glm\",status=\"200\"}", 2.0),
        ("requests_total{endpoint=\"chat\",group=\"glm\",status=\"404\"}", 1.0),
        ("requests_total{endpoint=\"chat\",group=\"\",status=\"401\"}", 1.0),
        ("requests_in_flight", 0.0),
        ("head_seconds_count{endpoint=\"chat\",group=\"glm\"}", 3.0),
        ("first_byte_seconds_count{endpoint=\"chat\",group=\"glm\"}", 3.0),
        ("request_seconds_count{endpoint=\"chat\",group=\"glm\"}", 3.0),
        ("upstream_attempts_total", 3.0),
        ("upstream_connections_total", 3.0),
        ("upstream_connections_total{cause=\"new\"}", upstream.connections() as f64),
        ("stream_frames_total", 3.0),
        ("stream_odd_frames_total", 0.0),
        ("streams_truncated_total", 0.0),
        ("requests_cancelled_total", 0.0),
        ("params_dropped_total{group=\"glm\"}", 1.0),
        ("body_total{direction=\"in\"}", (sent + unknown) as f64),
        ("tokens_total{group=\"glm\",kind=\"prompt\"}", 6.0),
        ("tokens_total{group=\"glm\",kind=\"completion\"}", 10.0),
        ("cost_usd_total{group=\"glm\"}", 0.25),
        ("requests_denied_total{cause=\"missing\"}", 1.0),
        ("panics_total", 0.0),
        ("buffered_bytes", 0.0),
        ("build_info", 1.0),
    ] {
        let right = metric_becomes(&gateway, &format!("nanogate_{name}"), value).await;
        assert!(right, "{name} is not {value}\n{}", metrics(&gateway).await);
    }
    assert!(metric(&gateway, "nanogate_body_total{direction=\"out\"}").await > 500.0);
    let page = admin(&gateway, "/metrics").await;
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(page.text().ends_with("# EOF\n") && !page.text().contains("unknown"), "labels come from the file only");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_as_new_or_reused() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    for _ in 0..10 {
        assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    }
    let new = metric(&gateway, "nanogate_upstream_connections_total{cause=\"new\"}").await;
    let reused = metric(&gateway, "nanogate_upstream_connections_total{cause=\"reused\"}").await;
    // A request may come before the connection of the last one is back in the pool.
    assert!(new == upstream.connections() as f64 && new + reused == 10.0 && reused >= 5.0, "{new} {reused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_leaves_one_line_without_secrets_as_text() {
    let upstream = standin(Script::auto()).await;
    let gateway = Gateway::builder(file(&upstream, "", "")).debug().start().await;
    let path = format!("{CHAT}?api_key=query-secret");
    let body = with(chat(), json!({"messages": [{"role": "user", "content": "prompt-secret"}]}));
    assert_eq!(post(&gateway, &path, &body).await.status, 200);
    assert!(gateway.wait_log("POST /v1/chat/completions 200 ").await);
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("POST /v1/chat")).unwrap();
    for part in [
        "end=done",
        " id=",
        "client=127.0.0.1:",
        "caller=master",
        "model=glm",
        "upstream_model=zai-org/glm-4.7",
        "deployment=",
        "head_ms=",
        "bytes_in=",
        "prompt_tokens=",
        "attempts=",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(log.matches("POST /v1/chat/completions").count(), 1, "{log}");
    for secret in ["query-secret", "prompt-secret", MASTER_KEY, UPSTREAM_KEY] {
        assert!(!log.contains(secret), "{secret} in the log:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_leaves_one_line_as_json() {
    let upstream = standin(vec![Step::json(500, json!({})).header("retry-after-ms", "1"), Step::auto()]).await;
    let gateway = gateway(&upstream, "", "gateway_settings: { access_log: json }\n").await;
    post(&gateway, CHAT, &chat()).await;
    let wrong = Client::connect(gateway.address())
        .await
        .ask(keyless("POST", CHAT, &[("Authorization", "Bearer sk-secret")], b"{}"))
        .await;
    assert_eq!(wrong.status, 401);
    let first = access_line(&gateway, 1).await;
    for (key, value) in [
        ("method", json!("POST")),
        ("path", json!(CHAT)),
        ("status", json!(200)),
        ("end", json!("done")),
        ("caller", json!("master")),
        ("model", json!(SHOWN)),
        ("upstream_model", json!(SENT)),
    ] {
        assert_eq!(first[key], value, "{key}: {first}");
    }
    let attempts = first["attempts"].as_str().unwrap();
    assert!(attempts.contains(":status_500:") && attempts.contains(",") && attempts.contains(":ok:"), "{attempts}");
    assert!(first["ms"].is_number() && first["head_ms"].is_number() && first["first_byte_ms"].is_number());
    let second = access_line(&gateway, 2).await;
    assert_eq!((&second["status"], &second["end"], second.get("caller")), (&json!(401), &json!("auth_error"), None));
    assert_eq!(lines(&gateway).len(), 2);
    assert!(!gateway.log().contains("sk-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_can_be_off_and_the_level_is_the_operators() {
    let upstream = standin(Script::auto()).await;
    let off =
        Gateway::builder(file(&upstream, "", "gateway_settings: { access_log: \"off\" }\n")).debug().start().await;
    post(&off, CHAT, &chat()).await;
    assert!(metric_becomes(&off, "nanogate_upstream_attempts_total", 1.0).await);
    assert!(!off.log().contains("nanogate::access"), "{}", off.log());
    let file = || file(&upstream, "", "");
    let debug = Gateway::builder(file()).env("LITELLM_LOG", "DEBUG").start().await;
    let info = Gateway::builder(file()).env("LITELLM_LOG", "INFO").start().await;
    for gateway in [&debug, &info] {
        post(gateway, "/nowhere", &Value::Null).await;
        assert!(gateway.wait_log("POST /nowhere 404").await);
    }
    assert!(debug.log().contains("DEBUG") && !info.log().contains("DEBUG"));
}
