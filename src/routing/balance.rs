//! Which of a group's deployments comes next: the lowest order first, within it by the configured strategy.

use super::limit::Limits;
use super::vitals::Vitals;
use std::sync::Arc;

/// How the next deployment is chosen among equals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Drawn by weight.
    #[default]
    SimpleShuffle,
    /// The one with the fewest requests running.
    LeastBusy,
    /// The quicker of two drawn ones, by its recent time to the head and what runs on it.
    LatencyBased,
    /// The one that used the smallest share of its requests or tokens a minute.
    UsageBased,
}

/// What the choice looks at.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// Deployments of a lower order are used up first; LiteLLM's `order`.
    pub order: u32,
    /// Relative share of the draws within an order; not negative.
    pub weight: f64,
    /// Requests a minute it should get, for [`Strategy::UsageBased`].
    pub rpm: Option<u64>,
    /// Tokens a minute it should get, for [`Strategy::UsageBased`].
    pub tpm: Option<u64>,
    /// What it must not get more of.
    pub limits: Limits,
    /// What traffic shows of it.
    pub vitals: Arc<Vitals>,
}

/// One choice to be made.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// How.
    pub strategy: Strategy,
    /// Uniform in 0.0..1.0.
    pub chance: f64,
    /// The time.
    pub now_ms: u64,
}

/// Chooses one of `members` that has room and is not in `tried`, usable before resting, of the lowest order left; when
/// all with room were tried, any of them again. None when none has room.
pub fn pick(members: &[usize], shares: &[Share], tried: &[usize], draw: Draw) -> Option<usize> {
    let roomy = |member: &usize| shares[*member].has_room(draw.now_ms);
    if let [only] = members {
        return Some(*only).filter(roomy);
    }
    let fresh = |member: &usize| !tried.contains(member) && roomy(member);
    let mut candidates: Vec<usize> = members.iter().copied().filter(fresh).collect();
    if candidates.is_empty() {
        candidates = members.iter().copied().filter(roomy).collect();
    }
    let usable = |member: &usize| shares[*member].vitals.is_usable(draw.now_ms);
    if candidates.iter().any(usable) {
        candidates.retain(usable);
    }
    loop {
        let chosen = choose(&candidates, shares, draw)?;
        // A probe's place may have been taken in between; then the others are looked at, and at last it is used anyway.
        if candidates.len() == 1 || shares[chosen].vitals.take_usable(draw.now_ms) {
            return Some(chosen);
        }
        candidates.retain(|member| *member != chosen);
    }
}

/// Milliseconds until time alone makes room at one of `members`; none when a running request has to end first.
pub fn again_ms(members: &[usize], shares: &[Share], now_ms: u64) -> Option<u64> {
    members.iter().filter_map(|member| shares[*member].again_ms(now_ms)).min()
}

impl Share {
    fn has_room(&self, now_ms: u64) -> bool {
        self.limits == Limits::default() || self.vitals.usage().has_room(&self.limits, now_ms)
    }

    fn again_ms(&self, now_ms: u64) -> Option<u64> {
        self.vitals.usage().again_ms(&self.limits, now_ms)
    }
}

fn choose(members: &[usize], shares: &[Share], draw: Draw) -> Option<usize> {
    let order = members.iter().map(|member| shares[*member].order).min()?;
    let ready: Vec<usize> = members.iter().copied().filter(|member| shares[*member].order == order).collect();
    let first = place(ready.len(), draw.chance);
    // The search begins at a drawn place, so that equals share.
    let turned = || ready[first..].iter().chain(&ready[..first]).copied();
    match draw.strategy {
        Strategy::SimpleShuffle => by_weight(&ready, shares, draw.chance),
        Strategy::LeastBusy => turned().min_by_key(|member| shares[*member].vitals.usage().in_flight()),
        Strategy::LatencyBased => {
            let cost = |member: &usize| {
                let vitals = &shares[*member].vitals;
                vitals.mean_us(draw.now_ms).saturating_mul(u64::from(vitals.usage().in_flight()) + 1)
            };
            [ready[first], ready[second(ready.len(), first, draw.chance)]].into_iter().min_by_key(cost)
        }
        Strategy::UsageBased => {
            let used = |member: usize| used_share(&shares[member], draw.now_ms);
            turned().min_by(|one, other| used(*one).total_cmp(&used(*other)))
        }
    }
}

