//! A waker that remembers that it was called.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Wakes a task and remembers that it did, so that the task knows whom to poll.
pub struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Bell {
    /// A bell that has rung, since nobody has been polled yet.
    pub fn rung() -> Arc<Self> {
        Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(Waker::noop().clone()) })
    }

    /// Whether it has rung since the last call; from now on it wakes `task`.
    pub fn has_rung(&self, task: &Waker) -> bool {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(task);
        self.rung.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}
