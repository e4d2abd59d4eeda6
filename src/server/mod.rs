//! The life of the serving process: assemble Pingora's server, run it, and end it as soon as nothing is in flight.

mod authorities;
pub mod control;
mod drain;
mod leash;
mod listening;
mod memory;
mod names;
mod reload;
pub mod supervisor;
mod warden;

use crate::admin::Admin;
use crate::config::{Config, Environment};
use crate::gateway::front::Front;
use crate::snapshot::{Live, Snapshot};
use crate::upstream::address::Directory;
use crate::upstream::exchange::Dialer;
use crate::upstream::pool::Pool;
use async_trait::async_trait;
use authorities::Authorities;
use listening::{Acceptor, KEEPALIVE};
use memory::Returner;
use pingora_core::apps::http_app::HttpServer;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::TcpKeepalive;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{RunArgs, Server, ShutdownWatch};
use pingora_core::services::background::{BackgroundService, background_service};
use pingora_core::services::listening::Service;
use reload::Reloader;
use socket2::Socket;
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use warden::Warden;

/// Pooled upstream connections kept for each thread.
const POOL_PER_THREAD: usize = 256;
/// More rounds than any plan has attempts; the plan decides, not Pingora.
const ROUNDS_MAX: usize = 1000;

/// Where and how to serve.
pub struct Options {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Address of the health service; none switches it off.
    pub admin: Option<SocketAddr>,
    /// Threads of the API.
    pub threads: usize,
    /// Where the supervisor hands the listening sockets over; none when this process opens its own.
    pub upgrade_from: Option<PathBuf>,
    /// The file to read again on a reload.
    pub config_path: PathBuf,
    /// The variables the file was read with.
    pub environment: Environment,
}

/// Why serving did not begin.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(SocketAddr, std::io::Error),
    /// Signals cannot be watched.
    Signals(std::io::Error),
    /// The file of certificate authorities is not one.
    Authorities(PathBuf, String),
    /// The system's certificate authorities cannot be read.
    SystemAuthorities(String),
    /// Deployments that cannot be built, a sentence each.
    Deployments(Vec<String>),
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(address, cause) => write!(out, "cannot listen on {address}: {cause}"),
            StartError::Signals(cause) => write!(out, "cannot watch signals: {cause}"),
            StartError::SystemAuthorities(cause) => {
                write!(out, "cannot read the system's certificate authorities (SSL_CERT_FILE, SSL_CERT_DIR): {cause}")
            }
            StartError::Authorities(path, cause) => {
                write!(out, "cannot read certificate authorities from {}: {cause}", path.display())
            }
            StartError::Deployments(faults) => out.write_str(&faults.join("\n")),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Listen(_, cause) | StartError::Signals(cause) => Some(cause),
            StartError::Authorities(..) | StartError::SystemAuthorities(_) | StartError::Deployments(_) => None,
        }
    }
}

/// Serves until a signal ends the process and its requests are done. Returns when the process may exit.
///
/// # Errors
/// [`StartError`] before anything was served.
pub fn serve(config: Config, options: &Options) -> Result<(), StartError> {
    let own = options.upgrade_from.is_none();
    let refused = |address| move |cause| StartError::Listen(address, cause);
    let socket = own.then(|| listening::bind(options.listen, false).map_err(refused(options.listen))).transpose()?;
    if let Some(address) = options.admin.filter(|_| own) {
        // Pingora would panic later; a port that is taken deserves a sentence.
        TcpListener::bind(address).map_err(refused(address))?;
    }
    let (signals, ended) = drain::watch().map_err(StartError::Signals)?;
    let system = authorities::of_system(&config, &options.environment).map_err(StartError::SystemAuthorities)?;
    let own_authorities = config.gateway.upstream_ca_file.clone();
    let authorities = own_authorities
        .map(|path| Authorities::with(&path, &system).map_err(|cause| StartError::Authorities(path, cause)));
    let authorities = authorities.transpose()?;
    drop(system);
    let directory = Directory::default();
    let mut settings = conf(&config, options.threads);
    settings.ca_file = authorities.as_ref().map(Authorities::path);
    let grace = Duration::from_millis(config.gateway.grace_period_ms);
    let snapshot = Snapshot::build(config, &directory, None).map_err(StartError::Deployments)?;
    let models = snapshot.deployments.len();
    let dialer = Dialer::new(settings.ca_file.clone());
    for behind_tls in [true, false] {
        if authorities::has_upstreams(&snapshot.config, behind_tls) {
            dialer.prepare(behind_tls);
        }
    }
    let pool = Pool::new(POOL_PER_THREAD * options.threads);
    let live = Arc::new(Live::new(snapshot, directory, dialer, pool));
    let server = assemble(settings, &live, options, socket);
    let phases = server.watch_execution_phase();
    log::info!("serving {models} deployments on http://{}, {}", options.listen, admin_words(options.admin));
    if options.upgrade_from.is_some() {
        leash::hold(phases, &signals);
    }
    let running = std::thread::spawn(move || server.run(RunArgs { shutdown_signal: Box::new(signals) }));
    ended.wait(&live, grace, &running);
    Ok(())
}

