//! Lent connections over real sockets.

use super::*;
use std::io::{Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";
const PEER: u64 = 7;

fn pool() -> Arc<Pool> {
    Arc::new(Pool::new(8))
}

fn lend(stream: Stream, is_pooled: bool, pool: &Arc<Pool>) -> Lent {
    let home = Home { pool: Arc::clone(pool), peer: PEER, idle_timeout: Duration::from_secs(60) };
    Lent { stream: Some(stream), is_pooled, home: Some(home), turn: Turn::Head, held: Vec::new() }
}

fn pair() -> (Lent, std::os::unix::net::UnixStream) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (lend(Box::new(UnixStream::from_std(ours).unwrap()), false, &pool()), theirs)
}

/// What lies there to be read, without any wait.
fn arrived(mut theirs: &std::os::unix::net::UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let count = theirs.read(&mut bytes).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

#[tokio::test]
async fn a_head_waits_for_its_body_and_the_connection_goes_home_after_the_answer() {
    let (mut lent, mut theirs) = pair();
    for _ in 0..2 {
        lent.write_all(HEAD).await.unwrap();
        lent.flush().await.unwrap();
        assert_eq!(arrived(&theirs), b"", "the head came alone");
        lent.write_all(b"body").await.unwrap();
        lent.flush().await.unwrap();
        assert_eq!(arrived(&theirs), [HEAD, b"body"].concat());
        theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut answer = [0; 64];
        assert!(lent.read(&mut answer).await.unwrap() > 0);
        let pool = Arc::clone(&lent.home.as_ref().unwrap().pool);
        assert!(pool.take(PEER).is_none());
        assert_eq!(lent.read(&mut [0; 1]).await.unwrap(), 0, "the proxy would keep it too");
        assert!(lent.write_all(b"late").await.is_err() && lent.id() == -1);
        lent = lend(pool.take(PEER).expect("the connection went home"), true, &pool);
    }
}

#[tokio::test]
async fn a_connection_on_which_something_may_still_come_does_not_go_home() {
    let mut read = [0; 64];
    let (mut unasked, _theirs) = pair();
    let pool = Arc::clone(&unasked.home.as_ref().unwrap().pool);
    let wait = Duration::from_millis(20);
    assert!(tokio::time::timeout(wait, unasked.read(&mut read[..1])).await.is_err(), "nothing was asked on it yet");
    let (mut waiting, _theirs) = pair();
    waiting.write_all(HEAD).await.unwrap();
    waiting.write_all(b"body").await.unwrap();
    waiting.flush().await.unwrap();
    assert!(tokio::time::timeout(wait, waiting.read(&mut read)).await.is_err(), "an answer is awaited");
    let (mut closed, theirs) = pair();
    closed.write_all(HEAD).await.unwrap();
    closed.write_all(b"body").await.unwrap();
    drop(theirs);
    assert!(matches!(closed.read(&mut read[..1]).await, Ok(0) | Err(_)));
    for lent in [unasked, waiting, closed] {
        assert!(lent.home.unwrap().pool.take(PEER).is_none() && lent.stream.is_some());
    }
    assert!(pool.take(PEER).is_none());
}

#[tokio::test]
async fn pingora_asks_whether_a_connection_is_quiet_before_it_would_keep_it() {
    use pingora_core::connectors::http::Connector;
    use pingora_core::protocols::http::client::HttpSession;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let upstream = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        connection
    });
    #[expect(clippy::disallowed_methods, reason = "an address needs no resolver")]
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.options.alpn = protocol();
    peer.options.idle_timeout = Some(Duration::from_secs(60));
    let pool = pool();
    let connector = Connector::new_custom(None, PoolingConnector::new(Arc::default(), Arc::clone(&pool)));
    let (mut session, _) = connector.get_http_session(&peer).await.unwrap();
    let HttpSession::H1(http) = &mut session else { panic!("no HTTP/1.1") };
    assert!(!is_pooled(Some(http.digest())));
    let head = pingora_http::RequestHeader::build("GET", b"/", None).unwrap();
    http.write_request_header(Box::new(head)).await.unwrap();
    http.finish_body().await.unwrap();
    http.read_response().await.unwrap();
    while http.read_body_bytes().await.unwrap().is_some() {}
    connector.release_http_session(session, &peer, None).await;
    let _open = upstream.join().unwrap();
    let stream = pool.take(peer.reuse_hash()).expect("the connection came home");
    pool.put(peer.reuse_hash(), stream, Duration::from_secs(60));
    let (session, _) = connector.get_http_session(&peer).await.unwrap();
    assert!(is_pooled(session.digest()));
}

#[tokio::test]
async fn a_head_without_a_body_leaves_at_the_end_of_its_request() {
    let (mut lent, theirs) = pair();
    lent.write_all(HEAD).await.unwrap();
    lent.flush().await.unwrap();
    lent.flush().await.unwrap();
    assert_eq!(arrived(&theirs), HEAD);
}

#[tokio::test]
async fn a_large_body_loses_nothing_where_the_connection_is_slow() {
    let (mut lent, theirs) = pair();
    let mut theirs = UnixStream::from_std(theirs).unwrap();
    let body: Vec<u8> = (0..4_000_000u32).map(|place| (place % 251) as u8).collect();
    let expected = [HEAD, &body].concat();
    let writing = tokio::spawn(async move {
        lent.write_all(HEAD).await.unwrap();
        lent.flush().await.unwrap();
        lent.write_all(&body).await.unwrap();
        lent.flush().await.unwrap();
    });
    let mut read = Vec::new();
    AsyncReadExt::read_to_end(&mut theirs, &mut read).await.unwrap();
    writing.await.unwrap();
    assert!(read == expected);
}

#[tokio::test]
async fn a_body_beyond_the_room_behind_its_head_goes_at_once() {
    let (mut lent, theirs) = pair();
    lent.write_all(HEAD).await.unwrap();
    lent.write_all(b"body").await.unwrap();
    assert_eq!(arrived(&theirs), b"", "nobody has asked for it to leave");
    let rest = vec![b'x'; HELD_BYTES_MAX];
    lent.write_all(&rest).await.unwrap();
    assert_eq!(arrived(&theirs), [HEAD, b"body", &rest].concat());
    lent.write_all(b"more").await.unwrap();
    lent.flush().await.unwrap();
    assert_eq!(arrived(&theirs), b"more");
}

#[tokio::test]
async fn what_is_no_head_or_too_long_a_one_is_not_held() {
    let (mut lent, theirs) = pair();
    lent.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(arrived(&theirs), b"POST / HTTP/1.1\r\n");
    let (mut lent, theirs) = pair();
    let long = [&vec![b'x'; HELD_BYTES_MAX][..], b"\r\n\r\n"].concat();
    lent.write_all(&long).await.unwrap();
    assert_eq!(arrived(&theirs), long);
}

#[tokio::test]
async fn a_connection_that_closes_under_a_held_head_is_told() {
    let (mut lent, theirs) = pair();
    lent.write_all(HEAD).await.unwrap();
    drop(theirs);
    let mut answer = [0; 64];
    assert_eq!(lent.read(&mut answer).await.unwrap(), 0);
    assert!(lent.write_all(b"body").await.is_err() || lent.flush().await.is_err());
}
