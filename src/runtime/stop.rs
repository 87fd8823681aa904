//! Stopping a run from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A wish to stop, shared between its clones.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_stopped: AtomicBool,
    has_result: AtomicBool,
}

impl Stop {
    /// Asks everything that runs with this handle to end with [`super::RuntimeError::Stopped`]
    /// before its next run of a model. A search that has a result already ends with that.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::Relaxed)
    }

    /// Whether what runs has a result that it would end with.
    #[must_use]
    pub fn has_result(&self) -> bool {
        self.0.has_result.load(Ordering::Relaxed)
    }

    /// Says whether it has one.
    pub(crate) fn set_result(&self, has_result: bool) {
        self.0.has_result.store(has_result, Ordering::Relaxed);
    }

    /// Takes the wish back: what is left to do is to write the result.
    pub(crate) fn resume(&self) {
        self.0.is_stopped.store(false, Ordering::Relaxed);
    }
}
