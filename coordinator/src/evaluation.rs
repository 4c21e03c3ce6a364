//! One evaluation: which examples each slice has, and what all of them came to.

use crate::telemetry::Split;

/// How the evaluated splits are cut. Fixed by the recipe, never by the number of workers.
#[derive(Clone, Debug)]
pub struct Slices {
    /// Examples of the training set that are held out.
    validation: Vec<u32>,
    test: u32,
    /// Examples that are trained on, where they are evaluated too.
    train: Vec<u32>,
    size: u32,
}

impl Slices {
    #[must_use]
    pub fn new(validation: Vec<u32>, test: usize, size: u32) -> Self {
        Self { validation, test: test as u32, train: Vec::new(), size }
    }

    /// The same, and those examples of the training set besides.
    #[must_use]
    pub fn with_train(self, train: Vec<u32>) -> Self {
        Self { train, ..self }
    }

    /// The splits in the order of their slices, and the images of each.
    fn splits(&self) -> [(Split, u32); 3] {
        let count = |examples: &[u32]| examples.len() as u32;
        [(Split::Validation, count(&self.validation)), (Split::Test, self.test), (Split::TrainEval, count(&self.train))]
    }

    /// Slices of all splits.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.splits().iter().map(|(_, images)| images.div_ceil(self.size)).sum()
    }

    /// Images of all splits.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.splits().iter().map(|(_, images)| u64::from(*images)).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The split of a slice and its example numbers there.
    #[must_use]
    pub fn examples(&self, slice: u32) -> (Split, Vec<u32>) {
        let mut index = slice;
        for (split, images) in self.splits() {
            let slices = images.div_ceil(self.size);
            if index >= slices {
                index -= slices;
                continue;
            }
            let range = index * self.size..((index + 1) * self.size).min(images);
            let of = |examples: &[u32]| examples[range.start as usize..range.end as usize].to_vec();
            let examples = match split {
                Split::Validation => of(&self.validation),
                Split::Test => range.collect(),
                Split::TrainEval => of(&self.train),
            };
            return (split, examples);
        }
        (Split::Test, Vec::new())
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
    /// Of each class, examples whose logit is above 0; empty unless the model ends in a ReLU.
    pub alive: Vec<u32>,
}

/// What a split came to.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitResult {
    pub split: Split,
    pub loss: f64,
    pub accuracy: f64,
    pub images: u64,
    pub confusion: Vec<Vec<u32>>,
    /// Classes whose logit is above 0 for no image; none unless the model ends in a ReLU.
    pub dead_outputs: Option<Vec<u32>>,
}

/// The counts of a running evaluation.
#[derive(Debug)]
pub struct Tally {
    classes: usize,
    /// Whether slices say which outputs are alive.
    ends_in_relu: bool,
    slices: Slices,
    counts: Vec<Option<SliceCounts>>,
}

