//! Idle connections to upstreams, kept for the next request.
//!
//! Pingora's own pool has a task watch each idle connection, and to take one is to wake its task and wait until that has
//! let go: 7,600 instructions a request, and a connection is lost where the task is moved to another thread meanwhile.
//! Here nobody watches; a connection is looked at when it is taken, and all of them once a second.

use pingora_core::protocols::Stream;
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;
use tokio::task::unconstrained;

/// How soon a connection is closed that its upstream has closed, or that has been idle for too long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The idle connections of a process.
#[derive(Debug)]
pub struct Pool {
    idle_max: usize,
    idle: Mutex<Idle>,
    /// There is something to look after again.
    filled: Notify,
}

/// What lies in the pool.
#[derive(Debug, Default)]
struct Idle {
    /// By peer, the one that came last at the end.
    by_peer: HashMap<u64, VecDeque<Resting>>,
    count: usize,
}

/// A connection between two requests.
#[derive(Debug)]
struct Resting {
    stream: Stream,
    until: Instant,
}

/// Where a connection belongs.
#[derive(Debug)]
pub struct Home {
    /// The pool.
    pub pool: Arc<Pool>,
    /// The peer it leads to.
    pub peer: u64,
    /// How long it may be idle there.
    pub idle_timeout: Duration,
}

impl Home {
    /// Puts a connection into its pool on which nothing is under way.
    pub fn take_back(&self, stream: Stream) {
        self.pool.put(self.peer, stream, self.idle_timeout);
    }
}

impl Pool {
    /// Keeps at most `idle_max` connections, at least one; the one whose time ends first goes for one more.
    pub fn new(idle_max: usize) -> Self {
        Pool { idle_max, idle: Mutex::default(), filled: Notify::new() }
    }

    /// The connection to a peer that was used last and is still good.
    pub fn take(&self, peer: u64) -> Option<Stream> {
        loop {
            let mut resting = {
                let mut idle = self.lock();
                let resting = idle.by_peer.get_mut(&peer)?.pop_back()?;
                idle.count -= 1;
                resting
            };
            if resting.until > Instant::now() && is_quiet(&mut resting.stream) {
                return Some(resting.stream);
            }
        }
    }

    /// Keeps a connection on which nothing is under way.
    pub fn put(&self, peer: u64, stream: Stream, idle_timeout: Duration) {
        let Some(until) = Instant::now().checked_add(idle_timeout) else { return };
        let mut idle = self.lock();
        let crowded_out = if idle.count < self.idle_max { None } else { idle.remove_oldest() };
        idle.by_peer.entry(peer).or_default().push_back(Resting { stream, until });
        idle.count += 1;
        let is_first = idle.count == 1;
        // To close a connection is a system call: not while others wait for the lock.
        drop(idle);
        drop(crowded_out);
        if is_first {
            self.filled.notify_one();
        }
    }

