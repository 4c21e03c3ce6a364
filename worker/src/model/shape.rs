//! The shape of one example between two layers.

/// What one example is, the batch's dimension left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Channels × height × width.
    Image { channels: usize, height: usize, width: usize },
    /// A plain vector, as a linear layer wants it.
    Vector { features: usize },
}

/// Values of one example that a layer may hold: 256 MiB. No network on 32×32 images comes near; a slip of the pen in a
/// model file does, and would be killed for memory without a word.
pub(super) const MOST_VALUES: usize = 1 << 26;

impl Shape {
    /// The product of the extents, if it is within the limit on what a layer may hold.
    #[must_use]
    pub(crate) fn bounded_len(self) -> Option<usize> {
        product(&match self {
            Self::Image { channels, height, width } => [channels, height, width],
            Self::Vector { features } => [features, 1, 1],
        })
    }
}

/// The product, if it is at most [`MOST_VALUES`].
pub(super) fn product(factors: &[usize]) -> Option<usize> {
    let product = factors.iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor));
    product.filter(|&product| product <= MOST_VALUES)
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image { channels, height, width } => write!(f, "{channels}×{height}×{width}"),
            Self::Vector { features } => write!(f, "{features}"),
        }
    }
}
