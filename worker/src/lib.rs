//! Everything that touches pixels and candle.

pub mod layers;
