//! What live traffic shows of one deployment, without a lock: whether it rests, how busy and how quick it is.
//!
//! A resting deployment is not called while others of its group are usable; it is never refused when it is the last
//! one. Knows no clock: every call is told the time.

use super::limit::Usage;
use super::window::Window;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One probe may run this long before another is let through.
const PROBE_MS: u64 = 30_000;
/// A deployment that keeps failing rests longer each time, up to so many times its first rest.
const REST_DOUBLINGS_MAX: u32 = 5;
/// No upstream's `retry-after` keeps a deployment away longer than this.
const RETRY_AFTER_MAX_MS: u64 = 300_000;
/// Weight of the newest observation in the running mean of times to first byte, as 1/N.
const MEAN_OVER: u64 = 8;
/// The running mean is worth half after so long without an answer.
const MEAN_HALF_LIFE_MS: u64 = 30_000;
/// The window of the failure rate.
const RATE_WINDOW_MS: u64 = 30_000;
/// Fewer endings than this in the window say nothing about a rate.
const RATE_ENDINGS_MIN: u64 = 10;
/// A deployment rests when at least so many percent of its endings are failures (LiteLLM: more than 50).
const RATE_PERCENT_MAX: u64 = 50;

/// When a deployment rests, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row before it rests.
    pub failures_max: u32,
    /// The first rest; 0 means never.
    pub rest_ms: u64,
}

/// How an attempt ended, as far as the deployment is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Answered well, or with the client's own mistake.
    Good,
    /// Failed with this status, 0 when there was none.
    Failed {
        /// See the variant.
        status: u16,
        /// It will refuse the next request too (401, 403, 404), or asked to be left alone.
        certain: bool,
        /// How long it asked to be left alone, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// Nothing is known: the client left.
    Unknown,
}

/// Where a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In use.
    Closed,
    /// Not called while others are usable.
    Resting,
    /// Its rest is over and one request tries it.
    Probing,
}

impl State {
    /// The word in health and logs.
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Resting => "resting",
            State::Probing => "probing",
        }
    }
}

/// The record of one deployment. Times are milliseconds on any steady clock that all callers share.
#[derive(Debug, Default)]
pub struct Vitals {
    failures_in_row: AtomicU32,
    rests_in_row: AtomicU32,
    last_failure_status: AtomicU32,
    /// 0: closed.
    resting_until_ms: AtomicU64,
    rest_began_ms: AtomicU64,
    probe_began_ms: AtomicU64,
    /// Running mean of the time to the head; 0 before the first.
    mean_us: AtomicU64,
    mean_at_ms: AtomicU64,
    endings: Window,
    failures: Window,
    usage: Usage,
}

impl Vitals {
    /// Whether it should be called now, while others could be; takes the probe's place when its rest is over.
    pub fn take_usable(&self, now_ms: u64) -> bool {
        let until = self.resting_until_ms.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let began = self.probe_began_ms.load(Ordering::Relaxed);
        let free = began == 0 || now_ms >= began + PROBE_MS;
        let take =
            |began| self.probe_began_ms.compare_exchange(began, now_ms.max(1), Ordering::AcqRel, Ordering::Relaxed);
        now_ms >= until && free && take(began).is_ok()
    }

    /// Whether [`Vitals::take_usable`] would say yes, without taking anything.
    pub fn is_usable(&self, now_ms: u64) -> bool {
        let until = self.resting_until_ms.load(Ordering::Relaxed);
        let began = self.probe_began_ms.load(Ordering::Relaxed);
        until == 0 || (now_ms >= until && (began == 0 || now_ms >= began + PROBE_MS))
    }

    /// Where it is.
    pub fn state(&self, now_ms: u64) -> State {
        match self.resting_until_ms.load(Ordering::Relaxed) {
            0 => State::Closed,
            until if now_ms < until => State::Resting,
            _ => State::Probing,
        }
    }

