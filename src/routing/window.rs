//! Counts over a stretch of time, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// A sliding count: the running window and, by the part of it that is still covered, the one before.
///
/// Knows no clock: every call is told the time in milliseconds. Between threads it may be off by what they count within
/// the same instant.
#[derive(Debug, Default)]
pub struct Window {
    began_ms: AtomicU64,
    now: AtomicU64,
    before: AtomicU64,
}

impl Window {
    /// Counts `amount` more in a window of `length_ms`.
    pub fn add(&self, amount: u64, length_ms: u64, now_ms: u64) {
        self.turn(length_ms, now_ms);
        self.now.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes back what was counted a moment ago.
    pub fn take_back(&self, amount: u64) {
        // A window that turned in between has nothing to give back.
        let _ = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(amount)));
    }

    /// What was counted in the last `length_ms`.
    pub fn count(&self, length_ms: u64, now_ms: u64) -> u64 {
        self.turn(length_ms, now_ms);
        let left = length_ms.saturating_sub(self.passed(now_ms));
        self.now.load(Ordering::Relaxed) + self.before.load(Ordering::Relaxed) * left / length_ms.max(1)
    }

    /// Milliseconds until the running window ends.
    pub fn left_ms(&self, length_ms: u64, now_ms: u64) -> u64 {
        length_ms.saturating_sub(self.passed(now_ms))
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.now.store(0, Ordering::Relaxed);
        self.before.store(0, Ordering::Relaxed);
    }

    fn passed(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.began_ms.load(Ordering::Relaxed))
    }

    fn turn(&self, length_ms: u64, now_ms: u64) {
        let began = self.began_ms.load(Ordering::Relaxed);
        let passed = now_ms.saturating_sub(began);
        if passed < length_ms {
            return;
        }
        // The next window begins where this one ended, unless nothing was counted for longer than another one.
        let next = if passed < 2 * length_ms { began + length_ms } else { now_ms };
        if self.began_ms.compare_exchange(began, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            let counted = self.now.swap(0, Ordering::Relaxed);
            self.before.store(if passed < 2 * length_ms { counted } else { 0 }, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_slides_and_fades() {
        let window = Window::default();
        for now_ms in [0, 10, 999] {
            window.add(10, 1_000, now_ms);
        }
        assert_eq!(window.count(1_000, 999), 30);
        assert_eq!(window.count(1_000, 1_500), 15, "half of the last window is still covered");
        window.add(4, 1_000, 1_500);
        assert_eq!(window.count(1_000, 1_750), 4 + 7);
        assert_eq!((window.left_ms(1_000, 1_750), window.count(1_000, 2_000)), (250, 4));
        assert_eq!(window.count(1_000, 9_000), 0);
    }

    #[test]
    fn what_is_taken_back_was_never_there() {
        let window = Window::default();
        window.add(1, 1_000, 5_000);
        window.take_back(1);
        window.take_back(1);
        assert_eq!(window.count(1_000, 5_001), 0);
        window.add(3, 1_000, 5_002);
        window.clear();
        assert_eq!(window.count(1_000, 5_003), 0);
    }
}
