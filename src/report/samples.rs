//! A few test images and what the run's final weights take them for, computed when the report is written.

use std::path::Path;

use lockstep_coordinator::checkpoint::read_weights;
use lockstep_coordinator::dataset::{self, DataRequest, Dataset, Silent, Source, picture};
use lockstep_worker::dataset::{Batches, IMAGE, Purpose};
use lockstep_worker::device::Processor;
use lockstep_worker::model::{Model, Weights};
use lockstep_worker::predict::predict;

use crate::cli::DataSource;
use crate::exit::Failure;
use crate::{origin, source};

/// Pictures of each kind at most, right and wrong: two rows on a wide screen.
const MOST: usize = 20;

/// Test images that are looked at for them, in order; a handful is enough unless a network is nearly always right or wrong.
const LOOKED_AT: usize = 2000;

/// Images that are computed together.
const TOGETHER: usize = 100;

/// A test image and the network's answer.
#[derive(Debug)]
pub struct Sample {
    /// Its number in the test set.
    pub number: usize,
    pub png: Vec<u8>,
    pub actual: usize,
    pub answer: usize,
    /// Of the answer.
    pub probability: f64,
}

/// The first right and the first wrong answers of each class.
#[derive(Debug, Default)]
pub struct Samples {
    pub classes: Vec<String>,
    pub right: Vec<Sample>,
    pub wrong: Vec<Sample>,
    /// Images that were looked at.
    pub looked_at: usize,
    /// The file with the weights, within the run's folder.
    pub weights: String,
}

/// Finds samples for one run after another, and keeps the images that the last one had.
#[derive(Debug, Default)]
pub struct Sampler {
    /// Where to look for the images instead of where the run had them.
    data: Option<String>,
    processor: Processor,
    loaded: Option<(DataSource, Dataset, String)>,
}

impl Sampler {
    pub fn new(data: Option<String>, processor: Processor) -> Self {
        Self { data, processor, loaded: None }
    }

    /// The samples of the run in `folder`, or why there are none.
    pub fn look(&mut self, folder: &Path) -> Result<Samples, String> {
        self.find(folder).map_err(Failure::into_text)
    }

    fn find(&mut self, folder: &Path) -> Result<Samples, Failure> {
        let path = origin::weights_in(folder)?;
        let origin = origin::of(&path, None)?;
        let processor = self.processor.clone();
        let (data, hash) = self.images(folder)?;
        if let Some((name, had)) = origin.data.as_ref().filter(|(_, had)| had != hash) {
            return Err(Failure::mistake(format!(
                "the run was on {name} ({had:.12}), and {} has other images ({hash:.12}); give --data with a path to the same",
                data.source
            )));
        }
        let model = Model::new(&origin.recipe.model, IMAGE, data.classes.len())?;
        let weights = Weights::on(&processor, &model, &read_weights(model.schema(), &path)?)?;
        let batches = Batches::new(&origin.recipe.data, origin.recipe.seed);
        let weights_name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        let mut samples = Samples { classes: data.classes.clone(), weights: weights_name, ..Samples::default() };
        let numbers: Vec<u32> = (0..data.test.len().min(LOOKED_AT) as u32).collect();
        for numbers in numbers.chunks(TOGETHER) {
            let batch = batches.batch(&data.test, numbers, Purpose::Evaluate)?;
            for (&number, probabilities) in numbers.iter().zip(predict(&model, &weights, &batch)?) {
                samples.take(data, number as usize, &probabilities)?;
            }
            samples.looked_at += numbers.len();
            if samples.right.len() == samples.full() && samples.wrong.len() == samples.full() {
                break;
            }
        }
        // by class, whenever they were found
        samples.right.sort_by_key(|sample| (sample.actual, sample.number));
        samples.wrong.sort_by_key(|sample| (sample.actual, sample.number));
        Ok(samples)
    }

    /// The images that the run in `folder` had, and their hash. A report downloads nothing.
    fn images(&mut self, folder: &Path) -> Result<(&Dataset, &String), Failure> {
        let typed = DataSource { data: self.data.clone(), data_url: None, offline: true };
        let wanted = source::resume(folder, &typed)?;
        let Some(data) = &wanted.data else {
            return Err(Failure::mistake("nothing says where its images are (there is no data.toml); give --data"));
        };
        if self.loaded.as_ref().is_none_or(|(loaded, ..)| *loaded != wanted) {
            let source = Source::from(data.as_str());
            let request = DataRequest { source, url: wanted.data_url.clone(), offline: true, ..DataRequest::default() };
            let dataset = dataset::load(&request, &Silent)?;
            let hash = dataset.hash();
            self.loaded = Some((wanted, dataset, hash));
        }
        let (_, dataset, hash) = self.loaded.as_ref().ok_or_else(|| Failure::ours("the images got lost"))?;
        Ok((dataset, hash))
    }
}

impl Samples {
    /// How many pictures of a kind there may be: one a class.
    fn full(&self) -> usize {
        self.classes.len().min(MOST)
    }

    /// Keeps the image if it is the first of its class and kind.
    fn take(&mut self, data: &Dataset, number: usize, probabilities: &[f64]) -> Result<(), Failure> {
        let best =
            probabilities.iter().copied().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
        let (answer, probability) = best.ok_or_else(|| Failure::ours("a model without classes"))?;
        let actual = usize::from(data.test.labels[number]);
        let full = self.full();
        let kept = if answer == actual { &mut self.right } else { &mut self.wrong };
        if kept.len() < full && !kept.iter().any(|sample| sample.actual == actual) {
            let png = picture::to_png(data.test.image(number))?;
            kept.push(Sample { number, png, actual, answer, probability });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_class_and_kind_is_kept() {
        let request = DataRequest { source: Source::Builtin, ..DataRequest::default() };
        let mut data = dataset::load(&request, &Silent).expect("made");
        data.test.labels[..5].copy_from_slice(&[1, 1, 0, 1, 1]);
        let mut samples = Samples { classes: vec!["a".to_owned(), "b".to_owned()], ..Samples::default() };
        for (number, probabilities) in [[0.5, 0.5], [0.25, 0.75], [0.9, 0.1], [0.6, 0.4], [0.1, 0.9]].iter().enumerate()
        {
            samples.take(&data, number, probabilities).expect("an image");
        }
        let of =
            |samples: &[Sample]| samples.iter().map(|one| (one.number, one.actual, one.answer)).collect::<Vec<_>>();
        // of equal probabilities the first class is the answer, as in an evaluation
        assert_eq!(of(&samples.wrong), [(0, 1, 0)]);
        assert_eq!(of(&samples.right), [(1, 1, 1), (2, 0, 0)]);
        assert_eq!(&samples.right[0].png[1..4], b"PNG");
    }

    #[test]
    fn a_run_without_weights_says_so() {
        let folder = tempfile::tempdir().expect("folder");
        let text = Sampler::default().look(folder.path()).expect_err("nothing there");
        assert!(text.contains("model.safetensors"), "{text}");
    }
}
