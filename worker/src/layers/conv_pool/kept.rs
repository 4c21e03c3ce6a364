//! The places that pooling kept: all that the backward pass touches, a quarter of the convolution's.

use super::geometry::Geometry;

/// One example's gradient at its kept places, each (outputs, rows, columns).
pub(super) struct Kept<'a> {
    /// The gradient behind relu: 0 where the pooled value is at most 0.
    pub(super) gradient: &'a mut [f32],
    /// Where the winner's window begins in the channels-last image.
    pub(super) window: &'a mut [u32],
}

impl Kept<'_> {
    pub(super) fn fill(&mut self, g: &Geometry, y: &[f32], dy: &[f32], winners: &[u32]) {
        for ((kept, &y), &dy) in self.gradient.iter_mut().zip(y).zip(dy) {
            // `<=` and not `>`: NaN must pass
            *kept = if y <= 0.0 { 0.0 } else { dy };
        }
        let (row, pixel) = (g.image_row() as u32, g.channels as u32);
        let windows = self.window.chunks_exact_mut(g.columns).zip(winners.chunks_exact(g.columns));
        for (i, (windows, winners)) in windows.enumerate() {
            let mut first = (i % g.rows) as u32 * 2 * row;
            for (window, &winner) in windows.iter_mut().zip(winners) {
                *window = first + (winner >> 1) * row + (winner & 1) * pixel;
                first += 2 * pixel;
            }
        }
    }
}
