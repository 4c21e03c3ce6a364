//! The sums of a Fourier transform of odd length, folded: a place and its mirror image share a cosine and a sine.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::super::simd::Lanes;
use super::axis::{Axis, NONE, Places};

/// Two lines that are transformed together: two rows of reals, or the real and imaginary parts of one complex line.
pub(super) type Pair<V> = [V; 2];

/// Where the folded terms lie, in elements: term j of line i at `even + j × step + i × pair`.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) even: *const f32,
    pub(super) odd: *const f32,
    pub(super) step: usize,
    pub(super) pair: usize,
}

/// Takes the sums of an output and of its mirror image.
pub(super) trait Emit<L: Lanes> {
    /// # Safety
    /// As the implementor's pointers.
    unsafe fn emit(&mut self, at: usize, even: Pair<L::Vector>, odd: Pair<L::Vector>);
}

/// For each t in 0..=half: even\[t\] = Σⱼ cos(j t) × terms.even\[j\], odd\[t\] = Σⱼ sin(j t) × terms.odd\[j\], in order of j.
///
/// # Safety
/// The terms are there for j in 0..half; `table` is [`Axis::table`]'s; `emit` may be called for each t.
#[inline(always)]
pub(super) unsafe fn fold<L: Lanes, E: Emit<L>>(half: usize, table: &[f32], terms: Terms, emit: &mut E) {
    debug_assert_eq!(table.len(), half * (half + 1) * 2);
    let outputs = half + 1;
    // sums, terms and factors must all find registers; tiles of like size
    let most = if L::VECTORS >= 4 { 6 } else { 2 };
    let tiles = outputs.div_ceil(most);
    let mut at = 0;
    for tile in 0..tiles {
        let end = (tile + 1) * outputs / tiles;
        // SAFETY: the caller's; at + T ≤ outputs
        unsafe {
            match end - at {
                1 => sums::<L, E, 1>(half, table, at, terms, emit),
                2 => sums::<L, E, 2>(half, table, at, terms, emit),
                3 if L::VECTORS >= 4 => sums::<L, E, 3>(half, table, at, terms, emit),
                4 if L::VECTORS >= 4 => sums::<L, E, 4>(half, table, at, terms, emit),
                5 if L::VECTORS >= 4 => sums::<L, E, 5>(half, table, at, terms, emit),
                6 if L::VECTORS >= 4 => sums::<L, E, 6>(half, table, at, terms, emit),
                _ => {}
            }
        }
        at = end;
    }
}

/// # Safety
/// As [`fold`], for outputs `at` to `at + T`.
#[inline(always)]
unsafe fn sums<L: Lanes, E: Emit<L>, const T: usize>(
    half: usize,
    table: &[f32],
    at: usize,
    terms: Terms,
    emit: &mut E,
) {
    // SAFETY: the caller's
    unsafe {
        let (mut even, mut odd) = ([[L::splat(0.0); 2]; T], [[L::splat(0.0); 2]; T]);
        let mut factors = table.as_ptr().add(at * 2);
        let (mut evens, mut odds) = (terms.even, terms.odd);
        for _ in 0..half {
            let (e, o) =
                ([L::load(evens), L::load(evens.add(terms.pair))], [L::load(odds), L::load(odds.add(terms.pair))]);
            for t in 0..T {
                let (cosine, sine) = (L::splat(*factors.add(2 * t)), L::splat(*factors.add(2 * t + 1)));
                even[t][0] = L::multiply_add(e[0], cosine, even[t][0]);
                even[t][1] = L::multiply_add(e[1], cosine, even[t][1]);
                odd[t][0] = L::multiply_add(o[0], sine, odd[t][0]);
                odd[t][1] = L::multiply_add(o[1], sine, odd[t][1]);
            }
            (evens, odds) = (evens.wrapping_add(terms.step), odds.wrapping_add(terms.step));
            factors = factors.wrapping_add((half + 1) * 2);
        }
        for t in 0..T {
            emit.emit(at + t, even[t], odd[t]);
        }
    }
}

/// Two lines of pixels, in elements: pixel i of the first at `first + i × step`.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub(super) first: *const f32,
    pub(super) second: *const f32,
    pub(super) step: usize,
}

impl Lines {
    /// # Safety
    /// Pixel `at` is there, if it is not [`NONE`].
    #[inline(always)]
    unsafe fn pixel<L: Lanes>(self, at: usize) -> Pair<L::Vector> {
        // SAFETY: the caller's
        unsafe {
            if at == NONE {
                [L::splat(0.0); 2]
            } else {
                [L::load(self.first.add(at * self.step)), L::load(self.second.add(at * self.step))]
            }
        }
    }

    /// The two places of a residue, added (`b` 0) or subtracted.
    ///
    /// # Safety
    /// All pixels of `places` are there.
    #[inline(always)]
    unsafe fn value<L: Lanes>(self, axis: &Axis, b: usize, sources: [usize; 2]) -> Pair<L::Vector> {
        // SAFETY: the caller's
        unsafe {
            let even = self.pixel::<L>(sources[0]);
            if axis.twos == 1 {
                return even;
            }
            let odd = self.pixel::<L>(sources[1]);
            if b == 0 { add::<L>(even, odd) } else { subtract::<L>(even, odd) }
        }
    }