    /// Closes what is of no use any more, again and again.
    pub async fn look_after(&self) {
        loop {
            while self.lock().count == 0 {
                self.filled.notified().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            self.sweep(Instant::now());
        }
    }

    fn sweep(&self, now: Instant) {
        let mut useless = Vec::new();
        let mut idle = self.lock();
        idle.by_peer.retain(|_, connections| {
            for _ in 0..connections.len() {
                let Some(mut resting) = connections.pop_front() else { break };
                if resting.until > now && is_quiet(&mut resting.stream) {
                    connections.push_back(resting);
                } else {
                    useless.push(resting);
                }
            }
            !connections.is_empty()
        });
        idle.count -= useless.len();
        drop(idle);
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// The one whose time ends first.
    fn remove_oldest(&mut self) -> Option<Resting> {
        let by_age = self.by_peer.values_mut().filter(|connections| !connections.is_empty());
        let oldest = by_age.min_by_key(|connections| connections.front().map(|resting| resting.until))?;
        self.count -= 1;
        oldest.pop_front()
    }
}

/// Whether an upstream keeps a connection open and has said nothing on it.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    // A task that has used up its share of time would be told that nothing came.
    let read = pin!(unconstrained(poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut buffer))));
    read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream as Peer;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    const LONG: Duration = Duration::from_secs(60);

    /// A connection to each of so many peers.
    fn connections<const COUNT: usize>() -> [(Stream, Peer); COUNT] {
        std::array::from_fn(|_| {
            let (ours, theirs) = Peer::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_nonblocking(true).unwrap();
            (Box::new(UnixStream::from_std(ours).unwrap()) as Stream, theirs)
        })
    }

    /// The stream once the runtime has learned that there is something to read on it; nothing is read.
    async fn noticed(stream: Stream) -> Stream {
        let stream = stream.into_any().downcast::<UnixStream>().unwrap();
        tokio::time::timeout(Duration::from_secs(30), stream.readable()).await.expect("nothing came").unwrap();
        stream
    }

    /// Whether `stream` leads to `peer`.
    async fn leads_to(stream: Option<Stream>, mut peer: &Peer) -> bool {
        stream.unwrap().write_all(b"x").await.unwrap();
        peer.read(&mut [0; 8]).is_ok_and(|count| count == 1)
    }

    fn is_closed(mut peer: &Peer) -> bool {
        match peer.read(&mut [0; 8]) {
            Ok(count) => count == 0,
            Err(cause) => cause.kind() != ErrorKind::WouldBlock,
        }
    }

    #[tokio::test]
    async fn the_connection_used_last_comes_first_and_only_for_its_peer() {
        let pool = Pool::new(8);
        let [(first, first_peer), (second, second_peer), (other, other_peer)] = connections();
        pool.put(1, first, LONG);
        pool.put(1, second, LONG);
        pool.put(2, other, LONG);
        assert!(pool.take(3).is_none());
        assert!(leads_to(pool.take(1), &second_peer).await);
        assert!(leads_to(pool.take(1), &first_peer).await);
        assert!(pool.take(1).is_none());
        assert!(leads_to(pool.take(2), &other_peer).await);
        assert_eq!(pool.lock().count, 0);
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_or_spoken_on_or_kept_too_long_is_not_handed_out() {
        let pool = Pool::new(8);
        let [(good, good_peer), (closed, closed_peer), (spoken_on, mut loud_peer), (late, late_peer)] = connections();
        drop(closed_peer);
        loud_peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n").unwrap();
        pool.put(1, good, LONG);
        for stream in [closed, spoken_on] {
            pool.put(1, noticed(stream).await, LONG);
        }
        pool.put(1, late, Duration::ZERO);
        assert!(leads_to(pool.take(1), &good_peer).await);
        assert!(is_closed(&loud_peer) && is_closed(&late_peer));
        assert_eq!(pool.lock().count, 0);
    }

    #[tokio::test]
    async fn a_full_pool_lets_its_oldest_connection_go() {
        let pool = Pool::new(2);
        let [(first, first_peer), (second, second_peer), (third, third_peer)] = connections();
        pool.put(1, first, LONG);
        pool.put(2, second, LONG);
        assert!(!is_closed(&first_peer));
        pool.put(2, third, LONG);
        assert!(is_closed(&first_peer) && !is_closed(&second_peer) && !is_closed(&third_peer));
        assert_eq!(pool.lock().count, 2);
    }

    #[tokio::test]
    async fn a_look_closes_what_is_of_no_use_and_forgets_peers() {
        let pool = Pool::new(8);
        let [(early, early_peer), (closed, closed_peer), (late, late_peer), (other, other_peer)] = connections();
        drop(closed_peer);
        pool.put(1, early, LONG);
        pool.put(1, noticed(closed).await, LONG);
        pool.put(1, late, 2 * LONG);
        pool.put(2, other, LONG);
        pool.sweep(Instant::now());
        assert_eq!(pool.lock().count, 3);
        assert!(!is_closed(&early_peer) && !is_closed(&late_peer) && !is_closed(&other_peer));
        pool.sweep(Instant::now() + LONG);
        assert!(is_closed(&early_peer) && !is_closed(&late_peer) && is_closed(&other_peer));
        let left = |idle: MutexGuard<'_, Idle>| (idle.count, idle.by_peer.len());
        assert_eq!(left(pool.lock()), (1, 1));
        assert!(leads_to(pool.take(1), &late_peer).await);
    }

    #[tokio::test]
    async fn what_comes_into_an_empty_pool_is_looked_after() {
        let pool = std::sync::Arc::new(Pool::new(8));
        let looking = tokio::spawn({
            let pool = std::sync::Arc::clone(&pool);
            async move { pool.look_after().await }
        });
        for _ in 0..2 {
            let [(stream, peer)] = connections();
            pool.put(1, stream, Duration::ZERO);
            let closed = async {
                while !is_closed(&peer) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), closed).await.expect("nobody has looked");
        }
        looking.abort();
    }
}
