//! One flat vector that layers write their weights' gradients into. candle would zero, add and keep each of them for
//! itself first: several passes over the memory of all weights.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The gradient of one backward pass, in schema order. Behind a lock because ops own their share of it; they write one
/// after the other.
#[derive(Clone, Debug)]
pub(crate) struct Collector(Arc<Mutex<Vec<f32>>>);

impl Collector {
    /// `len` zeros.
    pub(crate) fn new(len: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0.0; len])))
    }

    /// Where a layer's gradients go; None if these are no ranges of the vector. An empty `bias` stands for none.
    pub(crate) fn target(&self, weight: Range<usize>, bias: Range<usize>) -> Option<Target> {
        let len = self.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        let fits = |range: &Range<usize>| range.start <= range.end && range.end <= len;
        let apart = weight.end <= bias.start || bias.end <= weight.start;
        (fits(&weight) && fits(&bias) && apart).then(|| Target { flat: self.clone(), weight, bias })
    }

    /// What was written; zeros elsewhere.
    pub(crate) fn take(self) -> Vec<f32> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One layer's share of a [`Collector`].
#[derive(Clone, Debug)]
pub(crate) struct Target {
    flat: Collector,
    weight: Range<usize>,
    bias: Range<usize>,
}

impl Target {
    /// Values of weight and bias.
    pub(super) fn lengths(&self) -> [usize; 2] {
        [self.weight.len(), self.bias.len()]
    }

    /// Calls `write` with the places of weight and bias.
    pub(super) fn write(&self, write: impl FnOnce(&mut [f32], &mut [f32])) {
        let mut flat = self.flat.0.lock().unwrap_or_else(PoisonError::into_inner);
        // taken: the pass is over, nobody asks for it any more
        if flat.len() < self.weight.end.max(self.bias.end) {
            return;
        }
        if self.weight.end <= self.bias.start {
            let (first, second) = flat.split_at_mut(self.bias.start);
            write(&mut first[self.weight.clone()], &mut second[..self.bias.len()]);
        } else {
            let (first, second) = flat.split_at_mut(self.weight.start);
            write(&mut second[..self.weight.len()], &mut first[self.bias.clone()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_ranges_apart_and_write_there_only() {
        let collector = Collector::new(6);
        for (weight, bias) in [(1..3, 4..5), (4..5, 0..1)] {
            let target = collector.target(weight, bias).expect("ranges of the vector");
            target.write(|weight, bias| {
                weight.fill(1.0);
                bias.fill(2.0);
            });
        }
        for (weight, bias) in [(0..3, 2..4), (0..7, 0..0), (0..1, 6..7)] {
            assert!(collector.target(weight, bias).is_none());
        }
        let late = collector.target(0..1, 1..2).expect("ranges of the vector");
        assert_eq!(collector.take(), [2.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
        late.write(|_, _| panic!("the vector is gone"));
    }
}
