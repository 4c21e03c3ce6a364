//! From layers to steps: which kernels and library calls a pass makes for so many examples, and where everything lies. Made once.

use candle_core::{Result, bail};

use super::backward_plan;
use super::channels::Channels;
use super::format::Format;
use super::inputs;
use super::kernels::Windows;
use super::regions::{Region, Regions};
use crate::model::{Layer, Model, Op, Shape};

/// What follows a layer in the same kernel: `kernel.h` has the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Act {
    pub(super) kind: u32,
    pub(super) slope: f32,
}

impl Act {
    fn of(op: &Op) -> Option<Self> {
        match *op {
            Op::Relu => Some(Self { kind: 1, slope: 0.0 }),
            Op::LeakyRelu { slope } => Some(Self { kind: 2, slope: slope as f32 }),
            _ => None,
        }
    }

    pub(super) fn is_none(self) -> bool {
        self.kind == 0
    }
}

/// A square window over images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window {
    pub(super) examples: usize,
    /// Channels, height, width.
    pub(super) x: [usize; 3],
    pub(super) y: [usize; 3],
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) format: Format,
}

impl Window {
    pub(super) fn for_kernels(&self) -> Windows {
        let beside = self.format.beside(self.x[0]) as u32;
        let ([_, height, width], [_, out_height, out_width]) = (self.x.map(|n| n as u32), self.y.map(|n| n as u32));
        let [kernel, stride, padding] = [self.kernel, self.stride, self.padding].map(|n| n as u32);
        Windows { height, width, out_height, out_width, kernel, stride, padding, beside }
    }
}

/// A max pool that follows a convolution, its bias and its activation in the same kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    pub(super) window: Window,
    /// How a sum over what comes out of it is cut.
    pub(super) out: Channels,
    pub(super) at: Region,
    /// What the convolution makes, for the pool alone, and its gradient: both are free again after the step.
    pub(super) raw: Region,
    pub(super) draw: Region,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// `number`: which of the plan's convolutions.
    Conv {
        number: usize,
        weight: usize,
        bias: Option<usize>,
        out: Channels,
        act: Act,
        pool: Option<Pool>,
    },
    Linear {
        inputs: usize,
        outputs: usize,
        weight: usize,
        bias: Option<usize>,
        act: Act,
    },
    /// `shift`: a bias that x lacks, because the mean takes it away again.
    Norm {
        slots: [usize; 4],
        shift: Option<usize>,
        eps: f64,
        shape: Channels,
        act: Act,
        moments: Region,
    },
    Act(Act),
    MaxPool {
        window: Window,
        at: Region,
    },
    AvgPool {
        window: Window,
    },
    /// `number`: which of the plan's; `row`: values of an example; `repeat`: of them, that share a draw; `beside`: channels side by side.
    Dropout {
        p: f64,
        number: usize,
        row: usize,
        repeat: usize,
        beside: usize,
    },
    /// Channels side by side become planes one after the other.
    Transpose {
        places: usize,
        channels: usize,
    },
    /// `inner_y`: what the inner steps make of x. `copy`: the gradient that goes into them, who may change it in place.
    Residual {
        inner: Vec<Step>,
        inner_y: Region,
        copy: Region,
    },
}

/// One step: y from x, and dx from dy.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What errors call it.
    pub(super) place: String,
    pub(super) work: Work,
    pub(super) x: Region,
    pub(super) y: Region,
    pub(super) dy: Region,
    /// None: nobody asks for the images' gradient.
    pub(super) dx: Option<Region>,
}

/// A pass over so many examples.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) format: Format,
    pub(super) examples: usize,
    pub(super) classes: usize,
    pub(super) steps: Vec<Step>,
    pub(super) convolutions: Vec<Window>,
    /// The names by which dropout layers draw.
    pub(super) dropouts: Vec<String>,
    pub(super) images: Region,
    /// All that differs from pass to pass; within it the dropouts' keys, what they are keyed by (one number an example), and labels.
    pub(super) inputs: Region,
    pub(super) keys: Region,
    pub(super) numbers: Region,
    pub(super) labels: Region,
    pub(super) logits: Region,
    pub(super) dlogits: Region,
    /// Parts of sums; each step leaves it to the next.
    pub(super) scratch: Region,
    /// Everything, before what the libraries want.
    pub(super) regions: Regions,
}

struct Planner<'a> {
    model: &'a Model,
    examples: usize,
    /// A backward pass follows: what it needs is kept.
    training: bool,
    format: Format,
    regions: Regions,
    convolutions: Vec<Window>,
    dropouts: Vec<String>,
    scratch: usize,
}

