//! Names resolved in the background: a request never waits for a resolver once a name has been answered.
//!
//! The last good answer is kept when a later look-up fails, and start-up does not wait for the first. Addresses of both
//! families are interleaved, and one that failed to connect moves behind the others.

use arc_swap::ArcSwap;
use async_trait::async_trait;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The longest a single look-up may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// While a name has never been answered, it is asked again this soon.
const RETRY_UNKNOWN: Duration = Duration::from_secs(1);
/// The most addresses kept of one answer.
const ADDRESSES_MAX: usize = 16;

/// One upstream host and port with the addresses it was last known to have.
pub struct Host {
    name: String,
    port: u16,
    addresses: ArcSwap<Vec<SocketAddr>>,
    /// Where in the list the next connection starts.
    start: AtomicUsize,
    known: watch::Sender<bool>,
}

impl Host {
    fn new(name: &str, port: u16) -> Self {
        let literal: Vec<SocketAddr> =
            name.parse::<IpAddr>().map(|ip| vec![SocketAddr::new(ip, port)]).unwrap_or_default();
        let known = watch::Sender::new(!literal.is_empty());
        Host {
            name: name.to_owned(),
            port,
            addresses: ArcSwap::from_pointee(literal),
            start: AtomicUsize::new(0),
            known,
        }
    }

    /// The address for the `attempt`-th try of a request and how many there are; none before the first answer.
    pub fn pick(&self, attempt: usize) -> Option<(SocketAddr, usize)> {
        let addresses = self.addresses.load();
        let at = self.start.load(Ordering::Relaxed).wrapping_add(attempt);
        let count = addresses.len();
        (count > 0).then(|| (addresses[at % count], count))
    }

    /// Puts a failed address behind the others for the requests to come.
    pub fn failed(&self, address: SocketAddr) {
        let addresses = self.addresses.load();
        let start = self.start.load(Ordering::Relaxed);
        if addresses.len() > 1 && addresses[start % addresses.len()] == address {
            // Losing the race means somebody else has moved on already.
            let _ = self.start.compare_exchange(start, start.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Waits until the name has been answered once, at most `limit`; false when it was not.
    pub async fn wait_known(&self, limit: Duration) -> bool {
        let mut known = self.known.subscribe();
        let answered = known.wait_for(|known| *known);
        matches!(tokio::time::timeout(limit, answered).await, Ok(Ok(_)))
    }

    /// Whether any address is known.
    pub fn is_known(&self) -> bool {
        !self.addresses.load().is_empty()
    }

    fn is_literal(&self) -> bool {
        self.name.parse::<IpAddr>().is_ok()
    }

    fn accept(&self, answer: Vec<SocketAddr>) {
        if !answer.is_empty() && **self.addresses.load() != answer {
            log::debug!("upstream {} is now {} addresses", self.name, answer.len());
            self.addresses.store(Arc::new(answer));
            self.start.store(0, Ordering::Relaxed);
        }
    }
}

/// Who is asked for the addresses of a name.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The addresses of a name, the preferred first.
    ///
    /// # Errors
    /// When nobody knows the name, or nobody answers.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver: the hosts file and DNS, in the order that nsswitch.conf says.
struct System;

#[async_trait]
impl Resolver for System {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((name, port)).await?.collect())
    }
}

/// All hosts of the running process; hosts outlive a reload that still names them.
pub struct Directory {
    hosts: Mutex<HashMap<(String, u16), Arc<Host>>>,
    resolver: Arc<dyn Resolver>,
}

impl Default for Directory {
    fn default() -> Self {
        Self::new(Arc::new(System))
    }
}

impl Directory {
    /// A directory that asks this resolver.
    pub fn new(resolver: Arc<dyn Resolver>) -> Self {
        Directory { hosts: Mutex::default(), resolver }
    }

