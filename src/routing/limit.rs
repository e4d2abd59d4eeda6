//! Hard limits: how many requests may run at a time, and how many requests and tokens a second or minute may take.
//!
//! For one deployment and for the whole gateway. Without a lock, without a clock and without waiting: a caller is let in
//! or told when to come again.

use super::window::Window;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Length of the windows of rpm and tpm.
const MINUTE_MS: u64 = 60_000;
/// Length of the window of requests a second.
const SECOND_MS: u64 = 1_000;

/// What may be used; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests at a time.
    pub in_flight: Option<u32>,
    /// Requests a minute.
    pub rpm: Option<u64>,
    /// Tokens a minute. They are known after an answer only, so the request that crosses the line still runs.
    pub tpm: Option<u64>,
}

/// No room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Milliseconds until time alone makes room; none when a running request has to end first.
    pub again_ms: Option<u64>,
}

/// What is used.
#[derive(Debug, Default)]
pub struct Usage {
    in_flight: AtomicU32,
    requests: Window,
    tokens: Window,
}

impl Usage {
    /// Counts a request that begins, if there is room for it.
    ///
    /// # Errors
    /// [`Full`] when there is none; then nothing is counted.
    pub fn try_begin(&self, limits: &Limits, now_ms: u64) -> Result<(), Full> {
        if let Some(again_ms) = used_up(&self.tokens, 0, limits.tpm, now_ms) {
            return Err(Full { again_ms: Some(again_ms) });
        }
        // First counted and then looked at: two that begin together cannot both take the last place.
        if self.in_flight.fetch_add(1, Ordering::AcqRel) >= limits.in_flight.unwrap_or(u32::MAX) {
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
            return Err(Full { again_ms: None });
        }
        self.requests.add(1, MINUTE_MS, now_ms);
        if let Some(again_ms) = used_up(&self.requests, 1, limits.rpm, now_ms) {
            self.take_back();
            return Err(Full { again_ms: Some(again_ms) });
        }
        Ok(())
    }

    /// Whether [`Usage::try_begin`] would let a request in, without counting it.
    pub fn has_room(&self, limits: &Limits, now_ms: u64) -> bool {
        limits.in_flight.is_none_or(|max| self.in_flight() < max) && self.again_ms(limits, now_ms).is_none()
    }

    /// Milliseconds until time alone makes room; none when requests and tokens leave some.
    pub fn again_ms(&self, limits: &Limits, now_ms: u64) -> Option<u64> {
        used_up(&self.requests, 0, limits.rpm, now_ms).max(used_up(&self.tokens, 0, limits.tpm, now_ms))
    }

    /// Counts a request that is over, however it ended.
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes back a request that was let in and is not sent.
    pub fn take_back(&self) {
        self.requests.take_back(1);
        self.leave();
    }

    /// Counts tokens.
    pub fn used(&self, tokens: u64, now_ms: u64) {
        self.tokens.add(tokens, MINUTE_MS, now_ms);
    }

    /// Requests running now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Requests and tokens in the last minute.
    pub fn in_minute(&self, now_ms: u64) -> (u64, u64) {
        (self.requests.count(MINUTE_MS, now_ms), self.tokens.count(MINUTE_MS, now_ms))
    }
}

/// Milliseconds until a window that holds `max` without the last `mine` of them has room.
fn used_up(window: &Window, mine: u64, max: Option<u64>, now_ms: u64) -> Option<u64> {
    let full = |max: &u64| window.count(MINUTE_MS, now_ms).saturating_sub(mine) >= *max;
    max.filter(full).map(|_| window.left_ms(MINUTE_MS, now_ms).max(1))
}

/// At most so many requests in any second: each waits until the one so many places before it is a second old.
#[derive(Debug)]
pub struct Pace {
    /// When each of the last requests began, in a ring; 0 is long ago.
    began_ms: Box<[AtomicU64]>,
    next: AtomicU64,
}

