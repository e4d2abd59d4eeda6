//! The upstreams of the drills: stand-ins, plain and over TLS, and sockets that misbehave below HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nanogate::standin::{Options, Standin, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::drill::Ask;
use crate::support::ports::free_port;
use crate::support::tls::Authority;
use crate::support::{DEADLINE, eventually};
use crate::traffic::{completion, delta, finish};

/// A good answer, whole.
pub fn whole(ask: Ask) -> Step {
    match ask {
        Ask::Plain => Step::json(200, completion("good")),
        Ask::Stream => Step::sse([delta("good"), finish()]),
    }
}

/// What a server shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Good,
    Expired,
    OtherName,
    /// Signed by nobody the gateway knows.
    Unknown,
}

/// What kind of upstream.
pub enum Kind {
    /// A stand-in without TLS.
    Plays(Vec<Step>),
    /// A stand-in over TLS and HTTP/1.1.
    Secure(Certificate, Vec<Step>),
    /// A stand-in over TLS and HTTP/2.
    Http2(Vec<Step>),
    /// Nobody listens: the kernel answers a connection with a reset.
    Nobody,
    /// Nobody listens until so many milliseconds after the first request; then all is well.
    Late(u64, Vec<Step>),
    /// The queue of connections is full: the kernel does not answer.
    Full,
    /// A socket that does this with every connection.
    Socket(Manner),
}

