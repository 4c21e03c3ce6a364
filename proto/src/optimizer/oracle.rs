//! Our trajectories beside PyTorch's. Oracle: `tests/oracle/optimizer.py`, whose numbers are in `optimizer.json` beside it.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Optimizer, clip, penalty};
use crate::recipe::{LossSettings, Recipe, Setting};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/optimizer.py")
}

fn committed() -> Value {
    let text = include_str!("../../../tests/oracle/optimizer.json");
    serde_json::from_str(text).expect("the script writes JSON")
}

fn settings(of: &Value) -> Recipe {
    let pairs = of["settings"].as_object().expect("a table");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let settings: Vec<_> =
        pairs.iter().map(|(key, value)| Setting::flag("oracle", &format!("optimizer.{key}"), text(value))).collect();
    Recipe::resolve(None, &settings, &|path| Err(format!("no file {path}"))).expect("valid settings")
}

fn bits<'a>(list: &'a Value) -> impl Iterator<Item = u64> + 'a {
    let items = list.as_array().expect("a list").iter();
    items.map(|item| u64::from_str_radix(item.as_str().expect("text"), 16).expect("hexadecimal"))
}

/// The formulas of the script's head.
fn gradient(t: usize, parameters: &[f32]) -> Vec<f32> {
    let one = |(i, p): (usize, &f32)| {
        let whole = ((7919 * t + 104_729 * i) % 1009) as f32 - 504.0;
        if i == 0 { 0.0 } else { whole / 512.0 * 2.0_f32.powi((i % 7) as i32 - 4) + p * 0.125 }
    };
    parameters.iter().enumerate().map(one).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

#[test]
fn no_further_from_float64_than_twice_pytorchs_own_float32() {
    let oracle = committed();
    let count = oracle["parameters"].as_u64().expect("a number") as usize;
    let variants = oracle["optimizers"].as_object().expect("a table");
    assert_eq!(variants.len(), 15);
    for (name, variant) in variants {
        let settings = settings(variant).optimizer;
        let factor = |key: &str| variant["loss"][key].as_f64().unwrap_or(0.0);
        let loss = LossSettings { l1: factor("l1"), l2: factor("l2"), ..LossSettings::default() };
        let mut paid = Vec::new();
        let mut optimizer = Optimizer::new(&settings, count);
        let mut parameters: Vec<f32> = (0..count).map(|i| (((37 * i) % 64) as f32 - 31.5) / 32.0).collect();
        let mut compared = 0;
        for t in 0..oracle["steps"].as_u64().expect("a number") as usize {
            let mut gradient = gradient(t, &parameters);
            paid.push(penalty::add(&loss, &parameters, &mut gradient));
            if settings.clip_grad_norm > 0.0 {
                clip::clip_by_norm(&mut gradient, settings.clip_grad_norm);
            }
            optimizer.step(0.05 * (1.0 - t as f64 / 400.0), &gradient, &mut parameters);
            let shown = (t + 1).to_string();
            if variant["f64"].get(&shown).is_none() {
                continue;
            }
            let exact: Vec<f64> = bits(&variant["f64"][&shown]).map(f64::from_bits).collect();
            let theirs: Vec<f32> = bits(&variant["f32"][&shown]).map(|bits| f32::from_bits(bits as u32)).collect();
            let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            let (us, them) = (distance(&wide(&parameters), &exact), distance(&wide(&theirs), &exact));
            let equal = parameters.iter().zip(&theirs).filter(|(a, b)| a.to_bits() == b.to_bits()).count();
            println!(
                "{name:>15} step {shown:>3}: ours {us:.2e}, PyTorch {them:.2e}, {equal} of {count} equal to the bit"
            );
            assert!(us <= 2.0 * them, "{name}, step {shown}: {us:e} against PyTorch's {them:e}");
            compared += 1;
        }
        assert_eq!(compared, 3, "{name}");
        let Some(theirs) = variant.get("penalty") else {
            assert!(paid.iter().all(|penalty| *penalty == 0.0), "{name} has no penalty");
            continue;
        };
        // before the first step both sides have the same parameters, later such that agree to float32
        let shown = [(0, 1e-15), (24, 1e-5), (199, 1e-5)];
        assert_eq!(bits(theirs).count(), shown.len(), "{name}");
        for (theirs, (step, tolerance)) in bits(theirs).map(f64::from_bits).zip(shown) {
            let ours = paid[step];
            assert!((ours - theirs).abs() <= tolerance * theirs, "{name}, step {step}: penalty {ours}, not {theirs}");
        }
    }
}

#[test]
fn the_committed_numbers_are_what_pytorch_says() {
    let Some(python) = std::env::var_os("LOCKSTEP_PYTHON") else {
        // past the test runner's capture: a skipped check should be seen
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: LOCKSTEP_PYTHON names no python with torch: optimizer.py is not run again"
        );
        return;
    };
    let output =
        std::process::Command::new(&python).arg(script()).arg("--check").output().expect("LOCKSTEP_PYTHON starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
