//! `lockstep eval`: a checkpoint or weights on the test images, in this process.

use lockstep_coordinator::checkpoint::read_weights;
use lockstep_coordinator::dead_outputs;
use lockstep_coordinator::telemetry::format::count;
use lockstep_coordinator::telemetry::summary::accuracy_by_class;
use lockstep_proto::recipe::EvaluationMode;
use lockstep_worker::dataset::{Batches, IMAGE, Purpose};
use lockstep_worker::evaluate::{AsTrained, EvaluationContext, evaluate};
use lockstep_worker::layers;
use lockstep_worker::model::{Model, Weights};
use serde_json::json;

use crate::cli::EvalArgs;
use crate::exit::{Failure, Result};
use crate::origin::{self, Origin};
use crate::{logging, prepare, processor, source};

pub fn run(args: &EvalArgs) -> Result {
    logging::start();
    let processor = processor::open(args.compute)?;
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    layers::set_threads(threads).map_err(Failure::ours)?;
    let Origin { recipe, folder, data, steps, .. } = origin(args)?;
    let source = folder.map_or_else(|| Ok(args.data.clone()), |folder| source::resume(&folder, &args.data))?;
    let dataset = prepare::dataset(&source)?;
    if let Some((name, hash)) = data.filter(|(_, hash)| *hash != dataset.hash()) {
        warn!("warning: the weights were of a run on other images, {name} ({hash:.12}); these are {}", dataset.name);
    }
    let model = Model::new(&recipe.model, IMAGE, dataset.classes.len())?;
    let values = read_weights(model.schema(), &args.checkpoint)?;
    let weights = Weights::on(&processor, &model, &values)?;
    let batches = Batches::new(&recipe.data, recipe.seed);

    let mode = args.mode.unwrap_or(recipe.evaluation.mode);
    // the masks of the run's own evaluation after so many steps
    let draws = AsTrained { seed: recipe.seed, test: true, steps };
    let as_trained = (mode == EvaluationMode::Train).then_some(draws);
    let context = EvaluationContext { loss: recipe.loss.name, as_trained };

    let classes = dataset.classes.len();
    let (mut loss, mut correct) = (0.0, 0_u64);
    let mut confusion = vec![vec![0_u32; classes]; classes];
    let mut alive = vec![0_u64; classes];
    let all: Vec<u32> = (0..dataset.test.len() as u32).collect();
    for slice in all.chunks(recipe.evaluation.slice) {
        let batch = batches.batch(&dataset.test, slice, Purpose::Evaluate)?;
        let found = evaluate(&model, &weights, &batch, &context)?;
        loss += found.loss_sum;
        correct += u64::from(found.correct);
        for (cell, n) in confusion.iter_mut().flatten().zip(found.confusion) {
            *cell += n;
        }
        for (alive, n) in alive.iter_mut().zip(found.alive) {
            *alive += u64::from(n);
        }
    }
    let images = all.len();
    let (loss, accuracy) = (loss / images as f64, correct as f64 / images as f64);
    let per_class = accuracy_by_class(&confusion);
    let hash = lockstep_proto::hash::weights_hash(model.schema(), &values);
    let relu = recipe.model.ends_in_relu();
    let dead = if relu { dead_outputs(&alive, images as u64) } else { Vec::new() };
    if args.json {
        let mut line = json!({
            "model": recipe.model.name, "data": dataset.name, "test_loss": loss, "test_accuracy": accuracy,
            "test_images": images, "per_class": per_class, "confusion": confusion, "weights_hash": hash,
            "evaluation_mode": mode.word(),
        });
        if relu {
            line["dead_outputs"] = dead.into();
        }
        say!("{line}");
        return Ok(());
    }
    say!("model     {}", recipe.model.name);
    say!("data      {}", dataset.name);
    let how = if as_trained.is_some() { ", in training mode" } else { "" };
    say!("test      loss {loss:.4}  accuracy {:.2}%  of {}{how}", accuracy * 100.0, count(images as u64, "image"));
    say!("weights   {hash}");
    for (class, accuracy) in dataset.classes.iter().zip(per_class) {
        let text = accuracy.map_or_else(|| "no images".to_owned(), |value| format!("{:6.2}%", value * 100.0));
        say!("  {class:<12} {text}");
    }
    if !dead.is_empty() {
        let names: Vec<&str> = dead.iter().map(|class| dataset.classes[*class as usize].as_str()).collect();
        say!("dead      {}: above 0 for less than one image in a thousand", names.join(", "));
    }
    Ok(())
}

/// Where the weights of the file come from. A folder holds several: which one is for the user to say.
fn origin(args: &EvalArgs) -> Result<Origin> {
    let path = &args.checkpoint;
    if path.is_dir() {
        let text = match path.join("checkpoints").is_dir() {
            true => format!(
                "{0} is a folder; name one of its files, for instance {0}/checkpoints/best.safetensors",
                path.display()
            ),
            false => {
                format!("{} is a folder, and not a run's; give a checkpoint or a model.safetensors", path.display())
            }
        };
        return Err(Failure::mistake(text));
    }
    origin::of(path, args.model.as_deref())
}