fn admin_words(admin: Option<SocketAddr>) -> String {
    admin.map_or_else(|| "no health service".to_owned(), |address| format!("health service on http://{address}"))
}

fn conf(config: &Config, threads: usize) -> ServerConf {
    ServerConf {
        threads,
        max_retries: ROUNDS_MAX,
        upstream_keepalive_pool_size: POOL_PER_THREAD,
        // Ended earlier, as soon as nothing is in flight.
        grace_period_seconds: Some(config.gateway.grace_period_ms / 1000 + 1),
        graceful_shutdown_timeout_seconds: Some(1),
        // With nobody to take work from, a scheduler for one thread does: it needs no locks, and serves what comes together in its
        // order, where the other takes the last first.
        work_stealing: threads > 1,
        ..ServerConf::default()
    }
}

fn assemble(mut settings: ServerConf, live: &Arc<Live>, options: &Options, socket: Option<Socket>) -> Server {
    let opt = Opt { upgrade: options.upgrade_from.is_some(), ..Opt::default() };
    if let Some(socket) = &options.upgrade_from {
        settings.upgrade_sock = socket.display().to_string();
    }
    let mut server = Server::new_with_opt_and_conf(opt, settings);
    server.bootstrap();
    let front = Front::new(&server.configuration, live);
    server.add_service(Acceptor::new(Arc::new(front), options.listen, socket, options.threads));
    if let Some(address) = options.admin {
        let app = HttpServer::new_app(Admin::new(Arc::clone(live)));
        let mut admin = Service::new("health".to_owned(), app);
        admin.add_listener(admin_listener(address));
        admin.threads = Some(1);
        server.add_service(admin);
    }
    let reloader = Reloader::new(Arc::clone(live), options.config_path.clone(), options.environment.clone());
    let warden = Warden::new(Arc::clone(live), Arc::new(reloader), options.listen.port());
    let chores: [Chore; 4] = [
        Arc::new(warden),
        Arc::new(names::Refresher::new(Arc::clone(live))),
        Arc::new(Sweeper(Arc::clone(&live.pool))),
        Arc::new(Returner::new(Arc::clone(live), options.threads)),
    ];
    server.add_service(background_service("chores", Chores(chores)));
    server
}

type Chore = Arc<dyn BackgroundService + Send + Sync>;

/// What goes on beside the requests, on one thread: four of them would have a stack, a heap and timers each.
struct Chores([Chore; 4]);

#[async_trait]
impl BackgroundService for Chores {
    async fn start(&self, shutdown: ShutdownWatch) {
        // In tasks, so that one that panics takes no other with it.
        let mut tasks = JoinSet::new();
        for chore in &self.0 {
            let (chore, shutdown) = (Arc::clone(chore), shutdown.clone());
            tasks.spawn(async move { chore.start(shutdown).await });
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Closes pooled connections that are of no use any more.
struct Sweeper(Arc<Pool>);

#[async_trait]
impl BackgroundService for Sweeper {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.0.look_after() => {}
            // What is left is closed when the process ends.
            _ = shutdown.changed() => {}
        }
    }
}

/// An answer of the health service leaves with its head.
const ADMIN_WRITE_BUFFER_BYTES: usize = 16 * 1024;

fn admin_listener(address: SocketAddr) -> ListenerConfig {
    let (idle, interval, count) = KEEPALIVE;
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(TcpKeepalive { idle, interval, count: count as usize, user_timeout: Duration::ZERO });
    let buffers = L4BufferSettings::new(0, ADMIN_WRITE_BUFFER_BYTES);
    ListenerConfig::tcp(address.to_string()).tcp_socket_options(options).l4_buffer(buffers)
}

/// The address of a host name or address as the command line gives it.
///
/// # Errors
/// When it is no address of this machine's notation.
pub fn listen_address(host: &str, port: u16) -> Result<SocketAddr, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let ip = match bare {
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        other => other.parse(),
    };
    ip.map(|ip| SocketAddr::new(ip, port)).map_err(|_| format!("`{host}` is not an IP address to listen on"))
}
