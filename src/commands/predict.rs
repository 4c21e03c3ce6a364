//! `lockstep predict`: what a network takes pictures for, in this process.

use std::path::Path;

use lockstep_coordinator::checkpoint::read_weights;
use lockstep_coordinator::dataset::{Split, picture};
use lockstep_coordinator::telemetry::format::{clean, count};
use lockstep_worker::dataset::{Batches, IMAGE, Purpose};
use lockstep_worker::layers;
use lockstep_worker::model::{Model, Weights};
use lockstep_worker::predict::predict;
use serde_json::json;

use crate::cli::PredictArgs;
use crate::exit::{Failure, Result};
use crate::{logging, origin, processor};

/// Pictures that are computed together: a batch in memory, and the first lines come soon.
const TOGETHER: usize = 64;

/// Width of a bar that stands for 100%.
const BAR: f64 = 20.0;

pub fn run(args: &PredictArgs) -> Result {
    logging::start();
    let processor = processor::open(args.compute)?;
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    layers::set_threads(threads).map_err(Failure::ours)?;
    let path = if args.checkpoint.is_dir() { origin::weights_in(&args.checkpoint)? } else { args.checkpoint.clone() };
    let origin = origin::of(&path, args.model.as_deref())?;
    let (classes, named) = origin.classes();
    let model = Model::new(&origin.recipe.model, IMAGE, classes.len())?;
    let weights = Weights::on(&processor, &model, &read_weights(model.schema(), &path)?)?;
    let batches = Batches::new(&origin.recipe.data, origin.recipe.seed);
    if !args.json {
        let steps = match origin.steps {
            0 => String::new(),
            steps => format!(", after {}", count(steps, "step")),
        };
        say!("{} of {}{steps}", origin.recipe.model.name, path.display());
        if !named {
            say!("nothing says what its classes are called: they have their numbers");
        }
    }

    let mut unreadable = Vec::new();
    for paths in args.images.chunks(TOGETHER) {
        let mut readable = Vec::new();
        let mut pictures = Split::default();
        for path in paths {
            match picture::read(path) {
                Ok(pixels) => {
                    readable.push(path);
                    pictures.pixels.extend(pixels);
                    // nobody knows the right answer; the first class is as good as another
                    pictures.labels.push(0);
                }
                Err(error) => unreadable.push(error.to_string()),
            }
        }
        if readable.is_empty() {
            continue;
        }
        let all: Vec<u32> = (0..readable.len() as u32).collect();
        let batch = batches.batch(&pictures, &all, Purpose::Evaluate)?;
        for (path, probabilities) in readable.into_iter().zip(predict(&model, &weights, &batch)?) {
            let found = ranked(&probabilities, args.top);
            if args.json {
                say!("{}", line(path, &found, &classes));
            } else {
                show(path, &found, &classes);
            }
        }
    }
    match unreadable.as_slice() {
        [] => Ok(()),
        [problem] => Err(Failure::mistake(problem)),
        problems => {
            problems.iter().for_each(|problem| warn!("{problem}"));
            let all = count(args.images.len() as u64, "picture");
            Err(Failure::mistake(format!("{} of {all} could not be read", problems.len())))
        }
    }
}

/// The likeliest classes and their probabilities; of equals the first class goes first.
fn ranked(probabilities: &[f64], top: usize) -> Vec<(usize, f64)> {
    let mut found: Vec<(usize, f64)> = probabilities.iter().copied().enumerate().collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    found.truncate(top);
    found
}

fn line(path: &Path, found: &[(usize, f64)], classes: &[String]) -> serde_json::Value {
    let top: Vec<_> = found
        .iter()
        .map(|&(class, probability)| json!({"class": classes[class], "label": class, "probability": probability}))
        .collect();
    json!({"image": path.display().to_string(), "top": top})
}

fn show(path: &Path, found: &[(usize, f64)], classes: &[String]) {
    say!("{}", clean(&path.display().to_string()));
    let names: Vec<String> = found.iter().map(|&(class, _)| clean(&classes[class])).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, &(_, probability)) in names.iter().zip(found) {
        let bar = "#".repeat((probability * BAR).round() as usize);
        say!("{}", format!("  {name:<width$}  {:6.2}%  {bar}", probability * 100.0).trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_and_equals_in_their_order() {
        assert_eq!(ranked(&[0.1, 0.4, 0.1, 0.4], 3), [(1, 0.4), (3, 0.4), (0, 0.1)]);
        assert_eq!(ranked(&[1.0], 5), [(0, 1.0)]);
    }
}
