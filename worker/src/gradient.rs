//! The one gradient function: weights and a shard in, gradient and counts out, no network in sight.

use crate::dataset::Batch;
use crate::layers::{self, Collector};
use crate::model::{ComputeError, Draws, Mode, Model, Weights};
#[cfg(feature = "cuda")]
use crate::node;
use candle_core::{Storage, Tensor};
use lockstep_proto::recipe::LossName;

/// What a shard's computation depends on besides the weights and the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepContext {
    /// The run's seed, for dropout.
    pub seed: u64,
    /// The epoch, from 0, for dropout.
    pub epoch: u32,
    /// Examples in the step's whole batch, of which the shard is a part.
    pub batch_size: usize,
    /// What is made smaller.
    pub loss: LossName,
}

/// One shard's share of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// In schema order. Parameters: the gradient of (sum of the shard's losses) / batch size. Buffers: (shard / batch
    /// size) × the shard's mean or unbiased variance. So the plain sum over a batch's shards is the batch's gradient and
    /// the count-weighted mean of its statistics.
    pub flat: Vec<f32>,
    /// The sum of the shard's losses, without penalties: those are the coordinator's.
    pub loss_sum: f64,
    /// How many of the shard's examples the weights got right.
    pub correct: u32,
    /// Examples in the shard.
    pub count: u32,
}

/// Forward and backward over one shard.
///
/// # Errors
/// A shard that is empty, greater than its batch, inconsistent or not the model's shape, a label that is no class of the
/// model; a layer that can't compute (BatchNorm over a single value).
pub fn gradient(
    model: &Model,
    weights: &Weights,
    shard: &Batch,
    context: &StepContext,
) -> Result<Gradient, ComputeError> {
    #[cfg(feature = "cuda")]
    if weights.packed().is_some() {
        return node::alone(model, weights, shard, context);
    }
    let count = check(model, shard, context)?;
    let StepContext { seed, epoch, batch_size, loss } = *context;
    let collector = Collector::new(model.schema().len());
    let mode = Mode::Train { draws: Draws::training(seed, epoch, &shard.examples), collector: &collector };
    let pass = model.forward(weights, &shard.images, mode)?;
    let in_loss = ComputeError::at(loss.word());
    let result = layers::loss(loss, &pass.logits, &shard.labels, batch_size as f32).map_err(in_loss)?;
    let gradients = result.loss.backward().map_err(ComputeError::at("backward pass"))?;

    let mut flat = collector.take();
    for (slot, tensor) in model.tensors().iter().enumerate() {
        // the collector has the others; what no path leads to (a buffer, a layer whose output nothing uses) keeps its zeros
        if let Some(gradient) = gradients.get(weights.var(slot)) {
            copy(gradient, &mut flat[tensor.range.clone()]).map_err(ComputeError::at(&tensor.name))?;
        }
    }
    let share = count as f32 / batch_size as f32;
    for ([mean, variance], statistics) in pass.statistics {
        for (slot, values) in [(mean, statistics.mean), (variance, statistics.variance)] {
            for (flat, value) in flat[model.tensors()[slot].range.clone()].iter_mut().zip(values) {
                *flat = share * value;
            }
        }
    }
    Ok(Gradient { flat, loss_sum: result.loss_sum, correct: result.correct, count: count as u32 })
}

/// How many examples the shard has, if they fit each other, the model and the step.
pub(crate) fn check(model: &Model, shard: &Batch, context: &StepContext) -> Result<usize, ComputeError> {
    let (count, whole) = (shard.check(model)?, context.batch_size);
    if count > whole {
        let problem = format!("the shard has {count} examples, but the whole step only {whole}");
        return Err(ComputeError::Batch(problem));
    }
    Ok(count)
}

