//! Everything that touches pixels and candle.

pub mod dataset;
pub mod device;
pub mod evaluate;
pub mod gradient;
pub mod layers;
pub mod model;
