//! The backward pass: the forward pass's steps from the last to the first.

use candle_core::Result;

use super::channels::Channels;
use super::kernels::{
    ActBackward, Add, AvgPoolBackward, BiasBackward, ColumnBackward, FinishSums, MaxPoolBackward, NormBackward,
    NormFinish, NormSums, PoolBackward, Transpose, Windows,
};
use super::memory::Address;
use super::pass::Pass;
use super::plan::{Act, Step, Work};
use super::product::Product;

impl Pass<'_> {
    /// Computes the gradient of every step's weights, and of the x that somebody asks for.
    pub(super) fn backward(&self, steps: &[Step]) -> Result<()> {
        let all = steps.iter().rev();
        all.into_iter().try_for_each(|step| self.backward_step(step).map_err(|error| error.context(step.place.clone())))
    }

    fn backward_step(&self, step: &Step) -> Result<()> {
        let lane = self.lane;
        let (x, y, dy, dx) = (self.at(step.x), self.at(step.y), self.at(step.dy), step.dx.map(|dx| self.at(dx)));
        let partial = self.at(self.workspace.plan.scratch);
        let count = step.x.len as u32;
        match &step.work {
            &Work::Conv { number, weight, bias, act, pool, .. } => {
                let draw = pool.map_or(dy, |pool| self.at(pool.draw));
                if bias.is_some() || !act.is_none() || pool.is_some() {
                    self.to_convolution(step, draw)?;
                }
                let (convolution, room) = (&self.workspace.convolutions[number], self.workspace.room);
                convolution.weight_gradient(lane, x, draw, self.gradient(weight), room)?;
                dx.map_or(Ok(()), |dx| convolution.input_gradient(lane, self.filters(weight), draw, dx, room))
            }
            &Work::Linear { inputs, outputs, weight, bias, act } => {
                let product = Product { rows: step.x.len / inputs, inputs, outputs };
                if bias.is_some() || !act.is_none() {
                    let (rows, columns) = (product.rows as u32, outputs as u32);
                    let db = bias.map_or(0, |bias| self.gradient(bias));
                    let Act { kind: act, slope } = act;
                    // a block has 32 columns
                    let blocks = (columns.div_ceil(32), 1);
                    lane.launch_blocks(ColumnBackward { y, dy, db, rows, columns, act, slope }, blocks)?;
                }
                product.weight_gradient(lane, x, dy, self.gradient(weight))?;
                dx.map_or(Ok(()), |dx| product.input_gradient(lane, self.weight(weight), dy, dx))
            }
            &Work::Norm { slots: [weight, bias, ..], shape, act, moments, .. } => {
                let Channels { channels, plane, total, length, splits, width } = shape;
                let (dweight, dbias) = (self.gradient(weight), self.gradient(bias));
                let [weight, bias] = [weight, bias].map(|slot| self.weight(slot));
                let (moments, Act { kind: act, slope }) = (self.at(moments), act);
                let sums = NormSums {
                    x,
                    dy,
                    moments,
                    weight,
                    bias,
                    partial,
                    channels,
                    plane,
                    total,
                    length,
                    width,
                    act,
                    slope,
                };
                lane.launch_blocks(sums, shape.blocks())?;
                let finish = NormFinish { partial, moments, dweight, dbias, channels, splits, total };
                lane.launch_blocks(finish, shape.joining())?;
                let Some(dx) = dx else { return Ok(()) };
                let parameters = NormBackward { x, dy, moments, weight, bias, dx, count, plane, channels, act, slope };
                lane.launch_each(parameters, count)
            }
            &Work::Act(Act { kind: act, slope }) => {
                dx.map_or(Ok(()), |dx| lane.launch(ActBackward { x, dy, dx, count, act, slope }, count))
            }
            Work::MaxPool { window, at } => {
                let Some(dx) = dx else { return Ok(()) };
                let (at, windows) = (self.at(*at), window.for_kernels());
                lane.launch(MaxPoolBackward { dy, at, dx, count, windows }, count)
            }
            Work::AvgPool { window } => {
                let Some(dx) = dx else { return Ok(()) };
                lane.launch(AvgPoolBackward { dy, dx, count, windows: window.for_kernels() }, count)
            }
            &Work::Transpose { places, channels } => dx.map_or(Ok(()), |dx| {
                let (rows, columns) = (channels as u32, places as u32);
                lane.launch(Transpose { x: dy, y: dx, count, rows, columns }, count)
            }),
            Work::Dropout { .. } => dx.map_or(Ok(()), |dx| self.dropout(step, dy, dx, count)),
            Work::Residual { inner, copy, .. } => {
                lane.copy(dy, self.at(*copy), step.dy.len)?;
                self.backward(inner)?;
                let Some(dx) = dx else { return Ok(()) };
                // the first inner step's dx; without steps the copy itself
                let inner = inner.first().map_or(Some(*copy), |first| first.dx).map(|region| self.at(region));
                inner.map_or(Ok(()), |b| lane.launch(Add { a: dy, b, y: dx, count }, count))
            }
        }
    }

    /// The gradient of what a convolution makes, without its bias: through the pool and the activation that follow in its step. The bias's on
    /// the way.
    fn to_convolution(&self, step: &Step, dx: Address) -> Result<()> {
        let &Work::Conv { bias, out, act, pool, .. } = &step.work else { return Ok(()) };
        let (lane, y, dy) = (self.lane, self.at(step.y), self.at(step.dy));
        let Act { kind: act, slope } = act;
        let (at, windows) = pool.map_or((0, Windows::default()), |pool| (self.at(pool.at), pool.window.for_kernels()));
        let apart = pool.filter(|_| windows.stride >= windows.kernel);
        let sum = apart.map_or(out, |pool| pool.out);
        let Channels { channels, plane, total, length, splits, width } = sum;
        // one part is the sum, and never -0.0, which adding it to 0 would change
        let alone = bias.filter(|_| splits == 1).map(|bias| self.gradient(bias));
        let partial = alone.unwrap_or_else(|| self.at(self.workspace.plan.scratch));
        if apart.is_some() {
            let sums = PoolBackward { y, dy, at, dx, partial, channels, total, length, width, act, slope, windows };
            lane.launch_blocks(sums, sum.blocks())?;
        } else {
            let sums =
                BiasBackward { y, dy, at, dx, partial, channels, plane, total, length, width, act, slope, windows };
            lane.launch_blocks(sums, sum.blocks())?;
        }
        let Some(bias) = bias.filter(|_| splits > 1) else { return Ok(()) };
        lane.launch_blocks(FinishSums { partial, out: self.gradient(bias), channels, splits }, sum.joining())
    }
}
