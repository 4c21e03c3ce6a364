//! How images lie in a pass: plane by plane, as they come, or with a pixel's channels side by side, as tensor cores want their factors.
//! PyTorch's `torch.contiguous_format` and `torch.channels_last`.

use std::env;

use candle_core::{Result, bail};

use super::algorithms::Algorithms;
use super::convolution::Descriptors;
use super::gpu::Gpu;
use super::plan::{Plan, Window};
use crate::model::Model;

/// Names one of the two, to compare: workers of one run must agree.
const SWITCH: &str = "LOCKSTEP_CUDA_MEMORY_FORMAT";

/// Channels in multiples of so many are rows that TF32 products read as they lie (16 bytes); others are padded first.
const ROW: usize = 4;
/// Fewer channels on both sides leave a tensor core's tile half empty, whichever way they lie.
const NARROW: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Format {
    Contiguous,
    ChannelsLast,
}

impl Format {
    /// The one that the environment names.
    ///
    /// # Errors
    /// It names something else.
    pub(super) fn wanted() -> Result<Option<Self>> {
        match env::var(SWITCH).as_deref() {
            Err(env::VarError::NotPresent) => Ok(None),
            Ok("contiguous") => Ok(Some(Self::Contiguous)),
            Ok("channels_last") => Ok(Some(Self::ChannelsLast)),
            other => bail!(
                "{SWITCH} is {other:?}: it may be channels_last or contiguous; leave it unset to have what suits the model"
            ),
        }
    }

    /// What the class of a GPU that was told this calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Contiguous => "nchw",
            Self::ChannelsLast => "nhwc",
        }
    }

    /// How `model`'s images lie on `gpu`: a matter of the model and of the GPU's class alone.
    pub(super) fn of(gpu: &Gpu, model: &Model) -> Result<Self> {
        if let Some(format) = gpu.format {
            return Ok(format);
        }
        // any number of examples: it is the same for all
        let plan = Plan::new(model, 2, false, Self::ChannelsLast)?;
        let mut suits = gpu.tf32 && mostly_wide(&plan.convolutions);
        for window in plan.convolutions.iter().filter(|_| suits) {
            let descriptors = Descriptors::new(gpu, window)?;
            if let Err(problem) = Algorithms::of_table(gpu, &descriptors) {
                tracing::warn!(
                    "images lie plane by plane, since cuDNN has not all that it takes otherwise: {window:?}: {problem}"
                );
                suits = false;
                break;
            }
        }
        let format = if suits { Self::ChannelsLast } else { Self::Contiguous };
        tracing::debug!("memory format of {}: {format:?}", model.name());
        Ok(format)
    }

    /// Channels that lie side by side, of so many.
    pub(super) fn beside(self, channels: usize) -> usize {
        match self {
            Self::Contiguous => 1,
            Self::ChannelsLast => channels,
        }
    }
}

/// Whether most of the multiplications are in convolutions that gain.
fn mostly_wide(convolutions: &[Window]) -> bool {
    let [mut all, mut wide] = [0; 2];
    for Window { x: [channels, ..], y: [filters, height, width], kernel, .. } in convolutions {
        let products = channels * filters * height * width * kernel * kernel;
        all += products;
        let whole = channels.is_multiple_of(ROW) && filters.is_multiple_of(ROW);
        wide += if whole && channels.max(filters) > &NARROW { products } else { 0 };
    }
    2 * wide > all
}

#[cfg(test)]
mod tests {
    use super::super::tests::model;
    use super::*;
    use crate::dataset::IMAGE;

    #[test]
    fn wide_networks_gain() {
        for (text, expected) in [
            (include_str!("../../../recipes/models/lenet.toml"), false),
            (include_str!("../../../recipes/models/base.toml"), true),
            (include_str!("../../../recipes/models/convnet.toml"), true),
            (include_str!("../../../recipes/models/net6.toml"), true),
            ("name = \"none\"\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out_features = 10 }]", false),
        ] {
            let plan = Plan::new(&model(text, IMAGE), 2, false, Format::ChannelsLast).expect("a plan");
            assert_eq!(mostly_wide(&plan.convolutions), expected, "{text}");
        }
    }
}
