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
