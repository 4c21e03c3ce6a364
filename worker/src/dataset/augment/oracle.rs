//! The same draws on the same images, here and in torchvision: the same bytes.
//!
//! Oracle: `tests/oracle/augment.py`, which calls `torchvision.transforms.functional` on uint8 tensors. What it made is in
//! `augment.json` beside it: each case is an image, the steps that it goes through, and the BLAKE3 hash of the result. With
//! `LOCKSTEP_PYTHON` the script makes many more cases, which are compared too.

use std::path::Path;
use std::process::Command;

use lockstep_proto::keys::Key;
use serde_json::Value;

use super::affine::Affine;
use super::jitter::Adjustment;
use super::window::Window;
use crate::layers::KernelSet;

/// Cases of each kind that the script makes beyond those that are committed.
const MANY: &str = "400";

fn script() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/augment.py")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn whole(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

/// The images of the script, by the formulas in its head: three planes.
fn image(name: &str, [height, width]: [usize; 2]) -> Vec<u8> {
    let plane = height * width;
    if name == "cube" {
        // every colour of 64 levels a channel
        let level = |colour: usize| (colour % 64 * 255 / 63) as u8;
        return [1, 64, 64 * 64].iter().flat_map(|step| (0..plane).map(move |at| level(at / step))).collect();
    }
    let mut stream = Key::new(0, "oracle", &format!("augment/{name}")).stream(0, 0, 0);
    (0..3 * plane)
        .map(|at| {
            let (row, column) = (at % plane / width, at % width);
            let bits = stream.bits();
            match name {
                // six levels, so that greys and ties between colours are frequent
                "coarse" => (bits % 6 * 51) as u8,
                "dark" => (bits % 20) as u8,
                "smooth" => [row * 8, column * 8, 4 * (row + column)][at / plane] as u8,
                _ => (bits % 256) as u8,
            }
        })
        .collect()
}

fn step(step: &Value, size: [usize; 2], set: KernelSet, pixels: &[u8]) -> Vec<u8> {
    let mut out = pixels.to_vec();
    let adjustment = match step["transform"].as_str().expect("a name") {
        "window" => {
            let on = |key: &str| step[key].as_bool().expect("true or false");
            let (top, left) = (whole(&step["top"]), whole(&step["left"]));
            Window { top, left, mirrored: on("mirrored"), upside_down: on("upside_down") }.cut(pixels, size, &mut out);
            return out;
        }
        "affine" => {
            let shift = [0, 1].map(|axis| whole(&step["translate"][axis]) as i32);
            let (angle, scale) = (number(&step["angle"]) as f32, number(&step["scale"]) as f32);
            Affine { angle, shift, scale }.apply(pixels, size, &mut out);
            return out;
        }
        "brightness" => Adjustment::Brightness,
        "contrast" => Adjustment::Contrast,
        "saturation" => Adjustment::Saturation,
        "hue" => Adjustment::Hue,
        other => panic!("no transform {other}"),
    };
    adjustment.apply(set, &mut out, number(&step["factor"]) as f32);
    out
}

/// Panics at cases that differ under some kernel set, with the first few, and gives the number of all.
fn check(made: &Value) -> usize {
    let cases = made["cases"].as_array().expect("a list");
    for set in KernelSet::ALL.into_iter().filter(|set| set.runs_here()) {
        check_under(set, cases);
    }
    cases.len()
}

fn check_under(set: KernelSet, cases: &[Value]) {
    let different: Vec<String> = cases
        .iter()
        .filter(|case| {
            let size = [0, 1].map(|at| whole(&case["size"][at]) as usize);
            let image = image(case["image"].as_str().expect("a name"), size);
            let steps = case["steps"].as_array().expect("a list");
            let result = steps.iter().fold(image, |pixels, settings| step(settings, size, set, &pixels));
            blake3::hash(&result).to_hex()[..16] != *case["blake3"].as_str().expect("a hash")
        })
        .map(ToString::to_string)
        .collect();
    let shown = different.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(different.is_empty(), "{set}: {} of {} cases differ:\n{shown}", different.len(), cases.len());
}

fn committed() -> Value {
    serde_json::from_str(include_str!("../../../../tests/oracle/augment.json")).expect("the script writes JSON")
}

#[test]
fn the_bytes_are_torchvisions() {
    assert!(check(&committed()) >= 100);
}

#[test]
fn the_script_makes_the_committed_cases_and_many_more_agree() {
    let Some(python) = std::env::var_os("LOCKSTEP_PYTHON") else {
        eprintln!("SKIPPED: set LOCKSTEP_PYTHON to a Python with torchvision, numpy and blake3");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder to write to");
    let file = folder.path().join("augment.json");
    let done = Command::new(&python).arg("-B").arg(script()).arg(&file).arg(MANY).status();
    let status = done.unwrap_or_else(|error| panic!("LOCKSTEP_PYTHON {}: {error}", python.display()));
    if status.code() == Some(77) {
        eprintln!("SKIPPED: {} has no torchvision", python.display());
        return;
    }
    assert!(status.success(), "{status}");
    let made: Value = serde_json::from_slice(&std::fs::read(&file).expect("written")).expect("JSON");
    let (all, old) = (made["cases"].as_array().expect("a list"), committed());
    for case in old["cases"].as_array().expect("a list") {
        assert!(all.contains(case), "the script no longer makes {case}");
    }
    assert!(check(&made) > 1000);
}
