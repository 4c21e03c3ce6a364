//! The forward pass, step by step.

use candle_core::Result;

use super::kernels::{
    ActForward, Add, AvgPoolForward, BiasAct, Dropout, MaxPoolForward, NormForward, NormJoin, NormMoments, NormRunning,
};
use super::memory::Address;
use super::network::{Behaviour, Pass};
use super::plan::{Act, Channels, Step, Work};
use super::product::Product;

impl Pass<'_> {
    /// Computes every step's y.
    pub(super) fn forward(&self, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| self.forward_step(step).map_err(|error| error.context(step.place.clone())))
    }

    fn forward_step(&self, step: &Step) -> Result<()> {
        let (gpu, kernels) = (self.gpu, &self.gpu.kernels);
        let (x, y) = (self.at(step.x), self.at(step.y));
        let count = step.y.len as u32;
        match &step.work {
            &Work::Conv { number, weight, bias, out, act } => {
                self.workspace.convolutions[number].forward(gpu, x, self.weight(weight), y, self.workspace.room)?;
                self.bias_act(y, bias, out.channels, out.plane, count, act)
            }
            &Work::Linear { inputs, outputs, weight, bias, act } => {
                let product = Product { rows: step.x.len / inputs, inputs, outputs };
                product.forward(gpu, x, self.weight(weight), y)?;
                self.bias_act(y, bias, outputs as u32, 1, count, act)
            }
            &Work::Norm { slots, eps, shape, act, moments } => {
                self.norm(step, slots, eps, shape, act, self.at(moments))
            }
            &Work::Act(Act { kind: act, slope }) => kernels.launch(ActForward { x, y, count, act, slope }, count),
            &Work::MaxPool { window: w, at } => {
                let ([_, height, width], [_, out_height, out_width]) = (w.x.map(|n| n as u32), w.y.map(|n| n as u32));
                let [kernel, stride, padding] = [w.kernel, w.stride, w.padding].map(|n| n as u32);
                let at = self.at(at);
                kernels.launch(
                    MaxPoolForward { x, y, at, count, height, width, out_height, out_width, kernel, stride, padding },
                    count,
                )
            }
            &Work::AvgPool { window: w } => {
                let ([_, height, width], [_, out_height, out_width]) = (w.x.map(|n| n as u32), w.y.map(|n| n as u32));
                let [kernel, stride, padding] = [w.kernel, w.stride, w.padding].map(|n| n as u32);
                kernels.launch(
                    AvgPoolForward { x, y, count, height, width, out_height, out_width, kernel, stride, padding },
                    count,
                )
            }
            Work::Dropout { .. } => self.dropout(step, x, y, count),
            Work::Residual { inner, inner_y, .. } => {
                self.forward(inner)?;
                kernels.launch(Add { a: x, b: self.at(*inner_y), y, count }, count)
            }
        }
    }

    fn bias_act(&self, y: Address, bias: Option<usize>, channels: u32, plane: u32, count: u32, act: Act) -> Result<()> {
        if bias.is_none() && act.is_none() {
            return Ok(());
        }
        let bias = bias.map_or(0, |slot| self.weight(slot));
        let Act { kind: act, slope } = act;
        self.gpu.kernels.launch(BiasAct { y, bias, count, plane, channels, act, slope }, count)
    }

    fn norm(
        &self,
        step: &Step,
        slots: [usize; 4],
        eps: f64,
        shape: Channels,
        act: Act,
        moments: Address,
    ) -> Result<()> {
        let kernels = &self.gpu.kernels;
        let (x, y, partial) = (self.at(step.x), self.at(step.y), self.at(self.workspace.plan.scratch));
        let Channels { channels, plane, total, length, splits } = shape;
        let [weight, bias, mean, variance] = slots;
        match self.behaviour {
            Behaviour::Evaluate => {
                let (mean, variance) = (self.weight(mean), self.weight(variance));
                kernels.launch(NormRunning { mean, variance, moments, channels, eps }, channels)?;
            }
            Behaviour::Train { share, .. } => {
                if total < 2 {
                    candle_core::bail!("{total} value for each channel: training needs at least 2 (a larger shard)")
                }
                kernels
                    .launch_blocks(NormMoments { x, partial, channels, plane, total, length }, (channels, splits))?;
                let [running_mean, running_variance] =
                    [mean, variance].map(|slot| if share.is_some() { self.gradient(slot) } else { 0 });
                let share = share.unwrap_or(0.0);
                kernels.launch(
                    NormJoin {
                        partial,
                        moments,
                        running_mean,
                        running_variance,
                        channels,
                        splits,
                        total,
                        length,
                        share,
                        eps,
                    },
                    channels,
                )?;
            }
        }
        let (weight, bias, count) = (self.weight(weight), self.weight(bias), shape.count());
        let Act { kind: act, slope } = act;
        kernels.launch(NormForward { x, moments, weight, bias, y, count, plane, channels, act, slope }, count)
    }

    /// Both ways: what was dropped is drawn again.
    pub(super) fn dropout(&self, step: &Step, x: Address, y: Address, count: u32) -> Result<()> {
        let Work::Dropout { p, name, row, repeat } = &step.work else { return Ok(()) };
        let Behaviour::Train { turn, .. } = self.behaviour else { return self.gpu.copy(x, y, count as usize) };
        let [key0, key1] = turn.key(name).words();
        // p = 1 keeps nothing: no infinite scale
        let keep = if *p < 1.0 { (1.0 / (1.0 - p)) as f32 } else { 0.0 };
        let (row, repeat, epoch) = (*row as u32, *repeat as u32, turn.number());
        let examples = self.at(self.workspace.plan.numbers);
        let parameters = Dropout { x, y, examples, count, row, repeat, key0, key1, epoch, keep, probability: *p };
        self.gpu.kernels.launch(parameters, count)
    }
}
