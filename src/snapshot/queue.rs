//! Waiting in line for room under a limit: bounded, first come first served within a model group.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The turn of a line's first.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// The lines of the process. Nobody who finds room ever takes its lock.
#[derive(Default)]
pub struct Queue {
    waiting: AtomicU32,
    lines: Mutex<HashMap<String, Turn>>,
    freed: Notify,
}

impl Queue {
    /// Whether somebody waits for this group already, so that a newcomer has to stand behind.
    pub fn has_line(&self, group: &str) -> bool {
        self.waiting.load(Ordering::Acquire) > 0 && self.lines().contains_key(group)
    }

    /// Requests waiting now.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    /// Gets in line; none when `max` are waiting already.
    pub fn enter(self: &Arc<Self>, group: &str, max: u32) -> Option<Ticket> {
        let let_in = |waiting: u32| (waiting < max).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, let_in).ok()?;
        let turn = Arc::clone(self.lines().entry(group.to_owned()).or_default());
        Some(Ticket { queue: Arc::clone(self), group: group.to_owned(), turn })
    }

    /// Tells the first of each line that a request has ended.
    pub fn tell_freed(&self) {
        if self.waiting() > 0 {
            self.freed.notify_waiters();
        }
    }

    /// Resolves at the next [`Queue::tell_freed`].
    pub fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Turn>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in line, until it goes.
pub struct Ticket {
    queue: Arc<Queue>,
    group: String,
    turn: Turn,
}

impl Ticket {
    /// Waits until everybody who came earlier has left.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut lines = self.queue.lines();
        // One in the map and one here: nobody stands behind.
        if Arc::strong_count(&self.turn) == 2 {
            lines.remove(&self.group);
        }
        self.queue.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_bounded_and_ends_with_its_last() {
        let queue = Arc::new(Queue::default());
        assert!(queue.enter("a", 0).is_none());
        let (one, other) = (queue.enter("a", 2).unwrap(), queue.enter("a", 2).unwrap());
        assert!(queue.enter("b", 2).is_none(), "the bound is that of all lines together");
        assert!(queue.has_line("a") && !queue.has_line("b"));
        drop(one);
        assert!(queue.has_line("a"));
        drop(other);
        assert!(!queue.has_line("a") && queue.waiting() == 0);
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_arrival() {
        let queue = Arc::new(Queue::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = queue.enter("a", 10).unwrap();
        let turn = first.turn().await;
        let mut tasks = Vec::new();
        for n in 0..5 {
            let (ticket, order) = (queue.enter("a", 10).unwrap(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _turn = ticket.turn().await;
                order.lock().unwrap().push(n);
            }));
            tokio::task::yield_now().await;
        }
        drop(turn);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    }
}
