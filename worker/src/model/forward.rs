//! Images → logits, in training and in evaluation.

use candle_core::Tensor;
use lockstep_proto::keys::Key;

use super::layer::{Layer, Op, Slot};
use super::{ComputeError, Model, Weights};
use crate::layers::{self, BatchStatistics, Collector, Target};

/// What the pass is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode<'a> {
    /// Dropout drops, BatchNorm uses the shard's own statistics, and the graph is kept for `backward()`. Layers that can
    /// write their weights' gradients into `collector`; those of the others are candle's.
    Train { draws: Draws<'a>, collector: &'a Collector },
    /// Layers behave as in training, and no graph is kept.
    EvaluateAsTrained { draws: Draws<'a> },
    /// Nothing is dropped, BatchNorm uses the running statistics, and no graph is kept.
    Evaluate,
}

impl<'a> Mode<'a> {
    /// What dropout draws by, where layers behave as in training.
    fn draws(&self) -> Option<Draws<'a>> {
        match *self {
            Mode::Train { draws, .. } | Mode::EvaluateAsTrained { draws } => Some(draws),
            Mode::Evaluate => None,
        }
    }
}

/// What dropout's masks are keyed by, besides the layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws<'a> {
    turn: Turn,
    examples: &'a [u32],
}

/// [`Draws`] but for the examples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    seed: u64,
    /// The key's purpose: training's masks are no evaluation's.
    purpose: &'static str,
    /// The epoch; in an evaluation the step that it follows.
    number: u32,
}

impl<'a> Draws<'a> {
    /// Those of `examples` of the training set in `epoch`.
    pub(crate) fn training(seed: u64, epoch: u32, examples: &'a [u32]) -> Self {
        Self { turn: Turn { seed, purpose: "dropout", number: epoch }, examples }
    }

    /// Those of `examples` of the test set, or of those held out of the training set, in the evaluation after so many `steps`.
    pub(crate) fn evaluation(seed: u64, test: bool, steps: u64, examples: &'a [u32]) -> Self {
        let purpose = if test { "dropout-test" } else { "dropout-validation" };
        // 32 bits tell the evaluations of any run apart that ends in a lifetime
        Self { turn: Turn { seed, purpose, number: steps as u32 }, examples }
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn turn(&self) -> Turn {
        self.turn
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn examples(&self) -> &'a [u32] {
        self.examples
    }
}

impl Turn {
    /// The masks of one layer; the layer's name is part of the key, so that two layers of one size drop differently.
    pub(crate) fn key(&self, layer: &str) -> Key {
        Key::new(self.seed, self.purpose, layer)
    }

    /// The first coordinate of the masks' streams.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

/// The logits (n × classes), and what training saw for each BatchNorm: the slots of its running mean and variance, and
/// the values.
pub(crate) struct Forward {
    pub(crate) logits: Tensor,
    pub(crate) statistics: Vec<([Slot; 2], BatchStatistics)>,
}

impl Model {
    /// Runs all layers on images of shape (n, channels, height, width).
    pub(crate) fn forward(&self, weights: &Weights, images: &Tensor, mode: Mode) -> Result<Forward, ComputeError> {
        #[cfg(feature = "cuda")]
        if let Some(weights) = weights.packed() {
            let batch = crate::cuda::Examples { images, mode: &mode };
            return Ok(Forward { logits: crate::cuda::logits(self, weights, &batch)?, statistics: Vec::new() });
        }
        let mut pass = Pass { model: self, weights, mode, statistics: Vec::new() };
        let logits = pass.chain(self.layers(), images.clone())?;
        Ok(Forward { logits, statistics: pass.statistics })
    }
}

struct Pass<'a> {
    model: &'a Model,
    weights: &'a Weights,
    mode: Mode<'a>,
    statistics: Vec<([Slot; 2], BatchStatistics)>,
}

impl Pass<'_> {
    fn chain(&mut self, mut layers: &[Layer], mut x: Tensor) -> Result<Tensor, ComputeError> {
        while let [layer, rest @ ..] = layers {
            if let Some((y, behind)) = self.fused(layers, &x) {
                (x, layers) = (y.map_err(ComputeError::at(&layer.place))?, behind);
                continue;
            }
            x = match &layer.op {
                // outside `layer`: an inner layer's error has its own place
                Op::Residual { layers } => {
                    let inner = self.chain(layers, x.clone())?;
                    x.add(&inner).map_err(ComputeError::at(&layer.place))?
                }
                op => self.apply(op, &layer.name, &x).map_err(ComputeError::at(&layer.place))?,
            };
            layers = rest;
        }
        Ok(x)
    }

