//! Towards providers: whom to trust, which connection to use, where a name leads, and what is said when nobody is there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nanogate::standin::{Options, Script, Standin, Step};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;

use crate::body::{CHAT, body_of};
use crate::support::gateway::{Gateway, base, config, config_for, entry};
use crate::support::raw::{Answer, Client, post, post_json};
use crate::support::{DEADLINE, chat, completion, eventually, standin, tls};

const GLM: &[(&str, &str)] = &[("glm", "openai/zai-org/glm-4.7")];
const ONE_TRY: &str = "litellm_settings:\n  num_retries: 0\n";

async fn tls_standin(server: Arc<ServerConfig>, h2: bool) -> Standin {
    let standin = Standin::start(Options { tls: Some(server), h2, ..Options::default() }).await.unwrap();
    standin.script(completion());
    standin
}

fn tls_base(standin: &Standin) -> String {
    format!("https://localhost:{}/api/v1", standin.address().port())
}

async fn ask(gateway: &Gateway, model: &str) -> Answer {
    post_json(gateway.address(), CHAT, &chat(model)).await
}

fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified_and_the_log_says_what_was_wrong() {
    let (ours, theirs) = (tls::Authority::new(), tls::Authority::new());
    for (server, reason) in [
        (theirs.server(&["localhost"]), "UnknownIssuer"),
        (ours.expired_server(&["localhost"]), "expired"),
        (ours.server(&["elsewhere.test"]), "not valid for name"),
    ] {
        let upstream = tls_standin(server, false).await;
        let settings = format!("{ONE_TRY}gateway_settings:\n{}", ours.setting());
        let gateway = Gateway::start(config(&tls_base(&upstream), GLM) + &settings).await;
        let answer = ask(&gateway, "glm").await;
        assert_error(&answer, 502, "upstream_unreachable");
        assert!(!answer.text().contains("localhost"), "{}", answer.text());
        assert!(gateway.wait_log(reason).await, "the log says {reason}");
        assert!(upstream.requests().is_empty(), "nothing was sent to who is not trusted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_file_of_the_environment_is_trusted() {
    let authority = tls::Authority::new();
    let upstream = tls_standin(authority.server(&["localhost"]), false).await;
    let file = authority.file().display().to_string();
    let gateway = Gateway::builder(config(&tls_base(&upstream), GLM)).env("SSL_CERT_FILE", &file).start().await;
    assert_eq!(ask(&gateway, "glm").await.status, 200);
    assert!(!gateway.log().contains("SSL_CERT_FILE"), "no warning that it has no effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_does_not_replace_the_usual_ones() {
    let (usual, private) = (tls::Authority::new(), tls::Authority::new());
    let public = tls_standin(usual.server(&["localhost"]), false).await;
    let local = tls_standin(private.server(&["localhost"]), false).await;
    let entries =
        entry("public", "openai/a", &tls_base(&public), "") + &entry("local", "openai/b", &tls_base(&local), "");
    let text = format!("model_list:\n{entries}gateway_settings:\n{}", private.setting());
    let file = usual.file().display().to_string();
    let gateway = Gateway::builder(text).env("SSL_CERT_FILE", &file).start().await;
    assert_eq!(ask(&gateway, "local").await.status, 200);
    assert_eq!(ask(&gateway, "public").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_can_be_in_a_certificate() {
    let authority = tls::Authority::new();
    let upstream = tls_standin(authority.server(&["127.0.0.1"]), false).await;
    let settings = format!("gateway_settings:\n{}", authority.setting());
    let base = format!("https://{}/api/v1", upstream.address());
    let gateway = Gateway::start(config(&base, GLM) + &settings).await;
    let answer = ask(&gateway, "glm").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_one_after_the_other_use_one_connection() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    for _ in 0..20 {
        assert_eq!(ask(&gateway, "glm").await.status, 200);
    }
    assert_eq!(upstream.requests().len(), 20);
    // A request can come before the connection of the last one is back in the pool.
    assert!(upstream.connections() <= 3, "{} connections", upstream.connections());
}

/// So many chats at once, each on a connection of its own; all must be served.
async fn burst(gateway: &Gateway, count: usize, stream: bool) {
    let address = gateway.address();
    let asks = (0..count).map(|_| {
        tokio::spawn(async move {
            let ask = json!({"model": "glm", "stream": stream, "messages": [{"role": "user", "content": "ping"}]});
            post_json(address, CHAT, &ask).await
        })
    });
    for ask in asks.collect::<Vec<_>>() {
        let answer = ask.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.text().ends_with("data: [DONE]\n\n"), stream, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_burst_serve_the_next() {
    let upstream = standin(completion().delay_ms(200)).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    burst(&gateway, 12, false).await;
    let opened = upstream.connections();
    assert!((2..=12).contains(&opened), "{opened} connections for twelve requests at once");
    upstream.script(completion());
    for _ in 0..12 {
        assert_eq!(ask(&gateway, "glm").await.status, 200);
    }
    assert_eq!(upstream.connections(), opened, "no new connection was needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_closes_after_each_answer_is_no_failure() {
    for polite in [true, false] {
        let upstream = standin(completion()).await;
        // With `Connection: close`, or a FIN out of the blue right behind a complete answer.
        upstream.script(if polite {
            completion().close()
        } else {
            completion().header("connection", "keep-alive").close()
        });
        let gateway = Gateway::start(config_for(&upstream)).await;
        for at in 0..50 {
            let answer = Client::connect(gateway.address()).await.ask(post(CHAT, &body_of(2_000))).await;
            assert_eq!(answer.status, 200, "request {at}: {}", answer.text());
            assert_eq!(answer.header("x-litellm-attempted-retries"), Some("0"));
        }
        assert_eq!((upstream.requests().len(), upstream.connections()), (50, 50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_that_dies_under_a_request_is_nobodys_failure() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream) + ONE_TRY).await;
    for death in [Step::close_before_answer(), Step::reset_before_answer()] {
        upstream.script(completion());
        assert_eq!(ask(&gateway, "glm").await.status, 200);
        upstream.clear();
        upstream.script(Script::from(death).then(completion()));
        let answer = Client::connect(gateway.address()).await.ask(post(CHAT, &body_of(100_000))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-litellm-attempted-retries"), Some("0"));
        assert_eq!(upstream.requests().len(), 2);
    }
    upstream.script(Step::close_before_answer());
    let answer = ask(&gateway, "glm").await;
    assert_error(&answer, 502, "upstream_unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_that_the_upstream_closed_are_not_used() {
    let upstream = standin(completion().delay_ms(100)).await;
    let gateway = Gateway::start(config_for(&upstream)).await;
    burst(&gateway, 6, false).await;
    let address = upstream.address();
    drop(upstream);
    let again = restarted(address).await;
    for _ in 0..10 {
        let answer = ask(&gateway, "glm").await;
        assert_eq!((answer.status, answer.header("x-litellm-attempted-retries")), (200, Some("0")));
    }
    assert_eq!(again.requests().len(), 10);
}

/// A stand-in where another has just been.
async fn restarted(listen: SocketAddr) -> Standin {
    let begun = Instant::now();
    loop {
        match Standin::start(Options { listen, ..Options::default() }).await {
            Ok(standin) => {
                standin.script(completion());
                return standin;
            }
            Err(cause) => assert!(begun.elapsed() < DEADLINE, "the port is not given back: {cause}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_carries_many_requests_on_few_connections() {
    let authority = tls::Authority::new();
    let upstream = tls_standin(authority.server(&["localhost"]), true).await;
    let settings = format!("gateway_settings:\n  upstream_http2: true\n{}", authority.setting());
    let gateway = Gateway::start(config(&tls_base(&upstream), GLM) + &settings).await;
    upstream.script(Script::auto());
    burst(&gateway, 1, false).await;
    burst(&gateway, 1, true).await;
    // One after the other, each while all before it run: a connection that another thread is just taking a stream from is
    // not seen, and requests of the same instant would each open their own.
    upstream.script(Step::hang());
    let mut running = Vec::new();
    for count in 3..=22 {
        let body = chat("glm").to_string();
        let mut client = Client::connect(gateway.address()).await;
        client.send(post(CHAT, body.as_bytes())).await;
        assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == count).await);
        running.push(client);
    }
    assert_eq!(upstream.active(), 20);
    assert!(upstream.connections() <= 3, "{} connections", upstream.connections());
    drop(running);
    assert!(eventually(DEADLINE, || upstream.active() == 0).await);
    upstream.script(Script::auto());
    burst(&gateway, 20, true).await;
    assert!(upstream.requests().iter().all(|seen| seen.http2));
    assert_eq!(upstream.requests().len(), 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_an_offer_and_no_demand() {
    let authority = tls::Authority::new();
    let upstream = tls_standin(authority.server(&["localhost"]), false).await;
    let settings = format!("gateway_settings:\n  upstream_http2: true\n{}", authority.setting());
    let gateway = Gateway::start(config(&tls_base(&upstream), GLM) + &settings).await;
    assert_eq!(ask(&gateway, "glm").await.status, 200);
    assert!(!upstream.requests()[0].http2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_nowhere_harms_nobody_else() {
    let upstream = standin(completion()).await;
    let lost = entry("lost", "openai/up/lost", "http://no-such-host.invalid/v1", "");
    let text = format!("{}{lost}{ONE_TRY}gateway_settings:\n  connect_timeout: 1\n", config_for(&upstream));
    let gateway = Gateway::start(text).await;
    assert_eq!(ask(&gateway, "glm").await.status, 200);
    let begun = Instant::now();
    let answer = ask(&gateway, "lost").await;
    assert_error(&answer, 502, "upstream_unreachable");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!answer.text().contains("no-such-host"), "{}", answer.text());
    assert!(gateway.wait_log("cannot resolve upstream no-such-host.invalid").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_ipv6_addresses_are_understood() {
    let upstream = standin(completion()).await;
    let by_name = format!("http://localhost:{}/api/v1", upstream.address().port());
    assert_eq!(ask(&Gateway::start(config(&by_name, GLM)).await, "glm").await.status, 200);
    let listen = "[::1]:0".parse().unwrap();
    // A machine without IPv6 has nothing to show here.
    let Ok(upstream) = Standin::start(Options { listen, ..Options::default() }).await else { return };
    upstream.script(completion());
    let gateway = Gateway::start(config(&base(&upstream), GLM)).await;
    assert_eq!(ask(&gateway, "glm").await.status, 200);
    let host = format!("[::1]:{}", upstream.address().port());
    assert_eq!(upstream.requests()[0].header("host"), Some(host.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_told_without_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gateway = Gateway::start(config(&format!("http://{address}/v1"), GLM) + ONE_TRY).await;
    let answer = ask(&gateway, "glm").await;
    assert_error(&answer, 502, "upstream_unreachable");
    let told = answer.text() + &String::from_utf8_lossy(&answer.head.raw);
    assert!(!told.contains("127.0.0.1") && !told.contains(&address.port().to_string()), "{told}");
    assert!(gateway.wait_log("no connection to glm").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_accepts_and_stays_silent_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", silent.local_addr().unwrap());
    let entries = entry("glm", "openai/zai-org/glm-4.7", &base, "timeout: 1");
    let gateway = Gateway::start(format!("model_list:\n{entries}{ONE_TRY}")).await;
    let begun = Instant::now();
    let answer = ask(&gateway, "glm").await;
    assert_error(&answer, 504, "upstream_timeout");
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(900) && waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_takes_times_out() {
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    // A queue of length 0 takes one connection; the kernel ignores those after it.
    let _first = tokio::net::TcpStream::connect(address).await.unwrap();
    let settings = "gateway_settings:\n  connect_timeout: 0.5\n";
    let gateway = Gateway::start(config(&format!("http://{address}/v1"), GLM) + ONE_TRY + settings).await;
    let begun = Instant::now();
    let answer = ask(&gateway, "glm").await;
    assert_error(&answer, 504, "upstream_timeout");
    assert!(answer.text().contains("did not accept a connection in time"), "{}", answer.text());
    assert!(begun.elapsed() >= Duration::from_millis(450) && begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_ends_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}/v1", silent.local_addr().unwrap().port());
    let gateway = Gateway::start(config(&base, GLM) + ONE_TRY + "gateway_settings:\n  connect_timeout: 1\n").await;
    let begun = Instant::now();
    let answer = ask(&gateway, "glm").await;
    assert_error(&answer, 504, "upstream_timeout");
    assert!(answer.text().contains("TLS handshake"), "{}", answer.text());
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_given_back_in_time() {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream) + "gateway_settings:\n  upstream_idle_timeout: 1\n").await;
    assert_eq!(ask(&gateway, "glm").await.status, 200);
    assert_eq!(upstream.open_connections(), 1);
    assert!(eventually(DEADLINE, || upstream.open_connections() == 0).await, "an idle connection is closed");
    assert_eq!(ask(&gateway, "glm").await.status, 200);
    assert_eq!(upstream.connections(), 2);
}
