//! The ground itself holds: a gateway in front of a plain and of a TLS stand-in.

use nanogate::standin::{Options, Script, Standin};
use serde_json::json;

use super::gateway::{Gateway, config, config_for};
use super::{raw, standin, tls};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_answers_for_a_plain_standin() {
    let upstream = standin(Script::auto()).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    let ask = json!({"model": "glm", "messages": [{"role": "user", "content": "ping"}]});
    let answer = raw::post_json(gateway.address(), "/v1/chat/completions", &ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.requests()[0].json()["model"], "zai-org/glm-4.7");
    assert!(gateway.wait_log("/v1/chat/completions 200").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_answers_for_a_tls_standin() {
    let authority = tls::Authority::new();
    let options = Options { tls: Some(authority.server(&["localhost"])), ..Options::default() };
    let upstream = Standin::start(options).await.unwrap();
    let base = format!("https://localhost:{}/api/v1", upstream.address().port());
    let text = config(&base, &[("glm", "openai/zai-org/glm-4.7")]) + "gateway_settings:\n" + &authority.setting();
    let gateway = Gateway::start(text).await;
    let ask = json!({"model": "glm", "messages": [{"role": "user", "content": "ping"}]});
    let answer = raw::post_json(gateway.address(), "/v1/chat/completions", &ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(upstream.requests()[0].tls);
}