/// What a socket does with a connection.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Resets it at once.
    Resets,
    /// Reads nothing and says nothing.
    Mute,
    /// The same where a TLS handshake is expected.
    MuteTls,
    /// Reads a request head, then no more.
    StopsReading,
    /// Answers each request with these bytes.
    Says(String),
    /// Answers a request with these bytes, then says no more.
    SaysOnce(&'static str),
    /// Says these bytes to whatever comes, where a TLS handshake is expected, and closes.
    SaysPlainly(&'static str),
}

/// A running upstream.
pub struct Upstream {
    address: SocketAddr,
    running: Running,
    authority: Option<Authority>,
}

enum Running {
    Standin(Standin),
    Nobody,
    Late(u64, Vec<Step>, Option<tokio::task::JoinHandle<Standin>>),
    Full { _waiting: Vec<TcpStream>, _listener: TcpListener },
    Socket(Socket),
}

struct Socket {
    tls: bool,
    /// Requests where they are read, else connections.
    calls: Arc<AtomicU64>,
    /// Connections on which something is unanswered; one that waits for the next request is not.
    open: Arc<AtomicU64>,
    /// Told that the drill is over and whatever was not read may be.
    over: watch::Sender<bool>,
    _serving: JoinSet<()>,
}

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Upstream {
    pub async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Plays(steps) => Self::standin(Options::default(), steps, None).await,
            Kind::Secure(certificate, steps) => {
                let authority = Authority::new();
                let name = if certificate == Certificate::OtherName { "elsewhere.test" } else { "127.0.0.1" };
                let tls = match certificate {
                    Certificate::Expired => authority.expired_server(&[name]),
                    Certificate::Unknown => Authority::new().server(&[name]),
                    Certificate::Good | Certificate::OtherName => authority.server(&[name]),
                };
                Self::standin(Options { tls: Some(tls), ..Options::default() }, steps, Some(authority)).await
            }
            Kind::Http2(steps) => {
                let authority = Authority::new();
                let tls = Some(authority.server(&["127.0.0.1"]));
                Self::standin(Options { tls, h2: true, ..Options::default() }, steps, Some(authority)).await
            }
            Kind::Nobody => Self { address: free_address(), running: Running::Nobody, authority: None },
            Kind::Late(ms, steps) => {
                Self { address: free_address(), running: Running::Late(ms, steps, None), authority: None }
            }
            Kind::Full => Self::full().await,
            Kind::Socket(manner) => Self::socket(manner),
        }
    }

    async fn standin(options: Options, steps: Vec<Step>, authority: Option<Authority>) -> Self {
        let standin = Standin::start(options).await.expect("a stand-in listens");
        standin.script(steps);
        Self { address: standin.address(), running: Running::Standin(standin), authority }
    }

    /// A listener whose queue is full: it never accepts, and others came first.
    async fn full() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.bind(ANYWHERE).expect("a port is free");
        let listener = socket.listen(1).expect("a socket can listen");
        let address = listener.local_addr().expect("it is bound");
        let mut waiting = Vec::new();
        // The kernel takes one or two more than it was told; when it stops answering, the queue is full.
        while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(connected.expect("a listener is there"));
        }
        Self { address, running: Running::Full { _waiting: waiting, _listener: listener }, authority: None }
    }

    fn socket(manner: Manner) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        // A small window, so that who does not read is felt soon.
        socket.set_recv_buffer_size(16 << 10).expect("a socket takes options");
        socket.bind(ANYWHERE).expect("a port is free");
        let listener = socket.listen(1024).expect("a socket can listen");
        let address = listener.local_addr().expect("it is bound");
        let (calls, open) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let over = watch::Sender::new(false);
        let tls = matches!(manner, Manner::MuteTls | Manner::SaysPlainly(_));
        let mut serving = JoinSet::new();
        serving.spawn(listen(listener, manner, Arc::clone(&calls), Arc::clone(&open), over.subscribe()));
        let running = Running::Socket(Socket { tls, calls, open, over, _serving: serving });
        Self { address, running, authority: None }
    }

    /// Its `api_base`.
    pub fn base(&self) -> String {
        let tls = self.authority.is_some() || matches!(&self.running, Running::Socket(Socket { tls: true, .. }));
        format!("http{}://{}/api/v1", if tls { "s" } else { "" }, self.address)
    }

    /// The member of `gateway_settings` that trusts it; empty without TLS.
    pub fn authority(&self) -> String {
        self.authority.as_ref().map(|authority| authority.setting().trim().to_owned()).unwrap_or_default()
    }

    /// The first request is about to be sent.
    pub fn begin(&mut self) {
        let listen = self.address;
        if let Running::Late(ms, steps, starting) = &mut self.running {
            let (after, steps) = (Duration::from_millis(*ms), std::mem::take(steps));
            *starting = Some(tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let options = Options { listen, ..Options::default() };
                let standin = Standin::start(options).await.expect("the port is free still");
                standin.script(steps);
                standin
            }));
        }
    }

    /// Whether, now or soon, nobody has anything open with it that is not answered.
    pub async fn is_left_alone(&mut self) -> bool {
        match &self.running {
            Running::Standin(standin) => standin.wait_for(DEADLINE, |_| standin.active() == 0).await,
            Running::Socket(socket) => {
                // Who has left is only found out by reading what it had sent.
                socket.over.send_replace(true);
                eventually(DEADLINE, || socket.open.load(Ordering::Acquire) == 0).await
            }
            Running::Nobody | Running::Late(..) | Running::Full { .. } => true,
        }
    }

    /// How many calls reached it: requests, or connections where none came so far; none if it cannot know.
    pub fn calls(&self) -> Option<u64> {
        match &self.running {
            Running::Standin(standin) => {
                let requests = standin.requests().len() as u64;
                Some(if requests == 0 { standin.connections() } else { requests })
            }
            Running::Socket(socket) => Some(socket.calls.load(Ordering::Acquire)),
            Running::Nobody | Running::Late(..) | Running::Full { .. } => None,
        }
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

async fn listen(
    listener: TcpListener,
    manner: Manner,
    calls: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
    over: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let (manner, calls, open, over) = (manner.clone(), Arc::clone(&calls), Arc::clone(&open), over.clone());
        connections.spawn(async move {
            if let Manner::Says(bytes) = &manner {
                return say(connection, bytes, &calls).await;
            }
            calls.fetch_add(1, Ordering::AcqRel);
            open.fetch_add(1, Ordering::AcqRel);
            misbehave(connection, &manner, over).await;
            open.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

/// Answers every request of a connection with the same bytes.
async fn say(mut connection: TcpStream, bytes: &str, calls: &AtomicU64) {
    while request(&mut connection).await {
        calls.fetch_add(1, Ordering::AcqRel);
        // The gateway may have gone; then no request follows either.
        let _ = connection.write_all(bytes.as_bytes()).await;
    }
}

async fn misbehave(mut connection: TcpStream, manner: &Manner, mut over: watch::Receiver<bool>) {
    match manner {
        Manner::Resets => {
            // It only fails on a socket that is dead already.
            let _ = connection.set_zero_linger();
            return;
        }
        Manner::Mute | Manner::MuteTls | Manner::Says(_) => {}
        Manner::StopsReading => {
            let mut head = vec![0; 64];
            let _ = connection.read_exact(&mut head).await;
        }
        Manner::SaysPlainly(bytes) => {
            let mut hello = vec![0; 4096];
            let _ = connection.read(&mut hello).await;
            let _ = connection.write_all(bytes.as_bytes()).await;
            return;
        }
        Manner::SaysOnce(bytes) => {
            request(&mut connection).await;
            let _ = connection.write_all(bytes.as_bytes()).await;
        }
    }
    let _ = over.wait_for(|over| *over).await;
    let mut rest = vec![0; 64 << 10];
    while connection.read(&mut rest).await.is_ok_and(|count| count > 0) {}
}

/// Reads one request, a head and a JSON object; false when the connection ends first.
async fn request(connection: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"}") {
        if !connection.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            return false;
        }
    }
    true
}