impl Plan {
    pub(super) fn new(model: &Model, examples: usize, training: bool, format: Format) -> Result<Self> {
        let size = model.input().bounded_len().unwrap_or(0);
        if (examples * size).max(1) > i32::MAX as usize {
            bail!("{examples} images of {} at once are more than 32 bits count: take more shards", model.input())
        }
        let (regions, convolutions, dropouts) = Default::default();
        let mut planner = Planner { model, examples, training, format, regions, convolutions, dropouts, scratch: 1 };
        let images = planner.regions.take(examples * size);
        let (mut steps, logits) = planner.chain(model.layers(), images, model.input())?;
        let dlogits = planner.regions.take(logits.len);
        if training {
            backward_plan::place(&mut steps, &mut planner.regions, dlogits, false);
        }
        let scratch = planner.regions.take_apart(planner.scratch);
        let mut start = planner.regions.take_apart(0).start;
        let [_, keys, numbers, labels] = [inputs::HEAD, 2 * planner.dropouts.len(), examples, examples].map(|len| {
            start += len;
            Region { start: start - len, len }
        });
        let inputs = planner.regions.take_apart(labels.start + labels.len - planner.regions.most());
        let Planner { regions, convolutions, dropouts, .. } = planner;
        let classes = model.classes();
        Ok(Self {
            format,
            examples,
            classes,
            steps,
            convolutions,
            dropouts,
            images,
            inputs,
            keys,
            numbers,
            labels,
            logits,
            dlogits,
            scratch,
            regions,
        })
    }
}

