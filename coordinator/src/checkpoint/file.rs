//! A snapshot as a safetensors file, and back, with every byte that matters checked.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lockstep_proto::schema::{Kind, Schema, TensorSpec};
use lockstep_proto::tensors;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::snapshot::{Snapshot, State};
use super::store::replace;

/// Metadata keys.
const STATE: &str = "lockstep.state";
const KINDS: &str = "lockstep.kinds";
const CHECKSUM: &str = "lockstep.blake3";
/// Prefixes of tensors that are not the model's.
const OPTIMIZER: &str = "optimizer/";
const USED: &str = "ledger/used";

/// Why a checkpoint can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{path}: {source}; {}", advice(source))]
    Write { path: PathBuf, source: std::io::Error },
    #[error("can't read the checkpoint {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a Lockstep checkpoint: {problem}; give a file of a run's checkpoints/ folder")]
    Format { path: PathBuf, problem: String },
    #[error(
        "{path} is damaged: its checksum is {found}, but {expected} was written; use another checkpoint of the run"
    )]
    Checksum { path: PathBuf, found: String, expected: String },
    #[error("{path} belongs to another model: {problem}")]
    Model { path: PathBuf, problem: String },
}

impl CheckpointError {
    pub(super) fn format(path: &Path, problem: impl Into<String>) -> Self {
        Self::Format { path: path.to_owned(), problem: problem.into() }
    }
}

/// What to do about a file that can't be written.
fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "its folder is gone: put it back, or resume the run where it is now (--out)",
        ErrorKind::NotADirectory => "something else is in the place of its folder: move it away",
        _ => "check that the disk has room and that you may write there",
    }
}

/// Kind of each model tensor, in schema order; the safetensors header has only names and shapes.
#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    /// None: a parameter.
    momentum: Option<f64>,
}

/// Writes `snapshot` to `path`: all of it or nothing, durable when this returns.
pub fn write(snapshot: &Snapshot, path: &Path) -> Result<(), CheckpointError> {
    let encode = |text: serde_json::Result<String>| {
        text.map_err(|error| CheckpointError::Write { path: path.to_owned(), source: error.into() })
    };
    let state = encode(serde_json::to_string(&snapshot.state))?;
    let entries: Vec<Entry> = snapshot.schema.tensors().iter().map(entry).collect();
    let kinds = encode(serde_json::to_string(&entries))?;

    let values = tensors::as_bytes(&snapshot.values);
    let optimizer: Vec<_> = snapshot.optimizer.iter().map(|(name, values)| (name, tensors::as_bytes(values))).collect();
    let mut views: Vec<(String, TensorView<'_>)> = Vec::new();
    let view = |dtype, shape: Vec<usize>, bytes| {
        TensorView::new(dtype, shape, bytes)
            .map_err(|error| CheckpointError::Write { path: path.to_owned(), source: std::io::Error::other(error) })
    };
    for (tensor, range) in snapshot.schema.iter() {
        let bytes = &values[range.start * 4..range.end * 4];
        views.push((tensor.name.clone(), view(Dtype::F32, tensor.shape.clone(), bytes)?));
    }
    for (name, bytes) in optimizer.iter().copied() {
        views.push((format!("{OPTIMIZER}{name}"), view(Dtype::F32, vec![bytes.len() / 4], bytes)?));
    }
    views.push((USED.to_owned(), view(Dtype::U8, vec![snapshot.used.len()], &snapshot.used)?));

    let checksum =
        checksum(&state, &kinds, views.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data())));
    let metadata =
        HashMap::from([(STATE.to_owned(), state), (KINDS.to_owned(), kinds), (CHECKSUM.to_owned(), checksum)]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| CheckpointError::Write { path: path.to_owned(), source: std::io::Error::other(error) })?;
    replace(path, &bytes).map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
}

fn entry(tensor: &TensorSpec) -> Entry {
    let momentum = match tensor.kind {
        Kind::Parameter => None,
        Kind::Buffer { momentum } => Some(momentum),
    };
    Entry { name: tensor.name.clone(), momentum }
}

