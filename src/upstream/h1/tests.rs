//! Exchanges over real sockets.

use super::*;
use crate::upstream::pool::Pool;
use pingora_core::protocols::l4::stream::Stream as Buffered;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream as Peer;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";
const PEER: u64 = 7;
const LONG: Duration = Duration::from_secs(30);

fn pair() -> (UnixStream, Peer) {
    let (ours, theirs) = Peer::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(LONG)).unwrap();
    (UnixStream::from_std(ours).unwrap(), theirs)
}

fn begin(stream: Stream, is_reused: bool, body: Bytes) -> (Exchange, Arc<Pool>) {
    let pool = Arc::new(Pool::new(8));
    let home = Home { pool: Arc::clone(&pool), peer: PEER, idle_timeout: LONG };
    (Exchange::begin(stream, home, is_reused, REQUEST.to_vec(), body), pool)
}

fn exchange(is_reused: bool) -> (Exchange, Peer, Arc<Pool>) {
    let (ours, theirs) = pair();
    let (exchange, pool) = begin(Box::new(ours), is_reused, Bytes::from_static(b"body"));
    (exchange, theirs, pool)
}

fn every(_: &HeaderName) -> bool {
    true
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("nothing has come")
}

/// The head of `answer`, and its body to its end.
async fn read(exchange: &mut Exchange) -> Result<(Head, Vec<u8>)> {
    let head = in_time(exchange.head(every)).await?;
    let mut body = Vec::new();
    if !head.is_all {
        loop {
            let piece = in_time(exchange.piece()).await?;
            body.extend_from_slice(&piece.data);
            if piece.is_last {
                break;
            }
        }
    }
    Ok((head, body))
}

/// What becomes of an answer after which the upstream closes or not: status and body, and whether the connection was
/// kept.
async fn told(answer: &[u8], closes: bool) -> Result<(u16, Vec<u8>, bool)> {
    let (mut exchange, mut theirs, pool) = exchange(false);
    theirs.write_all(answer).unwrap();
    let _open = if closes {
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        None
    } else {
        Some(&theirs)
    };
    let (head, body) = read(&mut exchange).await?;
    exchange.end();
    Ok((head.parts.status.as_u16(), body, pool.take(PEER).is_some()))
}

#[tokio::test]
async fn every_framing_is_read_to_its_end() {
    let ok = |body: &str, is_kept| (200, body.as_bytes().to_vec(), is_kept);
    for (answer, closes, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, ok("hello", true)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, ok("", true)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello", false, ok("hello", true)),
        ("HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 5\r\n\r\nhello", false, ok("hello", false)),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx: y\r\n\r\n",
            false,
            ok("abcde", true),
        ),
        // An encoding overrides a length.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            false,
            ok("abc", true),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the close", true, ok("until the close", false)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: gzip\r\n\r\nabcdef", true, ok("abcdef", false)),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false, ok("ok", false)),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", false, ok("ok", true)),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n", false, (204, Vec::new(), true)),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            false,
            ok("ok", true),
        ),
        // Whoever says more than an answer will say more yet.
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 408 Timeout\r\n", false, ok("ok", false)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore", false, ok("ok", false)),
    ] {
        assert_eq!(told(answer.as_bytes(), closes).await.unwrap(), expected, "{answer}");
    }
}

#[tokio::test]
async fn an_answer_may_be_cut_anywhere() {
    let answer = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1;a\r\n!\r\n0\r\n\r\n";
    for step in [1, 2, 3, 7, 20, 64] {
        let (mut exchange, mut theirs, pool) = exchange(false);
        let writing = tokio::task::spawn_blocking(move || {
            for piece in answer.chunks(step) {
                theirs.write_all(piece).unwrap();
                std::thread::yield_now();
            }
            theirs
        });
        let (head, body) = read(&mut exchange).await.unwrap();
        let _theirs = writing.await.unwrap();
        assert_eq!((&head.parts.headers["x-a"], &body[..]), (&"b".parse::<HeaderValue>().unwrap(), &b"hello!"[..]));
        exchange.end();
        assert!(pool.take(PEER).is_some(), "{step}");
    }
}

#[tokio::test]
async fn the_head_says_what_is_true_of_the_body() {
    for (lines, length, coding) in [
        ("content-length: 4\r\n", Some("4"), None),
        ("content-length: 9\r\ntransfer-encoding: chunked\r\n", None, Some("chunked")),
        ("", None, Some("chunked")),
    ] {
        let (mut exchange, mut theirs, _pool) = exchange(false);
        theirs.write_all(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes()).unwrap();
        let head = in_time(exchange.head(|_| false)).await.unwrap();
        let text = |name| head.parts.headers.get(name).map(|value| value.to_str().unwrap());
        let told = (text("content-length"), text("transfer-encoding"), text("connection"));
        assert_eq!(told, (length, coding, None));
    }
}

