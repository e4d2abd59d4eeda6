//! Over TLS: HTTP/2 when it is offered and chosen, HTTP/1.1 otherwise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::peer::DEADLINE;
use crate::standin::{End, Options, Outcome, Script, Standin, Step};

struct Site {
    standin: Standin,
    roots: RootCertStore,
}

impl Site {
    async fn start(h2: bool, script: impl Into<Script>) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["standin.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let tls = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let standin = Standin::start(Options { tls: Some(Arc::new(tls)), h2, ..Options::default() }).await.unwrap();
        standin.script(script);
        Self { standin, roots }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(self.standin.address()).await.unwrap();
        let name = ServerName::try_from("standin.test").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    async fn h2(&self) -> SendRequest<Bytes> {
        let (client, connection) = h2::client::handshake(self.connect().await).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

fn post(client: &mut SendRequest<Bytes>, stream: bool) -> ResponseFuture {
    let body = json!({"model": "up/a", "stream": stream, "messages": [{"role": "user", "content": "ping"}]});
    let request = Request::post("https://standin.test/api/v1/chat/completions").header("authorization", "Bearer k");
    let (response, mut sender) = client.send_request(request.body(()).unwrap(), false).unwrap();
    sender.send_data(Bytes::from(body.to_string()), true).unwrap();
    response
}

async fn received(response: Response<RecvStream>) -> Result<Vec<u8>, h2::Error> {
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(piece) = tokio::time::timeout(DEADLINE, incoming.data()).await.expect("data in time") {
        let piece = piece?;
        incoming.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[tokio::test]
async fn h2_answers_plain_and_streamed() {
    let site = Site::start(true, Script::auto()).await;
    let mut client = site.h2().await;
    let plain = post(&mut client, false).await.unwrap();
    assert!(plain.status() == 200 && plain.headers().contains_key("x-request-id"));
    let document: Value = serde_json::from_slice(&received(plain).await.unwrap()).unwrap();
    assert_eq!(document["model"], "up/a");
    let text = String::from_utf8(received(post(&mut client, true).await.unwrap()).await.unwrap()).unwrap();
    assert!(text.starts_with("data: {") && text.ends_with("data: [DONE]\n\n"));
    let requests = site.standin.requests();
    assert!(requests.iter().all(|request| request.http2 && request.tls && request.outcome == Outcome::Answered));
    assert_eq!((requests.len(), site.standin.connections()), (2, 1));
    assert_eq!(requests[0].header(":authority"), Some("standin.test"));
}

#[tokio::test]
async fn a_stream_reset_by_the_peer_is_noticed() {
    let site = Site::start(true, Step::sse(["data: one\n\n"]).end(End::Stall)).await;
    let mut client = site.h2().await;
    let mut incoming = post(&mut client, true).await.unwrap().into_body();
    assert_eq!(incoming.data().await.unwrap().unwrap(), "data: one\n\n");
    let left_at = Instant::now();
    drop(incoming);
    assert!(site.standin.wait_for(DEADLINE, |_| site.standin.active() == 0).await);
    assert!(left_at.elapsed() < Duration::from_millis(100), "{:?}", left_at.elapsed());
    assert!(matches!(site.standin.requests()[0].outcome, Outcome::PeerGone { frames_sent: 1, .. }));
    assert_eq!(site.standin.open_connections(), 1);
}

#[tokio::test]
async fn resets_of_a_stream_spare_the_connection_and_others_do_not() {
    let site = Site::start(true, Step::sse(["data: one\n\n"]).h2_rst()).await;
    let mut client = site.h2().await;
    let fault = received(post(&mut client, true).await.unwrap()).await.unwrap_err();
    assert_eq!(fault.reason(), Some(Reason::INTERNAL_ERROR));
    for end in [End::Cut, End::Reset] {
        site.standin.script(Step::sse(["data: one\n\n"]).end(end));
        let mut client = site.h2().await;
        let fault = received(post(&mut client, true).await.unwrap()).await.unwrap_err();
        assert!(fault.is_io(), "{end:?}: {fault}");
    }
}

#[tokio::test]
async fn goaway_lets_the_answer_finish() {
    let site = Site::start(true, Step::auto().goaway()).await;
    let mut client = site.h2().await;
    assert!(received(post(&mut client, true).await.unwrap()).await.is_ok());
    assert!(site.standin.wait_for(DEADLINE, |_| site.standin.open_connections() == 0).await);
}

#[tokio::test]
async fn without_h2_the_same_peer_speaks_http_1() {
    let site = Site::start(false, Step::json(200, json!({})).close()).await;
    let mut stream = site.connect().await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("{}"));
    assert!(site.standin.requests()[0].tls && !site.standin.requests()[0].http2);
}
