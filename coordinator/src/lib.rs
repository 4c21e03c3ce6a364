//! Everything that touches the average. To the coordinator a model is a schema and one flat `f32` vector in schema order.

pub mod engine;
pub mod plan;
pub mod schedule;
