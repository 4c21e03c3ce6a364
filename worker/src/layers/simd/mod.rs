//! One source for all kernel sets: kernels are written once over [`Lanes`], and [`run`] compiles them for each set.

#[cfg(target_arch = "x86_64")]
mod v3;
#[cfg(target_arch = "x86_64")]
mod v4;

mod portable;

use super::kernels::KernelSet;

/// A vector register of f32 and what kernels do with it.
///
/// # Safety
/// Methods may be called only where the set's instructions are there (inside [`run`]); pointers must be good for as many
/// elements as the method touches. They need no alignment.
#[expect(unsafe_code, reason = "vector instructions and pointers, for speed")]
pub(crate) trait Lanes {
    /// The register.
    type Vector: Copy;
    /// Elements of a register.
    const COUNT: usize;
    /// Registers a row in the widest tile: as many as leave room for the operands.
    const VECTORS: usize;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    /// The first `count` elements, zeros behind them, which are not read.
    unsafe fn load_first(from: *const f32, count: usize) -> Self::Vector;
    unsafe fn store(to: *mut f32, value: Self::Vector);
    /// Only the first `count` elements.
    unsafe fn store_first(to: *mut f32, value: Self::Vector, count: usize);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn subtract(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a × b + c: rounded once in the x86 sets, twice in the portable one.
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// c − a × b: rounded as [`Self::multiply_add`].
    unsafe fn multiply_subtract(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Rows for columns, of the first [`Self::COUNT`] vectors; the others are left alone.
    unsafe fn transpose(block: &mut [Self::Vector; 16]);
    /// 0 where the element is at most 0: NaN stays.
    unsafe fn relu(value: Self::Vector) -> Self::Vector;
    /// Of the elements of `a`, then `b`: those at even places, and those at odd ones.
    unsafe fn even_odd(a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector);
    /// Both of `other` where its first is greater than that of `best`, or NaN; else both of `best`. The second may be any bits.
    unsafe fn greater(best: [Self::Vector; 2], other: [Self::Vector; 2]) -> [Self::Vector; 2];
    /// The sum of the elements: halves are added until one is left.
    unsafe fn sum(value: Self::Vector) -> f32;
}

/// Work that is compiled once for each kernel set.
pub(crate) trait Kernel {
    type Output;

    /// Must be `#[inline(always)]`: the set's instructions are enabled in the caller, not here.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Runs `kernel` with the instructions of `set`, which must come from [`super::kernels::of_op`].
#[expect(unsafe_code, reason = "calls functions that need the instructions of the set")]
pub(crate) fn run<K: Kernel>(set: KernelSet, kernel: K) -> K::Output {
    debug_assert!(set.runs_here());
    match set {
        // SAFETY: sets are checked against this processor before an op is given one
        #[cfg(target_arch = "x86_64")]
        KernelSet::V4 => unsafe { v4::run(kernel) },
        // SAFETY: as above
        #[cfg(target_arch = "x86_64")]
        KernelSet::V3 => unsafe { v3::run(kernel) },
        _ => kernel.run::<portable::Portable>(),
    }
}

/// Elements of a register of `set`.
pub(super) fn lanes(set: KernelSet) -> usize {
    struct Count;
    impl Kernel for Count {
        type Output = usize;
        #[inline(always)]
        fn run<L: Lanes>(self) -> usize {
            L::COUNT
        }
    }
    run(set, Count)
}
