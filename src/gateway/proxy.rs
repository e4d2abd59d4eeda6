//! The proxy behind the walk, which makes what is no first attempt, and those over HTTP/2.
//!
//! It brings three TLS configurations, each with two copies of the system's authorities: 0.6 MB and some milliseconds, of
//! which most processes need nothing. So it is made when the first request needs it.

use super::Gateway;
use crate::snapshot::Live;
use crate::upstream::connector::PoolingConnector;
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Fds, ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use pingora_error::{ErrorType, OrErr, Result};
use pingora_proxy::{HttpProxy, ProxyServiceBuilder};
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::IntoRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::spawn_blocking;

/// A connection to this process itself is there at once.
const PROXY_MAX: Duration = Duration::from_secs(5);

/// Pingora's proxy with the gateway's hooks.
pub type Proxy = HttpProxy<Gateway, PoolingConnector>;

/// What Pingora waits for when it has handed a connection over.
type Handed = Pin<Box<dyn Future<Output = Option<Stream>> + Send>>;

/// The proxy, once it has been needed.
pub struct LazyProxy {
    conf: Arc<ServerConf>,
    live: Arc<Live>,
    made: OnceCell<Arc<Proxy>>,
}

impl LazyProxy {
    /// One that is to be made with these settings.
    pub fn new(conf: Arc<ServerConf>, live: Arc<Live>) -> Self {
        LazyProxy { conf, live, made: OnceCell::new() }
    }

    /// The proxy; made once, on a thread that serves nobody.
    ///
    /// # Errors
    /// `InternalError`: this process cannot connect to itself, or has no descriptor left. The next caller tries again.
    pub async fn get(&self) -> Result<&Arc<Proxy>> {
        let make = async || {
            let (conf, live) = (Arc::clone(&self.conf), Arc::clone(&self.live));
            let made = spawn_blocking(move || proxy(&conf, &live)).await;
            made.or_err(ErrorType::InternalError, "the proxy could not be made")?
                .or_err(ErrorType::InternalError, "the proxy cannot connect to itself over 127.0.0.1")
        };
        self.made.get_or_try_init(make).await
    }
}

/// The proxy, to call it without a service.
///
/// One with a connector of its own is to be had only as a service, which gives it to a function together with each
/// connection, if it is told that all of them are of a custom protocol. So one connection is made here, to ourselves.
fn proxy(conf: &Arc<ServerConf>, live: &Arc<Live>) -> io::Result<Arc<Proxy>> {
    const NAME: &str = "proxy";
    let mut options = HttpServerOptions::default();
    options.force_custom = true;
    let connector = PoolingConnector::new(Arc::clone(&live.dialer), Arc::clone(&live.pool));
    let (giving, mut given) = mpsc::channel(1);
    let give = move |proxy, _, _: &ShutdownWatch| {
        // One is enough.
        let _ = giving.try_send(proxy);
        Box::pin(std::future::ready(None)) as Handed
    };
    let builder = ProxyServiceBuilder::new(conf, Gateway::new(Arc::clone(live))).server_options(options);
    let mut service = builder.custom(connector, Arc::new(give)).build();
    service.add_tcp(NAME);
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let mut sockets = Fds::new();
    sockets.add(NAME.to_owned(), listener.into_raw_fd());
    let sockets: ListenFds = Arc::new(sockets.into());
    let (_running, shutdown) = watch::channel(false);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let taken = async {
            let _connection = TcpStream::connect(address).await?;
            given.recv().await.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        tokio::select! {
            taken = taken => taken,
            () = service.start_service(Some(sockets), shutdown, 1) => Err(io::ErrorKind::UnexpectedEof.into()),
            () = tokio::time::sleep(PROXY_MAX) => Err(io::ErrorKind::TimedOut.into()),
        }
    })
}
