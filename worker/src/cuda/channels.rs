//! Channels of what a layer makes, and how a sum over each is cut.

use super::format::Format;
use crate::model::Shape;

/// A sum's parts in a channel whose values lie together, which a block of its own adds up: at least so many values, at most so many parts.
const APART: Cut = Cut { least: 2048, most: 64 };
/// In channels side by side, [`WIDE`] of which a block adds up: as many blocks come of fewer values of each.
const BESIDE: Cut = Cut { least: 256, most: 128 };

/// Both set the order of the sum, and nothing of the machine does.
struct Cut {
    least: usize,
    most: usize,
}

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
        let (Cut { least, most }, width) = if plane == 1 { (BESIDE, WIDE) } else { (APART, 1) };
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
