//! What a node's passes are asked with and where what they leave lies, on the device and at home; kept for the nodes that follow. There are
//! as many as nodes are asked for at once.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::CudaEvent;
use candle_core::{Error, Result};

use super::gpu::Gpu;
use super::memory::{Address, Pinned};
use super::sums::Sums;
use crate::node::Home;

pub(super) struct Room {
    /// Those of every pass.
    pub(super) inputs: Pinned<u32>,
    /// What comes back.
    pub(super) home: Pinned<f32>,
    sums: Option<Sums>,
    /// All passes are made, and what they left is at home.
    made: CudaEvent,
    arrived: CudaEvent,
}

impl Room {
    fn new(gpu: &Gpu) -> Result<Self> {
        let (inputs, home) = (Pinned::new(0)?, Pinned::new(0)?);
        Ok(Self { inputs, home, sums: None, made: gpu.event()?, arrived: gpu.event()? })
    }

    /// Makes room for so many words that the passes are asked with.
    pub(super) fn reserve(&mut self, inputs: usize) -> Result<()> {
        if self.inputs.values().len() < inputs {
            self.inputs = Pinned::new(inputs)?;
        }
        Ok(())
    }

    /// Device memory for a node of so many examples, `levels` of whose sums of `values` values wait at once; and its way home.
    pub(super) fn reserve_sums(&mut self, gpu: &Gpu, examples: usize, levels: usize, values: usize) -> Result<()> {
        if !self.sums.as_ref().is_some_and(|sums| sums.holds(examples, levels)) {
            // the old one first: its memory may be the new one's
            self.sums = None;
            let sums = Sums::new(&gpu.stream, examples, levels, values)?;
            let most = sums.home(Home::Sum).len;
            if self.home.values().len() < most {
                self.home = Pinned::new(most)?;
            }
            self.sums = Some(sums);
        }
        Ok(())
    }

    pub(super) fn sums(&self) -> Result<&Sums> {
        self.sums.as_ref().ok_or_else(|| Error::msg("a node without room for its sums"))
    }

    /// Asks for what the passes leave, while the device goes on with what it is asked for next.
    pub(super) fn send_home(&mut self, gpu: &Gpu, home: Home) -> Result<()> {
        let sums = self.sums()?;
        let home = sums.home(home);
        let from = sums.at(home);
        self.made.record(&gpu.stream).map_err(Error::wrap)?;
        gpu.homeward.wait(&self.made).map_err(Error::wrap)?;
        gpu.download(&gpu.homeward, from, &mut self.home.values_mut()[..home.len])?;
        self.arrived.record(&gpu.homeward).map_err(Error::wrap)
    }
}

/// Those that nobody uses.
#[derive(Clone, Default)]
pub(super) struct Rooms(Arc<Mutex<Vec<Room>>>);

impl Rooms {
    /// One of them, or another.
    pub(super) fn take(&self, gpu: &Arc<Gpu>) -> Result<Lent> {
        // a lock because a room comes back from wherever its sum is; nothing waits while it is held
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let room = kept.map_or_else(|| Room::new(gpu), Ok)?;
        Ok(Lent { gpu: Arc::clone(gpu), rooms: self.clone(), room: Some(room), at_rest: false })
    }
}

/// A room that somebody uses, and the device may. It goes back when that is over.
pub(super) struct Lent {
    gpu: Arc<Gpu>,
    rooms: Rooms,
    /// None when it has gone back.
    room: Option<Room>,
    /// The device is through with it.
    at_rest: bool,
}

impl Lent {
    /// Asks for what the passes leave.
    pub(super) fn send_home(&mut self, home: Home) -> Result<()> {
        self.gpu.bind()?;
        let gpu = Arc::clone(&self.gpu);
        self.room()?.send_home(&gpu, home)
    }

    pub(super) fn room(&mut self) -> Result<&mut Room> {
        self.room.as_mut().ok_or_else(|| Error::msg("a node whose room was given back"))
    }

    /// Asks for a copy on the device, after the passes.
    pub(super) fn copy(&self, from: Address, to: Address, values: usize) -> Result<()> {
        self.gpu.bind()?;
        self.gpu.copy(from, to, values)
    }

    /// Waits for the passes, and not for what comes after them.
    #[cfg(feature = "nccl")]
    pub(super) fn settle(&self) -> Result<()> {
        self.gpu.bind()?;
        self.gpu.wait()
    }

    /// Waits until what was sent home is there.
    pub(super) fn arrive(&mut self) -> Result<&Room> {
        self.room()?.arrived.synchronize().map_err(Error::wrap)?;
        self.at_rest = true;
        Ok(self.room()?)
    }

    /// Waits for all that the GPU was asked for.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.gpu.wait_for_all()?;
        self.at_rest = true;
        Ok(())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // given up half-way: the device may still read and write here
        if !self.at_rest && self.wait().is_err() {
            // nothing can be asked of this GPU any more; what it might touch stays where it is
            std::mem::forget(self.room.take());
        }
        if let Some(room) = self.room.take() {
            self.rooms.0.lock().unwrap_or_else(PoisonError::into_inner).push(room);
        }
    }
}
