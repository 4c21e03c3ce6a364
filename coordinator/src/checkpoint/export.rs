//! `model.safetensors`: the weights alone, as PyTorch's `load_state_dict(strict=True)` wants them.

use std::collections::HashMap;
use std::path::Path;

use lockstep_proto::hash::weights_hash;
use lockstep_proto::schema::Schema;
use lockstep_proto::tensors;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::file::{CheckpointError, floats};
use super::store::replace;

/// What PyTorch's BatchNorm calls its running statistics, and the counter that a strict load asks for beside them.
const RUNNING: &str = "running_mean";
const COUNTER: &str = "num_batches_tracked";
/// Metadata key of the weights hash, which a file that was not ours need not have.
const HASH: &str = "lockstep.weights_hash";

/// Writes parameters and buffers of `values` (schema order) after `version` steps.
pub fn write_weights(schema: &Schema, values: &[f32], version: u64, path: &Path) -> Result<(), CheckpointError> {
    let failed = |source| CheckpointError::Write { path: path.to_owned(), source };
    let bytes = tensors::as_bytes(values);
    // every step updates every running statistic once, so PyTorch's int64 counter is the number of steps
    let counter = version.to_le_bytes();
    let mut views = Vec::new();
    let mut add = |name: String, dtype, shape, data| -> Result<(), CheckpointError> {
        let view = TensorView::new(dtype, shape, data).map_err(|error| failed(std::io::Error::other(error)))?;
        views.push((name, view));
        Ok(())
    };
    for (tensor, range) in schema.iter() {
        add(tensor.name.clone(), Dtype::F32, tensor.shape.clone(), &bytes[range.start * 4..range.end * 4])?;
        if let Some(prefix) = tensor.name.strip_suffix(RUNNING) {
            add(format!("{prefix}{COUNTER}"), Dtype::I64, vec![], &counter)?;
        }
    }
    let metadata = HashMap::from([(HASH.to_owned(), weights_hash(schema, values))]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(|error| failed(std::io::Error::other(error)))?;
    replace(path, &file).map_err(failed)
}

/// Reads the weights of a model from a `model.safetensors` or a checkpoint, ours or PyTorch's, in schema order.
///
/// Every tensor of the schema must be there with its shape; counters, optimizer state and the ledger are passed over.
pub fn read_weights(schema: &Schema, path: &Path) -> Result<Vec<f32>, CheckpointError> {
    let bytes = crate::regular::read(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| CheckpointError::format(path, error.to_string()))?;
    if file.tensor("ledger/used").is_ok() {
        // a checkpoint of ours has a checksum: it must hold
        super::file::read(path)?;
    }
    let other = |problem: String| CheckpointError::Model { path: path.to_owned(), problem };
    let mut values = Vec::with_capacity(schema.len());
    for (spec, _) in schema.iter() {
        let tensor = file
            .tensor(&spec.name)
            .map_err(|_| other(format!("it has no tensor {}, which the model needs", spec.name)))?;
        if tensor.shape() != spec.shape || tensor.dtype() != Dtype::F32 {
            let (found, dtype) = (tensor.shape(), tensor.dtype());
            let name = &spec.name;
            return Err(other(format!("its {name} is {found:?} {dtype:?}, the model's {:?} F32", spec.shape)));
        }
        values.extend(floats(tensor.data()));
    }
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let name = schema.at(at).map_or("?", |tensor| &tensor.name);
        return Err(CheckpointError::format(path, format!("its {name} holds {}", values[at])));
    }
    let known = |name: &str| {
        schema.range(name).is_some()
            || name.ends_with(COUNTER)
            || name.starts_with("optimizer/")
            || name == "ledger/used"
    };
    if let Some(name) = file.names().into_iter().find(|name| !known(name)) {
        return Err(other(format!("it has a tensor {name}, which the model does not")));
    }
    let header = SafeTensors::read_metadata(&bytes).ok().and_then(|(_, header)| header.metadata().clone());
    if let Some(expected) = header.and_then(|mut metadata| metadata.remove(HASH)) {
        let found = weights_hash(schema, &values);
        if found != expected {
            return Err(CheckpointError::Checksum { path: path.to_owned(), found, expected });
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::sample;
    use super::*;

    #[test]
    fn weights_come_back_from_both_kinds_of_file() {
        let folder = tempfile::tempdir().expect("folder");
        let (weights, checkpoint) = (folder.path().join("model.safetensors"), folder.path().join("c.safetensors"));
        let snapshot = sample(3);
        write_weights(&snapshot.schema, &snapshot.values, 3, &weights).expect("written");
        super::super::write(&snapshot, &checkpoint).expect("written");
        assert_eq!(read_weights(&snapshot.schema, &weights).expect("read"), snapshot.values);
        assert_eq!(read_weights(&snapshot.schema, &checkpoint).expect("read"), snapshot.values);
        let bytes = std::fs::read(&weights).expect("bytes");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let counter = file.tensor("net.1.num_batches_tracked").expect("counter");
        assert_eq!((counter.dtype(), counter.data()), (Dtype::I64, &3_u64.to_le_bytes()[..]));
    }

    #[test]
    fn a_flipped_bit_in_the_weights_is_found() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.safetensors");
        let snapshot = sample(3);
        write_weights(&snapshot.schema, &snapshot.values, 3, &path).expect("written");
        let mut bytes = std::fs::read(&path).expect("bytes");
        // the lowest bit of a weight's mantissa: finite before and after
        let at = bytes.windows(4).rposition(|four| four == 4.5_f32.to_le_bytes()).expect("a weight of the sample");
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("damaged");
        let error = read_weights(&snapshot.schema, &path).expect_err("damaged");
        assert!(matches!(error, CheckpointError::Checksum { .. }), "{error}");
    }

    #[test]
    fn another_model_is_refused_by_the_name_of_its_tensor() {
        use lockstep_proto::schema::{Kind, TensorSpec};
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.safetensors");
        let snapshot = sample(3);
        write_weights(&snapshot.schema, &snapshot.values, 3, &path).expect("written");
        let tensor = |name: &str, shape: &[usize]| TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            kind: Kind::Parameter,
        };
        for (schema, word) in [
            (vec![tensor("net.0.weight", &[3, 2])], "[2, 3]"),
            (vec![tensor("fc.weight", &[2])], "fc.weight"),
            (vec![tensor("net.0.weight", &[2, 3])], "net.1.running_mean"),
        ] {
            let schema = Schema::new(schema).expect("names differ");
            let error = read_weights(&schema, &path).expect_err("another model").to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
