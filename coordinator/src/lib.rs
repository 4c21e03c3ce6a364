//! Everything that touches the average.

pub mod telemetry;
