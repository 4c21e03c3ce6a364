//! Runs the scripts again and compares what they make with what is committed.

use std::process::Command;

use serde_json::Value;

use crate::numbers::folder;

#[test]
fn the_scripts_make_the_committed_numbers() {
    let Some(python) = std::env::var_os("LOCKSTEP_PYTHON") else {
        eprintln!(
            "SKIPPED: set LOCKSTEP_PYTHON to a Python with torch, numpy and blake3 to run tests/oracle/*.py again"
        );
        return;
    };
    let made = tempfile::tempdir().expect("a folder to write to");
    for script in ["layers", "gradient", "trajectory"] {
        let (file, path) = (made.path().join(script), folder().join(format!("{script}.py")));
        let status = Command::new(&python).arg("-B").arg(&path).arg(&file).status();
        let status = status.unwrap_or_else(|error| panic!("LOCKSTEP_PYTHON {}: {error}", python.display()));
        assert!(status.success(), "{}: {status}", path.display());
        let read = |path: &std::path::Path| -> Value {
            let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        compare(script, &read(&file), &read(&path.with_extension("json")));
    }
}

/// Everything but who made it, and how far float32 was off: that is this machine's, and only its order of magnitude counts.
fn compare(place: &str, new: &Value, old: &Value) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            assert_eq!(new.keys().collect::<Vec<_>>(), old.keys().collect::<Vec<_>>(), "{place}");
            for (key, new) in new.iter().filter(|(key, _)| !matches!(key.as_str(), "made_by" | "torch_f32_distances")) {
                compare(&format!("{place}/{key}"), new, &old[key]);
            }
        }
        (Value::Array(new), Value::Array(old)) if new.iter().chain(old).all(Value::is_number) => {
            let numbers = |values: &[Value]| values.iter().filter_map(Value::as_f64).collect::<Vec<_>>();
            let (new, old) = (numbers(new), numbers(old));
            assert_eq!(new.len(), old.len(), "{place}");
            let scale = old.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
            for (new, old) in new.iter().zip(&old) {
                // float64 in another order of sums; a gradient that is 0 is noise of 1e-17
                assert!((new - old).abs() <= 1e-9 * scale + 1e-14, "{place}: {new}, not {old}");
            }
        }
        (Value::Array(new), Value::Array(old)) => {
            assert_eq!(new.len(), old.len(), "{place}");
            for (at, (new, old)) in new.iter().zip(old).enumerate() {
                compare(&format!("{place}/{at}"), new, old);
            }
        }
        (Value::Number(new), Value::Number(old)) => {
            let (new, old) = (new.as_f64().unwrap_or(f64::NAN), old.as_f64().unwrap_or(f64::NAN));
            let close = if place.ends_with("torch_f32_distance") {
                new == old || (new / old < 10.0 && old / new < 10.0)
            } else {
                (new - old).abs() <= 1e-9 * old.abs() + 1e-14
            };
            assert!(close, "{place}: {new}, not {old}");
        }
        _ => assert_eq!(new, old, "{place}"),
    }
}
