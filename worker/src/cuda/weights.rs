//! One version's values on the device: a candle variable, in which every tensor has its place.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Result, Storage, Tensor, Var, bail};

use super::format::Format;
use super::gpu::Gpu;
use super::group::Group;
use super::groups::{Groups, Maker};
use super::layout::Layout;
use super::memory::{Address, address};
use super::rooms::{Lent, Rooms};
use super::staging::Staging;
use super::transposed::Transposed;
use crate::model::Model;

/// The tensors of one version of a model, on a GPU.
pub(crate) struct Packed {
    pub(super) gpu: Arc<Gpu>,
    pub(super) layout: Arc<Layout>,
    format: Format,
    pub(super) transposed: Arc<Transposed>,
    var: Var,
    start: Address,
    /// A lock because weights are shared; one thread computes.
    staging: Mutex<Staging>,
    rooms: Rooms,
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
        let (layout, format) = (Arc::new(Layout::new(model)), Format::of(gpu, model)?);
        let transposed = Arc::new(Transposed::new(gpu, model, &layout, format)?);
        let var = Var::zeros(layout.len(), DType::F32, gpu.device())?;
        let start = match &*var.as_tensor().storage_and_layout().0 {
            Storage::Cuda(storage) => address(storage.as_cuda_slice::<f32>()?),
            _ => bail!("a variable of a GPU is not on it"),
        };
        let staging = Mutex::new(Staging::new(gpu, layout.len())?);
        let (rooms, groups) = (Rooms::default(), Mutex::default());
        let packed =
            Self { gpu: Arc::clone(gpu), layout, format, transposed, var, start, staging, rooms, groups, trial };
        packed.set(flat)?;
        Ok(packed)
    }

    /// The values of another version, in place.
    pub(crate) fn set(&self, flat: &[f32]) -> Result<()> {
        self.gpu.bind()?;
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        staging.upload(&self.gpu, self.start, |values| self.layout.spread(flat, values))?;
        self.changed()
    }

    /// Asks for what follows from them, after they were changed.
    pub(super) fn changed(&self) -> Result<()> {
        self.transposed.follow(&self.gpu, self.start)
    }

    /// How many values lie on the device, gaps included.
    #[cfg(feature = "nccl")]
    pub(crate) fn values(&self) -> usize {
        self.layout.len()
    }

    /// Where the values lie.
    pub(super) fn start(&self) -> Address {
        self.start
    }

    /// What a pass is differentiated by.
    pub(super) fn var(&self) -> &Tensor {
        self.var.as_tensor()
    }

    /// The same values, without a gradient.
    pub(super) fn detached(&self) -> Tensor {
        self.var.as_detached_tensor()
    }

    /// Room for a node's passes. A context must be current.
    pub(super) fn room(&self) -> Result<Lent> {
        self.rooms.take(&self.gpu)
    }

    /// What passes over shards of so many examples need, side by side where they may be. `training`: a backward pass follows.
    pub(super) fn groups(&self, model: &Model, sizes: &[usize], training: bool) -> Result<Vec<Arc<Group>>> {
        let maker = Maker {
            gpu: &self.gpu,
            model,
            weights: self.layout.len(),
            format: self.format,
            trial: self.trial,
            training,
        };
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).of(maker, sizes)
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        // graphs and pinned memory go with it, which the device may still be at. Once more after an error, which may be an earlier one's that
        // cudarc kept; a second one changes nothing
        let _ = self.gpu.wait_for_all().or_else(|_| self.gpu.wait_for_all());
    }
}
