//! Images to spectra and back, a register's worth of channels at a time.
#![expect(unsafe_code, reason = "vector registers and pointers without bounds checks")]

use super::super::super::simd::{Kernel, Lanes};
use super::axis::{Axis, Places};
use super::fold::{Complex, Lines, Reals, Spectra, Terms, add, conjugate, fold, store_terms, stored_terms, subtract};

/// The two axes of an image and the tables of their transforms.
pub(super) struct Grid {
    pub(super) y: Axis,
    pub(super) x: Axis,
    y_table: Vec<f32>,
    x_table: Vec<f32>,
    /// 2 / N for the way back.
    x_inverse: Vec<f32>,
}

impl Grid {
    pub(super) fn new(y: Axis, x: Axis) -> Self {
        let size = (y.size * x.size) as f64;
        Self { y_table: y.table(1.0), x_table: x.table(1.0), x_inverse: x.table(2.0 / size), y, x }
    }

    /// Frequencies: the real ones along x, and for each all along y.
    pub(super) fn frequencies(&self) -> usize {
        self.x.real_frequencies() * self.y.size
    }
}

/// Planes of one size that lie somewhere on a grid.
pub(super) struct Frame {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) y: Places,
    pub(super) x: Places,
}

impl Frame {
    /// Planes whose first pixel is at place (offset, offset).
    pub(super) fn new(grid: &Grid, (height, width): (usize, usize), offset: isize) -> Self {
        Self { height, width, y: grid.y.places(height, offset), x: grid.x.places(width, offset) }
    }

    fn plane(&self) -> usize {
        self.height * self.width
    }
}

/// One example's channels, frequency by frequency: `step` elements between frequencies, `imaginary` between the real and the
/// imaginary parts of a channel.
#[derive(Clone, Copy)]
pub(super) struct Spectrum {
    pub(super) at: *mut f32,
    pub(super) step: usize,
    pub(super) imaginary: usize,
}

/// What both ways share.
pub(super) struct Planes<'a> {
    pub(super) grid: &'a Grid,
    pub(super) frame: &'a Frame,
    /// Channels, at most a register's elements.
    pub(super) channels: usize,
    pub(super) spectrum: Spectrum,
    /// [`Grid::memory`] elements, to be overwritten.
    pub(super) memory: &'a mut [f32],
}

/// Elements of the four scratch areas, for registers of `lanes`: pixels, half-way spectra, lines, residues.
fn areas(grid: &Grid, frame: &Frame, lanes: usize) -> [usize; 4] {
    let line = 2 * grid.x.size.max(grid.y.size) * lanes;
    [frame.plane().next_multiple_of(lanes) * lanes, grid.x.real_frequencies() * frame.height * 2 * lanes, line, line]
}

impl Grid {
    /// Elements of memory that [`Forward`] and [`Inverse`] need.
    pub(super) fn memory(&self, frame: &Frame, lanes: usize) -> usize {
        areas(self, frame, lanes).iter().sum()
    }
}

