//! Where one version's tensors lie on the device, each at a place that the libraries like, and the ways from the flat vector and back.

use lockstep_proto::wire::CHUNK_BYTES;
use rayon::prelude::*;

use super::memory::Address;
use super::regions::Regions;
use crate::model::Model;

/// Values of a piece, at most: those of the parts in which tensors are copied and summed everywhere else.
const PIECE: usize = CHUNK_BYTES / 4;

/// More values than this are copied by several threads; fewer are there before the others are awake.
const ALONE: usize = 2 * PIECE;

/// Values that lie together, here and there.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: usize,
    to: usize,
    len: usize,
}

/// By slot: in values from the beginning.
#[derive(Debug)]
pub(super) struct Layout {
    starts: Vec<usize>,
    len: usize,
    /// Where buffers begin, which lie behind all parameters.
    parameters: usize,
    /// From the flat vector, all of it and in its order, which is the device's.
    pieces: Vec<Piece>,
    flat: usize,
}

impl Layout {
    pub(super) fn new(model: &Model) -> Self {
        let mut regions = Regions::default();
        let (tensors, mut starts) = (model.tensors(), vec![0; model.tensors().len()]);
        // in the flat vector's order, which has parameters first
        let mut slots: Vec<usize> = (0..tensors.len()).collect();
        slots.sort_by_key(|&slot| tensors[slot].range.start);
        let (mut parameters, mut pieces) = (0, Vec::new());
        for slot in slots {
            let range = tensors[slot].range.clone();
            starts[slot] = regions.take(range.len()).start;
            if range.start < model.schema().parameters() {
                parameters = regions.most();
            }
            let of =
                |at: usize| Piece { from: at, to: starts[slot] + at - range.start, len: PIECE.min(range.end - at) };
            pieces.extend(range.clone().step_by(PIECE).map(of));
        }
        Self { starts, len: regions.most(), parameters, pieces, flat: model.schema().len() }
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

    /// Where value `at` of the flat vector lies.
    pub(super) fn place(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|piece| piece.from <= at);
        self.pieces.get(piece.wrapping_sub(1)).map_or(0, |piece| piece.to + (at - piece.from))
    }

    /// From the flat vector, in schema order.
    pub(super) fn spread(&self, flat: &[f32], packed: &mut [f32]) {
        copy(flat, packed, self.pieces.iter().copied());
    }

    /// To the flat vector. `flat` may have anything in it, and is best as long as the last one was: fresh pages cost more than the copy.
    pub(super) fn gather(&self, packed: &[f32], mut flat: Vec<f32>) -> Vec<f32> {
        flat.resize(self.flat, 0.0);
        copy(packed, &mut flat, self.pieces.iter().map(|&Piece { from, to, len }| Piece { from: to, to: from, len }));
        flat
    }
}

/// Copies pieces, which are in the order in which they lie, as many at once as rayon's pool has threads: those that shared memory is copied
/// by (`proto/src/shared.rs`), and for the same reason.
fn copy(from: &[f32], to: &mut [f32], pieces: impl Iterator<Item = Piece>) {
    let (mut rest, mut at, many) = (to, 0, from.len() > ALONE && rayon::current_num_threads() > 1);
    let places = pieces.map(|piece| {
        let (_, here) = std::mem::take(&mut rest).split_at_mut(piece.to - at);
        let (place, behind) = here.split_at_mut(piece.len);
        (rest, at) = (behind, piece.to + piece.len);
        (place, &from[piece.from..][..piece.len])
    });
    if many {
        let places: Vec<_> = places.collect();
        places.into_par_iter().for_each(|(place, values)| place.copy_from_slice(values));
    } else {
        places.for_each(|(place, values)| place.copy_from_slice(values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::IMAGE;
    use lockstep_proto::recipe::model::ModelSpec;

    /// Small tensors and one of several pieces, the last of them short; copied by one thread and by three.
    #[test]
    fn every_value_has_its_place_and_comes_back() {
        let text = "name = \"wide\"
            layers = [{ type = \"conv\", out_channels = 5, kernel_size = 3 }, { type = \"batch_norm\" }, { type = \"flatten\" },
                      { type = \"linear\", out_features = 61 }, { type = \"linear\", out_features = 10 }]";
        let model = Model::new(&ModelSpec::parse(text, "test").expect("a readable file"), IMAGE, 10).expect("it fits");
        let layout = Layout::new(&model);
        let flat: Vec<f32> = (0..model.schema().len()).map(|at| at as f32).collect();
        assert!(flat.len() > ALONE && !flat.len().is_multiple_of(PIECE), "{}", flat.len());
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a few threads");
            pool.install(|| {
                let mut packed = vec![-1.0; layout.len()];
                layout.spread(&flat, &mut packed);
                for (slot, tensor) in model.tensors().iter().enumerate() {
                    let start = (layout.at(0, slot) / 4) as usize;
                    assert_eq!(packed[start..][..tensor.range.len()], flat[tensor.range.clone()], "{}", tensor.name);
                }
                assert_eq!(packed.iter().filter(|value| **value >= 0.0).count(), flat.len(), "nothing lies between");
                for old in [Vec::new(), vec![-2.0; 7], vec![-2.0; flat.len()], vec![-2.0; flat.len() + 1]] {
                    assert_eq!(layout.gather(&packed, old), flat);
                }
            });
        }
    }
}
