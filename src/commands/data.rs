//! `lockstep data`: what a data set is, by its numbers.

use lockstep_coordinator::dataset::{channel_moments, class_counts};
use lockstep_coordinator::telemetry::format::count;
use serde_json::json;

use crate::cli::DataArgs;
use crate::exit::Result;
use crate::prepare;

pub fn run(args: &DataArgs) -> Result {
    let set = prepare::dataset(&args.source)?;
    let (mean, std) = channel_moments(&set.train);
    let counts = (class_counts(&set.train, set.classes.len()), class_counts(&set.test, set.classes.len()));
    if args.json {
        let line = json!({
            "data": set.name, "source": set.source, "hash": set.hash(), "train_images": set.train.len(),
            "test_images": set.test.len(), "classes": set.classes, "train_counts": counts.0, "test_counts": counts.1,
            "mean": mean, "std": std,
        });
        say!("{line}");
        return Ok(());
    }
    say!("data      {}", set.name);
    say!("source    {}", set.source);
    say!("hash      {}", set.hash());
    let (train, test) = (count(set.train.len() as u64, "image"), count(set.test.len() as u64, "image"));
    say!("train     {train}, channel means {}, deviations {}", triple(mean), triple(std));
    say!("test      {test}");
    for (class, (train, test)) in set.classes.iter().zip(counts.0.iter().zip(&counts.1)) {
        say!("  {class:<12} {train:>6} train  {test:>6} test");
    }
    Ok(())
}

fn triple(values: [f64; 3]) -> String {
    values.map(|value| format!("{value:.4}")).join(" ")
}