/// Images into spectra.
pub(super) struct Forward<'a> {
    pub(super) planes: Planes<'a>,
    /// The channels' planes.
    pub(super) image: &'a [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Planes { grid, frame, channels, spectrum, memory } = self.planes;
        assert!(channels <= L::COUNT && self.image.len() == channels * frame.plane());
        let areas = areas(grid, frame, L::COUNT);
        assert!(memory.len() >= areas.iter().sum());
        let (pixels, rest) = memory.split_at_mut(areas[0]);
        let (half_way, lines) = rest.split_at_mut(areas[1]);
        let (pixels, half_way, lines) = (pixels.as_mut_ptr(), half_way.as_mut_ptr(), lines.as_mut_ptr());
        let two = 2 * L::COUNT;
        // SAFETY: the areas hold what `areas` says: each plane's pixels rounded up to whole registers, two registers for
        // each frequency of each row, four for each folded term; the spectrum is the caller's
        unsafe {
            gather::<L>(self.image, channels, frame.plane(), pixels);
            for row in (0..frame.height).step_by(2) {
                let rows = [row, (row + 1).min(frame.height - 1)];
                let line = rows.map(|row| pixels.add(row * frame.width * L::COUNT).cast_const());
                let line = Lines { first: line[0], second: line[1], step: L::COUNT };
                for b in 0..grid.x.twos {
                    let zero = line.fold::<L>(&grid.x, &frame.x, b, lines);
                    let first = b * (grid.x.half + 1) * frame.height;
                    let to = rows.map(|row| half_way.add((first + row) * two));
                    let mut emit = Spectra { zero, to, step: frame.height * two };
                    fold::<L, _>(grid.x.half, &grid.x_table, stored_terms::<L>(lines), &mut emit);
                }
            }
            for column in 0..grid.x.real_frequencies() {
                let line = half_way.add(column * frame.height * two).cast_const();
                let line = Lines { first: line, second: line.add(L::COUNT), step: two };
                for b in 0..grid.y.twos {
                    let zero = line.fold::<L>(&grid.y, &frame.y, b, lines);
                    let Spectrum { at, step, imaginary } = spectrum;
                    let to = at.add((column * grid.y.size + b * grid.y.odd) * step);
                    let mut emit = Complex { zero, to, step, imaginary, odd: grid.y.odd };
                    fold::<L, _>(grid.y.half, &grid.y_table, stored_terms::<L>(lines), &mut emit);
                }
            }
        }
    }
}

/// Spectra into images, divided by N.
pub(super) struct Inverse<'a> {
    pub(super) planes: Planes<'a>,
    /// Added to each pixel of a channel.
    pub(super) bias: Option<&'a [f32]>,
    /// The channels' planes.
    pub(super) image: &'a mut [f32],
}

impl Kernel for Inverse<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Planes { grid, frame, channels, spectrum, memory } = self.planes;
        assert!(channels <= L::COUNT && self.image.len() == channels * frame.plane());
        assert!(self.bias.is_none_or(|bias| bias.len() == channels));
        let areas = areas(grid, frame, L::COUNT);
        assert!(memory.len() >= areas.iter().sum());
        let (pixels, rest) = memory.split_at_mut(areas[0]);
        let (half_way, rest) = rest.split_at_mut(areas[1]);
        let (lines, residues) = rest.split_at_mut(areas[2]);
        let (pixels, half_way) = (pixels.as_mut_ptr(), half_way.as_mut_ptr());
        let (lines, residues) = (lines.as_mut_ptr(), residues.as_mut_ptr());
        let two = 2 * L::COUNT;
        // SAFETY: as in `Forward`; two registers for each residue and b
        unsafe {
            for column in 0..grid.x.real_frequencies() {
                // its own conjugate: half of its rows are conjugates of the others, and were not made
                let real = grid.x.frequency(column).1 == 0;
                for b in 0..grid.y.twos {
                    let at = |g: usize| {
                        let at = spectrum.at.add((column * grid.y.size + b * grid.y.odd + g) * spectrum.step);
                        [L::load(at), L::load(at.add(spectrum.imaginary))]
                    };
                    for g in 1..=grid.y.half {
                        let plus = at(g);
                        let minus = if real { conjugate::<L>(plus) } else { at(grid.y.odd - g) };
                        store_terms::<L>(lines, g, add::<L>(plus, minus), subtract::<L>(plus, minus));
                    }
                    let to = residues.add(b * grid.y.odd * two);
                    let mut emit = Complex { zero: at(0), to, step: two, imaginary: L::COUNT, odd: grid.y.odd };
                    fold::<L, _>(grid.y.half, &grid.y_table, stored_terms::<L>(lines), &mut emit);
                }
                for (row, &target) in frame.y.targets.iter().enumerate() {
                    let [re, im] = unfold::<L>(&grid.y, residues, target);
                    let to = half_way.add((column * frame.height + row) * two);
                    L::store(to, re);
                    L::store(to.add(L::COUNT), im);
                }
            }
            let bias = self.bias.map_or(L::splat(0.0), |bias| L::load_first(bias.as_ptr(), channels));
            let one = L::splat((1.0 / (grid.y.size * grid.x.size) as f64) as f32);
            for row in (0..frame.height).step_by(2) {
                let rows = [row, (row + 1).min(frame.height - 1)];
                for b in 0..grid.x.twos {
                    let first = b * (grid.x.half + 1) * frame.height;
                    let at = rows.map(|row| half_way.add((first + row) * two).cast_const());
                    let zero = [
                        L::multiply_add(L::load(at[0]), one, L::splat(0.0)),
                        L::multiply_add(L::load(at[1]), one, L::splat(0.0)),
                    ];
                    let step = frame.height * two;
                    let even = at[0].wrapping_add(step);
                    let pair = (rows[1] - rows[0]) * two;
                    let terms = Terms { even, odd: even.wrapping_add(L::COUNT), step, pair };
                    let to = residues.add(b * grid.x.odd * two);
                    let mut emit = Reals { zero, to, odd: grid.x.odd };
                    fold::<L, _>(grid.x.half, &grid.x_inverse, terms, &mut emit);
                }
                for (column, &target) in frame.x.targets.iter().enumerate() {
                    let values = unfold::<L>(&grid.x, residues, target);
                    for i in 0..2 {
                        let to = pixels.add((rows[i] * frame.width + column) * L::COUNT);
                        L::store(to, L::add(values[i], bias));
                    }
                }
            }
            scatter::<L>(pixels, channels, frame.plane(), self.image);
        }
    }
}

