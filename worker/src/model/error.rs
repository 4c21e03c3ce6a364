//! What can be wrong with a model, and with a computation on one.

/// A model file whose layers do not fit together, or not the data.
#[derive(Debug, thiserror::Error)]
#[error("model {model:?}, {place}: {problem}")]
pub struct ModelError {
    /// The model's name.
    pub model: String,
    /// Which layer: its number (from 0, as in `nn.Sequential`), type and tensor name.
    pub place: String,
    /// What is wrong, the number found and what to do.
    pub problem: String,
}

/// A forward or backward pass that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// The flat vector does not belong to this model.
    #[error(
        "model {model:?} has {expected} values (parameters and buffers), not {found}: these weights are another model's"
    )]
    Weights { model: String, expected: usize, found: usize },
    /// A batch that is inconsistent in itself or does not fit the model.
    #[error("batch: {0}")]
    Batch(String),
    /// A layer's arithmetic failed.
    #[error("{place}: {source}")]
    Layer {
        place: String,
        #[source]
        source: candle_core::Error,
    },
}

impl ComputeError {
    /// Wraps candle's error with the place it came from.
    pub(crate) fn at(place: &str) -> impl FnOnce(candle_core::Error) -> Self {
        move |source| Self::Layer { place: place.to_owned(), source: plain(source) }
    }
}

/// candle's error without the backtrace that it carries where `RUST_BACKTRACE` is set: the place says more, on one line.
pub(crate) fn plain(error: candle_core::Error) -> candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => plain(*inner),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layers_error_is_one_line() {
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let inner = Box::new(candle_core::Error::Msg("no variance".to_owned()));
        let error = ComputeError::at("layer 3 (relu)")(candle_core::Error::WithBacktrace { inner, backtrace });
        assert_eq!(error.to_string(), "layer 3 (relu): no variance");
    }
}
