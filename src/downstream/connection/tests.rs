//! What goes in and out, over a connection that is not the system's but behaves as one.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const HEAD: &str = "POST /v1/chat HTTP/1.1\r\nHost: a.test\r\n";
const BYTES_MAX: usize = 1000;

fn address() -> SocketAddr {
    SocketAddr::Inet(std::net::SocketAddr::from(([127, 0, 0, 1], 7)))
}

/// A connection, and the client's end of it.
fn pair() -> (Connection<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    (Connection::new(ours, address()), theirs)
}

/// A connection to which this has been sent, whole.
async fn sent(bytes: &[u8]) -> (Connection<DuplexStream>, DuplexStream) {
    let (connection, mut client) = pair();
    client.write_all(bytes).await.unwrap();
    (connection, client)
}

async fn body(connection: &mut Connection<DuplexStream>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = connection.read_body().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Box<ResponseHeader> {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        head.headers.append(*name, HeaderValue::from_static(value));
    }
    Box::new(head.into())
}

/// What a client has got when the connection is dropped.
async fn got(mut connection: Connection<DuplexStream>, mut client: DuplexStream) -> String {
    connection.flush().await.unwrap();
    drop(connection);
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn requests_are_the_same_however_they_are_cut() {
    let bytes = format!(
        "\r\n{HEAD}Content-Length: 5\r\n\r\nhello{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\na: b\r\n\r\n{HEAD}\r\n"
    );
    for step in 1..bytes.len() {
        let (mut connection, mut client) = pair();
        let pieces: Vec<Vec<u8>> = bytes.as_bytes().chunks(step).map(<[u8]>::to_vec).collect();
        let sending = tokio::spawn(async move {
            for piece in pieces {
                client.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client
        });
        for expected in ["hello", "abcde", ""] {
            assert_eq!(connection.read_head(BYTES_MAX).await, Ok(true), "{step}");
            assert_eq!(connection.header().raw_path(), b"/v1/chat");
            assert_eq!(connection.is_body_empty(), expected.is_empty());
            assert_eq!(body(&mut connection).await.unwrap(), expected.as_bytes(), "{step}");
            assert!(connection.is_body_done());
            assert_eq!(connection.body_bytes_read(), expected.len());
        }
        drop(sending.await.unwrap());
        assert_eq!(connection.read_head(BYTES_MAX).await, Ok(false), "{step}");
    }
}

#[tokio::test]
async fn a_long_body_comes_whole() {
    let long: Vec<u8> = (0..300_000u32).map(|place| (place % 251) as u8).collect();
    let head = format!("{HEAD}Content-Length: {}\r\n\r\n", long.len());
    let (mut connection, _client) = sent(&[head.as_bytes(), &long, b"GET / HTTP/1.1\r\n\r\n"].concat()).await;
    assert!(connection.read_head(BYTES_MAX).await.unwrap());
    assert!(body(&mut connection).await.unwrap() == long);
    assert!(connection.read_head(BYTES_MAX).await.unwrap());
    assert_eq!(connection.header().method, "GET");
}

#[tokio::test]
async fn a_head_has_a_limit_whether_it_ends_or_not() {
    let long = "x".repeat(BYTES_MAX);
    for end in ["", "\r\n\r\n"] {
        let (mut connection, _client) = sent(format!("{HEAD}X-Long: {long}{end}").as_bytes()).await;
        assert_eq!(connection.read_head(BYTES_MAX).await, Err(Fault::TooLong), "{end:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_is_told_from_one_that_is_none() {
    for (framing, bytes, kind) in [
        ("Content-Length: 5", "hel", ErrorType::ConnectionClosed),
        ("Transfer-Encoding: chunked", "5\r\nhel", ErrorType::ConnectionClosed),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n", ErrorType::ConnectionClosed),
        ("Transfer-Encoding: chunked", "x\r\n", INVALID_CHUNKS),
    ] {
        let (mut connection, mut client) = sent(format!("{HEAD}{framing}\r\n\r\n{bytes}").as_bytes()).await;
        client.shutdown().await.unwrap();
        assert!(connection.read_head(BYTES_MAX).await.unwrap());
        assert_eq!(*body(&mut connection).await.unwrap_err().etype(), kind, "{bytes}");
        assert!(!connection.is_body_done());
    }
}

#[tokio::test]
async fn who_sends_ahead_has_not_left() {
    let (mut connection, mut client) = sent(format!("{HEAD}\r\n").as_bytes()).await;
    assert!(connection.read_head(BYTES_MAX).await.unwrap());
    let is_there = |poll: Poll<()>| Poll::Ready(poll.is_pending());
    assert!(poll_fn(|context| is_there(connection.poll_left(context))).await);
    client.write_all(b"GET /next HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(poll_fn(|context| is_there(connection.poll_left(context))).await);
    client.shutdown().await.unwrap();
    // What lies before the end is not read, and so the end is not seen.
    assert!(poll_fn(|context| is_there(connection.poll_left(context))).await);
    assert!(connection.read_head(BYTES_MAX).await.unwrap());
    assert_eq!(connection.header().raw_path(), b"/next");
    poll_fn(|context| connection.poll_left(context)).await;
}

/// The version of a request; the status and headers of its answer; the body as it is sent; whether the connection lives on.
type Case = (&'static str, u16, &'static [(&'static str, &'static str)], &'static str, bool);

#[tokio::test]
async fn an_answer_ends_as_its_head_says() {
    let cases: [Case; 6] = [
        ("HTTP/1.1", 200, &[("content-length", "4")], "word", true),
        ("HTTP/1.1", 200, &[("transfer-encoding", "chunked")], "4\r\nword\r\n0\r\n\r\n", true),
        ("HTTP/1.1", 200, &[], "4\r\nword\r\n0\r\n\r\n", true),
        ("HTTP/1.1", 204, &[], "", true),
        ("HTTP/1.0", 200, &[("transfer-encoding", "chunked")], "word", false),
        ("HTTP/1.1", 200, &[("content-length", "9")], "word", false),
    ];
    for (version, status, headers, expected, lives) in cases {
        let request = format!("POST / {version}\r\nConnection: keep-alive\r\n\r\n");
        let (mut connection, client) = sent(request.as_bytes()).await;
        assert!(connection.read_head(BYTES_MAX).await.unwrap());
        connection.put_head(answer(status, headers), false);
        connection.put_body(b"");
        connection.put_body(b"word");
        connection.put_end();
        connection.put_end();
        assert_eq!(connection.keeps_alive(), lives, "{headers:?}");
        let text = got(connection, client).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, expected, "{head}");
        assert_eq!(head.contains("transfer-encoding"), body.contains("\r\n"), "{head}");
    }
}

#[tokio::test]
async fn an_answer_to_a_head_request_and_one_without_a_body_are_their_heads() {
    for (request, headers) in [("HEAD", &[("content-length", "4")][..]), ("GET", &[])] {
        let (mut connection, client) = sent(format!("{request} / HTTP/1.1\r\n\r\n").as_bytes()).await;
        assert!(connection.read_head(BYTES_MAX).await.unwrap());
        connection.put_head(answer(200, headers), true);
        assert!(connection.keeps_alive());
        let text = got(connection, client).await;
        assert!(text.contains("\r\ncontent-length: ") && text.ends_with("\r\n\r\n"), "{text}");
    }
}

#[tokio::test]
async fn an_interim_head_is_followed_by_the_final_one() {
    let (mut connection, client) = sent(format!("{HEAD}\r\n").as_bytes()).await;
    assert!(connection.read_head(BYTES_MAX).await.unwrap());
    connection.put_head(answer(100, &[]), false);
    assert!(connection.written().is_some_and(|head| head.status == 100));
    connection.put_head(answer(200, &[("content-length", "0")]), true);
    connection.put_head(answer(500, &[]), true);
    assert!(connection.written().is_some_and(|head| head.status == 200));
    let text = got(connection, client).await;
    assert!(text.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{text}");
    assert_eq!(text.matches("HTTP/1.1").count(), 2);
}

#[tokio::test]
async fn nothing_is_lost_or_turned_round_where_the_client_is_slow() {
    let (ours, mut client) = duplex(700);
    let mut connection = Connection::new(ours, address());
    client.write_all(format!("{HEAD}\r\n").as_bytes()).await.unwrap();
    assert!(connection.read_head(BYTES_MAX).await.unwrap());
    let bytes: Vec<u8> = (0..300_000u32).map(|place| (place % 251) as u8).collect();
    let expected = bytes.clone();
    let writing = tokio::spawn(async move {
        connection.put_head(answer(200, &[("content-length", "300000")]), false);
        let (first, rest) = bytes.split_at(100_000);
        for piece in first.chunks(333) {
            connection.put_body(piece);
            // Given up again and again before it is sent.
            let _ = tokio::time::timeout(std::time::Duration::ZERO, connection.flush()).await;
        }
        let (second, third) = rest.split_at(150_000);
        connection.send_body(second).await.unwrap();
        let mut taken = 0;
        poll_fn(|context| connection.poll_send(context, third, &mut taken)).await.unwrap();
    });
    let mut text = Vec::new();
    client.read_to_end(&mut text).await.unwrap();
    writing.await.unwrap();
    let begin = text.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(text[begin..] == expected);
}

#[tokio::test]
async fn the_beginning_of_a_connection_is_told_as_soon_as_it_can_be_and_stays_where_it_is() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    for (parts, begins) in [
        (&["PRI * HTTP/2.0\r\n"][..], true),
        (&["PR", "I *", " HTTP/2.0"], true),
        (&["GET"], false),
        (&["P", "OST"], false),
    ] {
        let (mut connection, mut client) = pair();
        for (place, part) in parts.iter().enumerate() {
            client.write_all(part.as_bytes()).await.unwrap();
            let told = tokio::select! {
                biased;
                told = connection.begins_with(PREFACE) => Some(told.unwrap()),
                () = async {} => None,
            };
            assert_eq!(told, (place + 1 == parts.len()).then_some(begins), "{parts:?}");
        }
        assert_eq!(connection.into_parts().1, parts.concat());
    }
    let (mut connection, client) = pair();
    drop(client);
    assert!(connection.begins_with(PREFACE).await.is_err());
}
