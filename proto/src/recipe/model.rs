//! A model as data: the list of layers that a TOML file holds, with PyTorch's argument names and defaults.
//!
//! ```toml
//! name = "lenet"
//! prefix = "net"                       # tensors are called net.0.weight, …: the layer's place in its nn.Sequential
//! layers = [
//!   { type = "conv", out_channels = 6, kernel_size = 5 },
//!   { type = "relu" },
//!   …
//! ]
//! ```

use serde::{Deserialize, Serialize};

mod parse;
mod strict;

pub use parse::ModelFileError;

/// A network: one chain of layers from a 3×32×32 image to one logit a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// What results and files call it.
    pub name: String,
    /// Where the network comes from: a paper, a report, a class.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The name of the `nn.Sequential` that tensor names start with; may be empty.
    #[serde(default)]
    pub prefix: String,
    /// The chain, first layer first.
    pub layers: Vec<LayerSpec>,
}

impl ModelSpec {
    /// Whether the last layer is a ReLU. Then a logit is never below 0, and one that is 0 for every image is dead: no
    /// gradient reaches what is before it.
    #[must_use]
    pub fn ends_in_relu(&self) -> bool {
        matches!(self.layers.last(), Some(LayerSpec { kind: LayerKind::Relu {}, .. }))
    }
}

/// One layer, and optionally the name of a new `nn.Sequential` that starts with it (its index counts from 0 again).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(flatten)]
    pub kind: LayerKind,
}

/// What a layer does. Input sizes are inferred; everything else is named and defaulted as in `torch.nn`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerKind {
    /// `nn.Conv2d`, square kernels.
    Conv {
        out_channels: usize,
        kernel_size: usize,
        #[serde(default = "one")]
        stride: usize,
        #[serde(default)]
        padding: usize,
        #[serde(default = "yes")]
        bias: bool,
    },
    /// `nn.BatchNorm2d` (after a convolution) or `nn.BatchNorm1d` (after a linear layer).
    BatchNorm {
        #[serde(default = "eps")]
        eps: f64,
        #[serde(default = "momentum")]
        momentum: f64,
    },
    /// `nn.ReLU`.
    Relu {},
    /// `nn.LeakyReLU`.
    LeakyRelu {
        #[serde(default = "slope")]
        negative_slope: f64,
    },
    /// `nn.MaxPool2d`; `stride = 0` means the kernel's size.
    MaxPool {
        kernel_size: usize,
        #[serde(default)]
        stride: usize,
        #[serde(default)]
        padding: usize,
    },
    /// `nn.AvgPool2d`; `stride = 0` means the kernel's size.
    AvgPool {
        kernel_size: usize,
        #[serde(default)]
        stride: usize,
        #[serde(default)]
        padding: usize,
    },
    /// `nn.Flatten`.
    Flatten {},
    /// `nn.Linear`.
    Linear {
        out_features: usize,
        #[serde(default = "yes")]
        bias: bool,
    },
    /// `nn.Dropout`.
    Dropout {
        #[serde(default = "half")]
        p: f64,
    },
    /// `nn.Dropout2d`: drops whole channels.
    Dropout2d {
        #[serde(default = "half")]
        p: f64,
    },
    /// `x + inner(x)`; the inner list's tensors are called `<this layer>.<index>.weight`, a `prefix` in it
    /// `<this layer>.<prefix>.<index>.weight`.
    Residual { layers: Vec<LayerSpec> },
}

impl LayerKind {
    /// What a model file calls it: the value of `type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::BatchNorm { .. } => "batch_norm",
            Self::Relu {} => "relu",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::MaxPool { .. } => "max_pool",
            Self::AvgPool { .. } => "avg_pool",
            Self::Flatten {} => "flatten",
            Self::Linear { .. } => "linear",
            Self::Dropout { .. } => "dropout",
            Self::Dropout2d { .. } => "dropout2d",
            Self::Residual { .. } => "residual",
        }
    }
}

fn one() -> usize {
    1
}
fn yes() -> bool {
    true
}
fn eps() -> f64 {
    1e-5
}
fn momentum() -> f64 {
    0.1
}
fn slope() -> f64 {
    0.01
}
fn half() -> f64 {
    0.5
}
