//! An HTTP/2 client without TLS, that knows it speaks to HTTP/2 (prior knowledge).

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{DEADLINE, MASTER_KEY};

/// One connection.
pub struct H2c {
    client: SendRequest<Bytes>,
}

impl H2c {
    /// Connects and shakes hands.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection is accepted");
        stream.set_nodelay(true).expect("the socket takes options");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2 is spoken");
        tokio::spawn(connection);
        H2c { client }
    }

    /// Posts JSON with the master key, with or without its length; the answer and its body.
    pub async fn post(&mut self, path: &str, body: Bytes, with_length: bool) -> Response<Vec<u8>> {
        timeout(DEADLINE, self.exchange(path, body, with_length)).await.expect("an answer in time")
    }

    async fn exchange(&mut self, path: &str, body: Bytes, with_length: bool) -> Response<Vec<u8>> {
        let mut request = Request::post(format!("http://gateway.test{path}"));
        request = request.header("authorization", format!("Bearer {MASTER_KEY}"));
        if with_length {
            request = request.header("content-length", body.len());
        }
        let mut client = self.client.clone().ready().await.expect("the connection is open");
        let (response, mut sender) = client.send_request(request.body(()).expect("a request"), false).expect("sent");
        let mut left = body;
        while !left.is_empty() {
            sender.reserve_capacity(left.len());
            let room = std::future::poll_fn(|context| sender.poll_capacity(context)).await;
            // The gateway may answer and close the stream before it has everything.
            let Some(Ok(room)) = room else { break };
            let piece = left.split_to(room.min(left.len()));
            if sender.send_data(piece, left.is_empty()).is_err() {
                break;
            }
        }
        let (head, mut incoming) = response.await.expect("an answer").into_parts();
        let mut body = Vec::new();
        while let Some(piece) = incoming.data().await {
            let piece = piece.expect("the body is whole");
            incoming.flow_control().release_capacity(piece.len()).expect("capacity is given back");
            body.extend_from_slice(&piece);
        }
        Response::from_parts(head, body)
    }
}
