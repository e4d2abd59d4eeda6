//! The retry budget: retries are a share of live traffic, so that an outage is not multiplied.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What one retry costs, so that shares are whole numbers.
const RETRY: i64 = 1_000;
/// What each request brings: one retry for five requests.
const BROUGHT: i64 = 200;
/// What each second brings, whatever the traffic: a quiet gateway may retry too.
const BROUGHT_PER_SECOND: i64 = 10 * RETRY;
/// The most that can be saved up.
const SAVED_MAX: i64 = 100 * RETRY;

/// The budget of one process. Knows no clock: every call is told the time, in milliseconds.
#[derive(Debug)]
pub struct Budget {
    saved: AtomicI64,
    looked_ms: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { saved: AtomicI64::new(BROUGHT_PER_SECOND), looked_ms: AtomicU64::new(0) }
    }
}

impl Budget {
    /// A request came in.
    pub fn deposit(&self) {
        if self.saved.load(Ordering::Relaxed) < SAVED_MAX {
            self.saved.fetch_add(BROUGHT, Ordering::Relaxed);
        }
    }

    /// Whether a retry would be paid for.
    pub fn affords(&self, now_ms: u64) -> bool {
        self.top_up(now_ms);
        self.saved.load(Ordering::Relaxed) >= RETRY
    }

    /// Pays for a retry.
    pub fn pay(&self) {
        self.saved.fetch_sub(RETRY, Ordering::Relaxed);
    }

    fn top_up(&self, now_ms: u64) {
        let looked = self.looked_ms.load(Ordering::Relaxed);
        let passed = i64::try_from(now_ms.saturating_sub(looked)).unwrap_or(i64::MAX).min(10_000);
        let mine =
            self.looked_ms.compare_exchange(looked, now_ms.max(looked), Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if passed > 0 && mine {
            let room = SAVED_MAX - self.saved.load(Ordering::Relaxed);
            let brought = passed * BROUGHT_PER_SECOND / 1_000;
            self.saved.fetch_add(brought.clamp(0, room.max(0)), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_the_traffic_plus_a_floor() {
        let budget = Budget::default();
        let mut retries = 0;
        for request in 0..10_000_u64 {
            budget.deposit();
            // 500 requests a second, every one of them fails twice.
            for _ in 0..2 {
                if budget.affords(request * 2) {
                    budget.pay();
                    retries += 1;
                }
            }
        }
        let floor = 20 * 10 + 10;
        assert!((2_000..=2_000 + floor + 100).contains(&retries), "{retries}");
    }

    #[test]
    fn a_quiet_gateway_may_retry_and_savings_are_bounded() {
        let budget = Budget::default();
        for _ in 0..10 {
            assert!(budget.affords(0));
            budget.pay();
        }
        assert!(!budget.affords(0) && budget.affords(100));
        (0..100_000).for_each(|_| budget.deposit());
        assert!(budget.saved.load(Ordering::Relaxed) <= SAVED_MAX + BROUGHT);
    }
}