#[tokio::test]
async fn only_wanted_headers_are_kept() {
    let (mut exchange, mut theirs, _pool) = exchange(false);
    theirs
        .write_all(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nX-Wanted: 1\r\nx-wanted: 2\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    let head = in_time(exchange.head(|name| name == "x-wanted")).await.unwrap();
    let wanted: Vec<_> = head.parts.headers.get_all("x-wanted").iter().collect();
    assert_eq!(wanted, ["1", "2"]);
    assert!(!head.parts.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn what_is_no_answer_is_refused() {
    let endless = format!("HTTP/1.1 200 OK\r\nx-a: {}", "a".repeat(HEAD_BYTES_MAX));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
    for answer in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nbody!",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        &endless,
        &many,
    ] {
        let cause = told(answer.as_bytes(), false).await.expect_err(&answer[..answer.len().min(80)]);
        assert_eq!(*cause.etype(), ErrorType::InvalidHTTPHeader, "{answer:.80}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ncontent-le",
    ] {
        let cause = told(answer.as_bytes(), true).await.expect_err(answer);
        assert_eq!((cause.etype(), cause.retry()), (&ErrorType::ConnectionClosed, false), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_that_died_while_it_was_idle_may_be_replaced() {
    for (is_reused, expected) in [(true, RetryType::ReusedOnly), (false, RetryType::Decided(false))] {
        let (mut exchange, theirs, pool) = exchange(is_reused);
        drop(theirs);
        let cause = in_time(exchange.head(every)).await.unwrap_err();
        assert_eq!(cause.retry, expected);
        exchange.end();
        assert!(pool.take(PEER).is_none());
    }
}

#[tokio::test]
async fn a_request_leaves_whole_and_an_answer_may_come_before_its_end() {
    let body: Bytes = (0..4_000_000u32).map(|place| (place % 251) as u8).collect();
    let (ours, mut theirs) = pair();
    let (mut exchange, pool) = begin(Box::new(ours), false, body.clone());
    theirs.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").unwrap();
    let (head, text) = read(&mut exchange).await.unwrap();
    assert_eq!((head.parts.status.as_u16(), &text[..]), (413, &b"no"[..]));
    exchange.end();
    assert!(pool.take(PEER).is_none(), "the rest of the request was never sent");

    let (ours, mut theirs) = pair();
    let (mut exchange, pool) = begin(Box::new(ours), false, body.clone());
    let expected = [REQUEST, &body].concat();
    let upstream = tokio::task::spawn_blocking(move || {
        let mut request = vec![0; expected.len()];
        // The answer begins in the middle of the request.
        theirs.read_exact(&mut request[..1_000_000]).unwrap();
        theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").unwrap();
        theirs.read_exact(&mut request[1_000_000..]).unwrap();
        theirs.write_all(b"k").unwrap();
        assert!(request == expected);
        theirs
    });
    let (_, text) = read(&mut exchange).await.unwrap();
    assert_eq!(text, b"ok");
    let _theirs = upstream.await.unwrap();
    exchange.end();
    assert!(pool.take(PEER).is_some());
}

/// A connection with a buffer of its own may keep what it was given: it is asked until it has let go of it.
#[tokio::test]
async fn what_a_connection_buffers_leaves_although_it_was_full() {
    let (ours, mut theirs) = pair();
    let mut filled = 0;
    ours.writable().await.unwrap();
    while let Ok(count) = ours.try_write(&[b'.'; 512]) {
        filled += count;
    }
    let (mut exchange, _pool) = begin(Box::new(Buffered::from(ours)), false, Bytes::from_static(b"body"));
    assert!(tokio::time::timeout(Duration::from_millis(20), exchange.head(every)).await.is_err());
    let upstream = tokio::task::spawn_blocking(move || {
        let mut request = vec![0; filled + REQUEST.len() + 4];
        theirs.read_exact(&mut request).unwrap();
        theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        (request.split_off(filled), theirs)
    });
    let (_, text) = read(&mut exchange).await.unwrap();
    let (request, _theirs) = upstream.await.unwrap();
    assert_eq!((&text[..], request), (&b"ok"[..], [REQUEST, b"body"].concat()));
}