    /// What is used of it.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Notes how long the head of an answer took.
    pub fn answered_in(&self, time_us: u64, now_ms: u64) {
        let mean = self.mean_us(now_ms);
        // A slow answer counts at once, a quick one by and by: a deployment in trouble is avoided early.
        let next = if mean == 0 || time_us > mean { time_us } else { mean - (mean - time_us) / MEAN_OVER };
        self.mean_us.store(next.max(1), Ordering::Relaxed);
        self.mean_at_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Notes the ending of an attempt that began at `began_ms`; the state when it changed by it.
    ///
    /// What began before a rest says nothing about the time after it: many requests may be running on a deployment when
    /// it fails, and a long stream may end well after it did.
    pub fn ended(&self, ending: Ending, began_ms: u64, policy: Policy, now_ms: u64) -> Option<State> {
        let until = self.resting_until_ms.load(Ordering::Acquire);
        let before_rest = until != 0 && began_ms < self.rest_began_ms.load(Ordering::Relaxed);
        match ending {
            Ending::Unknown => {
                // A probe that learned nothing makes room for the next.
                if !before_rest {
                    self.probe_began_ms.store(0, Ordering::Relaxed);
                }
                None
            }
            Ending::Good if before_rest => None,
            Ending::Good => {
                self.failures_in_row.store(0, Ordering::Relaxed);
                self.rests_in_row.store(0, Ordering::Relaxed);
                self.probe_began_ms.store(0, Ordering::Relaxed);
                self.endings.add(1, RATE_WINDOW_MS, now_ms);
                (self.resting_until_ms.swap(0, Ordering::AcqRel) != 0).then_some(State::Closed)
            }
            Ending::Failed { status, certain, retry_after_ms } => {
                self.last_failure_status.store(u32::from(status), Ordering::Relaxed);
                let failures = self.failures_in_row.fetch_add(1, Ordering::Relaxed) + 1;
                let was_probe = until != 0 && began_ms >= until;
                if until != 0 && !was_probe {
                    if let Some(asked) = retry_after_ms {
                        self.resting_until_ms.fetch_max(now_ms + asked.min(RETRY_AFTER_MAX_MS), Ordering::AcqRel);
                    }
                    return None;
                }
                self.endings.add(1, RATE_WINDOW_MS, now_ms);
                self.failures.add(1, RATE_WINDOW_MS, now_ms);
                let in_row = failures >= policy.failures_max;
                let enough = certain || retry_after_ms.is_some() || was_probe || in_row || self.fails_often(now_ms);
                (enough && policy.rest_ms > 0).then(|| self.rest(retry_after_ms, policy, now_ms))
            }
        }
    }

    fn rest(&self, retry_after_ms: Option<u64>, policy: Policy, now_ms: u64) -> State {
        let rests = self.rests_in_row.fetch_add(1, Ordering::Relaxed).min(REST_DOUBLINGS_MAX);
        let own = policy.rest_ms.saturating_mul(1 << rests);
        let pause = retry_after_ms.map_or(own, |asked| asked.min(RETRY_AFTER_MAX_MS).max(policy.rest_ms));
        self.probe_began_ms.store(0, Ordering::Relaxed);
        // What it did before its rest is atoned for; its probe decides.
        self.endings.clear();
        self.failures.clear();
        self.rest_began_ms.store(now_ms, Ordering::Relaxed);
        self.resting_until_ms.store((now_ms + pause).max(1), Ordering::Release);
        State::Resting
    }

    /// Running mean of the time to the head, in microseconds; 0 before the first answer.
    ///
    /// It fades: a deployment that nobody asks because it was slow once comes to be asked again.
    pub fn mean_us(&self, now_ms: u64) -> u64 {
        let age_ms = now_ms.saturating_sub(self.mean_at_ms.load(Ordering::Relaxed));
        let halvings = u32::try_from(age_ms / MEAN_HALF_LIFE_MS).unwrap_or(u32::MAX);
        self.mean_us.load(Ordering::Relaxed).checked_shr(halvings).unwrap_or(0)
    }

    /// Failures since the last success, and the status of the last one (0 for none).
    pub fn failures(&self) -> (u32, u32) {
        (self.failures_in_row.load(Ordering::Relaxed), self.last_failure_status.load(Ordering::Relaxed))
    }

    /// When its rest ends; none while it is in use.
    pub fn resting_ms(&self, now_ms: u64) -> Option<u64> {
        let until = self.resting_until_ms.load(Ordering::Relaxed);
        (until != 0).then(|| until.saturating_sub(now_ms))
    }

    /// Whether the share of failures among its recent endings is too high, though successes come in between.
    fn fails_often(&self, now_ms: u64) -> bool {
        let endings = self.endings.count(RATE_WINDOW_MS, now_ms);
        endings >= RATE_ENDINGS_MIN && self.failures.count(RATE_WINDOW_MS, now_ms) * 100 >= endings * RATE_PERCENT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { failures_max: 3, rest_ms: 5_000 };
    const FAILED: Ending = Ending::Failed { status: 503, certain: false, retry_after_ms: None };

    #[test]
    fn failures_in_a_row_rest_and_a_good_probe_closes() {
        let vitals = Vitals::default();
        assert_eq!(vitals.ended(FAILED, 1, POLICY, 1), None);
        assert_eq!(vitals.ended(FAILED, 2, POLICY, 2), None);
        assert_eq!(vitals.ended(FAILED, 3, POLICY, 3), Some(State::Resting));
        assert!(!vitals.take_usable(5_002) && vitals.state(5_002) == State::Resting);
        assert!(vitals.take_usable(5_003), "the rest is over");
        assert!(!vitals.take_usable(5_004) && !vitals.is_usable(5_004), "one probe at a time");
        assert_eq!(vitals.state(5_004), State::Probing);
        assert_eq!(vitals.ended(Ending::Good, 5_010, POLICY, 5_010), Some(State::Closed));
        assert!(vitals.take_usable(5_011) && vitals.take_usable(5_011));
    }

    #[test]
    fn a_failed_probe_rests_longer_each_time_within_bounds() {
        let vitals = Vitals::default();
        let mut now = 0;
        for _ in 0..3 {
            vitals.ended(FAILED, now, POLICY, now);
        }
        for doubling in [2, 4, 8, 16, 32, 32] {
            now += 5_000 * 40;
            assert!(vitals.take_usable(now));
            assert_eq!(vitals.ended(FAILED, now, POLICY, now), Some(State::Resting));
            assert!(!vitals.is_usable(now + 5_000 * doubling - 1));
            assert!(vitals.is_usable(now + 5_000 * doubling));
        }
    }

    #[test]
    fn certain_failures_and_retry_after_rest_at_once() {
        let vitals = Vitals::default();
        let refused = Ending::Failed { status: 401, certain: true, retry_after_ms: None };
        assert_eq!(vitals.ended(refused, 10, POLICY, 10), Some(State::Resting));
        let vitals = Vitals::default();
        let busy = Ending::Failed { status: 429, certain: false, retry_after_ms: Some(20_000) };
        assert_eq!(vitals.ended(busy, 10, POLICY, 10), Some(State::Resting));
        assert!(!vitals.is_usable(20_009) && vitals.is_usable(20_010));
        let never = Policy { rest_ms: 0, ..POLICY };
        assert_eq!(Vitals::default().ended(refused, 10, never, 10), None);
    }

    #[test]
    fn a_probe_that_learned_nothing_or_was_lost_makes_room() {
        let vitals = Vitals::default();
        vitals.ended(Ending::Failed { status: 404, certain: true, retry_after_ms: None }, 0, POLICY, 0);
        assert!(vitals.take_usable(5_000));
        assert_eq!(vitals.ended(Ending::Unknown, 5_100, POLICY, 5_100), None);
        assert!(vitals.take_usable(5_101));
        assert!(!vitals.take_usable(5_102) && vitals.take_usable(5_101 + PROBE_MS));
    }

    #[test]
    fn what_began_in_the_millisecond_of_a_rest_counts() {
        let vitals = Vitals::default();
        let failed = Ending::Failed { status: 401, certain: true, retry_after_ms: None };
        assert_eq!(vitals.ended(failed, 5, POLICY, 7), Some(State::Resting));
        assert_eq!(vitals.ended(Ending::Good, 7, POLICY, 8), Some(State::Closed));
    }

    #[test]
    fn what_began_before_a_rest_decides_nothing_and_a_longer_wait_is_heard() {
        let vitals = Vitals::default();
        let refused = Ending::Failed { status: 503, certain: true, retry_after_ms: None };
        assert_eq!(vitals.ended(refused, 1, POLICY, 100), Some(State::Resting));
        for _ in 0..50 {
            assert_eq!(vitals.ended(FAILED, 100, POLICY, 200), None, "it ran already");
            assert_eq!(vitals.ended(Ending::Good, 50, POLICY, 300), None, "an old stream that ends well");
        }
        assert!(!vitals.is_usable(5_099) && vitals.is_usable(5_100), "one rest, not fifty");
        let asked = Ending::Failed { status: 429, certain: false, retry_after_ms: Some(9_000) };
        assert_eq!(vitals.ended(asked, 60, POLICY, 400), None);
        assert!(!vitals.is_usable(9_399) && vitals.is_usable(9_400));
        // A lone deployment is called while it rests: what it does then counts.
        assert_eq!(vitals.ended(FAILED, 500, POLICY, 600), None);
        assert_eq!(vitals.ended(Ending::Good, 700, POLICY, 800), Some(State::Closed));
    }

    #[test]
    fn a_deployment_that_fails_every_other_time_rests_too() {
        let vitals = Vitals::default();
        let mut rested_after = None;
        for n in 0..40_u64 {
            let ending = if n % 2 == 0 { Ending::Good } else { FAILED };
            if vitals.ended(ending, n, POLICY, n) == Some(State::Resting) {
                rested_after = Some(n + 1);
                break;
            }
        }
        assert_eq!(rested_after, Some(RATE_ENDINGS_MIN));
        assert_eq!(vitals.resting_ms(9), Some(5_000));
        vitals.ended(Ending::Good, 6_000, POLICY, 6_000);
        assert_eq!(vitals.ended(FAILED, 6_001, POLICY, 6_001), None, "the rate begins anew");
    }

    #[test]
    fn one_failure_in_three_is_borne_and_old_ones_are_forgotten() {
        let vitals = Vitals::default();
        for n in 0..300 {
            let ending = if n % 3 == 0 { FAILED } else { Ending::Good };
            assert_eq!(vitals.ended(ending, n, POLICY, n), None);
        }
        for n in 0..4 {
            let now_ms = 1_000_000 + n * RATE_WINDOW_MS;
            assert_eq!(vitals.ended(Ending::Good, now_ms, POLICY, now_ms), None);
            assert_eq!(vitals.ended(FAILED, now_ms, POLICY, now_ms), None);
        }
    }

    #[test]
    fn slow_answers_count_at_once_and_fade() {
        let vitals = Vitals::default();
        vitals.answered_in(1_000, 1);
        vitals.answered_in(9_000, 2);
        assert_eq!(vitals.mean_us(2), 9_000);
        vitals.answered_in(1_000, 3);
        assert_eq!(vitals.mean_us(3), 8_000);
        assert_eq!((vitals.mean_us(30_002), vitals.mean_us(30_003), vitals.mean_us(90_003)), (8_000, 4_000, 1_000));
        assert_eq!(vitals.mean_us(u64::MAX), 0);
    }
}