/// BLAKE3 over everything that is read back. Tensors are taken by name: their order in the file is the library's choice.
fn checksum<'a>(state: &str, kinds: &str, parts: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>) -> String {
    let mut hash = blake3::Hasher::new_derive_key("lockstep v1 checkpoint");
    let mut feed = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    feed(state.as_bytes());
    feed(kinds.as_bytes());
    let mut parts: Vec<_> = parts.collect();
    parts.sort_by_key(|(name, ..)| *name);
    for (name, shape, data) in parts {
        feed(name.as_bytes());
        for extent in shape {
            feed(&(*extent as u64).to_le_bytes());
        }
        feed(data);
    }
    hash.finalize().to_hex().to_string()
}

/// Reads and checks the checkpoint at `path`.
pub fn read(path: &Path) -> Result<Snapshot, CheckpointError> {
    let bytes = crate::regular::read(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    let bad = |problem: String| CheckpointError::format(path, problem);
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| bad(error.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
    let metadata = header.metadata().as_ref().ok_or_else(|| bad("it has no metadata".to_owned()))?;
    let get = |key: &str| metadata.get(key).ok_or_else(|| bad(format!("its metadata has no {key}")));
    let (state, kinds, expected) = (get(STATE)?, get(KINDS)?, get(CHECKSUM)?);

    let views = file.tensors();
    let found = checksum(state, kinds, views.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data())));
    if found != *expected {
        return Err(CheckpointError::Checksum { path: path.to_owned(), found, expected: expected.clone() });
    }
    let state: State = serde_json::from_str(state).map_err(|error| bad(format!("its state: {error}")))?;
    let entries: Vec<Entry> = serde_json::from_str(kinds).map_err(|error| bad(format!("its kinds: {error}")))?;

    let tensor = |name: &str, dtype: Dtype| {
        let view = file.tensor(name).map_err(|error| bad(format!("tensor {name}: {error}")))?;
        match view.dtype() {
            found if found == dtype => Ok(view),
            found => Err(bad(format!("tensor {name} holds {found:?}; it is {dtype:?} in a checkpoint"))),
        }
    };
    let mut specs = Vec::with_capacity(entries.len());
    // before shapes are copied: one long shape, named often enough, would take any amount of memory
    let mut names = HashSet::with_capacity(entries.len());
    if let Some(Entry { name, .. }) = entries.iter().find(|entry| !names.insert(&entry.name)) {
        return Err(bad(format!("its kinds name the tensor {name} twice")));
    }
    for Entry { name, momentum } in entries {
        let shape = tensor(&name, Dtype::F32)?.shape().to_vec();
        let kind = momentum.map_or(Kind::Parameter, |momentum| Kind::Buffer { momentum });
        specs.push(TensorSpec { name, shape, kind });
    }
    let schema = Schema::new(specs).map_err(|error| bad(error.to_string()))?;
    let mut values = Vec::with_capacity(schema.len());
    for (spec, _) in schema.iter() {
        values.extend(floats(tensor(&spec.name, Dtype::F32)?.data()));
    }
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let name = schema.at(at).map_or("?", |tensor| &tensor.name);
        return Err(bad(format!("its {name} holds {}: the run diverged before it", values[at])));
    }
    let mut optimizer: Vec<(String, Vec<f32>)> = Vec::new();
    for (name, _) in &views {
        if let Some(own) = name.strip_prefix(OPTIMIZER) {
            optimizer.push((own.to_owned(), floats(tensor(name, Dtype::F32)?.data()).collect()));
        }
    }
    optimizer.sort_by(|a, b| a.0.cmp(&b.0));
    let used = tensor(USED, Dtype::U8)?.data().to_vec();
    if schema.fingerprint() != state.schema_fingerprint {
        return Err(bad("its tensors are not those of its own schema".to_owned()));
    }
    Ok(Snapshot { state, schema, values, optimizer, used })
}

