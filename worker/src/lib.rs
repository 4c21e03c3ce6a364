<<<<<<< HEAD

=======
//! Everything that touches pixels and candle.

pub mod layers;
>>>>>>> model