    /// Layers that begin the list and that one op computes together: the result, and the layers behind them.
    fn fused<'a>(&mut self, layers: &'a [Layer], x: &Tensor) -> Option<(candle_core::Result<Tensor>, &'a [Layer])> {
        let op = |at: usize| layers.get(at).map(|layer: &Layer| &layer.op);
        match (op(0)?, op(1)?, op(2)) {
            (
                &Op::Conv { weight, bias: Some(bias), stride: 1, padding },
                Op::Relu,
                Some(Op::MaxPool { kernel: 2, stride: 2, padding: 0 }),
            ) => {
                let (values, target) = ([weight, bias].map(|slot| self.tensor(slot)), self.target(weight, Some(bias)));
                Some((layers::conv_relu_pool_to(x, &values[0], &values[1], padding, target), &layers[3..]))
            }
            (
                &Op::Conv { weight, bias: Some(bias), stride: 1, padding },
                &Op::BatchNorm { weight: gain, bias: offset, mean, variance, eps },
                Some(Op::Relu),
            ) if self.mode.draws().is_some()
                && matches!(op(3), Some(Op::MaxPool { kernel: 2, stride: 2, padding: 0 })) =>
            {
                let [weights, biases, gains, offsets] = [weight, bias, gain, offset].map(|slot| self.tensor(slot));
                let targets = self.target(weight, Some(bias)).zip(self.target(gain, Some(offset)));
                let fused = layers::conv_norm_relu_pool(
                    x,
                    &layers::ConvNorm {
                        weight: &weights,
                        bias: &biases,
                        padding,
                        norm: [&gains, &offsets],
                        eps,
                        targets: targets.map(<[_; 2]>::from),
                    },
                );
                let y = fused.map(|(y, statistics)| {
                    self.statistics.push(([mean, variance], statistics));
                    y
                });
                Some((y, &layers[4..]))
            }
            _ => None,
        }
    }

    fn apply(&mut self, op: &Op, name: &str, x: &Tensor) -> candle_core::Result<Tensor> {
        match *op {
            Op::Conv { weight, bias, stride, padding } => {
                let bias = bias.map(|bias| self.tensor(bias));
                layers::conv2d(x, &self.tensor(weight), bias.as_ref(), stride, padding)
            }
            Op::Linear { weight, bias } => {
                let target = self.target(weight, bias);
                let bias = bias.map(|bias| self.tensor(bias));
                layers::linear_to(x, &self.tensor(weight), bias.as_ref(), target)
            }
            Op::BatchNorm { weight, bias, mean, variance, eps } => {
                let (weight, bias) = (self.tensor(weight), self.tensor(bias));
                if let Mode::Evaluate = self.mode {
                    return layers::batch_norm_eval(x, &weight, &bias, &self.tensor(mean), &self.tensor(variance), eps);
                }
                let (y, statistics) = layers::batch_norm(x, &weight, &bias, eps)?;
                self.statistics.push(([mean, variance], statistics));
                Ok(y)
            }
            Op::Relu => layers::relu(x),
            Op::LeakyRelu { slope } => layers::leaky_relu(x, slope),
            Op::MaxPool { kernel, stride, padding } => layers::max_pool2d(x, kernel, stride, padding),
            Op::AvgPool { kernel, stride, padding } => layers::avg_pool2d(x, kernel, stride, padding),
            Op::Flatten => x.flatten_from(1),
            Op::Dropout { p } => match self.mode.draws() {
                None => Ok(x.clone()),
                Some(draws) => layers::dropout(x, p, draws.turn.key(name), draws.turn.number(), draws.examples),
            },
            Op::Dropout2d { p } => match self.mode.draws() {
                None => Ok(x.clone()),
                Some(draws) => layers::dropout2d(x, p, draws.turn.key(name), draws.turn.number(), draws.examples),
            },
            Op::Residual { .. } => candle_core::bail!("a residual is walked, not applied"),
        }
    }

    /// Where the gradients of a layer's weight and bias go in training.
    fn target(&self, weight: Slot, bias: Option<Slot>) -> Option<Target> {
        let Mode::Train { collector, .. } = self.mode else { return None };
        let range = |slot: Slot| self.model.tensors()[slot].range.clone();
        collector.target(range(weight), bias.map_or(0..0, range))
    }

    /// A layer's tensor: one that collects gradients in training, the bare values in any evaluation.
    fn tensor(&self, slot: Slot) -> Tensor {
        match self.mode {
            Mode::Train { .. } => self.weights.var(slot).as_tensor().clone(),
            Mode::EvaluateAsTrained { .. } | Mode::Evaluate => self.weights.detached(slot),
        }
    }
}
