//! What each type of layer demands of its arguments and its input, and what it makes of them.

use lockstep_proto::recipe::model::{LayerKind, LayerSpec};

use super::Shape;
use super::init::Init;
use super::layer::Op;
use super::planner::Declare;
use super::shape::product;

/// A layer's operation and sizes.
pub(super) struct Planned {
    pub(super) op: Op,
    pub(super) output: Shape,
    pub(super) multiply_adds: u64,
    pub(super) summary: String,
}

/// The inner list of a layer that has one; such a layer has no rules of its own here.
pub(super) fn inner(kind: &LayerKind) -> Option<&[LayerSpec]> {
    match kind {
        LayerKind::Residual { layers } => Some(layers),
        _ => None,
    }
}

/// Checks one layer on its input, declares its tensors and says what comes out. An error is the bare problem.
pub(super) fn plan(kind: &LayerKind, input: Shape, declare: &mut Declare) -> Result<Planned, String> {
    let (name, same) = (kind.name(), |op, summary| Planned { op, output: input, multiply_adds: 0, summary });
    Ok(match *kind {
        LayerKind::Conv { out_channels, kernel_size, stride, padding, bias } => {
            let [in_channels, ..] = image(name, input)?;
            positive("out_channels", out_channels)?;
            let window = Window { kernel: kernel_size, stride, padding };
            let output = window.slide(name, input, out_channels)?;
            let fan_in = product(&[in_channels, kernel_size, kernel_size]);
            let Shape::Image { height, width, .. } = output else { return Err("no image came out".to_owned()) };
            // the patches of one example side by side: what the product reads
            let patches = fan_in.and_then(|fan_in| product(&[fan_in, height, width]));
            let (Some(fan_in), Some(patches)) = (fan_in, patches) else {
                return Err(format!("the patches of kernel {kernel_size} over {input} are beyond all bounds"));
            };
            let init = Init::fan_in(fan_in);
            let weight = declare.parameter("weight", &[out_channels, in_channels, kernel_size, kernel_size], init)?;
            let bias = bias.then(|| declare.parameter("bias", &[out_channels], init)).transpose()?;
            Planned {
                op: Op::Conv { weight, bias, stride, padding },
                output,
                multiply_adds: patches as u64 * out_channels as u64,
                summary: format!("conv {out_channels} @ {}{}", window.text(1), without(bias)),
            }
        }
        LayerKind::Linear { out_features, bias } => {
            let Shape::Vector { features } = input else {
                return Err(format!("it needs a vector but gets {input}: put {{ type = \"flatten\" }} before it"));
            };
            positive("out_features", out_features)?;
            let init = Init::fan_in(features);
            let weight = declare.parameter("weight", &[out_features, features], init)?;
            let bias = bias.then(|| declare.parameter("bias", &[out_features], init)).transpose()?;
            Planned {
                op: Op::Linear { weight, bias },
                output: Shape::Vector { features: out_features },
                multiply_adds: features as u64 * out_features as u64,
                summary: format!("linear {out_features}{}", without(bias)),
            }
        }
        LayerKind::BatchNorm { eps, momentum } => {
            if !(eps > 0.0 && eps.is_finite()) {
                return Err(format!("eps is {eps}: it must be positive; 1e-5 is usual"));
            }
            if !(0.0..=1.0).contains(&momentum) {
                return Err(format!("momentum is {momentum}: the weight of a new value lies in [0, 1]; 0.1 is usual"));
            }
            let channels = match input {
                Shape::Image { channels, .. } => channels,
                Shape::Vector { features } => features,
            };
            let op = Op::BatchNorm {
                weight: declare.parameter("weight", &[channels], Init::Constant(1.0))?,
                bias: declare.parameter("bias", &[channels], Init::Constant(0.0))?,
                mean: declare.buffer("running_mean", &[channels], momentum, 0.0)?,
                variance: declare.buffer("running_var", &[channels], momentum, 1.0)?,
                eps,
            };
            let mut summary = "batch_norm".to_owned();
            if eps != 1e-5 {
                summary += &format!(" eps={eps:e}");
            }
            if momentum != 0.1 {
                summary += &format!(" momentum={momentum}");
            }
            same(op, summary)
        }
        LayerKind::Relu {} => same(Op::Relu, name.to_owned()),
        LayerKind::LeakyRelu { negative_slope: slope } => {
            if !slope.is_finite() {
                return Err(format!("negative_slope is {slope}: it must be finite; 0.01 is usual"));
            }
            same(Op::LeakyRelu { slope }, format!("leaky_relu {slope}"))
        }
        LayerKind::MaxPool { kernel_size, stride, padding } => {
            let (window, output) = pool(name, input, kernel_size, stride, padding)?;
            let op = Op::MaxPool { kernel: window.kernel, stride: window.stride, padding };
            Planned { op, output, multiply_adds: 0, summary: format!("max_pool {}", window.text(kernel_size)) }
        }
        LayerKind::AvgPool { kernel_size, stride, padding } => {
            let (window, output) = pool(name, input, kernel_size, stride, padding)?;
            let op = Op::AvgPool { kernel: window.kernel, stride: window.stride, padding };
            Planned { op, output, multiply_adds: 0, summary: format!("avg_pool {}", window.text(kernel_size)) }
        }
        LayerKind::Flatten {} => {
            let features = input.bounded_len().ok_or_else(|| format!("{input} is beyond all bounds"))?;
            let output = Shape::Vector { features };
            Planned { op: Op::Flatten, output, multiply_adds: 0, summary: name.to_owned() }
        }
        LayerKind::Dropout { p } => {
            probability(p)?;
            same(Op::Dropout { p }, format!("dropout p={p}"))
        }
        LayerKind::Dropout2d { p } => {
            probability(p)?;
            image(name, input)?;
            same(Op::Dropout2d { p }, format!("dropout2d p={p}"))
        }
        LayerKind::Residual { .. } => return Err("a residual is planned with its inner layers".to_owned()),
    })
}