impl Pace {
    /// A pace of `per_second` requests, at least one.
    pub fn new(per_second: u32) -> Self {
        Pace { began_ms: (0..per_second.max(1)).map(|_| AtomicU64::new(0)).collect(), next: AtomicU64::new(0) }
    }

    /// The pace it was made for.
    pub fn per_second(&self) -> u32 {
        u32::try_from(self.began_ms.len()).unwrap_or(u32::MAX)
    }

    /// Takes the next place.
    ///
    /// # Errors
    /// [`Full`] with the time until it is free.
    pub fn try_begin(&self, now_ms: u64) -> Result<(), Full> {
        loop {
            let next = self.next.load(Ordering::Acquire);
            let place = &self.began_ms[(next % self.began_ms.len() as u64) as usize];
            let began = place.load(Ordering::Acquire);
            let free_at = if began == 0 { 0 } else { began + SECOND_MS };
            if now_ms < free_at {
                return Err(Full { again_ms: Some(free_at - now_ms) });
            }
            if self.next.compare_exchange(next, next + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                place.store(now_ms.max(1), Ordering::Release);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_run_at_a_time_than_may() {
        let usage = Usage::default();
        let limits = Limits { in_flight: Some(2), ..Limits::default() };
        assert_eq!((usage.try_begin(&limits, 1), usage.try_begin(&limits, 1)), (Ok(()), Ok(())));
        assert!(!usage.has_room(&limits, 1));
        assert_eq!(usage.try_begin(&limits, 1), Err(Full { again_ms: None }));
        assert_eq!(usage.in_flight(), 2, "who was not let in is not counted");
        usage.leave();
        assert!(usage.has_room(&limits, 1) && usage.try_begin(&limits, 1).is_ok());
    }

    #[test]
    fn a_minute_takes_so_many_requests_and_says_when_the_next_begins() {
        let usage = Usage::default();
        let limits = Limits { rpm: Some(3), ..Limits::default() };
        assert!((0..3).all(|_| usage.try_begin(&limits, 10_000).is_ok()));
        assert_eq!(usage.try_begin(&limits, 10_000), Err(Full { again_ms: Some(50_000) }));
        assert_eq!((usage.in_flight(), usage.in_minute(10_000).0), (3, 3));
        assert_eq!(usage.again_ms(&limits, 30_000), Some(30_000));
        // The old window fades: a third of it has passed.
        assert!(usage.try_begin(&limits, 80_001).is_ok());
    }

    #[test]
    fn tokens_close_the_minute_after_they_are_known() {
        let usage = Usage::default();
        let limits = Limits { tpm: Some(100), ..Limits::default() };
        assert!(usage.try_begin(&limits, 1).is_ok());
        usage.used(150, 2);
        assert!(!usage.has_room(&limits, 3) && usage.try_begin(&limits, 3).is_err());
        usage.take_back();
        assert_eq!((usage.in_flight(), usage.in_minute(3)), (0, (0, 150)));
    }

    #[test]
    fn threads_share_the_last_place_fairly() {
        let (usage, limits) = (Usage::default(), Limits { in_flight: Some(5), ..Limits::default() });
        let let_in: usize = std::thread::scope(|scope| {
            let one = || (0..1_000).filter(|_| usage.try_begin(&limits, 1).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
        });
        assert_eq!((let_in, usage.in_flight()), (5, 5));
    }

    #[test]
    fn any_second_holds_at_most_the_pace() {
        let pace = Pace::new(25);
        let mut began = Vec::new();
        for now_ms in 1..10_000_u64 {
            while pace.try_begin(now_ms).is_ok() {
                began.push(now_ms);
            }
        }
        assert_eq!(began.len(), 25 * 10, "and the whole pace is used");
        assert!(began.windows(26).all(|some| some[25] - some[0] >= 1_000));
        assert_eq!(pace.try_begin(9_999), Err(Full { again_ms: Some(2) }));
    }
}
