//! The API's listening socket, and who accepts its connections.
//!
//! Pingora's own service makes a task for each connection with room for a TLS handshake, 12 KB that are moved six times, and
//! sets six options one by one; a first byte waited 35 us for it. Here options are inherited, and a connection goes straight to
//! its door. The socket comes from Pingora's hand-over where there has been one.

use crate::gateway::front::Front;
use async_trait::async_trait;
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::close;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// The kernel cuts this to its own maximum (net.core.somaxconn).
const BACKLOG: i32 = 65_535;
/// A client that vanished without a word is noticed by the kernel: asked after so long, so often, so many times.
pub const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// How long nobody is accepted after that failed, as it does without a free descriptor.
const FAULT_PAUSE: Duration = Duration::from_millis(250);

/// A socket that listens, with the options its connections are to have.
///
/// # Errors
/// When the address cannot be had.
pub fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    prepare(&socket.as_fd())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Sets what connections inherit.
fn prepare(socket: &impl AsFd) -> io::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count))
}

/// A descriptor of our own instead of the number of one, which nobody has any more: while one is open, the kernel goes on
/// to accept connections for it.
///
/// Pingora hands sockets over as numbers, and to take one for a socket would be `unsafe`; sent to ourselves, it comes back
/// as what it is.
fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    let (ours, other) = UnixStream::pair()?;
    let numbers = [number];
    let attached = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(b".")], &attached, MsgFlags::empty(), None)?;
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut received = RecvAncillaryBuffer::new(&mut room);
    recvmsg(&other, &mut [IoSliceMut::new(&mut [0])], &mut received, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = received.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let own = descriptors.flatten().next().ok_or_else(|| io::Error::other("a descriptor was lost"))?;
    close(number)?;
    Ok(own)
}

/// Accepts connections on one address.
pub struct Acceptor {
    front: Arc<Front>,
    address: SocketAddr,
    /// Bound by this process; none where a hand-over brings it.
    socket: Option<Socket>,
    threads: usize,
}

impl Acceptor {
    /// Accepts for `front`, which so many threads serve.
    pub fn new(front: Arc<Front>, address: SocketAddr, socket: Option<Socket>, threads: usize) -> Self {
        Acceptor { front, address, socket, threads }
    }

    fn listener(&mut self, handed: Option<&ListenFds>) -> io::Result<TcpListener> {
        if let Some(socket) = self.socket.take() {
            return TcpListener::from_std(socket.into());
        }
        let name = self.address.to_string();
        let nothing = || io::Error::other("no socket was handed over for it");
        let mut handed = handed.ok_or_else(nothing)?.lock();
        let own = adopt(*handed.get(&name).ok_or_else(nothing)?)?;
        handed.add(name, own.as_raw_fd());
        // Its owner may be of another version.
        prepare(&own)?;
        TcpListener::from_std(own.into())
    }
}

#[async_trait]
impl Service for Acceptor {
    async fn start_service(&mut self, handed: Option<ListenFds>, shutdown: ShutdownWatch, _listeners: usize) {
        match self.listener(handed.as_ref()) {
            Ok(listener) => accept(&listener, &self.front, shutdown).await,
            Err(cause) => {
                log::error!("cannot listen on {}: {cause}", self.address);
                // A process that accepts nothing is none; its supervisor starts another.
                let _ = raise(Signal::SIGTERM);
            }
        }
    }

    fn name(&self) -> &str {
        "gateway"
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}

/// Accepts until the process is to end.
async fn accept(listener: &TcpListener, front: &Arc<Front>, shutdown: ShutdownWatch) {
    let mut end = shutdown.clone();
    let mut ended = pin!(end.wait_for(|is_ending| *is_ending));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut ended => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => welcome(front, stream, client, &shutdown),
            // It has left already.
            Err(cause) if cause.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(cause) => {
                log::error!("no connection can be accepted: {cause}");
                tokio::time::sleep(FAULT_PAUSE).await;
            }
        }
    }
}

fn welcome(front: &Arc<Front>, stream: TcpStream, client: SocketAddr, shutdown: &ShutdownWatch) {
    // Counted at once: a process that ends may not overlook a connection it has accepted.
    let arriving = front.arrive();
    tokio::spawn(Arc::clone(front).serve(stream, client, shutdown.clone(), arriving));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::IntoRawFd;

    #[test]
    fn connections_inherit_what_the_socket_was_given() {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)), false).expect("a port is free");
        socket.set_nonblocking(false).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = socket.accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        let (idle, interval, count) = KEEPALIVE;
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), idle);
        assert_eq!(
            (accepted.tcp_keepalive_interval().unwrap(), accepted.tcp_keepalive_retries().unwrap()),
            (interval, count)
        );
    }

    #[test]
    fn what_is_adopted_is_the_same_and_nothing_of_it_is_left() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut own = UnixStream::from(adopt(far.into_raw_fd()).unwrap());
        own.write_all(b"here").unwrap();
        drop(own);
        let mut heard = String::new();
        near.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "here");
        assert!(adopt(-1).is_err());
    }
}
