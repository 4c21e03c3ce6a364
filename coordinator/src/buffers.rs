//! Vectors that were needed and will be again: a large fresh one costs more in page faults than the sum that fills it.

use std::sync::{Arc, Mutex, PoisonError};

/// Vectors kept at most: those of a step's two halves and of its sum, for a few workers at once.
const MOST: usize = 8;

/// A shared stack of vectors.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    /// Sessions take, the actor gives back. Held for a push or a pop.
    free: Arc<Mutex<Vec<Vec<f32>>>>,
}

impl Buffers {
    /// A vector with anything in it, maybe nothing.
    #[must_use]
    pub fn take(&self) -> Vec<f32> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps a vector for the next one who needs one.
    pub fn give(&self, values: Vec<f32>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MOST {
            free.push(values);
        }
    }
}
