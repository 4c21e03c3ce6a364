//! Vectors that were needed and will be again: a large fresh one costs more in page faults than the sum that fills it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::tensors::as_bytes;

/// A shared stack of vectors.
#[derive(Clone, Debug)]
pub struct Buffers {
    /// Vectors kept at most.
    most: usize,
    /// Whoever fills a vector takes it, whoever is done with it gives it back, on any thread. Held for a push or a pop.
    free: Arc<Mutex<Vec<Vec<f32>>>>,
}

/// A vector that travels, and where it belongs.
struct Lent {
    values: Vec<f32>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        as_bytes(&self.values)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.values));
    }
}

impl Buffers {
    /// No vectors yet, and never more than `most`.
    #[must_use]
    pub fn keeping(most: usize) -> Self {
        Self { most, free: Arc::default() }
    }

    /// A vector with anything in it, maybe nothing.
    #[must_use]
    pub fn take(&self) -> Vec<f32> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps a vector for the next one who needs one.
    pub fn give(&self, values: Vec<f32>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.most && values.capacity() > 0 {
            free.push(values);
        }
    }

    /// The bytes of `values`, little-endian, without a copy. The vector comes back here when the last of them is dropped.
    #[must_use]
    pub fn lend(&self, values: Vec<f32>) -> Bytes {
        Bytes::from_owner(Lent { values, home: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_comes_back() {
        let buffers = Buffers::keeping(1);
        let values = vec![1.5; 3];
        let place = values.as_ptr();
        let bytes = buffers.lend(values);
        let part = bytes.slice(4..8);
        assert_eq!((&part[..], bytes.as_ptr()), (&1.5_f32.to_le_bytes()[..], place.cast()));
        drop(bytes);
        assert!(buffers.take().is_empty(), "a part of it is still out");
        drop(part);
        let back = buffers.take();
        assert_eq!(back.as_ptr(), place);
    }
}
