//! Plain answers pass byte for byte but for the model's name, whatever they hold and however large they are.

use nanogate::standin::{Script, Step};
use serde_json::json;

use crate::support::gateway::{Gateway, base, entry};
use crate::support::raw::{Client, Ending, get, request};
use crate::support::standin;
use crate::traffic::{CHAT, COMPLETIONS, MESSAGES, RESPONSES, SENT, SHOWN, ask, chat, gateway, post, renamed, with};

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_but_the_name_is_the_upstreams() {
    let odd = |members: &str| {
        format!("{{ \"id\":\"x\",\r\n\t\"n\" : 1.0e5, \"model\" : \"{SENT}\",\"a\":\"\\u00e9\",\"a\":2, {members} }}\n")
    };
    for (path, members) in [
        (CHAT, "\"choices\":[{\"message\":{\"content\":\"\\u0000\"}}],\"usage\":{\"total_tokens\":1}"),
        (COMPLETIONS, "\"choices\":[{\"text\":\"a\"}]"),
        (RESPONSES, "\"output\":[],\"error\":null,\"status\":\"completed\""),
        (MESSAGES, "\"type\":\"message\",\"content\":[],\"usage\":{\"input_tokens\":1}"),
        ("/v1/moderations", "\"results\":[]"),
        ("/v1/rerank", "\"results\":[]"),
        ("/v1/messages/count_tokens", "\"input_tokens\":3"),
    ] {
        let document = odd(members);
        let upstream = standin(Step::raw(200, "application/json; charset=utf-8", document.clone())).await;
        let gateway = gateway(&upstream, "", "").await;
        let answer = post(&gateway, path, &ask(path, false)).await;
        let expected = document.replace(&format!("\"model\" : \"{SENT}\""), &format!("\"model\" : \"{SHOWN}\""));
        assert_eq!((answer.status, answer.text()), (200, expected), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_surrogate_pair_is_no_reason_to_lose_an_answer() {
    let document = format!("{{\"model\":\"{SENT}\",\"choices\":[{{\"message\":{{\"content\":\"\\ud83d\"}}}}]}}");
    let upstream = standin(Step::raw(200, "application/json", document.clone())).await;
    let gateway = gateway(&upstream, "", "").await;
    let answer = post(&gateway, CHAT, &with(chat(), json!({"num_retries": 0}))).await;
    assert_eq!((answer.status, answer.text()), (200, renamed(&document)));
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_is_named_as_in_streams() {
    let message = |name: &str| json!({"model": SHOWN, "choices": [{"message": {name: "r", "content": "c"}}]});
    let upstream = standin(Step::json(200, message("reasoning"))).await;
    let default = gateway(&upstream, "", "").await;
    let untouched = gateway(&upstream, "", "gateway_settings: { reasoning_field: upstream }\n").await;
    assert_eq!(post(&default, CHAT, &chat()).await.json(), message("reasoning_content"));
    assert_eq!(post(&untouched, CHAT, &chat()).await.json(), message("reasoning"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_name_stays_when_the_setting_says_so() {
    let document = crate::traffic::completion("a");
    let upstream = standin(Step::json(200, document.clone())).await;
    let gateway = gateway(&upstream, "", "gateway_settings: { response_model: upstream }\n").await;
    assert_eq!(post(&gateway, CHAT, &chat()).await.text(), document.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_pass_whole() {
    for megabytes in [8, 70] {
        let document = crate::traffic::completion(&"x".repeat(megabytes << 20)).to_string();
        let upstream = standin(Step::raw(200, "application/json", document.clone())).await;
        let gateway = gateway(&upstream, "", "").await;
        let answer = post(&gateway, CHAT, &chat()).await;
        assert_eq!((answer.status, answer.ending), (200, Ending::Complete));
        // Above 64 MiB an answer is passed on unjudged, under the upstream's name.
        let expected = if megabytes == 8 { renamed(&document) } else { document };
        assert!(answer.text() == expected, "{megabytes} MB became {} bytes", answer.body.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_is_cut_when_the_upstream_is() {
    let document = crate::traffic::completion(&"x".repeat(140 << 20)).to_string();
    let upstream = standin(Step::raw(200, "application/json", document).end(nanogate::standin::End::Cut)).await;
    let gateway = gateway(&upstream, "", "").await;
    let answer = post(&gateway, CHAT, &chat()).await;
    assert_ne!(answer.ending, Ending::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_is_bytes() {
    let audio: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    for step in [Step::raw(200, "audio/mpeg", audio.clone()), Step::raw(200, "audio/mpeg", audio.clone()).gzip()] {
        let upstream = standin(step).await;
        let gateway = gateway(&upstream, "", "").await;
        let answer = post(&gateway, "/v1/audio/speech", &json!({"model": SHOWN, "input": "hi", "voice": "v"})).await;
        assert_eq!((answer.status, answer.ending), (200, Ending::Complete));
        assert_eq!(answer.header("content-type"), Some("audio/mpeg"));
        assert_eq!(answer.header("content-encoding"), None);
        assert!(answer.body == audio, "{} bytes", answer.body.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forms_model_part_is_mapped_and_nothing_else() {
    let upstream = standin(Step::json(200, json!({"text": "hello"}))).await;
    let gateway = gateway(&upstream, "", "").await;
    let part = |model: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\
             \u{1}binary --b not a border \u{2}\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n"
        )
    };
    for path in ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"] {
        upstream.clear();
        let headers = [("Content-Type", "multipart/form-data; boundary=b")];
        let answer =
            Client::connect(gateway.address()).await.ask(request("POST", path, &headers, part(SHOWN).as_bytes())).await;
        assert_eq!((answer.status, answer.text()), (200, "{\"text\":\"hello\"}".to_owned()), "{path}");
        let sent = &upstream.requests()[0];
        assert_eq!(String::from_utf8_lossy(&sent.body), part(SENT), "{path}");
        assert_eq!(sent.header("content-type"), Some("multipart/form-data; boundary=b"));
        assert_eq!(sent.path, path.replace("/v1", "/api/v1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_and_images_pass_as_they_are() {
    for (path, document) in [
        ("/v1/embeddings", "{\"object\":\"list\",\"data\":[{\"embedding\":\"AACAPwAAAEA=\",\"index\":0}]}"),
        ("/v1/images/generations", "{\"created\":1,\"data\":[{\"b64_json\":\"aGk=\"}],\"cost\":0.1}"),
    ] {
        let upstream = standin(Step::raw(200, "application/json", document)).await;
        let gateway = gateway(&upstream, "", "").await;
        let body = json!({"model": SHOWN, "input": "x", "prompt": "x", "encoding_format": "base64"});
        assert_eq!(post(&gateway, path, &body).await.text(), document);
        assert_eq!(upstream.requests()[0].json()["encoding_format"], "base64");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_responses_are_reached_by_their_id_with_the_query() {
    let upstream = standin(Step::json(200, json!({"id": "resp_1", "status": "completed"}))).await;
    let gateway = gateway(&upstream, "", "").await;
    for (method, path) in [
        ("GET", "/v1/responses/resp_1?include[]=x&stream=false"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items?limit=2"),
    ] {
        upstream.clear();
        let answer = Client::connect(gateway.address()).await.ask(request(method, path, &[], b"")).await;
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!("resp_1")), "{method} {path}");
        let sent = &upstream.requests()[0];
        assert_eq!((sent.method.as_str(), sent.path.as_str()), (method, format!("/api{path}").as_str()));
        assert!(sent.body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_content_passes() {
    let upstream = standin(Step::raw(204, "text/plain", "")).await;
    let gateway = gateway(&upstream, "", "").await;
    let delete = request("DELETE", "/v1/responses/resp_1", &[], b"");
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.ask(&delete).await.status, 204);
    assert_eq!(client.ask(&delete).await.status, 204, "the connection lives on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_models_suffix_is_kept_and_shown() {
    let upstream = standin(Script::auto()).await;
    let gateway =
        Gateway::start(format!("model_list:\n{}", entry(SHOWN, "openai/zai-org/glm-4.7", &base(&upstream), ""))).await;
    let answer = post(&gateway, CHAT, &with(chat(), json!({"model": "glm:online"}))).await;
    assert_eq!(answer.json()["model"], "glm:online");
    assert_eq!(upstream.requests()[0].json()["model"], "zai-org/glm-4.7:online");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_options_are_answered_here() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    let mut client = Client::connect(gateway.address()).await;
    for path in ["/", "/api/hello", "/health/liveliness"] {
        client.send(request("HEAD", path, &[], b"")).await;
        assert_eq!(client.head().await.status, 200, "{path}");
        assert!(client.unread().is_empty());
    }
    let models = get(gateway.address(), "/v1/models").await;
    client.send(request("HEAD", "/v1/models", &[], b"")).await;
    assert_eq!(client.head().await.header("content-length"), models.header("content-length"));
    let preflight = [
        ("Origin", "https://a.test"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-a, authorization"),
    ];
    let answer = Client::connect(gateway.address())
        .await
        .ask(crate::support::raw::keyless("OPTIONS", CHAT, &preflight, b""))
        .await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(answer.header("access-control-allow-headers"), Some("x-a, authorization"));
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_of_a_whole_answer_says_what_becomes_of_the_connection() {
    let upstream = standin(Step::json(200, crate::traffic::completion("a"))).await;
    let gateway = gateway(&upstream, "", "").await;
    let body = chat().to_string();
    let mut client = Client::connect(gateway.address()).await;
    for (headers, connection) in [(&[][..], "keep-alive"), (&[("connection", "close")], "close")] {
        let answer = client.ask(request("POST", CHAT, headers, body.as_bytes())).await;
        assert_eq!(
            (answer.status, answer.ending, answer.header("connection")),
            (200, Ending::Complete, Some(connection))
        );
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
        let date = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
        assert!(date.elapsed().unwrap_or_default() < std::time::Duration::from_secs(60));
    }
    assert!(client.try_head().await.unwrap().is_none(), "the connection ends");
}
