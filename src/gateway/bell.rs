//! A call from one task to another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// Wakes a task and is remembered until it has looked.
pub struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Default for Bell {
    fn default() -> Self {
        Bell { rung: AtomicBool::new(false), task: Mutex::new(Waker::noop().clone()) }
    }
}

impl Bell {
    /// Calls.
    pub fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }

    /// Whether it has rung; from now on it wakes `task`.
    pub fn has_rung(&self, task: &Waker) -> bool {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(task);
        self.rung.load(Ordering::Acquire)
    }
}