pub(super) fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::telemetry::{Ledger, Summary};

    pub(in super::super) fn sample(version: u64) -> Snapshot {
        let tensor =
            |name: &str, shape: &[usize], kind| TensorSpec { name: name.to_owned(), shape: shape.to_vec(), kind };
        let schema = Schema::new(vec![
            tensor("net.0.weight", &[2, 3], Kind::Parameter),
            tensor("net.1.running_mean", &[2], Kind::Buffer { momentum: 0.1 }),
        ])
        .expect("names differ");
        Snapshot {
            state: State {
                version,
                evaluation_owed: true,
                recipe: "name = \"x\"\n".to_owned(),
                schema_fingerprint: schema.fingerprint(),
                data_hash: "d".to_owned(),
                data: "builtin".to_owned(),
                device_class: Some("cpu/v4".to_owned()),
                build: "0".to_owned(),
                optimizer_steps: version,
                epoch: super::super::Epoch { loss_sum: 0.1 + 0.2, correct: 3, count: 7, penalty_sum: 0.1, steps: 2 },
                ledger: Ledger::default(),
                best_accuracy: Some(0.5),
                best_step: Some(4),
                seconds: 1.5,
                summary: Summary::default(),
            },
            values: vec![1.0, -0.0, f32::MIN_POSITIVE, 4.5, 5.0, 6.0, 0.25, 0.75],
            optimizer: vec![("momentum".to_owned(), vec![0.5; 6])],
            used: vec![1, 0, 2],
            schema,
        }
    }

    #[test]
    fn what_is_written_is_read_back_to_the_bit() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.safetensors");
        write(&sample(9), &path).expect("written");
        assert_eq!(read(&path).expect("read"), sample(9));
    }

    /// The file with what `change` makes of its header, and the checksum that belongs to it: as its own writer would.
    pub(in super::super) fn forged(file: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Option<Vec<u8>> {
        let length = u64::from_le_bytes(*file.first_chunk()?) as usize;
        let (header, data) = file.get(8..)?.split_at_checked(length)?;
        let mut header: serde_json::Value = serde_json::from_slice(header).ok()?;
        change(&mut header);
        let assemble = |header: &serde_json::Value| {
            let text = header.to_string();
            [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat()
        };
        let unsigned = assemble(&header);
        if let Ok(file) = SafeTensors::deserialize(&unsigned) {
            let views = file.tensors();
            let parts = views.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data()));
            let get = |key: &str| header["__metadata__"][key].as_str().unwrap_or_default();
            header["__metadata__"][CHECKSUM] = checksum(get(STATE), get(KINDS), parts).into();
        }
        Some(assemble(&header))
    }

    /// A tensor of another type passed where the fingerprint was forged with it, with as many values as it had bytes / 4.
    #[test]
    fn a_right_checksum_does_not_help_wrong_types_and_names() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.safetensors");
        write(&sample(9), &path).expect("written");
        let good = std::fs::read(&path).expect("bytes");
        let refused = |change: &dyn Fn(&mut serde_json::Value)| {
            std::fs::write(&path, forged(&good, change).expect("a checkpoint")).expect("written");
            read(&path).map(|snapshot| panic!("{snapshot:?}")).unwrap_or_else(|error| error.to_string())
        };
        let text = refused(&|header| {
            header["net.0.weight"]["dtype"] = "U8".into();
            header["net.0.weight"]["shape"] = serde_json::json!([24]);
        });
        assert!(text.contains("net.0.weight holds U8"), "{text}");
        let text = refused(&|header| {
            header["ledger/used"]["dtype"] = "I8".into();
        });
        assert!(text.contains("ledger/used holds I8"), "{text}");
        let text = refused(&|header| {
            header["optimizer/momentum"]["dtype"] = "I32".into();
        });
        assert!(text.contains("optimizer/momentum holds I32"), "{text}");
        let twice = serde_json::json!([{ "name": "net.0.weight" }, { "name": "net.0.weight" }]).to_string();
        let text = refused(&|header| header["__metadata__"][KINDS] = twice.clone().into());
        assert!(text.contains("net.0.weight twice"), "{text}");
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed_where_it_matters() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.safetensors");
        write(&sample(9), &path).expect("written");
        let good = std::fs::read(&path).expect("bytes");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).expect("damaged");
            match read(&path) {
                Err(CheckpointError::Checksum { .. } | CheckpointError::Format { .. }) => {}
                Err(error) => panic!("byte {at}: {error}"),
                // padding of the header, or a space in it: nothing that is read changed
                Ok(same) => assert_eq!(same, sample(9), "byte {at} changed the checkpoint"),
            }
        }
        std::fs::write(&path, &good[..good.len() / 2]).expect("cut");
        assert!(read(&path).is_err());
    }
}
