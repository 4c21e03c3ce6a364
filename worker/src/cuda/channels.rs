//! Channels of what a layer makes, and how a sum over each is cut: by its shape alone, which sets the sum's order.

use super::format::Format;
use crate::model::Shape;

/// Values of a part of a channel's sum, at least, and parts, at most, where a channel's values lie together and a block adds up one channel's.
const LEAST: usize = 2048;
const MOST: usize = 64;

/// The same where channels lie side by side and a block adds up [`WIDE`] of them: fewer values of each are as much work. There are as many
/// parts as make this many blocks, which fill a GPU, but not so many that joining them takes longer: `MOST_SPLITS` of kernel.h.
const LEAST_BESIDE: usize = 256;
const BLOCKS: usize = 512;
const MOST_BESIDE: usize = 256;

/// `WIDE` of kernel.h.
pub(super) const WIDE: u32 = 32;

/// (examples, channels, plane), and how a sum over a channel is cut. Channels side by side are planes of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channels {
    pub(super) channels: u32,
    pub(super) plane: u32,
    /// Values of a channel.
    pub(super) total: u32,
    /// Values of a split.
    pub(super) length: u32,
    pub(super) splits: u32,
    /// Channels of a block.
    pub(super) width: u32,
}

impl Channels {
    pub(super) fn new(examples: usize, shape: Shape, format: Format) -> Self {
        let (channels, places) = match shape {
            Shape::Image { channels, height, width } => (channels, height * width),
            Shape::Vector { features } => (features, 1),
        };
        let plane = if format == Format::ChannelsLast { 1 } else { places };
        let (least, most, width) = match plane {
            1 => (LEAST_BESIDE, (BLOCKS / channels.div_ceil(WIDE as usize).max(1)).clamp(1, MOST_BESIDE), WIDE),
            _ => (LEAST, MOST, 1),
        };
        let total = examples * places;
        let length = total.div_ceil(most).max(least);
        let [channels, plane, splits] = [channels, plane, total.div_ceil(length)].map(|number| number as u32);
        Self { channels, plane, total: total as u32, length: length as u32, splits, width }
    }

    pub(super) fn count(&self) -> u32 {
        self.channels * self.total
    }

    /// Of a kernel that sums splits.
    pub(super) fn blocks(&self) -> (u32, u32) {
        (self.channels.div_ceil(self.width), self.splits)
    }

    /// Of a kernel that joins them.
    pub(super) fn joining(&self) -> (u32, u32) {
        (self.channels.div_ceil(WIDE), 1)
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::keys::Key;

    use super::super::kernels::{NormJoin, NormMoments};
    use super::super::memory::{Block, Pinned};
    use super::super::regions::Region;
    use super::super::tests::gpu;
    use super::*;

    /// Values whose mean is ten thousand times as far from 0 as they are from it. Oracle: two passes in double precision.
    #[test]
    fn moments_of_values_far_from_zero_do_not_cancel() {
        let Some(gpu) = gpu() else { return };
        for (format, examples, side) in
            [(Format::Contiguous, 70, 33), (Format::ChannelsLast, 70, 33), (Format::Contiguous, 24, 1)]
        {
            let image = Shape::Image { channels: 3, height: side, width: side };
            let shape = Channels::new(examples, image, format);
            let mut draws = Key::new(7, "test", "moments").stream(0, 0, 0);
            let values: Vec<f32> = (0..shape.count()).map(|_| 1e4 + draws.range(-1.0, 1.0)).collect();
            let mut staging = Pinned::new(values.len()).expect("memory");
            staging.values_mut().copy_from_slice(&values);
            let block = |len| Block::new(&gpu.stream, len).expect("room");
            let whole = |len| Region { start: 0, len };
            let (x, partial, moments) = (block(values.len()), block(2 * 3 * shape.splits as usize), block(12));
            let at = |block: &Block| block.at(whole(1));
            gpu.upload(staging.values(), x.at(whole(values.len()))).expect("a copy");
            let Channels { channels, plane, total, length, splits, width } = shape;
            let sums = NormMoments { x: at(&x), partial: at(&partial), channels, plane, total, length, width };
            gpu.launch_blocks(sums, shape.blocks()).expect("launched");
            let join = NormJoin {
                inputs: 0,
                partial: at(&partial),
                shift: 0,
                moments: at(&moments),
                running_mean: 0,
                running_variance: 0,
                channels,
                splits,
                total,
                length,
                eps: 0.0,
            };
            gpu.launch_blocks(join, shape.joining()).expect("launched");
            let mut found = Pinned::<f32>::new(12).expect("memory");
            gpu.download(&gpu.stream, moments.at(whole(12)), found.values_mut()).expect("a copy");
            gpu.wait().expect("no error");
            for channel in 0..3 {
                let of = |place: usize| match plane {
                    1 => place % 3,
                    plane => place / plane as usize % 3,
                };
                let own: Vec<f64> = values
                    .iter()
                    .enumerate()
                    .filter(|(place, _)| of(*place) == channel)
                    .map(|(_, x)| f64::from(*x))
                    .collect();
                assert_eq!(own.len(), total as usize);
                let mean = own.iter().sum::<f64>() / own.len() as f64;
                let variance = own.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / own.len() as f64;
                let [seen, inverse] = [0, 1].map(|number| f64::from(found.values()[4 * channel + number]));
                assert!((seen - mean).abs() <= 1e-3, "{shape:?}: mean {seen}, not {mean}");
                let near = (inverse * variance.sqrt() - 1.0).abs();
                assert!(near < 1e-4, "{shape:?}: 1 / deviation {inverse}, not {}", variance.sqrt().recip());
            }
        }
    }
}
