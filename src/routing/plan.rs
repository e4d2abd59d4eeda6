//! The attempts of one request: the same group again (retry) or the next group (fallback), until an end is reached.

use super::balance::{self, Draw, Share, pick};
use super::resolve::Resolved;
use std::collections::VecDeque;

/// Why an attempt failed, as far as going on depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// May succeed if tried again: no connection, 408, 429, 5xx, a malformed answer, a time-out.
    Passing,
    /// The deployment refuses (401, 402, 403, 404, 409 …): the same again is useless, another group may serve.
    Refused,
    /// The client's own mistake (400, 413, 422): nobody else would take it either.
    ClientMistake,
    /// The prompt is too long for this model.
    ContextWindow,
    /// The model's provider declines the content.
    ContentPolicy,
}

/// The fallbacks of a request, resolved.
#[derive(Clone, Debug, Default)]
pub struct Fallbacks {
    /// After any failure but the client's own mistakes.
    pub general: Vec<Resolved>,
    /// After [`Cause::ContextWindow`].
    pub context_window: Vec<Resolved>,
    /// After [`Cause::ContentPolicy`].
    pub content_policy: Vec<Resolved>,
}

/// What comes after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same group again; `elsewhere` when a deployment not yet tried will take it.
    Retry {
        /// Whether the next deployment is another one.
        elsewhere: bool,
    },
    /// The next group of a fallback list.
    Fallback,
    /// Nothing: the failure is the answer.
    Stop,
}

/// The course of one request through its deployments.
#[derive(Debug)]
pub struct Plan {
    current: Resolved,
    tried: Vec<usize>,
    retries_max: u32,
    retries_left: u32,
    fallbacks: Fallbacks,
    queue: VecDeque<Resolved>,
    falling: bool,
    retries_made: u32,
    fallbacks_made: u32,
}

impl Plan {
    /// A plan that begins with `first` and may try each group `retries_max` times more.
    pub fn new(first: Resolved, retries_max: u32, fallbacks: Fallbacks) -> Self {
        Plan {
            current: first,
            tried: Vec::new(),
            retries_max,
            retries_left: retries_max,
            fallbacks,
            queue: VecDeque::new(),
            falling: false,
            retries_made: 0,
            fallbacks_made: 0,
        }
    }

    /// A deployment for the next attempt; none while none of the group has room.
    pub fn choose(&self, shares: &[Share], draw: Draw) -> Option<usize> {
        pick(&self.current.group.members, shares, &self.tried, draw)
    }

    /// Notes that a chosen deployment is tried now.
    pub fn take(&mut self, member: usize) {
        if !self.tried.contains(&member) {
            self.tried.push(member);
        }
    }

    /// The deployments of the group that were tried.
    pub fn tried(&self) -> &[usize] {
        &self.tried
    }

    /// Milliseconds until time alone makes room in the group; none when a request has to end first.
    pub fn again_ms(&self, shares: &[Share], now_ms: u64) -> Option<u64> {
        balance::again_ms(&self.current.group.members, shares, now_ms)
    }

    /// The name as resolved for the group now in use.
    pub fn resolved(&self) -> &Resolved {
        &self.current
    }

    /// Attempts after the first in the same group, over the whole request.
    pub fn retries_made(&self) -> u32 {
        self.retries_made
    }

    /// Groups after the first.
    pub fn fallbacks_made(&self) -> u32 {
        self.fallbacks_made
    }

    /// What would come after a failure of this cause, without taking the step.
    pub fn peek(&self, cause: Cause) -> Next {
        if cause == Cause::Passing && self.retries_left > 0 {
            return Next::Retry { elsewhere: self.tried.len() < self.current.group.members.len() };
        }
        let waiting = if self.falling { self.queue.len() } else { self.list(cause).len() };
        if waiting > 0 && cause != Cause::ClientMistake { Next::Fallback } else { Next::Stop }
    }

