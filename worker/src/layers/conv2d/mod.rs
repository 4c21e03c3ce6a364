//! conv2d: the op, and the ways to compute it.

mod direct;
mod im2col;
mod op;
mod spectral;
mod weight_gradient;

pub use op::conv2d;

/// Whether a convolution goes through the spectrum, which nothing that is fused with it may replace.
pub(super) fn is_spectral(window: &super::window::Window, outputs: usize) -> bool {
    spectral::Spectral::fits(window, outputs)
}
