//! Convolution of stride 1 in the spectrum: whole images are transformed, channels are mixed frequency by frequency, and
//! the result is transformed back. A multiplication of complex numbers a frequency takes the place of k² a pixel.
//!
//! Images are small here, so that one transform covers them; where channels are few the transforms cost more than they save
//! ([`Spectral::fits`] says no). A NaN spreads to its whole example.

mod axis;
mod convolution;
mod correlate;
mod fold;
mod mix;
mod planes;
mod product;
mod spectra;
mod weights;

pub(super) use convolution::Spectral;
