//! The sliding window that convolutions and pools share.

use candle_core::{Result, Tensor, bail};

/// Images of (channels, height, width), a square window over them, and how many places it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) examples: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) out_height: usize,
    pub(super) out_width: usize,
}

impl Window {
    /// PyTorch's sizes: ⌊(size + 2 × padding − kernel) / stride⌋ + 1.
    pub(super) fn new(op: &str, x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Self> {
        let &[examples, channels, height, width] = x.dims() else {
            bail!("{op}: the input has shape {:?}: it must be (N, C, H, W)", x.dims())
        };
        if kernel == 0 || stride == 0 {
            bail!("{op}: kernel_size is {kernel} and stride is {stride}: both must be at least 1")
        }
        let places = |size: usize| {
            let padded = padding.checked_mul(2).and_then(|p| p.checked_add(size));
            padded.and_then(|size| size.checked_sub(kernel)).map(|room| room / stride + 1)
        };
        match (places(height), places(width)) {
            (Some(out_height), Some(out_width)) => {
                Ok(Self { examples, channels, height, width, kernel, stride, padding, out_height, out_width })
            }
            _ => bail!(
                "{op}: a window of {kernel} does not fit into {height}×{width} with padding {padding}: \
                 take a smaller kernel_size or more padding"
            ),
        }
    }

    /// Pixels of one channel of one image.
    pub(super) fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Places of the window: pixels of one channel of one output.
    pub(super) fn out_plane(&self) -> usize {
        self.out_height * self.out_width
    }

    /// The rows (or columns, with `size` the width) of the image under place `at`: from, to.
    pub(super) fn span(&self, at: usize, size: usize) -> (usize, usize) {
        let start = at * self.stride;
        let end = (start + self.kernel).saturating_sub(self.padding).min(size);
        (start.saturating_sub(self.padding).min(end), end)
    }
}
