//! Everything that touches the average: data, shards, steps, the optimizer, evaluation and checkpoints.

pub mod dataset;