    /// The host of this name and port, made when it is new.
    pub fn host(&self, name: &str, port: u16) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), port);
        Arc::clone(hosts.entry(key).or_insert_with(|| Arc::new(Host::new(name, port))))
    }

    /// Forgets hosts that no configuration in use names any more.
    pub fn prune(&self) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, host| Arc::strong_count(host) > 1);
    }

    /// Whether every name has been answered at least once.
    pub fn all_known(&self) -> bool {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.values().all(|host| host.is_known())
    }

    /// Asks for every name once, all at the same time, and keeps the good answers. Returns how long to wait before the
    /// next round: soon while a name has never been answered, else `refresh`.
    pub async fn refresh(&self, refresh: Duration) -> Duration {
        let asked: Vec<Arc<Host>> = {
            let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.values().filter(|host| !host.is_literal()).cloned().collect()
        };
        let mut lookups = tokio::task::JoinSet::new();
        for host in asked {
            let resolver = Arc::clone(&self.resolver);
            lookups.spawn(async move { resolve(&*resolver, &host).await });
        }
        while lookups.join_next().await.is_some() {}
        if self.all_known() { refresh } else { RETRY_UNKNOWN.min(refresh) }
    }
}

async fn resolve(resolver: &dyn Resolver, host: &Host) {
    match lookup(resolver, &host.name, host.port).await {
        Ok(answer) => {
            host.accept(answer);
            host.known.send_replace(true);
        }
        Err(cause) if host.is_known() => {
            log::warn!("cannot resolve upstream {}, keeping its last addresses: {cause}", host.name);
        }
        Err(cause) => log::error!("cannot resolve upstream {}: {cause}", host.name),
    }
}

async fn lookup(resolver: &dyn Resolver, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut answer = tokio::time::timeout(LOOKUP_MAX, resolver.resolve(name, port))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    answer.truncate(ADDRESSES_MAX);
    let addresses = interleave(answer);
    if addresses.is_empty() { Err(io::Error::from(io::ErrorKind::NotFound)) } else { Ok(addresses) }
}

