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

/// Everything but who made it and how far float32 was off: that is this machine's, and a draw. Its order of magnitude counts
/// where many values share it, and not in trajectories, where one unit that switches decides it.
fn compare(place: &str, new: &Value, old: &Value) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            assert_eq!(new.keys().collect::<Vec<_>>(), old.keys().collect::<Vec<_>>(), "{place}");
            for (key, new) in new {
                match key.as_str() {
                    "made_by" | "torch_f32_distances" => {}
                    "torch_f32_distance" => {
                        let values =
                            old["shape"].as_array().map(|shape| shape.iter().filter_map(Value::as_u64).product());
                        if values >= Some(100) && !place.starts_with("trajectory") {
                            let (new, old) = (number(new), number(&old[key]));
                            let alike = new == old || (new / old < 5.0 && old / new < 5.0);
                            assert!(alike, "{place}: PyTorch's float32 is {new:e} away, not {old:e}");
                        }
                    }
                    _ => compare(&format!("{place}/{key}"), new, &old[key]),
                }
            }
        }
        (Value::Array(new), Value::Array(old)) if new.iter().chain(old).all(Value::is_number) => {
            assert_eq!(new.len(), old.len(), "{place}");
            let scale = old.iter().fold(0.0, |most: f64, v| most.max(number(v).abs()));
            for (new, old) in new.iter().zip(old) {
                near(place, number(new), number(old), scale);
            }
        }
        (Value::Array(new), Value::Array(old)) => {
            assert_eq!(new.len(), old.len(), "{place}");
            for (at, (new, old)) in new.iter().zip(old).enumerate() {
                compare(&format!("{place}/{at}"), new, old);
            }
        }
        (Value::Number(_), Value::Number(_)) => near(place, number(new), number(old), number(old).abs()),
        _ => assert_eq!(new, old, "{place}"),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Equal but for float64 sums in another order; a gradient that is 0 is noise of 1e-17.
fn near(place: &str, new: f64, old: f64, scale: f64) {
    assert!((new - old).abs() <= 1e-9 * scale + 1e-14, "{place}: {new}, not {old}");
}
