//! The forward pass, step by step.

use candle_core::Result;

use super::channels::Channels;
use super::kernels::{
    ActForward, Add, AvgPoolForward, BiasAct, Dropout, MaxPoolForward, NormForward, NormJoin, NormMoments, NormRunning,
    Transpose,
};
use super::memory::Address;
use super::pass::{Behaviour, Pass};
use super::plan::{Act, Step, Work};
use super::product::Product;

impl Pass<'_> {
    /// Computes every step's y.
    pub(super) fn forward(&self, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| self.forward_step(step).map_err(|error| error.context(step.place.clone())))
    }

    fn forward_step(&self, step: &Step) -> Result<()> {
        let lane = self.lane;
        let (x, y) = (self.at(step.x), self.at(step.y));
        let count = step.y.len as u32;
        match &step.work {
            &Work::Conv { number, weight, bias, out, act, pool } => {
                let raw = pool.map_or(y, |pool| self.at(pool.raw));
                self.workspace.convolutions[number].forward(lane, x, self.filters(weight), raw, self.workspace.room)?;
                let Some(pool) = pool else { return self.bias_act(y, bias, out.channels, out.plane, count, act) };
                let (bias, at) = (bias.map_or(0, |slot| self.weight(slot)), self.at(pool.at));
                let (channels, Act { kind: act, slope }, windows) = (out.channels, act, pool.window.for_kernels());
                lane.launch(MaxPoolForward { x: raw, bias, y, at, count, channels, act, slope, windows }, count)
            }
            &Work::Linear { inputs, outputs, weight, bias, act } => {
                let product = Product { rows: step.x.len / inputs, inputs, outputs };
                product.forward(lane, x, self.weight(weight), y)?;
                self.bias_act(y, bias, outputs as u32, 1, count, act)
            }
            Work::Norm { .. } => self.norm(step),
            &Work::Act(Act { kind: act, slope }) => lane.launch(ActForward { x, y, count, act, slope }, count),
            Work::MaxPool { window, at } => {
                let (at, windows) = (self.at(*at), window.for_kernels());
                let plain = MaxPoolForward { x, bias: 0, y, at, count, channels: 1, act: 0, slope: 0.0, windows };
                lane.launch(plain, count)
            }
            Work::AvgPool { window } => {
                lane.launch(AvgPoolForward { x, y, count, windows: window.for_kernels() }, count)
            }
            &Work::Transpose { places, channels } => {
                let (rows, columns) = (places as u32, channels as u32);
                lane.launch(Transpose { x, y, count, rows, columns }, count)
            }
            Work::Dropout { .. } => self.dropout(step, x, y, count),
            Work::Residual { inner, inner_y, .. } => {
                self.forward(inner)?;
                lane.launch(Add { a: x, b: self.at(*inner_y), y, count }, count)
            }
        }
    }

    fn bias_act(&self, y: Address, bias: Option<usize>, channels: u32, plane: u32, count: u32, act: Act) -> Result<()> {
        if bias.is_none() && act.is_none() {
            return Ok(());
        }
        let bias = bias.map_or(0, |slot| self.weight(slot));
        let Act { kind: act, slope } = act;
        self.lane.launch_each(BiasAct { y, bias, count, plane, channels, act, slope }, count)
    }

    fn norm(&self, step: &Step) -> Result<()> {
        let &Work::Norm { slots, shift, eps, shape, act, moments } = &step.work else { return Ok(()) };
        let (lane, moments, shift) = (self.lane, self.at(moments), shift.map_or(0, |slot| self.weight(slot)));
        let (x, y, partial) = (self.at(step.x), self.at(step.y), self.at(self.workspace.plan.scratch));
        let Channels { channels, plane, total, length, splits, width } = shape;
        let [weight, bias, mean, variance] = slots;
        match self.behaviour {
            Behaviour::Evaluate => {
                let (mean, variance) = (self.weight(mean), self.weight(variance));
                lane.launch(NormRunning { mean, variance, shift, moments, channels, eps }, channels)?;
            }
            Behaviour::Train => {
                if total < 2 {
                    candle_core::bail!("{total} value for each channel: training needs at least 2 (a larger shard)")
                }
                lane.launch_blocks(NormMoments { x, partial, channels, plane, total, length, width }, shape.blocks())?;
                // in evaluation as in training they go nowhere
                let training = self.workspace.training();
                let [running_mean, running_variance] =
                    [mean, variance].map(|slot| if training { self.gradient(slot) } else { 0 });
                let inputs = self.at(self.workspace.plan.inputs);
                lane.launch_blocks(
                    NormJoin {
                        inputs,
                        partial,
                        shift,
                        moments,
                        running_mean,
                        running_variance,
                        channels,
                        splits,
                        total,
                        length,
                        eps,
                    },
                    shape.joining(),
                )?;
            }
        }
        let (weight, bias, count) = (self.weight(weight), self.weight(bias), shape.count());
        let Act { kind: act, slope } = act;
        lane.launch_each(NormForward { x, moments, weight, bias, y, count, plane, channels, act, slope }, count)
    }

    /// Both ways: what was dropped is drawn again.
    pub(super) fn dropout(&self, step: &Step, x: Address, y: Address, count: u32) -> Result<()> {
        let &Work::Dropout { p, number, row, repeat, beside } = &step.work else { return Ok(()) };
        if self.behaviour == Behaviour::Evaluate {
            return self.lane.copy(x, y, count as usize);
        }
        // p = 1 keeps nothing: no infinite scale
        let keep = if p < 1.0 { (1.0 / (1.0 - p)) as f32 } else { 0.0 };
        let ([row, repeat, beside], plan) = ([row, repeat, beside].map(|number| number as u32), &self.workspace.plan);
        let [inputs, keys, examples] = [plan.inputs, plan.keys, plan.numbers].map(|region| self.at(region));
        let key = keys + 8 * number as Address;
        let parameters = Dropout { inputs, key, examples, x, y, count, row, repeat, beside, keep, probability: p };
        self.lane.launch_each(parameters, count)
    }
}
