//! The layout of the convolution's places: (groups, rows, columns, lanes), where a group is a register of outputs. Lanes
//! past the last output hold zeros.

use super::super::conv_pool::Geometry;

/// An example's sizes for one kernel set.
#[derive(Clone, Copy, Debug)]
pub(super) struct LanesLast {
    pub(super) geometry: Geometry,
    pub(super) lanes: usize,
    pub(super) groups: usize,
    /// The convolution's places: all of them, also those that no pool covers.
    pub(super) height: usize,
    pub(super) width: usize,
}

impl LanesLast {
    /// `lanes` is what [`super::super::simd::lanes`] says.
    pub(super) fn new(geometry: Geometry, lanes: usize) -> Self {
        let (height, width) =
            (geometry.padded_height() + 1 - geometry.kernel, geometry.padded_width() + 1 - geometry.kernel);
        Self { geometry, lanes, groups: geometry.outputs.div_ceil(lanes), height, width }
    }

    /// Places of one output.
    pub(super) fn places(&self) -> usize {
        self.height * self.width
    }

    /// Outputs, and what fills up the last register.
    pub(super) fn outputs(&self) -> usize {
        self.groups * self.lanes
    }

    /// Elements of an example.
    pub(super) fn example(&self) -> usize {
        self.outputs() * self.places()
    }

    /// Elements of a pooled example.
    pub(super) fn pooled(&self) -> usize {
        self.outputs() * self.geometry.places()
    }

    /// The four places of a pooled one, in the order in which the first of equals wins.
    pub(super) fn window(&self, row: usize, column: usize) -> [usize; 4] {
        let first = 2 * row * self.width + 2 * column;
        [first, first + 1, first + self.width, first + self.width + 1]
    }

    /// A vector of one value an output, with zeros for the lanes past them.
    pub(super) fn padded<T: Copy + Default>(&self, values: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut padded: Vec<T> = values.into_iter().collect();
        padded.resize(self.outputs(), T::default());
        padded
    }

    /// A pooled example from (outputs, rows, columns).
    pub(super) fn gather(&self, planes: &[f32], pooled: &mut [f32]) {
        let places = self.geometry.places();
        if self.outputs() > self.geometry.outputs {
            pooled.fill(0.0);
        }
        let groups = pooled.chunks_exact_mut(places * self.lanes).zip(planes.chunks(places * self.lanes));
        for (pooled, planes) in groups {
            for (lane, plane) in planes.chunks_exact(places).enumerate() {
                for (to, from) in pooled[lane..].iter_mut().step_by(self.lanes).zip(plane) {
                    *to = *from;
                }
            }
        }
    }

    /// The reverse of [`Self::gather`].
    pub(super) fn spread(&self, pooled: &[f32], planes: &mut [f32]) {
        let places = self.geometry.places();
        let groups = pooled.chunks_exact(places * self.lanes).zip(planes.chunks_mut(places * self.lanes));
        for (pooled, planes) in groups {
            for (lane, plane) in planes.chunks_exact_mut(places).enumerate() {
                for (from, to) in pooled[lane..].iter().step_by(self.lanes).zip(plane) {
                    *to = *from;
                }
            }
        }
    }
}
