//! The numbers that both sides start from, and the comparison of a tensor with its record. Mirrors `common.py`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::{Device, Tensor, Var};
use lockstep_proto::keys::{Key, Stream};
use lockstep_proto::recipe::model::ModelSpec;
use lockstep_worker::layers::{KernelSet, set_kernels};
use lockstep_worker::model::Model;
use serde::Deserialize;
use serde::de::DeserializeOwned;

const SKETCH: usize = 64;

/// A tensor as PyTorch computed it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Record {
    pub(crate) shape: Vec<usize>,
    pub(crate) norm: f64,
    pub(crate) torch_f32_distance: f64,
    pub(crate) sketch: Vec<f64>,
}

impl Record {
    /// ‖ours − float64‖, in the sketch's measure.
    pub(crate) fn distance(&self, ours: &[f32]) -> f64 {
        assert_eq!(ours.len(), self.shape.iter().product::<usize>(), "as many values as {:?}", self.shape);
        norm(&sketch(ours).iter().zip(&self.sketch).map(|(a, b)| a - b).collect::<Vec<_>>())
    }

    /// Asserts the criterion and gives the distance in units of PyTorch's float32.
    pub(crate) fn check(&self, what: &str, ours: &[f32]) -> f64 {
        let (distance, torch) = (self.distance(ours), self.torch_f32_distance);
        // the files hold 13 digits: where PyTorch's float32 is exact, this much is rounding of the file
        let slack = 1e-12 * self.norm;
        assert!(
            distance <= 2.0 * torch + slack,
            "{what}: {distance:e} from PyTorch's float64, whose own float32 is {torch:e} away (norm {:e})",
            self.norm
        );
        if torch > slack { distance / torch } else { 0.0 }
    }
}

pub(crate) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn sketch(values: &[f32]) -> Vec<f64> {
    if values.len() <= SKETCH {
        return values.iter().map(|&v| f64::from(v)).collect();
    }
    let mut draws = stream("sketch");
    let mut sums = vec![0.0; SKETCH];
    for &value in values {
        let bits = draws.bits() as usize;
        let value = f64::from(value);
        sums[bits % SKETCH] += if bits & SKETCH == 0 { value } else { -value };
    }
    sums
}

/// The draws under the key (0, "oracle", name).
pub(crate) fn stream(name: &str) -> Stream {
    Key::new(0, "oracle", name).stream(0, 0, 0)
}

/// Numbers within ±scale; with `steps`, rounded down to multiples of 1/steps.
pub(crate) fn values(name: &str, count: usize, scale: f32, steps: u32) -> Vec<f32> {
    let mut draws = stream(name);
    let stepped = |v: f32| if steps == 0 { v } else { (v * steps as f32).floor() / steps as f32 };
    (0..count).map(|_| stepped(draws.range(-1.0, 1.0)) * scale).collect()
}

pub(crate) fn labels(name: &str, count: usize) -> Vec<u32> {
    let mut draws = stream(name);
    (0..count).map(|_| draws.bits() % 10).collect()
}

pub(crate) fn tensor(values: Vec<f32>, shape: &[usize]) -> Tensor {
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape says")
}

pub(crate) fn var(values: Vec<f32>, shape: &[usize]) -> Var {
    Var::from_tensor(&tensor(values, shape)).expect("a tensor on the CPU")
}

pub(crate) fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).expect("f32 on the CPU")
}

/// Where cargo runs us, or where the pack of deploy/gpu was unpacked.
pub(crate) fn folder() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    here.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR"))).join("../tests/oracle")
}

/// The model of a file, on CIFAR-10's images.
pub(crate) fn model(path: &Path) -> Model {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let spec = ModelSpec::parse(&text, &path.display().to_string()).unwrap_or_else(|error| panic!("{error}"));
    Model::new(&spec, [3, 32, 32], 10).unwrap_or_else(|error| panic!("{error}"))
}

/// The cases of one of the oracle's files.
pub(crate) fn cases<T: DeserializeOwned>(file: &str) -> Vec<T> {
    #[derive(Deserialize)]
    struct File<T> {
        cases: Vec<T>,
    }
    let path = folder().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: File<T> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(!file.cases.is_empty(), "{} holds no cases", path.display());
    file.cases
}

/// Runs `body` with each kernel set that this processor has.
pub(crate) fn with_each_kernel_set(mut body: impl FnMut(KernelSet)) {
    // the set is the process's, and tests run at once: one test at a time chooses it
    static CHOICE: Mutex<()> = Mutex::new(());
    let _chosen = CHOICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for set in KernelSet::ALL {
        match set_kernels(set) {
            Ok(()) => body(set),
            Err(error) => eprintln!("SKIPPED: {error}"),
        }
    }
}