/// Copies a tensor's values into `out`, which has as many.
fn copy(tensor: &Tensor, out: &mut [f32]) -> candle_core::Result<()> {
    if tensor.elem_count() != out.len() {
        candle_core::bail!("the gradient has shape {:?}, not {} values", tensor.dims(), out.len())
    }
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(values), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        candle_core::bail!("the gradient is not a contiguous tensor on the CPU")
    };
    out.copy_from_slice(&values.as_slice::<f32>()?[start..end]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shape;
    use candle_core::Device;
    use lockstep_proto::keys::Key;
    use lockstep_proto::recipe::model::ModelSpec;
    use lockstep_proto::schema::Kind;

    const SEED: u64 = 5;

    fn model(text: &str, input: [usize; 3]) -> Model {
        Model::new(&ModelSpec::parse(text, "test").expect("a readable file"), input, 10).expect("a model that fits")
    }

    /// Examples `range` of an endless random data set.
    fn shard(model: &Model, range: std::ops::Range<u32>) -> Batch {
        let Shape::Image { channels, height, width } = model.input() else { panic!("images go in") };
        let key = Key::new(SEED, "test", "image");
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for example in range.clone() {
            let mut draws = key.stream(example, 0, 0);
            labels.push(draws.below(10));
            values.extend((0..channels * height * width).map(|_| draws.range(-1.0, 1.0)));
        }
        let shape = (labels.len(), channels, height, width);
        let images = Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as places");
        Batch { images, labels, examples: range.collect() }
    }

    fn context(batch_size: usize) -> StepContext {
        StepContext { seed: SEED, epoch: 2, batch_size, loss: LossName::CrossEntropy }
    }

    /// The sum over shards of one batch of 31, cut at `cuts`.
    fn summed(model: &Model, cuts: &[u32]) -> Gradient {
        let weights = Weights::new(model, &model.initial(SEED)).expect("the model's own");
        let mut sum = Gradient { flat: vec![0.0; model.schema().len()], loss_sum: 0.0, correct: 0, count: 0 };
        for cut in cuts.windows(2) {
            let part = gradient(model, &weights, &shard(model, cut[0]..cut[1]), &context(31)).expect("a good shard");
            sum.flat.iter_mut().zip(&part.flat).for_each(|(sum, part)| *sum += part);
            sum.loss_sum += part.loss_sum;
            sum.correct += part.correct;
            sum.count += part.count;
        }
        sum
    }

    /// ‖a − b‖ / ‖b‖.
    fn distance(a: &[f32], b: &[f32]) -> f64 {
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let difference = square(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        (difference / square(&mut b.iter().map(|&b| f64::from(b)))).sqrt()
    }

    /// Without BatchNorm how a batch is cut changes nothing but rounding, dropout included: masks go with examples.
    #[test]
    fn one_shard_and_six_agree_with_dropout() {
        let model = model(include_str!("../../recipes/models/lenet-dropout.toml"), [3, 32, 32]);
        let one = summed(&model, &[0, 31]);
        let six = summed(&model, &[0, 6, 11, 16, 21, 26, 31]);
        assert_eq!((one.count, six.count, one.correct), (31, 31, six.correct));
        assert!((one.loss_sum - six.loss_sum).abs() < 1e-5 * one.loss_sum, "{} {}", one.loss_sum, six.loss_sum);
        for (tensor, range) in model.schema().iter() {
            let distance = distance(&six.flat[range.clone()], &one.flat[range]);
            assert!(distance < 3e-6, "{}: {distance:e}", tensor.name);
        }
        // and dropout did something
        let weights = Weights::new(&model, &model.initial(SEED)).expect("the model's own");
        let other = StepContext { epoch: 3, ..context(31) };
        let other = gradient(&model, &weights, &shard(&model, 0..31), &other).expect("a good shard");
        assert!(distance(&other.flat, &one.flat) > 0.1);
    }

    /// Shares of statistics add up to the count-weighted mean of the shards' own.
    #[test]
    fn statistics_add_up_to_the_weighted_mean() {
        let text = "name = \"m\"\nlayers = [{ type = \"batch_norm\" }, { type = \"flatten\" },
                    { type = \"linear\", out_features = 10 }]";
        let model = model(text, [2, 3, 3]);
        let sum = summed(&model, &[0, 4, 31]).flat;
        let moments = |range: std::ops::Range<u32>, channel: usize| {
            let batch = shard(&model, range);
            let values: Vec<Vec<Vec<f32>>> =
                batch.images.flatten_from(2).and_then(|t| t.to_vec3()).expect("n × channels × pixels");
            let values: Vec<f64> = values.iter().flat_map(|image| &image[channel]).map(|&v| f64::from(v)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64)
        };
        for channel in 0..2 {
            let (first, second) = (moments(0..4, channel), moments(4..31, channel));
            let weighted = |a: f64, b: f64| (4.0 * a + 27.0 * b) / 31.0;
            for (name, expected) in
                [("0.running_mean", weighted(first.0, second.0)), ("0.running_var", weighted(first.1, second.1))]
            {
                let found = f64::from(sum[model.schema().range(name).expect("a BatchNorm's buffer").start + channel]);
                assert!((found - expected).abs() < 1e-6, "{name}[{channel}]: {found}, not {expected}");
            }
        }
        assert!(model.schema().tensors().iter().any(|t| matches!(t.kind, Kind::Buffer { .. })));
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        check_slopes(LossName::CrossEntropy, 1.0);
    }

    /// Where ten classes are equally likely, cross-entropy's slopes in the ten logits are 0.9 and nine times 0.1, together 1.8; the
    /// softmax's mean absolute error has 0.018 and nine times 0.002, the logits' ten times 0.1.
    #[test]
    fn the_gradient_is_the_slope_of_mean_absolute_errors() {
        check_slopes(LossName::L1Softmax, 0.036 / 1.8);
        check_slopes(LossName::L1Logits, 1.0 / 1.8);
    }

    /// Oracle: the loss itself, moved a little along a random direction of each tensor, through every type of layer. `scale`:
    /// how steep it is beside cross-entropy.
    fn check_slopes(loss: LossName, scale: f64) {
        let text = r#"name = "m"
            layers = [
              { type = "conv", out_channels = 4, kernel_size = 3, padding = 1, stride = 2 },
              { type = "batch_norm" },
              { type = "leaky_relu", negative_slope = 0.3 },
              { type = "residual", layers = [
                { type = "conv", out_channels = 4, kernel_size = 1, bias = false },
                { type = "dropout2d", p = 0.3 },
              ] },
              { type = "avg_pool", kernel_size = 2, stride = 1, padding = 1 },
              { type = "max_pool", kernel_size = 2 },
              { type = "flatten" },
              { type = "linear", out_features = 12 },
              { type = "relu" },
              { type = "dropout", p = 0.2 },
              { type = "linear", out_features = 10 },
            ]"#;
        let model = model(text, [3, 8, 8]);
        let mut start = model.initial(SEED);
        if loss == LossName::L1Logits {
            // fresh logits lie about 0, which is most targets, and there the slope jumps: far from them it does not
            let bias = model.schema().range("10.bias").expect("of the last layer");
            start[bias].iter_mut().enumerate().for_each(|(class, b)| *b += if class % 2 == 0 { 5.0 } else { -5.0 });
        }
        let mut weights = Weights::new(&model, &start).expect("the model's own");
        let batch = shard(&model, 0..12);
        let context = StepContext { loss, ..context(12) };
        let flat = gradient(&model, &weights, &batch, &context).expect("a good shard").flat;
        // f32 logits carry about 1e-7 of noise, which a step of 4e-3 turns into 3e-5 of slope
        let step = 4e-3_f32;
        let mut checked = 0;
        for (tensor, range) in model.schema().iter().filter(|(tensor, _)| tensor.kind == Kind::Parameter) {
            for direction in 0..4 {
                let mut draws = Key::new(SEED, "direction", &tensor.name).stream(direction, 0, 0);
                let along: Vec<f32> = range.clone().map(|_| if draws.bits() & 1 == 0 { 1.0 } else { -1.0 }).collect();
                let length = step / (along.len() as f32).sqrt();
                let mut moved = |sign: f32| {
                    let mut flat = start.clone();
                    flat[range.clone()].iter_mut().zip(&along).for_each(|(w, d)| *w += sign * length * d);
                    weights.set(&model, &flat).expect("the model's own");
                    gradient(&model, &weights, &batch, &context).expect("a good shard").loss_sum / 12.0
                };
                let slope = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(length));
                let product: f64 =
                    flat[range.clone()].iter().zip(&along).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
                let norm = flat[range.clone()].iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
                let size = (along.len() as f64).sqrt();
                assert!(
                    (slope - product).abs() < size * (1e-3 * scale + 0.01 * norm),
                    "{loss}, {}: slope {slope}, gradient {product}",
                    tensor.name
                );
                checked += u32::from(product.abs() > size * 5e-3 * scale);
            }
        }
        assert!(checked > 15, "{loss}: only {checked} slopes were steep enough to say anything");
    }

    #[test]
    fn shards_that_do_not_fit_are_refused() {
        let model = model(include_str!("../../recipes/models/lenet.toml"), [3, 32, 32]);
        let weights = Weights::new(&model, &model.initial(SEED)).expect("the model's own");
        let good = shard(&model, 0..3);
        let error = |batch: &Batch, size| {
            gradient(&model, &weights, batch, &context(size)).expect_err("a bad shard").to_string()
        };
        assert!(error(&shard(&model, 0..0), 8).contains("empty"));
        assert!(error(&good, 2).contains("the shard has 3 examples, but the whole step only 2"));
        let short = Batch { labels: vec![1], ..good.clone() };
        assert!(error(&short, 8).contains("1 labels and 3 example numbers"));
        let label = Batch { labels: vec![1, 10, 2], ..good.clone() };
        assert!(error(&label, 8).contains("example 1 has label 10"));
    }
}
