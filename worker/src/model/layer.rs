//! One planned layer: all sizes known, its tensors numbered.

use super::Shape;

/// A tensor's number in the order in which the layers declare them.
pub(crate) type Slot = usize;

/// A layer with everything that was inferred about it.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// `layer 3 (conv, net.3)`: what errors call it.
    pub(crate) place: String,
    /// `3`, or `5.1` for a layer inside a residual.
    pub(super) number: String,
    /// `net.3`: what its tensors' names begin with, and what its dropout is keyed by.
    pub(crate) name: String,
    /// The type and the arguments as a model file writes them.
    pub(super) summary: String,
    pub(crate) op: Op,
    pub(crate) output: Shape,
    /// Trained values, inner layers included.
    pub(super) parameters: usize,
    /// Multiply-adds of convolutions and linear layers for one example, inner layers included.
    pub(super) multiply_adds: u64,
}

/// What a layer computes.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Conv { weight: Slot, bias: Option<Slot>, stride: usize, padding: usize },
    BatchNorm { weight: Slot, bias: Slot, mean: Slot, variance: Slot, eps: f64 },
    Relu,
    LeakyRelu { slope: f64 },
    MaxPool { kernel: usize, stride: usize, padding: usize },
    AvgPool { kernel: usize, stride: usize, padding: usize },
    Flatten,
    Linear { weight: Slot, bias: Option<Slot> },
    Dropout { p: f64 },
    Dropout2d { p: f64 },
    Residual { layers: Vec<Layer> },
}
