//! What happens to the bytes of a training image: torchvision's transforms, drawn by key, so that an example looks the same
//! whoever prepares it.
//!
//! The order is fixed, whatever the order of keys in a recipe: random crop, horizontal flip, vertical flip, one affine map,
//! colours. All work on uint8, before pixels are divided by 255 and normalised.

mod affine;
mod augmenter;
mod hue;
mod jitter;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod rates;
mod tone;
mod window;

pub use augmenter::Augmenter;
#[cfg(feature = "cuda")]
pub(crate) use {augmenter::Draw, jitter::Adjustment};
