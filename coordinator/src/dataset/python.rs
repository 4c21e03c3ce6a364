//! One file of CIFAR-10's Python layout: a pickled dict with `data` (n × 3,072 uint8, the planes in order) and `labels`
//! (<https://www.cs.toronto.edu/~kriz/cifar.html>, "Python / Matlab versions").

use lockstep_proto::records::{PIXELS, Split};

use super::known::CIFAR10_CLASSES;
use super::{DataError, pickle};

/// Splits the pickle `bytes` of the file `place` into labels and pixels. Labels are 0 to 9.
pub(super) fn parse(place: &str, bytes: &[u8]) -> Result<Split, DataError> {
    let content = |problem: String| DataError::content(place, problem);
    let batch = pickle::load(bytes).map_err(|e| content(e.to_string()))?;
    let (shape, pixels) = batch.byte_array("data").map_err(content)?;
    let count = match shape {
        [n, PIXELS] | [n, 3, 32, 32] if *n > 0 => *n,
        _ => {
            return Err(content(format!(
                "data has the shape {shape:?}; it is (n, 3072) or (n, 3, 32, 32), n at least 1"
            )));
        }
    };
    let labels = batch.integers("labels", count).map_err(content)?;
    let labels = labels
        .iter()
        .enumerate()
        .map(|(at, &label)| match u8::try_from(label) {
            Ok(label @ 0..=9) => Ok(label),
            _ => Err(content(format!("labels[{at}] is label {label}; labels are 0 to 9"))),
        })
        .collect::<Result<_, _>>()?;
    Ok(Split { pixels: pixels.to_vec(), labels })
}

/// The class names in `batches.meta`.
pub(super) fn class_names(place: &str, bytes: &[u8]) -> Result<Vec<String>, DataError> {
    let meta = pickle::load(bytes).map_err(|e| DataError::content(place, e.to_string()))?;
    meta.strings("label_names", CIFAR10_CLASSES.len()).map_err(|problem| DataError::content(place, problem))
}
