//! Weights of convolutions whose images have their channels side by side: theirs lie so, too, for cuDNN (filters, places, channels). The
//! weights themselves keep the order that everybody else knows, and are transposed where they change.

use candle_core::Result;

use super::format::Format;
use super::gpu::Gpu;
use super::kernels::{Entry, TransposeWeights};
use super::layout::Layout;
use super::memory::{Address, Block, Pinned};
use super::regions::{Region, Regions};
use crate::model::{Layer, Model, Op, Slot};

/// Words of an entry.
const WORDS: usize = size_of::<Entry>() / 4;

/// All of a model's on the device, and the table of them.
pub(super) struct Transposed {
    /// By slot, ascending, as they lie in both places.
    entries: Vec<(Slot, Entry)>,
    /// None: nothing is transposed.
    block: Option<Block>,
    /// Of the block: the table and the transposed values.
    table: Region,
    values: Region,
}

impl Transposed {
    pub(super) fn new(gpu: &Gpu, model: &Model, layout: &Layout, format: Format) -> Result<Self> {
        let mut slots = Vec::new();
        if format == Format::ChannelsLast {
            convolutions(model.layers(), &mut slots);
        }
        let mut regions = Regions::default();
        let mut entries: Vec<(Slot, Entry)> = Vec::new();
        let place = |slot| (layout.at(0, slot) / 4) as u32;
        slots.sort_by_key(|slot| place(*slot));
        for slot in slots {
            let [_, channels, height, width] = model.tensors()[slot].shape[..] else { continue };
            let (len, plane) = (model.tensors()[slot].range.len(), height * width);
            // one order is the other
            if channels == 1 || plane == 1 {
                continue;
            }
            let to = regions.take(len).start as u32;
            let [len, channels, plane] = [len, channels, plane].map(|number| number as u32);
            entries.push((slot, Entry { from: place(slot), to, len, channels, plane }));
        }
        let values = Region { start: 0, len: regions.most() };
        let table = Region { start: values.len, len: WORDS * entries.len() };
        let block = match entries.is_empty() {
            true => None,
            false => {
                let block = Block::new(&gpu.stream, table.start + table.len)?;
                let mut staging = Pinned::new(entries.len())?;
                staging.values_mut().iter_mut().zip(&entries).for_each(|(word, (_, entry))| *word = *entry);
                gpu.upload(staging.values(), block.at(table))?;
                gpu.wait()?;
                Some(block)
            }
        };
        Ok(Self { entries, block, table, values })
    }

    /// Asks for all of them anew, after the weights, which begin at `w`, have changed.
    pub(super) fn follow(&self, gpu: &Gpu, w: Address) -> Result<()> {
        let Some(block) = &self.block else { return Ok(()) };
        let (out, (transposed, tensors), count) = (block.at(self.values), self.table(), self.values.len as u32);
        gpu.launch(TransposeWeights { w, out, transposed, tensors, count }, count)
    }

    /// Where a convolution's weight lies transposed, if it does.
    pub(super) fn at(&self, slot: Slot) -> Option<Address> {
        let (_, entry) = self.entries.iter().find(|(of, _)| *of == slot)?;
        let start = self.values.start + entry.to as usize;
        self.block.as_ref().map(|block| block.at(Region { start, len: entry.len as usize }))
    }

    /// The table, and how many tensors it has.
    pub(super) fn table(&self) -> (Address, u32) {
        (self.block.as_ref().map_or(0, |block| block.at(self.table)), self.entries.len() as u32)
    }
}

/// The weights of all convolutions.
fn convolutions(layers: &[Layer], slots: &mut Vec<Slot>) {
    for layer in layers {
        match &layer.op {
            Op::Conv { weight, .. } => slots.push(*weight),
            Op::Residual { layers } => convolutions(layers, slots),
            _ => {}
        }
    }
}
