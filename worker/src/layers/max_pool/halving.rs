//! The pool of 2 × 2 with stride 2 and no padding, without branches, so that the compiler can use vector registers.

use super::super::kernels::KernelSet;
use super::super::simd::{self, Kernel, Lanes};
use super::super::window::Window;

/// Whether [`forward`] and [`backward`] compute this pool.
pub(super) fn fits(w: &Window) -> bool {
    (w.kernel, w.stride, w.padding) == (2, 2, 0)
}

/// The channels of one example.
pub(super) fn forward(set: KernelSet, window: &Window, x: &[f32], y: &mut [f32], winners: &mut [u32]) {
    simd::run(set, Forward { window, x, y, winners });
}

/// Writes every element of `dx`, the channels of one example.
pub(super) fn backward(set: KernelSet, window: &Window, dy: &[f32], winners: &[u32], dx: &mut [f32]) {
    simd::run(set, Backward { window, dy, winners, dx });
}

struct Forward<'a> {
    window: &'a Window,
    x: &'a [f32],
    y: &'a mut [f32],
    winners: &'a mut [u32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let w = self.window;
        let width = w.width as u32;
        let planes = self.y.chunks_exact_mut(w.out_plane()).zip(self.winners.chunks_exact_mut(w.out_plane()));
        for ((y, winners), x) in planes.zip(self.x.chunks_exact(w.plane())) {
            let outs = y.chunks_exact_mut(w.out_width).zip(winners.chunks_exact_mut(w.out_width));
            let mut first = 0;
            for ((y, winners), rows) in outs.zip(x.chunks_exact(2 * w.width)) {
                let (top, bottom) = rows.split_at(w.width);
                let pairs = top.as_chunks::<2>().0.iter().zip(bottom.as_chunks::<2>().0);
                let mut at = first;
                for ((&[a, b], &[c, d]), (y, winner)) in pairs.zip(y.iter_mut().zip(winners)) {
                    let mut best = (a, at);
                    for other in [(b, at + 1), (c, at + width), (d, at + width + 1)] {
                        // `|` and not `||`: no branch
                        best = if (other.0 > best.0) | other.0.is_nan() { other } else { best };
                    }
                    (*y, *winner) = best;
                    at += 2;
                }
                first += 2 * width;
            }
        }
    }
}

struct Backward<'a> {
    window: &'a Window,
    dy: &'a [f32],
    winners: &'a [u32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let w = self.window;
        let width = w.width as u32;
        let planes = self.dy.chunks_exact(w.out_plane()).zip(self.winners.chunks_exact(w.out_plane()));
        for ((dy, winners), dx) in planes.zip(self.dx.chunks_exact_mut(w.plane())) {
            let outs = dy.chunks_exact(w.out_width).zip(winners.chunks_exact(w.out_width));
            let (rows, odd) = dx.split_at_mut(w.out_height * 2 * w.width);
            odd.fill(0.0);
            let mut first = 0;
            for ((dy, winners), rows) in outs.zip(rows.chunks_exact_mut(2 * w.width)) {
                let (top, bottom) = rows.split_at_mut(w.width);
                let ((top, odd_top), (bottom, odd_bottom)) = (top.as_chunks_mut::<2>(), bottom.as_chunks_mut::<2>());
                odd_top.fill(0.0);
                odd_bottom.fill(0.0);
                let mut at = first;
                for ((top, bottom), (&dy, &winner)) in top.iter_mut().zip(bottom).zip(dy.iter().zip(winners)) {
                    let share = |pixel| if winner == pixel { dy } else { 0.0 };
                    *top = [share(at), share(at + 1)];
                    *bottom = [share(at + width), share(at + width + 1)];
                    at += 2;
                }
                first += 2 * width;
            }
        }
    }
}
