//! One version's values on the device: a candle variable in which every tensor begins at a place that the libraries like.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Result, Storage, Tensor, Var, bail};

use super::gpu::Gpu;
use super::group::Group;
use super::groups::{Groups, Maker};
use super::memory::{Address, address};
use super::regions::Regions;
use super::staging::Staging;
use crate::model::Model;

/// Where the tensors lie, by slot: in values from the beginning.
#[derive(Debug)]
pub(super) struct Layout {
    starts: Vec<usize>,
    len: usize,
    /// Where buffers begin, which lie behind all parameters.
    parameters: usize,
}

impl Layout {
    fn new(model: &Model) -> Self {
        let mut regions = Regions::default();
        let (tensors, mut starts) = (model.tensors(), vec![0; model.tensors().len()]);
        // in the flat vector's order, which has parameters first
        let mut slots: Vec<usize> = (0..tensors.len()).collect();
        slots.sort_by_key(|&slot| tensors[slot].range.start);
        let mut parameters = 0;
        for slot in slots {
            starts[slot] = regions.take(tensors[slot].range.len()).start;
            if tensors[slot].range.start < model.schema().parameters() {
                parameters = regions.most();
            }
        }
        Self { starts, len: regions.most(), parameters }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn parameters(&self) -> usize {
        self.parameters
    }

    /// The address of a slot, where the first one is at `base`.
    pub(super) fn at(&self, base: Address, slot: usize) -> Address {
        base + 4 * self.starts[slot] as Address
    }

    /// From the flat vector, in schema order.
    fn spread(&self, model: &Model, flat: &[f32], packed: &mut [f32]) {
        for (tensor, &start) in model.tensors().iter().zip(&self.starts) {
            packed[start..][..tensor.range.len()].copy_from_slice(&flat[tensor.range.clone()]);
        }
    }

    /// To the flat vector.
    pub(super) fn gather(&self, model: &Model, packed: &[f32]) -> Vec<f32> {
        let mut flat = vec![0.0; model.schema().len()];
        for (tensor, &start) in model.tensors().iter().zip(&self.starts) {
            flat[tensor.range.clone()].copy_from_slice(&packed[start..][..tensor.range.len()]);
        }
        flat
    }
}

/// The tensors of one version of a model, on a GPU.
pub(crate) struct Packed {
    pub(super) gpu: Arc<Gpu>,
    pub(super) layout: Arc<Layout>,
    var: Var,
    start: Address,
    /// A lock because weights are shared; one thread computes, and it holds this as long as the device may touch what is in it.
    staging: Mutex<Staging>,
    /// What passes need. The lock is as above.
    groups: Mutex<Groups>,
    /// The fastest algorithms, whatever their bits.
    trial: bool,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Packed").field(&self.gpu).finish()
    }
}

impl Packed {
    pub(crate) fn new(gpu: &Arc<Gpu>, model: &Model, flat: &[f32], trial: bool) -> Result<Self> {
        gpu.bind()?;
        let layout = Arc::new(Layout::new(model));
        let var = Var::zeros(layout.len(), DType::F32, gpu.device())?;
        let start = match &*var.as_tensor().storage_and_layout().0 {
            Storage::Cuda(storage) => address(storage.as_cuda_slice::<f32>()?),
            _ => bail!("a variable of a GPU is not on it"),
        };
        let staging = Mutex::new(Staging::new(layout.len())?);
        let packed = Self { gpu: Arc::clone(gpu), layout, var, start, staging, groups: Mutex::default(), trial };
        packed.set(model, flat)?;
        Ok(packed)
    }

    /// The values of another version, in place.
    pub(crate) fn set(&self, model: &Model, flat: &[f32]) -> Result<()> {
        self.gpu.bind()?;
        let mut staging = self.staging();
        staging.before_weights(&self.gpu)?;
        self.layout.spread(model, flat, staging.weights.values_mut());
        self.gpu.upload(staging.weights.values(), self.start)
    }

    /// What a pass is differentiated by.
    pub(super) fn var(&self) -> &Tensor {
        self.var.as_tensor()
    }

    /// The same values, without a gradient.
    pub(super) fn detached(&self) -> Tensor {
        self.var.as_detached_tensor()
    }

    pub(super) fn staging(&self) -> MutexGuard<'_, Staging> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What passes over shards of so many examples need, side by side where they may be. `training`: a backward pass follows.
    pub(super) fn groups(&self, model: &Model, sizes: &[usize], training: bool) -> Result<Vec<Arc<Group>>> {
        let maker = Maker { gpu: &self.gpu, model, weights: self.layout.len(), trial: self.trial, training };
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).of(maker, sizes)
    }
}
