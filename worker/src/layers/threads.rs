//! The threads that ops compute on. Work is cut by the problem's shape and results are taken in order, so their number
//! changes the time and not one bit.

use rayon::prelude::*;
use std::cell::Cell;
use std::sync::{Arc, PoisonError, RwLock};

/// The compute threads could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ThreadsError {
    /// Zero threads compute nothing.
    #[error("threads is 0: give at least 1 (a good number is cores / workers on this machine)")]
    Zero,
    /// The system refused.
    #[error("cannot start {wanted} compute threads: {cause}: give a smaller number of threads")]
    Spawn {
        /// How many were asked for.
        wanted: usize,
        /// What the system said.
        cause: rayon::ThreadPoolBuildError,
    },
}

/// None is one thread: the caller's. A pool of our own, because rayon's global one belongs to candle and the binary. Behind
/// a lock because it may be changed between steps; an op reads it for as long as it takes to clone an `Arc`.
static POOL: RwLock<Option<Arc<rayon::ThreadPool>>> = RwLock::new(None);

/// Makes ops compute on `threads` threads. Until it is called they use one, the caller's: several workers on one machine
/// must share its cores, and only who starts them knows how (cores / workers each).
///
/// # Errors
/// Zero threads, or more than the system gives.
pub fn set_threads(threads: usize) -> Result<(), ThreadsError> {
    let pool = match threads {
        0 => return Err(ThreadsError::Zero),
        1 => None,
        wanted => {
            let builder = rayon::ThreadPoolBuilder::new().num_threads(wanted);
            let pool = builder.thread_name(|i| format!("compute-{i}")).build();
            Some(Arc::new(pool.map_err(|cause| ThreadsError::Spawn { wanted, cause })?))
        }
    };
    *POOL.write().unwrap_or_else(PoisonError::into_inner) = pool;
    Ok(())
}

/// How many threads ops compute on.
#[must_use]
pub fn threads() -> usize {
    pool().map_or(1, |pool| pool.current_num_threads())
}

thread_local! {
    /// Set while this thread has a whole shard to itself: what it computes then stays on it.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

fn pool() -> Option<Arc<rayon::ThreadPool>> {
    if ALONE.get() {
        return None;
    }
    POOL.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Calls `work(i, part)` for each `part` of `chunk` elements of `out` (the last may be shorter).
pub(super) fn for_each_chunk<T: Send>(out: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    if chunk == 0 || out.is_empty() {
        return;
    }
    match pool().filter(|_| out.len() > chunk) {
        None => out.chunks_mut(chunk).enumerate().for_each(|(i, part)| work(i, part)),
        Some(pool) => pool.install(|| out.par_chunks_mut(chunk).enumerate().for_each(|(i, part)| work(i, part))),
    }
}

/// [`for_each_chunk`] over two outputs that are cut alike.
pub(super) fn for_each_chunk_pair<T: Send, U: Send>(
    first: (&mut [T], usize),
    second: (&mut [U], usize),
    work: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let ((a, chunk_a), (b, chunk_b)) = (first, second);
    if chunk_a == 0 || chunk_b == 0 || a.is_empty() {
        return;
    }
    match pool().filter(|_| a.len() > chunk_a) {
        None => {
            let pairs = a.chunks_mut(chunk_a).zip(b.chunks_mut(chunk_b)).enumerate();
            pairs.for_each(|(i, (a, b))| work(i, a, b));
        }
        Some(pool) => pool.install(|| {
            let pairs = a.par_chunks_mut(chunk_a).zip(b.par_chunks_mut(chunk_b)).enumerate();
            pairs.for_each(|(i, (a, b))| work(i, a, b));
        }),
    }
}

/// `work(0), …, work(count − 1)`, in that order.
pub(super) fn map<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    match pool().filter(|_| count > 1) {
        None => (0..count).map(work).collect(),
        Some(pool) => pool.install(|| (0..count).into_par_iter().map(work).collect()),
    }
}

/// `work(0), …, work(count − 1)`, in that order: each on one thread where there are enough of them for all threads, for two
/// shards side by side take less time than each op of both on two threads; else one after the other on all threads. Either
/// way with the same bits.
pub fn each_alone<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    let Some(pool) = pool().filter(|pool| count >= pool.current_num_threads()) else {
        return (0..count).map(work).collect();
    };
    let alone = |i| {
        ALONE.set(true);
        let _back = Together;
        work(i)
    };
    pool.install(|| (0..count).into_par_iter().with_max_len(1).map(alone).collect())
}

/// Ends [`ALONE`] even where `work` panics: the pool's threads go on living.
struct Together;

impl Drop for Together {
    fn drop(&mut self) {
        ALONE.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_threads_are_refused_and_results_keep_their_order() {
        let _turn = super::super::testing::turn();
        assert!(matches!(set_threads(0), Err(ThreadsError::Zero)));
        for count in [3, 1] {
            set_threads(count).expect("a few threads");
            let squares = (0..100).map(|i| i * i).collect::<Vec<_>>();
            assert_eq!(map(100, |i| i * i), squares);
            assert_eq!(each_alone(100, |i| map(i + 1, |j| j * j)[i]), squares);
            assert_eq!(threads(), count, "nobody is left alone");
            let mut out = vec![0; 103];
            for_each_chunk(&mut out, 10, |i, part| part.fill(i));
            assert!(out.iter().enumerate().all(|(at, &i)| at / 10 == i));
        }
    }
}