impl Tally {
    #[must_use]
    pub fn new(classes: usize, ends_in_relu: bool, slices: Slices) -> Self {
        let counts = vec![None; slices.len() as usize];
        Self { classes, ends_in_relu, slices, counts }
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
        let outputs = if self.ends_in_relu { self.classes } else { 0 };
        if counts.alive.len() != outputs {
            return Err(format!(
                "it says of {} outputs how often they are above 0, not of {outputs}",
                counts.alive.len()
            ));
        }
        if let Some(most) = counts.alive.iter().max().filter(|most| **most > expected) {
            return Err(format!("it has an output above 0 for {most} examples of {expected}"));
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

    /// One result a split that has images: validation, test, training. Sums run in slice order, whoever answered first.
    #[must_use]
    pub fn results(&self) -> Vec<SplitResult> {
        let mut results = Vec::new();
        let mut rest = &self.counts[..];
        for (split, images) in self.slices.splits() {
            let slices = images.div_ceil(self.slices.size) as usize;
            let (counts, behind) = rest.split_at(slices.min(rest.len()));
            rest = behind;
            if !counts.is_empty() {
                results.push(self.sum(split, counts));
            }
        }
        results
    }

    fn sum(&self, split: Split, counts: &[Option<SliceCounts>]) -> SplitResult {
        let (mut loss, mut correct, mut images) = (0.0, 0_u64, 0_u64);
        let mut confusion = vec![vec![0; self.classes]; self.classes];
        let mut alive = vec![0_u64; if self.ends_in_relu { self.classes } else { 0 }];
        for counts in counts.iter().flatten() {
            loss += counts.loss_sum;
            correct += u64::from(counts.correct);
            images += u64::from(counts.count);
            for (cell, n) in confusion.iter_mut().flatten().zip(&counts.confusion) {
                *cell += n;
            }
            for (alive, n) in alive.iter_mut().zip(&counts.alive) {
                *alive += u64::from(*n);
            }
        }
        let n = images.max(1) as f64;
        let dead_outputs = self.ends_in_relu.then(|| dead_outputs(&alive, images));
        SplitResult { split, loss: loss / n, accuracy: correct as f64 / n, images, confusion, dead_outputs }
    }
}

/// The outputs that are above 0 for less than one image in a thousand. Past the ReLU hardly a gradient gets back to such a one: a few
/// images at its edge do not revive it, and its class is not recognised.
#[must_use]
pub fn dead_outputs(alive: &[u64], images: u64) -> Vec<u32> {
    (0..).zip(alive).filter(|(_, above)| **above * 1000 < images).map(|(class, _)| class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(count: u32, correct: u32) -> SliceCounts {
        let confusion = vec![correct, count - correct, 0, 0];
        SliceCounts { loss_sum: f64::from(count), correct, count, confusion, alive: Vec::new() }
    }

    #[test]
    fn slices_hold_every_image_once() {
        let slices = Slices::new(vec![3, 5, 9], 7, 2).with_train(vec![0, 1, 4, 8, 10]);
        assert_eq!((slices.len(), slices.images()), (9, 15));
        let all: Vec<_> = (0..slices.len()).map(|slice| slices.examples(slice)).collect();
        assert_eq!(all[1], (Split::Validation, vec![9]));
        let test: Vec<u32> = all.iter().filter(|(s, _)| *s == Split::Test).flat_map(|(_, e)| e.clone()).collect();
        assert_eq!(test, (0..7).collect::<Vec<_>>());
        let train = [vec![0, 1], vec![4, 8], vec![10]].map(|examples| (Split::TrainEval, examples));
        assert_eq!(all[6..], train);
    }

    #[test]
    fn results_do_not_depend_on_who_answers_first() {
        let fill = |order: [u32; 3]| {
            let mut tally = Tally::new(2, false, Slices::new(vec![8], 3, 2));
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
        let tally = Tally::new(2, false, Slices::new(vec![], 2, 2));
        assert!(tally.check(0, &counts(2, 1)).is_ok());
        assert!(tally.check(0, &counts(1, 1)).expect_err("short").contains("slice of 2"));
        let short = SliceCounts { confusion: vec![2], ..counts(2, 1) };
        assert!(tally.check(0, &short).expect_err("cells").contains("4"));
        let lying = SliceCounts { correct: 2, ..counts(2, 1) };
        assert!(tally.check(0, &lying).expect_err("diagonal").contains("right answers"));
        let lively = SliceCounts { alive: vec![1, 1], ..counts(2, 1) };
        assert!(tally.check(0, &lively).expect_err("no ReLU").contains("of 2 outputs"));
        let tally = Tally::new(2, true, Slices::new(vec![], 2, 2));
        assert!(tally.check(0, &lively).is_ok());
        assert!(tally.check(0, &counts(2, 1)).expect_err("a ReLU").contains("of 0 outputs"));
        let often = SliceCounts { alive: vec![1, 3], ..counts(2, 1) };
        assert!(tally.check(0, &often).expect_err("too many").contains("3 examples of 2"));
    }

    #[test]
    fn an_output_is_dead_that_no_slice_of_the_split_has_above_0() {
        let mut tally = Tally::new(2, true, Slices::new(vec![], 4, 2).with_train(vec![1, 2]));
        for (slice, alive) in [[0, 1], [0, 0], [2, 0]].into_iter().enumerate() {
            tally.add(slice as u32, SliceCounts { alive: alive.to_vec(), ..counts(2, 1) });
        }
        let dead: Vec<_> = tally.results().into_iter().map(|result| (result.split, result.dead_outputs)).collect();
        assert_eq!(dead, [(Split::Test, Some(vec![0])), (Split::TrainEval, Some(vec![1]))]);
        let mut silent = Tally::new(2, false, Slices::new(vec![], 2, 2));
        silent.add(0, counts(2, 1));
        assert_eq!(silent.results()[0].dead_outputs, None);
        // a few images at its edge do not bring an output to life
        assert_eq!(dead_outputs(&[9, 10, 1000, 0], 10_000), [0, 3]);
    }
}