impl Planner<'_> {
    /// The steps of `layers` on x, which has `shape`, and where the last one's output lies.
    fn chain(&mut self, mut layers: &[Layer], mut x: Region, mut shape: Shape) -> Result<(Vec<Step>, Region)> {
        let (mut steps, first) = (Vec::new(), x);
        while let [layer, rest @ ..] = layers {
            // an activation whose slope can be told from its output goes with the layer before it
            let act = rest.first().and_then(|next| Act::of(&next.op)).filter(|act| act.slope >= 0.0);
            let takes_act = matches!(layer.op, Op::Conv { .. } | Op::Linear { .. } | Op::BatchNorm { .. });
            let (act, used) = match act.filter(|_| takes_act) {
                Some(act) => (act, 2),
                None => (Act::default(), 1),
            };
            let pool = layers
                .get(used)
                .filter(|next| matches!(layer.op, Op::Conv { .. }) && matches!(next.op, Op::MaxPool { .. }));
            let used = used + usize::from(pool.is_some());
            let y = self.layer(layer, act, pool, x, shape, &mut steps)?;
            // in evaluation nobody looks back; the chain's own input is the caller's
            if !self.training && y != x && x != first {
                self.regions.give(x);
            }
            (x, shape, layers) = (y, layers[used - 1].output, &layers[used..]);
        }
        Ok((steps, x))
    }

    /// `act` and `pool`: what follows in the same step.
    fn layer(
        &mut self,
        layer: &Layer,
        act: Act,
        pool: Option<&Layer>,
        x: Region,
        shape: Shape,
        steps: &mut Vec<Step>,
    ) -> Result<Region> {
        let n = self.examples;
        let y_len = n * layer.output.bounded_len().unwrap_or(0);
        if y_len > i32::MAX as usize {
            bail!("{}: {y_len} values at once are more than 32 bits count: take more shards", layer.place)
        }
        let (out, format) = (Channels::new(n, layer.output, self.format), self.format);
        let (work, y) = match &layer.op {
            Op::Flatten => match shape {
                Shape::Image { channels, height, width } if format.beside(channels) > 1 && height * width > 1 => {
                    (Work::Transpose { places: height * width, channels }, self.regions.take(y_len))
                }
                _ => return Ok(x),
            },
            &Op::Dropout { p } | &Op::Dropout2d { p } if p == 0.0 || x.len == 0 => return Ok(x),
            &Op::Conv { weight, bias, stride, padding } => {
                let (from, to) = (image(shape)?, image(layer.output)?);
                let kernel = self.model.tensors()[weight].shape[2];
                let number = self.convolutions.len();
                self.convolutions.push(Window { examples: n, x: from, y: to, kernel, stride, padding, format });
                self.scratch(out.splits * out.channels);
                let (pool, y) = match pool {
                    None => (None, self.regions.take(y_len)),
                    Some(pool) => {
                        let (pool, y) = self.pooled(pool, to, y_len)?;
                        (Some(pool), y)
                    }
                };
                (Work::Conv { number, weight, bias, out, act, pool }, y)
            }
            &Op::Linear { weight, bias } => {
                let (inputs, outputs) = (x.len / n.max(1), y_len / n.max(1));
                (Work::Linear { inputs, outputs, weight, bias, act }, self.regions.take(y_len))
            }
            &Op::BatchNorm { weight, bias, mean, variance, eps } => {
                self.scratch(2 * out.splits * out.channels);
                // two numbers of each way
                let moments = self.regions.take(4 * out.channels as usize);
                let slots = [weight, bias, mean, variance];
                let shift = steps.last_mut().filter(|before| before.y == x).and_then(|before| take_bias(before, out));
                (Work::Norm { slots, shift, eps, shape: out, act, moments }, self.regions.take(y_len))
            }
            op @ (Op::Relu | Op::LeakyRelu { .. }) => {
                (Work::Act(Act::of(op).unwrap_or_default()), self.regions.take(y_len))
            }
            &Op::MaxPool { kernel, stride, padding } => {
                let (from, to) = (image(shape)?, image(layer.output)?);
                let window = Window { examples: n, x: from, y: to, kernel, stride, padding, format };
                (Work::MaxPool { window, at: self.regions.take(y_len) }, self.regions.take(y_len))
            }
            &Op::AvgPool { kernel, stride, padding } => {
                let (from, to) = (image(shape)?, image(layer.output)?);
                let window = Window { examples: n, x: from, y: to, kernel, stride, padding, format };
                (Work::AvgPool { window }, self.regions.take(y_len))
            }
            &Op::Dropout { p } => (self.dropout(layer, p, shape, 1), self.regions.take(y_len)),
            &Op::Dropout2d { p } => {
                let [_, height, width] = image(shape)?;
                (self.dropout(layer, p, shape, height * width), self.regions.take(y_len))
            }
            Op::Residual { layers } => {
                let (inner, inner_y) = self.chain(layers, x, shape)?;
                let y = self.regions.take(y_len);
                if !self.training && inner_y != x {
                    self.regions.give(inner_y);
                }
                (Work::Residual { inner, inner_y, copy: Region::default() }, y)
            }
        };
        steps.push(Step { place: layer.place.clone(), work, x, y, dy: Region::default(), dx: None });
        Ok(y)
    }

    /// Where the pool of a convolution has its things, and its output; the convolution makes `raw_len` values, of shape `from`.
    fn pooled(&mut self, layer: &Layer, from: [usize; 3], raw_len: usize) -> Result<(Pool, Region)> {
        let &Op::MaxPool { kernel, stride, padding } = &layer.op else { bail!("{}: no max pool", layer.place) };
        let to = image(layer.output)?;
        let format = self.format;
        let window = Window { examples: self.examples, x: from, y: to, kernel, stride, padding, format };
        let len = self.examples * to.iter().product::<usize>();
        let [raw, at, y] = [raw_len, len, len].map(|len| self.regions.take(len));
        // the backward pass asks for the winners and their values alone
        self.regions.give(raw);
        let out = Channels::new(self.examples, layer.output, self.format);
        self.scratch(out.splits * out.channels);
        Ok((Pool { window, out, at, raw, draw: Region::default() }, y))
    }

    fn dropout(&mut self, layer: &Layer, p: f64, shape: Shape, repeat: usize) -> Work {
        self.dropouts.push(layer.name.clone());
        let row = shape.bounded_len().unwrap_or(0);
        let beside = match shape {
            Shape::Image { channels, .. } => self.format.beside(channels),
            Shape::Vector { .. } => 1,
        };
        Work::Dropout { p, number: self.dropouts.len() - 1, row, repeat, beside }
    }

    fn scratch(&mut self, values: u32) {
        self.scratch = self.scratch.max(values as usize);
    }
}

/// The bias of a step that nothing but a normalisation of the same channels follows: over a batch that is the same with and without it.
fn take_bias(before: &mut Step, normed: Channels) -> Option<usize> {
    match &mut before.work {
        Work::Conv { bias, act, out, pool: None, .. } if act.is_none() && *out == normed => bias.take(),
        Work::Linear { bias, act, outputs, .. } if act.is_none() && *outputs == normed.channels as usize => bias.take(),
        _ => None,
    }
}

fn image(shape: Shape) -> Result<[usize; 3]> {
    match shape {
        Shape::Image { channels, height, width } => Ok([channels, height, width]),
        Shape::Vector { features } => bail!("an image is needed, and {features} features came"),
    }
}