/// Alternates the address families, beginning with the family the resolver put first (RFC 8305, section 4).
fn interleave(answer: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first_is_v6) = answer.first().map(SocketAddr::is_ipv6) else { return answer };
    let (preferred, other): (Vec<_>, Vec<_>) = answer.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let longest = preferred.len().max(other.len());
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(longest * 2);
    for index in 0..longest {
        for address in [preferred.get(index), other.get(index)].into_iter().flatten() {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns_and_doubles_go() {
        let answer = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:1", "[::1]:1", "10.0.0.3:1"].map(address).to_vec();
        let expected = ["10.0.0.1:1", "[::1]:1", "10.0.0.2:1", "10.0.0.3:1"].map(address).to_vec();
        assert_eq!(interleave(answer), expected);
    }

    #[test]
    fn a_failed_address_moves_behind_the_others() {
        let host = Host::new("name.invalid", 443);
        assert!(host.pick(0).is_none());
        host.accept(vec![address("10.0.0.1:443"), address("10.0.0.2:443")]);
        assert_eq!(host.pick(0), Some((address("10.0.0.1:443"), 2)));
        host.failed(address("10.0.0.1:443"));
        assert_eq!(host.pick(0), Some((address("10.0.0.2:443"), 2)));
        assert_eq!(host.pick(1), Some((address("10.0.0.1:443"), 2)));
        host.failed(address("10.0.0.1:443"));
        assert_eq!(host.pick(0), Some((address("10.0.0.2:443"), 2)), "an address that was not first moves nothing");
    }

    #[tokio::test]
    async fn literals_need_no_resolver_and_unknown_names_stay_unknown() {
        let directory = Directory::default();
        let literal = directory.host("127.0.0.1", 80);
        assert!(literal.is_known() && literal.wait_known(Duration::ZERO).await);
        let unknown = directory.host("no-such-host.invalid", 80);
        assert_eq!(directory.refresh(Duration::from_secs(30)).await, RETRY_UNKNOWN);
        assert!(!unknown.is_known() && !unknown.wait_known(Duration::from_millis(1)).await);
        drop(unknown);
        directory.prune();
        assert!(directory.all_known());
    }

    /// What a scripted resolver says to one question.
    enum Line {
        Addresses(&'static [&'static str]),
        Unknown,
        Silence,
    }

    /// Answers one line after the other, whatever the name.
    struct Scripted(Mutex<std::collections::VecDeque<Line>>);

    impl Scripted {
        fn directory(lines: impl IntoIterator<Item = Line>) -> Directory {
            Directory::new(Arc::new(Scripted(Mutex::new(lines.into_iter().collect()))))
        }
    }

    #[async_trait]
    impl Resolver for Scripted {
        async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            let line = self.0.lock().unwrap().pop_front();
            match line.expect("the script is long enough") {
                Line::Addresses(list) => Ok(list.iter().map(|text| address(text)).collect()),
                Line::Unknown => Err(io::ErrorKind::NotFound.into()),
                Line::Silence => std::future::pending().await,
            }
        }
    }

    fn all(host: &Host) -> Vec<String> {
        let count = host.pick(0).map_or(0, |(_, count)| count);
        (0..count).filter_map(|at| host.pick(at)).map(|(address, _)| address.to_string()).collect()
    }

    const EVERY: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_soon_until_it_is_known_and_then_now_and_then() {
        let directory = Scripted::directory([Line::Unknown, Line::Silence, Line::Addresses(&["10.0.0.1:80"])]);
        let host = directory.host("up.test", 80);
        assert_eq!(directory.refresh(EVERY).await, RETRY_UNKNOWN);
        let begun = tokio::time::Instant::now();
        assert_eq!(directory.refresh(EVERY).await, RETRY_UNKNOWN);
        assert_eq!(begun.elapsed(), LOOKUP_MAX, "a resolver that is silent is given up");
        let waiting = tokio::spawn({
            let host = Arc::clone(&host);
            async move { host.wait_known(EVERY).await }
        });
        assert_eq!(directory.refresh(EVERY).await, EVERY);
        assert!(waiting.await.unwrap(), "a request that waits for the first answer goes on with it");
        assert_eq!(all(&host), ["10.0.0.1:80"]);
    }

    #[tokio::test(start_paused = true)]
    async fn moves_are_followed_and_a_name_that_goes_keeps_its_last_good_addresses() {
        let directory = Scripted::directory([
            Line::Addresses(&["[fd00::1]:80", "[fd00::2]:80", "10.0.0.1:80"]),
            Line::Addresses(&["10.0.0.9:80"]),
            Line::Unknown,
            Line::Silence,
            Line::Addresses(&[]),
            Line::Addresses(&["10.0.0.7:80"]),
        ]);
        let host = directory.host("up.test", 80);
        let mut seen = Vec::new();
        for _ in 0..6 {
            directory.refresh(EVERY).await;
            seen.push(all(&host).join(" "));
        }
        let (first, moved) = ("[fd00::1]:80 10.0.0.1:80 [fd00::2]:80", "10.0.0.9:80");
        assert_eq!(seen, [first, moved, moved, moved, moved, "10.0.0.7:80"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_bounded_and_the_same_answer_keeps_the_dead_address_behind() {
        let many: &'static [&'static str] = &["10.0.0.1:80", "10.0.0.2:80"];
        let directory = Scripted::directory([Line::Addresses(many), Line::Addresses(many)]);
        let host = directory.host("up.test", 80);
        directory.refresh(EVERY).await;
        host.failed(address("10.0.0.1:80"));
        directory.refresh(EVERY).await;
        assert_eq!(all(&host), ["10.0.0.2:80", "10.0.0.1:80"]);
        let long: Vec<SocketAddr> = (0..100).map(|n| address(&format!("10.0.1.{n}:80"))).collect();
        struct Long(Vec<SocketAddr>);
        #[async_trait]
        impl Resolver for Long {
            async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
                Ok(self.0.clone())
            }
        }
        let directory = Directory::new(Arc::new(Long(long)));
        let host = directory.host("up.test", 80);
        directory.refresh(EVERY).await;
        assert_eq!(host.pick(0).map(|(_, count)| count), Some(ADDRESSES_MAX));
    }
}
