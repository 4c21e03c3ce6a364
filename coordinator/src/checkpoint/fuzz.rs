//! Checkpoints and weights whose bytes are damaged, and such as are forged: a wrong header with the right checksum.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lockstep_fuzz::{Bound, cases, damaged, numbers};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::file::tests::{forged, sample};
use super::{Store, read, read_weights, write, write_weights};

/// The file itself, its header twice (safetensors reads it for metadata and for tensors) and as JSON, and the values. An entry of
/// 50 bytes of JSON is some 200 in a table, which grows by half.
const FILE: Bound = Bound { each: 64, constant: 1 << 16 };

/// A file in memory where the system has such: a million inputs are a million files.
fn place() -> (tempfile::TempDir, PathBuf) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("folder");
    let path = folder.path().join("step-00000009.safetensors");
    (folder, path)
}

/// A checkpoint and its weights.
static SAMPLES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let (_folder, path) = place();
    write(&sample(9), &path).expect("written");
    let checkpoint = fs::read(&path).expect("bytes");
    write_weights(&sample(9).schema, &sample(9).values, 9, &path).expect("written");
    [checkpoint, fs::read(&path).expect("bytes")]
});

/// A change of a header: a value somewhere in it.
fn change() -> impl Strategy<Value = (Vec<prop::sample::Index>, Value)> {
    let value = prop_oneof![
        numbers().prop_map(|n| json!(n)),
        prop::collection::vec(numbers(), 0..5).prop_map(|n| json!(n)),
        prop::collection::vec(0..9_u64, 0..4).prop_map(|n| json!(n)),
        prop::sample::select(vec!["F32", "F64", "U8", "I64", "BOOL", "BF16", "F8_E5M2"]).prop_map(|dtype| json!(dtype)),
        "\\PC{0,8}".prop_map(|text| json!(text)),
        Just(json!({ "dtype": "F32", "shape": [0], "data_offsets": [0, 0] })),
        Just(Value::Null),
        Just(json!("[{\"name\":\"net.0.weight\",\"momentum\":null}]")),
        Just(json!("[]")),
    ];
    (prop::collection::vec(any::<prop::sample::Index>(), 1..6), value)
}

/// Puts `value` in the place of what `path` leads to, also into JSON that is text in JSON: the state is.
fn put(header: &mut Value, path: &[prop::sample::Index], value: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *header = value.clone();
        return;
    };
    match header {
        Value::Object(map) if !map.is_empty() => {
            let at = first.index(map.len());
            if let Some(inner) = map.values_mut().nth(at) {
                put(inner, rest, value);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = first.index(items.len());
            put(&mut items[at], rest, value);
        }
        Value::String(text) if !rest.is_empty() && text.starts_with(['{', '[']) => {
            let Ok(mut inner) = serde_json::from_str(text) else { return };
            put(&mut inner, path, value);
            *text = inner.to_string();
        }
        leaf => *leaf = value.clone(),
    }
}

/// Reads `file` in each way in which files are read; what is accepted is sound.
fn read_all(path: &Path, file: &[u8]) {
    fs::write(path, file).expect("written");
    if let Ok(snapshot) = FILE.hold(file.len(), || read(path)) {
        assert_eq!(snapshot.values.len(), snapshot.schema.len());
        assert!(snapshot.values.iter().all(|value| value.is_finite()));
        assert_eq!(snapshot.schema.fingerprint(), snapshot.state.schema_fingerprint);
    }
    let schema = &sample(9).schema;
    if let Ok(values) = FILE.hold(file.len(), || read_weights(schema, path)) {
        assert!(values.len() == schema.len() && values.iter().all(|value| value.is_finite()));
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn fuzz_checkpoint_bytes(file in damaged(SAMPLES.to_vec())) {
        let (_folder, path) = place();
        read_all(&path, &file);
    }

    #[test]
    fn fuzz_forged_checkpoints(which in 0..2_usize, changes in prop::collection::vec(change(), 1..4)) {
        let (_folder, path) = place();
        let file = forged(&SAMPLES[which], |header| changes.iter().for_each(|(path, value)| put(header, path, value)));
        read_all(&path, &file.expect("a safetensors file"));
    }

    #[test]
    fn fuzz_checkpoint_names(names in prop::collection::vec("(step-)?[0-9a-z.-]{0,22}(.safetensors)?", 0..5)) {
        let (folder, _) = place();
        let store = Store::open(folder.path(), 1).expect("open");
        for name in &names {
            // an empty name is the folder itself
            let _ = fs::write(folder.path().join("checkpoints").join(name), b"x");
        }
        let length = names.iter().map(String::len).sum();
        let bound = Bound { each: 64, constant: 1 << 17 };
        prop_assert!(bound.hold(length, || store.latest()).is_err());
    }
}
