//! What a resumed run reads of its own results: files that a crash, a full disk or an editor has touched.

use std::fs;
use std::path::Path;

use lockstep_fuzz::{Bound, cases, damaged};
use proptest::prelude::*;

use super::{ClassAccuracy, Summary, jsonl, summary, tensorboard, tfrecord};

/// `[],` is three bytes and a vector of 24, in one that grows. A record of TensorBoard is two bytes and one of 48.
const FILE: Bound = Bound { each: 128, constant: 1 << 16 };

fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("folder")
}

fn summaries() -> Vec<Vec<u8>> {
    let summary = Summary {
        model: "lenet".into(),
        per_class: vec![ClassAccuracy { class: "ant".into(), accuracy: Some(0.5) }; 3],
        confusion: vec![vec![1, 2, 3]; 3],
        ..Default::default()
    };
    vec![serde_json::to_vec_pretty(&summary).expect("a summary")]
}

fn lines() -> Vec<Vec<u8>> {
    let line = |step: u64| format!("{{\"event\":\"step\",\"step\":{step},\"loss\":0.5}}\n");
    vec![(1..6).map(line).collect::<String>().into_bytes()]
}

/// Two records: a file's version, and a value at step 3, written by hand after TensorBoard's event.proto.
fn events() -> Vec<Vec<u8>> {
    let version = b"\x09\0\0\0\0\0\0\xf0\x3f\x1a\x0dbrain.Event:2";
    let value = b"\x09\0\0\0\0\0\0\xf0\x3f\x10\x03\x2a\x0d\x0a\x0b\x0a\x04Loss\x15\0\0\0\x3f";
    vec![[tfrecord::frame(version), tfrecord::frame(value)].concat()]
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn fuzz_summary(file in damaged(summaries())) {
        let folder = folder();
        fs::write(folder.path().join(summary::FILE), &file).expect("written");
        drop(FILE.hold(file.len(), || Summary::read(folder.path())));
    }

    #[test]
    fn fuzz_metrics(file in damaged(lines()), step in 0..6_u64) {
        let folder = folder();
        let path = folder.path().join(jsonl::FILE);
        fs::write(&path, &file).expect("written");
        let first = FILE.hold(file.len(), || jsonl::cut_back(&path, step)).expect("a file of ours");
        let again = jsonl::cut_back(&path, step).expect("a file of ours");
        prop_assert_eq!((again.kept, again.cut, again.unreadable), (first.kept, 0, 0), "cut once, nothing is left to cut");
    }

    #[test]
    fn fuzz_events(file in damaged(events()), framed in any::<bool>(), step in 0..6_u64) {
        // no damage gets past the checksums, unless it was there before them
        let file = if framed { [tfrecord::frame(&file), tfrecord::frame(&file)].concat() } else { file };
        let folder = folder();
        fs::write(folder.path().join("events.out.tfevents.1.host"), &file).expect("written");
        let first = FILE.hold(file.len(), || tensorboard::cut_back(folder.path(), step)).expect("a file of ours");
        let again = tensorboard::cut_back(folder.path(), step).expect("a file of ours");
        prop_assert_eq!((again.kept, again.cut, again.unreadable), (first.kept, 0, 0), "cut once, nothing is left to cut");
    }
}
