//! What the ops' tests share.

use super::kernels;
use super::threads::set_threads;
use candle_core::{Device, Result, Tensor, Var};
use lockstep_proto::keys::Key;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of threads is the process's: tests that change it take turns.
static THREADS: Mutex<()> = Mutex::new(());

/// `count` numbers in [−1, 1), the same for the same `seed`.
pub(super) fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut stream = Key::new(seed, "test", "").stream(0, 0, 0);
    (0..count).map(|_| stream.range(-1.0, 1.0)).collect()
}

pub(super) fn var(seed: u64, shape: &[usize]) -> Var {
    let values = random(seed, shape.iter().product());
    Var::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape says")
}

pub(super) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("an f32 tensor")
}

pub(super) fn wide(tensor: &Tensor) -> Vec<f64> {
    values(tensor).into_iter().map(f64::from).collect()
}

/// ‖a − b‖ / ‖b‖
pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied()).max(1e-30)
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// y and the gradients of Σ cotangent × y. The cotangent is a transposed tensor, as gradients may be.
pub(super) fn forward_backward(
    inputs: &[Var],
    op: impl Fn(&[Var]) -> Result<Tensor>,
    cotangent: u64,
) -> (Tensor, Vec<Option<Tensor>>, Vec<f64>) {
    let y = op(inputs).expect("shapes that fit");
    let reversed: Vec<usize> = y.dims().iter().rev().copied().collect();
    let axes: Vec<usize> = (0..y.rank()).rev().collect();
    let cotangent = var(cotangent, &reversed).permute(axes).expect("all axes").detach();
    let loss = (&y * &cotangent).and_then(|product| product.sum_all()).expect("same shapes");
    let mut gradients = loss.backward().expect("every op has a gradient");
    (y, inputs.iter().map(|input| gradients.remove(input)).collect(), wide(&cotangent))
}

/// Nobody else changes the number of threads while this is held.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds `op` against `reference`, which gives y and the gradients for (inputs, cotangent), under every kernel set: norm-wise
/// within `tolerance`, and the same bits on 1, 2, 3 and 8 threads.
pub(super) fn check(
    inputs: &[Var],
    op: impl Fn(&[Var]) -> Result<Tensor>,
    reference: impl Fn(&[Vec<f64>], &[f64]) -> (Vec<f64>, Vec<Vec<f64>>),
    tolerance: f64,
) {
    let _turn = turn();
    let exact: Vec<_> = inputs.iter().map(|input| wide(input)).collect();
    kernels::tests::with_each(|set| {
        let mut first = None;
        for count in [1, 2, 3, 8] {
            set_threads(count).expect("a few threads");
            let (y, gradients, cotangent) = forward_backward(inputs, &op, 99);
            let gradients: Vec<_> = gradients.into_iter().map(|g| g.expect("a gradient for each variable")).collect();
            let all: Vec<u32> =
                std::iter::once(&y).chain(&gradients).flat_map(|tensor| bits(&values(tensor))).collect();
            match &first {
                Some(first) => assert!(*first == all, "{set}: other bits on {count} threads"),
                None => {
                    let (y_exact, gradients_exact) = reference(&exact, &cotangent);
                    let error = distance(&wide(&y), &y_exact);
                    assert!(error < tolerance, "{set}: y is off by {error:e}");
                    assert_eq!(gradients.len(), gradients_exact.len());
                    for (i, (ours, theirs)) in gradients.iter().zip(&gradients_exact).enumerate() {
                        let error = distance(&wide(ours), theirs);
                        assert!(error < tolerance, "{set}: gradient {i} is off by {error:e}");
                    }
                    first = Some(all);
                }
            }
        }
        set_threads(1).expect("one thread");
    });
}