/// The larger of its shares of requests and tokens; plain counts where no limit is given.
fn used_share(share: &Share, now_ms: u64) -> f64 {
    let (requests, tokens) = share.vitals.usage().in_minute(now_ms);
    let part = |used: u64, limit: Option<u64>| limit.map(|limit| used as f64 / (limit.max(1)) as f64);
    match (part(requests, share.rpm), part(tokens, share.tpm)) {
        (None, None) => requests as f64,
        (requests, tokens) => requests.unwrap_or(0.0).max(tokens.unwrap_or(0.0)),
    }
}

fn place(count: usize, chance: f64) -> usize {
    ((chance * count as f64) as usize).min(count.saturating_sub(1))
}

/// A second, other place (the same where there is only one), from the part of `chance` that the first draw left over.
fn second(count: usize, first: usize, chance: f64) -> usize {
    if count < 2 {
        return first;
    }
    let rest = (chance * count as f64).fract();
    (first + 1 + place(count - 1, rest)) % count
}

fn by_weight(ready: &[usize], shares: &[Share], chance: f64) -> Option<usize> {
    let total: f64 = ready.iter().map(|member| shares[*member].weight).sum();
    if total <= 0.0 {
        // All weights are zero: everybody is equal.
        return ready.get(place(ready.len(), chance)).copied();
    }
    let mut left = chance * total;
    let mut last = None;
    for member in ready.iter().filter(|member| shares[**member].weight > 0.0) {
        last = Some(*member);
        left -= shares[*member].weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::super::vitals::{Ending, Policy};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, prop_assume, proptest};

    fn shares(list: &[(u32, f64)]) -> Vec<Share> {
        list.iter().map(|(order, weight)| Share { order: *order, weight: *weight, ..Share::default() }).collect()
    }

    fn draw(chance: f64) -> Draw {
        Draw { strategy: Strategy::SimpleShuffle, chance, now_ms: 1 }
    }

    fn by(strategy: Strategy, chance: f64) -> Draw {
        Draw { strategy, chance, now_ms: 1 }
    }

    fn begin(share: &Share) {
        assert!(share.vitals.usage().try_begin(&Limits::default(), 1).is_ok());
    }

    fn rest(share: &Share, now_ms: u64) {
        let failed = Ending::Failed { status: 503, certain: true, retry_after_ms: None };
        share.vitals.ended(failed, now_ms, Policy { failures_max: 1, rest_ms: 1_000 }, now_ms);
    }

    #[test]
    fn weights_are_shares_of_the_draws() {
        let shares = shares(&[(0, 9.0), (0, 1.0), (0, 0.0)]);
        let drawn: Vec<_> =
            (0..1000).filter_map(|n| pick(&[0, 1, 2], &shares, &[], draw(f64::from(n) / 1000.0))).collect();
        let times = |member| drawn.iter().filter(|drawn| **drawn == member).count();
        assert_eq!((times(0), times(1), times(2)), (900, 100, 0));
    }

    #[test]
    fn zero_weights_everywhere_mean_equal_shares() {
        let shares = shares(&[(0, 0.0), (0, 0.0)]);
        assert_eq!(pick(&[0, 1], &shares, &[], draw(0.49)), Some(0));
        assert_eq!(pick(&[0, 1], &shares, &[], draw(0.999_999)), Some(1));
    }

    #[test]
    fn order_comes_first_and_untried_ones_before_repeats() {
        let shares = shares(&[(1, 1.0), (2, 1.0), (2, 1.0)]);
        assert_eq!(pick(&[0, 1, 2], &shares, &[], draw(0.9)), Some(0));
        assert_eq!(pick(&[0, 1, 2], &shares, &[0], draw(0.9)), Some(2));
        assert_eq!(pick(&[0, 1, 2], &shares, &[0, 2], draw(0.9)), Some(1));
        assert_eq!(pick(&[0, 1, 2], &shares, &[0, 1, 2], draw(0.9)), Some(0));
        assert_eq!(pick(&[], &shares, &[], draw(0.5)), None);
    }

    #[test]
    fn a_resting_one_is_passed_over_while_others_are_usable_and_never_the_last() {
        let shares = shares(&[(0, 1.0), (1, 1.0)]);
        rest(&shares[0], 0);
        assert_eq!(pick(&[0, 1], &shares, &[], draw(0.0)), Some(1), "a resting order makes way for the next");
        assert_eq!(pick(&[0], &shares, &[], draw(0.0)), Some(0));
        rest(&shares[1], 0);
        assert!(pick(&[0, 1], &shares, &[], draw(0.5)).is_some(), "somebody is always called");
        let later = Draw { now_ms: 1_500, ..draw(0.0) };
        assert_eq!(pick(&[0, 1], &shares, &[], later), Some(0), "its rest is over: a probe");
        assert_eq!(pick(&[0, 1], &shares, &[], later), Some(1), "only one probe at a time");
    }

    #[test]
    fn the_least_busy_is_chosen_and_equals_share() {
        let shares = shares(&[(0, 1.0), (0, 1.0), (0, 1.0)]);
        begin(&shares[0]);
        let counts = |strategy| {
            let mut counts = [0; 3];
            for n in 0..90 {
                counts[pick(&[0, 1, 2], &shares, &[], by(strategy, f64::from(n) / 90.0)).unwrap()] += 1;
            }
            counts
        };
        let [busy, one, other] = counts(Strategy::LeastBusy);
        assert_eq!(busy, 0);
        assert!(one >= 30 && other >= 30, "{one} {other}");
    }

    #[test]
    fn the_quicker_of_two_is_chosen_and_the_slowest_never() {
        let shares = shares(&[(0, 1.0), (0, 1.0), (0, 1.0)]);
        for (share, time_us) in shares.iter().zip([1_000, 2_000, 50_000]) {
            share.vitals.answered_in(time_us, 1);
        }
        let chosen: Vec<_> = (0..90)
            .map(|n| pick(&[0, 1, 2], &shares, &[], by(Strategy::LatencyBased, f64::from(n) / 90.0)).unwrap())
            .collect();
        assert!(!chosen.contains(&2) && chosen.contains(&0) && chosen.contains(&1));
    }

    #[test]
    fn the_smallest_used_share_is_chosen() {
        let mut shares = shares(&[(0, 1.0), (0, 1.0)]);
        (shares[0].rpm, shares[1].rpm) = (Some(10), Some(100));
        for share in &shares {
            (0..5).for_each(|_| begin(share));
        }
        for chance in [0.0, 0.9] {
            assert_eq!(pick(&[0, 1], &shares, &[], by(Strategy::UsageBased, chance)), Some(1));
        }
    }

    #[test]
    fn one_that_is_full_makes_way() {
        let mut shares = shares(&[(0, 1.0), (0, 1.0)]);
        shares[0].limits.in_flight = Some(1);
        begin(&shares[0]);
        assert_eq!(pick(&[0, 1], &shares, &[], draw(0.0)), Some(1));
        assert_eq!(pick(&[0, 1], &shares, &[1], draw(0.0)), Some(1), "a tried one with room before one without");
        assert_eq!(pick(&[0], &shares, &[], draw(0.0)), None);
        assert_eq!(again_ms(&[0], &shares, 1), None, "a request has to end first");
        shares[1].limits.rpm = Some(1);
        begin(&shares[1]);
        assert_eq!(pick(&[0, 1], &shares, &[], draw(0.0)), None);
        assert_eq!(again_ms(&[0, 1], &shares, 1), Some(59_999));
    }

    /// How often each of `count` members is chosen over evenly spread draws.
    fn shares_of(shares: &[Share], strategy: Strategy) -> Vec<f64> {
        const DRAWS: u32 = 2_000;
        let members: Vec<usize> = (0..shares.len()).collect();
        let mut counts = vec![0_u32; shares.len()];
        for n in 0..DRAWS {
            let chance = (f64::from(n) + 0.5) / f64::from(DRAWS);
            counts[pick(&members, shares, &[], by(strategy, chance)).unwrap()] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / f64::from(DRAWS)).collect()
    }

    proptest! {
        #[test]
        fn draws_follow_the_weights(weights in vec(0.0_f64..10.0, 1..8)) {
            let total: f64 = weights.iter().sum();
            prop_assume!(total > 0.1);
            let list: Vec<Share> = weights.iter().map(|weight| Share { weight: *weight, ..Share::default() }).collect();
            for (share, weight) in shares_of(&list, Strategy::SimpleShuffle).into_iter().zip(&weights) {
                prop_assert!((share - weight / total).abs() < 0.01, "{share} for {weight} of {total}");
            }
        }

        #[test]
        fn the_least_busy_share_everything_evenly(busy in vec(0_u32..4, 1..8)) {
            let list: Vec<Share> = busy.iter().map(|_| Share::default()).collect();
            for (share, count) in list.iter().zip(&busy) {
                (0..*count).for_each(|_| begin(share));
            }
            let least = busy.iter().min().copied().unwrap_or(0);
            // Equals share by where the search begins: each has its own turns and those of busier ones before it.
            for (share, count) in shares_of(&list, Strategy::LeastBusy).into_iter().zip(&busy) {
                let own = 1.0 / busy.len() as f64;
                prop_assert!(if *count == least { share > own - 0.01 } else { share == 0.0 }, "{share} {busy:?}");
            }
        }

        #[test]
        fn of_two_drawn_ones_the_quicker_serves(times in vec(1_u64..1_000_000, 2..8)) {
            let list: Vec<Share> = times.iter().map(|_| Share::default()).collect();
            for (share, time_us) in list.iter().zip(&times) {
                share.vitals.answered_in(*time_us, 1);
            }
            let count = times.len() as f64;
            for (share, time_us) in shares_of(&list, Strategy::LatencyBased).into_iter().zip(&times) {
                // Chosen when drawn beside one of the slower ones: twice slower/count/(count-1), ties aside.
                let slower = times.iter().filter(|other| *other > time_us).count() as f64;
                let equal = times.iter().filter(|other| *other == time_us).count() as f64 - 1.0;
                let pair = 2.0 / count / (count - 1.0);
                prop_assert!(share > slower * pair - 0.01 && share < (slower + equal) * pair + 0.01, "{share} {times:?}");
            }
        }

        #[test]
        fn the_smallest_used_share_serves(limits in vec(1_u64..100, 2..8), used in vec(0_usize..20, 8)) {
            let list: Vec<Share> = limits.iter().map(|rpm| Share { rpm: Some(*rpm), ..Share::default() }).collect();
            for (share, count) in list.iter().zip(&used) {
                (0..*count).for_each(|_| begin(share));
            }
            let part = |at: usize| used[at] as f64 / limits[at] as f64;
            let least = (0..limits.len()).map(part).fold(f64::INFINITY, f64::min);
            for (at, share) in shares_of(&list, Strategy::UsageBased).into_iter().enumerate() {
                prop_assert!((share > 0.0) == (part(at) == least), "{at}: {share} {limits:?} {used:?}");
            }
        }
    }

    #[test]
    fn every_choice_of_every_subset_is_a_member() {
        let shares = shares(&[(0, 0.1), (0, 0.0), (1, 3.0), (1, 0.5)]);
        rest(&shares[3], 0);
        let strategies = [Strategy::SimpleShuffle, Strategy::LeastBusy, Strategy::LatencyBased, Strategy::UsageBased];
        for (mask, strategy) in (1..16_usize).flat_map(|mask| strategies.map(|strategy| (mask, strategy))) {
            let members: Vec<usize> = (0..4).filter(|bit| mask & (1 << bit) != 0).collect();
            for step in 0..=100 {
                let chosen = pick(&members, &shares, &[], by(strategy, f64::from(step) / 100.0));
                assert!(chosen.is_some_and(|member| members.contains(&member)), "{members:?} {chosen:?}");
            }
        }
    }
}
