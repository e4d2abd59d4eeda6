//! Peers: an address, TLS and limits, ready for Pingora's connection pool.
//!
//! The template is built once per deployment. Certificates are always verified: a template cannot be made with an
//! empty server name, which would switch the check off (design notes on Pingora 0.9.1, section 4).

use super::address::Host;
use super::connector;
use arc_swap::ArcSwapOption;
use pingora_core::protocols::l4::ext::TcpKeepalive;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::protocols::tls::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, Peer, PeerOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// One connection may carry this many HTTP/2 streams at a time; Pingora's own default is one.
const H2_STREAMS_MAX: usize = 100;
/// How often an idle HTTP/2 connection is pinged.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// While other addresses remain, one that does not answer is given up after this long.
const CONNECT_WITH_OTHERS_LEFT: Duration = Duration::from_millis(1000);
/// See [`options`].
const HANDSHAKE_NAMED: Duration = Duration::from_millis(250);
/// A request head or one body write that the upstream does not take for this long has failed.
const WRITE_MAX: Duration = Duration::from_secs(120);

/// What the connections to one deployment have in common.
pub struct Settings {
    /// TLS towards the upstream.
    pub tls: bool,
    /// The name verified in its certificate and sent as SNI; never empty with TLS.
    pub server_name: String,
    /// Offer HTTP/2 first.
    pub http2: bool,
    /// TCP connect and TLS handshake together.
    pub connect_timeout: Duration,
    /// How long a pooled connection may be idle.
    pub idle_timeout: Duration,
}

/// A peer that lacks only its address.
pub struct Template {
    peer: HttpPeer,
    host: Arc<Host>,
    is_http1: bool,
    connect_timeout: Duration,
    idle_timeout: Duration,
    /// The address used last, and its key in the pool.
    usual: ArcSwapOption<(SocketAddr, u64)>,
}

impl Template {
    /// Builds the template of a deployment; `host` supplies the addresses.
    ///
    /// Returns none when TLS is wanted without a server name.
    pub fn new(settings: Settings, host: Arc<Host>) -> Option<Self> {
        if settings.tls && settings.server_name.is_empty() {
            return None;
        }
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        #[expect(clippy::disallowed_methods, reason = "an address needs no resolver")]
        let mut peer = HttpPeer::new(nowhere, settings.tls, settings.server_name);
        peer.options = options(settings.http2 && settings.tls, settings.connect_timeout, settings.idle_timeout);
        // ALPN is no part of Pingora's pool key, the group is.
        peer.group_key = u64::from(settings.http2);
        let is_http1 = peer.options.alpn == connector::protocol();
        let Settings { connect_timeout, idle_timeout, .. } = settings;
        Some(Template { peer, host, is_http1, connect_timeout, idle_timeout, usual: ArcSwapOption::empty() })
    }

    /// The host behind this template.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Whether the upstream is spoken to over HTTP/1.1 alone.
    pub fn is_http1(&self) -> bool {
        self.is_http1
    }

    /// The address that the first try goes to, and its key in the pool; none while the host's name has never been
    /// answered.
    pub fn first(&self) -> Option<(SocketAddr, u64)> {
        let (address, _) = self.host.pick(0)?;
        // To hash a peer takes longer than to take its connection out of the pool.
        if let Some(usual) = self.usual.load().as_deref().filter(|usual| usual.0 == address) {
            return Some(*usual);
        }
        let key = self.peer(0)?.reuse_hash();
        self.usual.store(Some(Arc::new((address, key))));
        Some((address, key))
    }

    /// How long a pooled connection may be idle.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// A peer for the `attempt`-th try; none while the host's name has never been answered.
    pub fn peer(&self, attempt: usize) -> Option<Box<HttpPeer>> {
        let (address, count) = self.host.pick(attempt)?;
        let mut peer = Box::new(self.peer.clone());
        peer._address = PeerAddress::Inet(address);
        if attempt + 1 < count {
            peer.options.connection_timeout = Some(CONNECT_WITH_OTHERS_LEFT.min(self.connect_timeout));
        }
        Some(peer)
    }
}

fn options(http2: bool, connect_timeout: Duration, idle_timeout: Duration) -> PeerOptions {
    let mut options = PeerOptions::new();
    options.connection_timeout = Some(connect_timeout);
    // Pingora gives TCP and TLS this long each; the sum is limited a little later, so that a handshake that hangs is
    // named as such.
    options.total_connection_timeout = Some(connect_timeout + HANDSHAKE_NAMED);
    options.idle_timeout = Some(idle_timeout);
    options.write_timeout = Some(WRITE_MAX);
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        count: 3,
        user_timeout: Duration::ZERO,
    });
    // Heads are written from nothing (`head::Template`), so there is nothing of the client's to take out.
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    if http2 {
        options.alpn = ALPN::H2H1;
        options.max_h2_streams = H2_STREAMS_MAX;
        options.h2_ping_interval = Some(H2_PING_INTERVAL);
    } else {
        options.alpn = connector::protocol();
    }
    options
}