    /// Takes the step after a failure.
    pub fn advance(&mut self, cause: Cause) -> Next {
        let next = self.peek(cause);
        match next {
            Next::Retry { .. } => {
                self.retries_left -= 1;
                self.retries_made += 1;
            }
            Next::Fallback => {
                if !self.falling {
                    self.queue = self.list(cause).iter().cloned().collect();
                    self.falling = true;
                }
                if let Some(group) = self.queue.pop_front() {
                    self.current = group;
                    self.tried.clear();
                    self.retries_left = self.retries_max;
                    self.fallbacks_made += 1;
                }
            }
            Next::Stop => {}
        }
        next
    }

    fn list(&self, cause: Cause) -> &[Resolved] {
        match cause {
            Cause::ClientMistake => &[],
            Cause::ContextWindow => &self.fallbacks.context_window,
            Cause::ContentPolicy => &self.fallbacks.content_policy,
            Cause::Passing | Cause::Refused => &self.fallbacks.general,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::balance::Strategy;
    use super::super::resolve::Group;
    use super::*;
    use std::sync::Arc;

    fn group(name: &str, members: &[usize]) -> Resolved {
        let group = Arc::new(Group { name: name.into(), members: members.to_vec() });
        Resolved { group, fill: None, suffix: None }
    }

    const DRAW: Draw = Draw { strategy: Strategy::SimpleShuffle, chance: 0.0, now_ms: 1 };

    fn equal() -> Vec<Share> {
        (0..4).map(|_| Share { weight: 1.0, ..Share::default() }).collect()
    }

    fn next(plan: &mut Plan) -> Option<usize> {
        let member = plan.choose(&equal(), DRAW)?;
        plan.take(member);
        Some(member)
    }

    #[test]
    fn a_retry_prefers_another_deployment_and_ends_with_the_budget() {
        let mut plan = Plan::new(group("g", &[0, 1]), 2, Fallbacks::default());
        let first = next(&mut plan).unwrap();
        assert_eq!(plan.advance(Cause::Passing), Next::Retry { elsewhere: true });
        assert_ne!(next(&mut plan).unwrap(), first);
        assert_eq!(plan.advance(Cause::Passing), Next::Retry { elsewhere: false });
        assert!(next(&mut plan).is_some());
        assert_eq!(plan.advance(Cause::Passing), Next::Stop);
        assert_eq!((plan.retries_made(), plan.fallbacks_made()), (2, 0));
    }

    #[test]
    fn refusals_are_not_repeated_but_fall_back() {
        let fallbacks = Fallbacks { general: vec![group("b", &[2]), group("c", &[3])], ..Fallbacks::default() };
        let mut plan = Plan::new(group("a", &[0]), 5, fallbacks);
        assert_eq!(plan.advance(Cause::Refused), Next::Fallback);
        assert_eq!(next(&mut plan), Some(2));
        assert_eq!(plan.advance(Cause::Refused), Next::Fallback);
        assert_eq!(plan.resolved().group.name, "c");
        assert_eq!(plan.advance(Cause::Refused), Next::Stop);
        assert_eq!(plan.fallbacks_made(), 2);
    }

    #[test]
    fn each_cause_has_its_own_list_and_mistakes_have_none() {
        let fallbacks = Fallbacks {
            general: vec![group("b", &[1])],
            context_window: vec![group("big", &[2])],
            content_policy: Vec::new(),
        };
        let plan = Plan::new(group("a", &[0]), 0, fallbacks);
        assert_eq!(plan.peek(Cause::ClientMistake), Next::Stop);
        assert_eq!(plan.peek(Cause::ContentPolicy), Next::Stop);
        let mut plan = plan;
        assert_eq!(plan.advance(Cause::ContextWindow), Next::Fallback);
        assert_eq!(plan.resolved().group.name, "big");
        assert_eq!(plan.advance(Cause::Passing), Next::Stop, "a fallback list is not left for another");
    }
}