/// A square window that slides over an image.
#[derive(Clone, Copy)]
struct Window {
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Window {
    /// The output's shape, PyTorch's floor((size + 2·padding − kernel) / stride) + 1 in each direction.
    fn slide(self, layer: &str, input: Shape, channels: usize) -> Result<Shape, String> {
        let Self { kernel, stride, padding } = self;
        let [_, height, width] = image(layer, input)?;
        positive("kernel_size", kernel)?;
        positive("stride", stride)?;
        let extent = |size: usize| {
            let padded = padding.checked_mul(2).and_then(|both| both.checked_add(size));
            padded.ok_or_else(|| {
                format!("padding {padding} is beyond all bounds: kernel {kernel} needs {} at most", kernel / 2)
            })
        };
        let (height, width) = (extent(height)?, extent(width)?);
        if kernel > height.min(width) {
            let most = height.min(width);
            return Err(format!(
                "kernel {kernel} does not fit input {input} with padding {padding}: use a kernel of at most {most}, \
                 or fewer layers that shrink the image before it"
            ));
        }
        let slots = |size: usize| (size - kernel) / stride + 1;
        Ok(Shape::Image { channels, height: slots(height), width: slots(width) })
    }

    /// Its arguments for people, without those that PyTorch defaults to.
    fn text(self, usual_stride: usize) -> String {
        let Self { kernel, stride, padding } = self;
        let stride = if stride == usual_stride { String::new() } else { format!(" stride {stride}") };
        let padding = if padding == 0 { String::new() } else { format!(" padding {padding}") };
        format!("{kernel}×{kernel}{stride}{padding}")
    }
}

/// Checks a pool as PyTorch does; a stride of 0 is the kernel's size.
fn pool(layer: &str, input: Shape, kernel: usize, stride: usize, padding: usize) -> Result<(Window, Shape), String> {
    let [channels, ..] = image(layer, input)?;
    positive("kernel_size", kernel)?;
    if padding > kernel / 2 {
        return Err(format!("padding {padding} is more than half of kernel {kernel}: use at most {}", kernel / 2));
    }
    let window = Window { kernel, stride: if stride == 0 { kernel } else { stride }, padding };
    Ok((window, window.slide(layer, input, channels)?))
}

fn image(layer: &str, input: Shape) -> Result<[usize; 3], String> {
    match input {
        Shape::Image { channels, height, width } => Ok([channels, height, width]),
        Shape::Vector { .. } => {
            Err(format!("{layer} needs an image but gets a vector of {input}: put it before flatten"))
        }
    }
}

fn positive(argument: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{argument} is 0: it must be at least 1")) } else { Ok(()) }
}

fn probability(p: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&p) { Ok(()) } else { Err(format!("p is {p}: the part that is dropped lies in [0, 1)")) }
}

fn without<T>(bias: Option<T>) -> &'static str {
    if bias.is_some() { "" } else { ", no bias" }
}