    /// Writes the folded terms (even: the sum of mirror images, odd: mirror less pixel) and gives residue 0's value.
    ///
    /// # Safety
    /// All pixels of `places` are there, and half × 4 registers at `to`.
    #[inline(always)]
    pub(super) unsafe fn fold<L: Lanes>(self, axis: &Axis, places: &Places, b: usize, to: *mut f32) -> Pair<L::Vector> {
        // SAFETY: the caller's
        unsafe {
            for r in 1..=axis.half {
                let value = self.value::<L>(axis, b, *places.sources.get_unchecked(r));
                let mirror = self.value::<L>(axis, b, *places.sources.get_unchecked(axis.odd - r));
                store_terms::<L>(to, r, add::<L>(value, mirror), subtract::<L>(mirror, value));
            }
            self.value::<L>(axis, b, places.sources[0])
        }
    }
}

/// # Safety
/// Four registers at `to`, for each `r` from 1.
#[inline(always)]
pub(super) unsafe fn store_terms<L: Lanes>(to: *mut f32, r: usize, even: Pair<L::Vector>, odd: Pair<L::Vector>) {
    // SAFETY: the caller's
    unsafe {
        let to = to.add((r - 1) * 4 * L::COUNT);
        L::store(to, even[0]);
        L::store(to.add(L::COUNT), even[1]);
        L::store(to.add(2 * L::COUNT), odd[0]);
        L::store(to.add(3 * L::COUNT), odd[1]);
    }
}

/// The terms that [`store_terms`] wrote.
#[inline(always)]
pub(super) fn stored_terms<L: Lanes>(at: *const f32) -> Terms {
    Terms { even: at, odd: at.wrapping_add(2 * L::COUNT), step: 4 * L::COUNT, pair: L::COUNT }
}

/// # Safety
/// Called where the set's instructions are there.
#[inline(always)]
pub(super) unsafe fn add<L: Lanes>(a: Pair<L::Vector>, b: Pair<L::Vector>) -> Pair<L::Vector> {
    // SAFETY: the caller's
    unsafe { [L::add(a[0], b[0]), L::add(a[1], b[1])] }
}

/// # Safety
/// Called where the set's instructions are there.
#[inline(always)]
pub(super) unsafe fn subtract<L: Lanes>(a: Pair<L::Vector>, b: Pair<L::Vector>) -> Pair<L::Vector> {
    // SAFETY: the caller's
    unsafe { [L::subtract(a[0], b[0]), L::subtract(a[1], b[1])] }
}

/// Of a real and an imaginary part.
///
/// # Safety
/// Called where the set's instructions are there.
#[inline(always)]
pub(super) unsafe fn conjugate<L: Lanes>(a: Pair<L::Vector>) -> Pair<L::Vector> {
    // SAFETY: the caller's
    unsafe { [a[0], L::subtract(L::splat(0.0), a[1])] }
}

/// Complex lines: output t is zero + even + i × odd, its mirror image zero + even − i × odd.
pub(super) struct Complex<V> {
    pub(super) zero: Pair<V>,
    /// Output 0; outputs are `step` apart, imaginary parts `imaginary` behind real ones.
    pub(super) to: *mut f32,
    pub(super) step: usize,
    pub(super) imaginary: usize,
    pub(super) odd: usize,
}

impl<L: Lanes> Emit<L> for Complex<L::Vector> {
    #[inline(always)]
    unsafe fn emit(&mut self, at: usize, even: Pair<L::Vector>, odd: Pair<L::Vector>) {
        // SAFETY: the caller's
        unsafe {
            let [re, im] = add::<L>(self.zero, even);
            let to = self.to.add(at * self.step);
            L::store(to, L::subtract(re, odd[1]));
            L::store(to.add(self.imaginary), L::add(im, odd[0]));
            if at > 0 {
                let to = self.to.add((self.odd - at) * self.step);
                L::store(to, L::add(re, odd[1]));
                L::store(to.add(self.imaginary), L::subtract(im, odd[0]));
            }
        }
    }
}

/// Two real lines into the spectrum: the real part is zero + even, the imaginary part is odd.
pub(super) struct Spectra<V> {
    pub(super) zero: Pair<V>,
    /// Frequency 0 of each line; frequencies are `step` apart, imaginary parts a register behind real ones.
    pub(super) to: Pair<*mut f32>,
    pub(super) step: usize,
}

impl<L: Lanes> Emit<L> for Spectra<L::Vector> {
    #[inline(always)]
    unsafe fn emit(&mut self, at: usize, even: Pair<L::Vector>, odd: Pair<L::Vector>) {
        // SAFETY: the caller's
        unsafe {
            for i in 0..2 {
                let to = self.to[i].add(at * self.step);
                L::store(to, L::add(self.zero[i], even[i]));
                L::store(to.add(L::COUNT), odd[i]);
            }
        }
    }
}

/// Two real lines out of the spectrum: output t is zero + even − odd, its mirror image zero + even + odd.
pub(super) struct Reals<V> {
    pub(super) zero: Pair<V>,
    /// Output 0 of the first line, the second's a register behind; outputs are two registers apart.
    pub(super) to: *mut f32,
    pub(super) odd: usize,
}

impl<L: Lanes> Emit<L> for Reals<L::Vector> {
    #[inline(always)]
    unsafe fn emit(&mut self, at: usize, even: Pair<L::Vector>, odd: Pair<L::Vector>) {
        // SAFETY: the caller's
        unsafe {
            let even = add::<L>(self.zero, even);
            for i in 0..2 {
                L::store(self.to.add((2 * at + i) * L::COUNT), L::subtract(even[i], odd[i]));
                if at > 0 {
                    L::store(self.to.add((2 * (self.odd - at) + i) * L::COUNT), L::add(even[i], odd[i]));
                }
            }
        }
    }
}