/// The value at a place from those of its residue.
///
/// # Safety
/// Two registers for each residue and b.
#[inline(always)]
unsafe fn unfold<L: Lanes>(axis: &Axis, residues: *const f32, (residue, odd): (usize, bool)) -> [L::Vector; 2] {
    // SAFETY: the caller's
    unsafe {
        let at = residues.add(residue * 2 * L::COUNT);
        let sum = [L::load(at), L::load(at.add(L::COUNT))];
        if axis.twos == 1 {
            return sum;
        }
        let at = at.add(axis.odd * 2 * L::COUNT);
        let difference = [L::load(at), L::load(at.add(L::COUNT))];
        if odd { subtract::<L>(sum, difference) } else { add::<L>(sum, difference) }
    }
}

/// Channels side by side: pixel by pixel a register.
///
/// # Safety
/// `to` has room for the plane rounded up to a multiple of a register's elements, in registers.
#[inline(always)]
unsafe fn gather<L: Lanes>(image: &[f32], channels: usize, plane: usize, to: *mut f32) {
    for first in (0..plane).step_by(L::COUNT) {
        let count = L::COUNT.min(plane - first);
        // SAFETY: channel × plane + first + count ≤ channels × plane elements; `to` is the caller's
        unsafe {
            let mut block = [L::splat(0.0); 16];
            for (channel, row) in block.iter_mut().enumerate().take(channels) {
                let from = image.as_ptr().add(channel * plane + first);
                *row = if count == L::COUNT { L::load(from) } else { L::load_first(from, count) };
            }
            L::transpose(&mut block);
            for (i, &pixel) in block.iter().enumerate().take(L::COUNT) {
                L::store(to.add((first + i) * L::COUNT), pixel);
            }
        }
    }
}

/// The transpose of [`gather`].
///
/// # Safety
/// As [`gather`].
#[inline(always)]
unsafe fn scatter<L: Lanes>(from: *const f32, channels: usize, plane: usize, image: &mut [f32]) {
    for first in (0..plane).step_by(L::COUNT) {
        let count = L::COUNT.min(plane - first);
        // SAFETY: as in `gather`
        unsafe {
            let mut block = [L::splat(0.0); 16];
            for (i, pixel) in block.iter_mut().enumerate().take(L::COUNT) {
                *pixel = L::load(from.add((first + i) * L::COUNT));
            }
            L::transpose(&mut block);
            for (channel, &row) in block.iter().enumerate().take(channels) {
                let to = image.as_mut_ptr().add(channel * plane + first);
                if count == L::COUNT { L::store(to, row) } else { L::store_first(to, row, count) }
            }
        }
    }
}
