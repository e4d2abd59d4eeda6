//! Accepts connections, settles TLS and the protocol, and owns the tasks: when this one is aborted they all end.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::socket::Socket;
use super::visit::{Stage, Visit};
use super::{h1, h2};

const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Rest after a failed accept (out of descriptors, as a rule), so as not to spin.
const ACCEPT_REST: Duration = Duration::from_millis(20);

/// A TLS acceptor that offers HTTP/2 only if that is wanted.
pub(super) fn acceptor(config: &ServerConfig, h2: bool) -> TlsAcceptor {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if h2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    TlsAcceptor::from(Arc::new(config))
}

pub(super) async fn run(listener: TcpListener, tls: Option<TlsAcceptor>, stage: Arc<Stage>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, tls.clone(), stage.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_REST).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, stage: Arc<Stage>) {
    let connected = stage.log.connected();
    // It only fails on a socket that is dead already.
    let _ = stream.set_nodelay(true);
    let socket = match tls {
        None => Socket::plain(stream),
        Some(tls) => match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
            Ok(Ok(stream)) => Socket::tls(stream),
            Ok(Err(_)) | Err(_) => return,
        },
    };
    let visit = Visit::new(stage, connected.number, socket.is_tls());
    if socket.chose_h2() {
        h2::serve(socket, Arc::new(visit)).await;
    } else {
        h1::serve(socket, &visit).await;
    }
}
