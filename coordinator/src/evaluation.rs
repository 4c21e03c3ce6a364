//! One evaluation: which examples each slice has, and what all of them came to.

use std::ops::Range;

use crate::telemetry::Split;

/// How the evaluated splits are cut. Fixed by the recipe, never by the number of workers.
#[derive(Clone, Debug)]
pub struct Slices {
    /// Examples of the training set that are held out.
    validation: Vec<u32>,
    test: u32,
    size: u32,
}

impl Slices {
    #[must_use]
    pub fn new(validation: Vec<u32>, test: usize, size: u32) -> Self {
        Self { validation, test: test as u32, size }
    }

    fn validation_slices(&self) -> u32 {
        (self.validation.len() as u32).div_ceil(self.size)
    }

    /// Slices of all splits: validation first, then test.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.validation_slices() + self.test.div_ceil(self.size)
    }

    /// Images of all splits.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.validation.len() as u64 + u64::from(self.test)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The split of a slice and its example numbers there.
    #[must_use]
    pub fn examples(&self, slice: u32) -> (Split, Vec<u32>) {
        let cut = |index: u32, len: u32| -> Range<u32> { index * self.size..((index + 1) * self.size).min(len) };
        match slice.checked_sub(self.validation_slices()) {
            Some(index) => (Split::Test, cut(index, self.test).collect()),
            None => {
                let range = cut(slice, self.validation.len() as u32);
                (Split::Validation, self.validation[range.start as usize..range.end as usize].to_vec())
            }
        }
    }
}

/// What a worker counted in one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceCounts {
    pub loss_sum: f64,
    pub correct: u32,
    pub count: u32,
    /// classes × classes, row = true class.
    pub confusion: Vec<u32>,
}

/// What a split came to.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitResult {
    pub split: Split,
    pub loss: f64,
    pub accuracy: f64,
    pub images: u64,
    pub confusion: Vec<Vec<u32>>,
}

/// The counts of a running evaluation.
#[derive(Debug)]
pub struct Tally {
    classes: usize,
    slices: Slices,
    counts: Vec<Option<SliceCounts>>,
}

impl Tally {
    #[must_use]
    pub fn new(classes: usize, slices: Slices) -> Self {
        let counts = vec![None; slices.len() as usize];
        Self { classes, slices, counts }
    }

    /// What is wrong with a worker's counts of `slice`, if anything.
    pub fn check(&self, slice: u32, counts: &SliceCounts) -> Result<(), String> {
        let expected = self.slices.examples(slice).1.len() as u32;
        let cells = self.classes * self.classes;
        if counts.count != expected {
            return Err(format!("it counted {} examples in a slice of {expected}", counts.count));
        }
        if counts.confusion.len() != cells {
            return Err(format!("its confusion matrix has {} cells instead of {cells}", counts.confusion.len()));
        }
        let total: u64 = counts.confusion.iter().map(|n| u64::from(*n)).sum();
        if total != u64::from(expected) {
            return Err(format!("its confusion matrix holds {total} examples instead of {expected}"));
        }
        let diagonal: u64 = counts.confusion.iter().step_by(self.classes + 1).map(|n| u64::from(*n)).sum();
        if diagonal != u64::from(counts.correct) {
            return Err(format!("its confusion matrix has {diagonal} right answers, its count {}", counts.correct));
        }
        Ok(())
    }

    /// Takes in the counts of `slice`.
    pub fn add(&mut self, slice: u32, counts: SliceCounts) {
        if let Some(place) = self.counts.get_mut(slice as usize) {
            *place = Some(counts);
        }
    }

    /// Images counted so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.counts.iter().flatten().map(|counts| u64::from(counts.count)).sum()
    }

    /// One result a split that has images: validation before test. Sums run in slice order, whoever answered first.
    #[must_use]
    pub fn results(&self) -> Vec<SplitResult> {
        let border = self.slices.validation_slices() as usize;
        let (validation, test) = self.counts.split_at(border.min(self.counts.len()));
        [(Split::Validation, validation), (Split::Test, test)]
            .into_iter()
            .filter(|(_, counts)| !counts.is_empty())
            .map(|(split, counts)| self.sum(split, counts))
            .collect()
    }

    fn sum(&self, split: Split, counts: &[Option<SliceCounts>]) -> SplitResult {
        let (mut loss, mut correct, mut images) = (0.0, 0_u64, 0_u64);
        let mut confusion = vec![vec![0; self.classes]; self.classes];
        for counts in counts.iter().flatten() {
            loss += counts.loss_sum;
            correct += u64::from(counts.correct);
            images += u64::from(counts.count);
            for (cell, n) in confusion.iter_mut().flatten().zip(&counts.confusion) {
                *cell += n;
            }
        }
        let n = images.max(1) as f64;
        SplitResult { split, loss: loss / n, accuracy: correct as f64 / n, images, confusion }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(count: u32, correct: u32) -> SliceCounts {
        SliceCounts { loss_sum: f64::from(count), correct, count, confusion: vec![correct, count - correct, 0, 0] }
    }

    #[test]
    fn slices_hold_every_image_once() {
        let slices = Slices::new(vec![3, 5, 9], 7, 2);
        assert_eq!(slices.len(), 6);
        let all: Vec<_> = (0..slices.len()).map(|slice| slices.examples(slice)).collect();
        assert_eq!(all[1], (Split::Validation, vec![9]));
        let test: Vec<u32> = all.iter().filter(|(s, _)| *s == Split::Test).flat_map(|(_, e)| e.clone()).collect();
        assert_eq!(test, (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn results_do_not_depend_on_who_answers_first() {
        let fill = |order: [u32; 3]| {
            let mut tally = Tally::new(2, Slices::new(vec![8], 3, 2));
            for slice in order {
                tally.add(slice, [counts(1, 1), counts(2, 1), counts(1, 0)][slice as usize].clone());
            }
            tally.results()
        };
        assert_eq!(fill([0, 1, 2]), fill([2, 0, 1]));
        let results = fill([0, 1, 2]);
        assert_eq!((results[0].split, results[0].accuracy, results[0].images), (Split::Validation, 1.0, 1));
        assert_eq!((results[1].images, results[1].confusion[0].clone()), (3, vec![1, 2]));
    }

    #[test]
    fn counts_that_do_not_add_up_are_refused() {
        let tally = Tally::new(2, Slices::new(vec![], 2, 2));
        assert!(tally.check(0, &counts(2, 1)).is_ok());
        assert!(tally.check(0, &counts(1, 1)).expect_err("short").contains("slice of 2"));
        let short = SliceCounts { confusion: vec![2], ..counts(2, 1) };
        assert!(tally.check(0, &short).expect_err("cells").contains("4"));
        let lying = SliceCounts { correct: 2, ..counts(2, 1) };
        assert!(tally.check(0, &lying).expect_err("diagonal").contains("right answers"));
    }
}
