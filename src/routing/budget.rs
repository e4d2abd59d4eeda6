//! The retry budget: retries are a share of live traffic, so that an outage is not multiplied.

use super::window::Window;

/// The traffic and the retries that are set against each other. Long enough that requests which all run into one
/// time-out, and fail within the same moment, are paid for by the traffic that went well meanwhile.
const WINDOW_MS: u64 = 10_000;
/// What each window brings whatever the traffic: a quiet gateway may retry too. Ten a second.
const FLOOR: u64 = 100;

/// The share of the traffic that retries may be when nothing else is said.
pub const SHARE_DEFAULT: f64 = 0.2;

/// The budget of one process. Knows no clock: every call is told the time, in milliseconds.
#[derive(Debug, Default)]
pub struct Budget {
    requests: Window,
    retries: Window,
}

impl Budget {
    /// A request came in.
    pub fn deposit(&self, now_ms: u64) {
        self.requests.add(1, WINDOW_MS, now_ms);
    }

    /// Pays for a retry, if retries are not more than `share` of the traffic yet; false when it must not be made.
    pub fn try_pay(&self, share: f64, now_ms: u64) -> bool {
        // First counted and then looked at: two that pay together cannot both take the last one.
        self.retries.add(1, WINDOW_MS, now_ms);
        let brought = (self.requests.count(WINDOW_MS, now_ms) as f64 * share) as u64;
        let paid = self.retries.count(WINDOW_MS, now_ms) <= FLOOR + brought;
        if !paid {
            self.refund();
        }
        paid
    }

    /// Gives back what was paid for a retry that is not made.
    pub fn refund(&self) {
        self.retries.take_back(1);
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
            // 500 requests a second, every one of them fails twice.
            budget.deposit(request * 2);
            retries += (0..2).filter(|_| budget.try_pay(SHARE_DEFAULT, request * 2)).count();
        }
        let floor = 20 * 10;
        assert!((2_000..=2_000 + floor + 150).contains(&retries), "{retries}");
    }

    #[test]
    fn one_time_out_of_a_third_of_the_traffic_is_paid_for() {
        let budget = Budget::default();
        (0..1_500_u64).for_each(|request| budget.deposit(request * 2));
        assert!((0..400).all(|_| budget.try_pay(SHARE_DEFAULT, 3_000)));
        assert!(!budget.try_pay(SHARE_DEFAULT, 3_000));
    }

    #[test]
    fn a_quiet_gateway_may_retry_and_a_refund_is_spent_again() {
        let budget = Budget::default();
        assert!((0..FLOOR).all(|_| budget.try_pay(SHARE_DEFAULT, 1)));
        assert!(!budget.try_pay(SHARE_DEFAULT, 1));
        budget.refund();
        assert!(budget.try_pay(SHARE_DEFAULT, 1) && !budget.try_pay(SHARE_DEFAULT, 1));
        assert!(budget.try_pay(SHARE_DEFAULT, 30_000));
        let none = Budget::default();
        (0..1_000).for_each(|_| none.deposit(1));
        assert_eq!((0..1_000).filter(|_| none.try_pay(0.0, 1)).count(), FLOOR as usize);
    }
}
