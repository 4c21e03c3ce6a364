//! The places that pooling kept and relu let through: all that the backward pass touches, at most a quarter of the
//! convolution's.

use super::geometry::Geometry;

/// One example's gradient at its kept places, output after output; what relu stopped is left out.
#[derive(Default)]
pub(super) struct Kept {
    /// The gradients, and where the winner's window begins in the channels-last image. (outputs, places), each output's
    /// from its first place on.
    gradient: Vec<f32>,
    window: Vec<u32>,
    /// How many each output has.
    counts: Vec<usize>,
    places: usize,
}

impl Kept {
    pub(super) fn fill(&mut self, g: &Geometry, y: &[f32], dy: &[f32], winners: &[u32]) {
        self.places = g.places();
        self.gradient.resize(g.pooled(), 0.0);
        self.window.resize(g.pooled(), 0);
        self.counts.clear();
        let (row, pixel) = (g.image_row() as u32, g.channels as u32);
        // by winner: top left, top right, bottom left, bottom right
        let corners = [0, pixel, row, row + pixel];
        for o in 0..g.outputs {
            let all = o * g.places()..(o + 1) * g.places();
            let (gradient, window) = (&mut self.gradient[all.clone()], &mut self.window[all.clone()]);
            let (y, dy, winners) = (&y[all.clone()], &dy[all.clone()], &winners[all]);
            let mut count = 0;
            for first in (0..g.places()).step_by(g.columns) {
                let mut corner = (first / g.columns) as u32 * 2 * row;
                for at in first..first + g.columns {
                    // written in any case and then kept or not: a branch would be guessed wrong too often. NaN is kept
                    (gradient[count], window[count]) = (dy[at], corner + corners[winners[at] as usize & 3]);
                    count += usize::from((y[at] > 0.0) | y[at].is_nan());
                    corner += 2 * pixel;
                }
            }
            self.counts.push(count);
        }
    }

    /// Each output's gradients and windows.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (&[f32], &[u32])> {
        self.counts.iter().enumerate().map(|(o, &count)| {
            let kept = o * self.places..o * self.places + count;
            (&self.gradient[kept.clone()], &self.window[kept])
        })
    }
}
