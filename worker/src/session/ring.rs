//! This worker's place in a ring: formed and left as the coordinator says, and the sums that it takes part in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(any(feature = "nccl", test))]
use lockstep_proto::wire::{self, ShardsWork};
use lockstep_proto::wire::{FormRing, RING_ID_BYTES, RingNews, from_worker, ring_news::News};

use super::compute::Computer;
use crate::device::Processor;
use crate::error::WorkerError;
#[cfg(feature = "nccl")]
use crate::ring::GoOn;
use crate::ring::{self, Ring, RingError};

/// How long this worker waits for others before it says so. A step in which all are well is through before.
const PATIENT: Duration = Duration::from_millis(100);

/// Ranks in a ring at most: a step has no more shards (a rule of the recipe).
const MOST_RANKS: u32 = 4096;

/// Rings up to this number are over. An atomic, because the network's thread must reach a computing thread that waits in NCCL.
#[derive(Clone, Debug, Default)]
pub(super) struct Dissolved(Arc<AtomicU64>);

impl Dissolved {
    /// The ring `generation` is over, and all before it.
    pub(super) fn up_to(&self, generation: u64) {
        self.0.fetch_max(generation, Ordering::Release);
    }

    fn has(&self, generation: u64) -> bool {
        self.0.load(Ordering::Acquire) >= generation
    }
}

/// Ends all rings of a session with it, so that its computing thread waits for nobody.
pub(super) struct EndOfRings(pub(super) Dissolved);

impl Drop for EndOfRings {
    fn drop(&mut self) {
        self.0.up_to(u64::MAX);
    }
}

/// Whether a ring can be as the coordinator says.
pub(super) fn check(form: &FormRing) -> Result<(), WorkerError> {
    let FormRing { rank, size, id, .. } = form;
    let named = if *rank == 0 { id.is_empty() } else { id.len() == RING_ID_BYTES };
    if named && rank < size && *size <= MOST_RANKS {
        return Ok(());
    }
    let text = format!("it wants rank {rank} of {size} in a ring whose name has {} bytes", id.len());
    Err(WorkerError::Protocol(text))
}

/// The ring that this worker is in, if any.
pub(super) struct Seat {
    ring: Option<(u64, u32, Ring)>,
    dissolved: Dissolved,
}

impl Seat {
    pub(super) fn new(dissolved: Dissolved) -> Self {
        Self { ring: None, dissolved }
    }

    /// Leaves a ring that is over.
    pub(super) fn leave(&mut self, generation: u64) {
        self.ring.take_if(|(mine, ..)| *mine <= generation);
    }

    /// Whether to go on waiting; says once that it waits.
    fn patience<'a>(&self, generation: u64, say: &'a dyn Fn(u64, News)) -> impl FnMut(Duration) -> bool + use<'a> {
        let (dissolved, mut told) = (self.dissolved.clone(), false);
        move |waited| {
            if waited > PATIENT && !std::mem::replace(&mut told, true) {
                say(generation, News::Waits(true));
            }
            !dissolved.has(generation)
        }
    }

    /// Takes its place; rank 0 says first where the others find it.
    fn form(&mut self, processor: &Processor, form: &FormRing, say: &dyn Fn(u64, News)) -> Result<(), RingError> {
        let FormRing { generation, rank, size, ref id } = *form;
        self.ring = None;
        if self.dissolved.has(generation) {
            return Err(RingError::Dissolved);
        }
        let id = match rank {
            0 => {
                let name = ring::name()?;
                say(generation, News::Named(name.clone()));
                name
            }
            _ => id.to_vec(),
        };
        let ring = Ring::form(processor, &id, rank, size, &mut self.patience(generation, say))?;
        self.ring = Some((generation, rank, ring));
        Ok(())
    }

    /// Takes part in a `sum` over the ring; whether this is rank 0, and what it comes to. After an error there is no ring.
    #[cfg(feature = "nccl")]
    pub(super) fn sum<T>(
        &mut self,
        generation: u64,
        say: &dyn Fn(u64, News),
        sum: impl FnOnce(&mut Ring, GoOn<'_>) -> Result<T, RingError>,
    ) -> Result<(bool, T), RingError> {
        let mut patience = self.patience(generation, say);
        let found = self.ring.take().filter(|(mine, ..)| *mine == generation && !self.dissolved.has(generation));
        let (_, rank, mut ring) = found.ok_or(RingError::Dissolved)?;
        let sum = sum(&mut ring, &mut patience)?;
        self.ring = Some((generation, rank, ring));
        Ok((rank == 0, sum))
    }
}

/// The shards of `work` as the largest nodes that make them up, each a piece of work of its own. They must be neighbours, in order.
#[cfg(any(feature = "nccl", test))]
pub(super) fn nodes(work: &mut ShardsWork) -> Result<Vec<ShardsWork>, String> {
    let shards: Vec<u32> = work.shards.iter().map(|shard| shard.shard).collect();
    let neighbours = shards.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]));
    let Some(last) = shards.last().filter(|last| neighbours && **last < MOST_RANKS) else {
        return if shards.is_empty() {
            Ok(Vec::new())
        } else {
            Err(format!("a ring's lease has the shards {:?}: not neighbours", &shards[..shards.len().min(8)]))
        };
    };
    // where nothing depends on what the step has beyond them, they may be its last ones
    let leaves = if work.leaves == 0 { last + 1 } else { work.leaves };
    if !(last + 1..=MOST_RANKS).contains(&leaves) {
        return Err(format!("a ring's lease has shard {last} of a step with {leaves}"));
    }
    let mut rest = std::mem::take(&mut work.shards).into_iter();
    let node_of = |node: lockstep_proto::tree::Node| ShardsWork {
        step: work.step,
        epoch: work.epoch,
        batch_size: work.batch_size,
        node: Some(wire::Node { level: node.level, index: node.index }),
        shards: rest.by_ref().take(node.covers(leaves).len()).collect(),
        ..ShardsWork::default()
    };
    Ok(lockstep_proto::tree::nodes_of(&shards, leaves).into_iter().map(node_of).collect())
}

impl Computer {
    pub(super) fn form(&mut self, form: &FormRing) {
        let generation = form.generation;
        let outbound = self.outbound.clone();
        let say = |generation, news| super::compute::say(&outbound, of_ring(generation, news));
        match self.seat.form(&self.processor, form, &say) {
            Ok(()) => say(generation, News::Formed(true)),
            Err(RingError::Dissolved) => {}
            Err(RingError::Failed(reason)) => say(generation, News::Broken(reason)),
        }
    }
}

pub(super) fn of_ring(generation: u64, news: News) -> from_worker::Message {
    from_worker::Message::Ring(RingNews { generation, news: Some(news) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::compute::check_shards;

    fn part(shards: &[u32]) -> ShardsWork {
        let shards = shards.iter().map(|shard| wire::Shard { shard: *shard, examples: vec![7] }).collect();
        ShardsWork { step: 3, epoch: 1, batch_size: 12, shards, ring: 5, ..ShardsWork::default() }
    }

    #[test]
    fn a_part_is_cut_into_nodes_that_are_leases_of_their_own() {
        let of = |shards: &[u32]| {
            let found = nodes(&mut part(shards)).expect("neighbours");
            assert!(found.iter().all(|node| check_shards(node).is_ok()));
            found.iter().map(|node| node.shards.len()).collect::<Vec<_>>()
        };
        assert_eq!((of(&[0, 1]), of(&[2, 3]), of(&[0, 1, 2])), (vec![2], vec![2], vec![3]));
        assert_eq!((of(&[1, 2, 3]), of(&[5]), of(&[])), (vec![1, 2], vec![1], vec![]));
        // 3 + 2 of a step with five: what is one node of the first three is two of all
        let of = |shards: &[u32], leaves| {
            let found = nodes(&mut ShardsWork { leaves, ..part(shards) }).expect("neighbours");
            assert!(found.iter().all(|node| check_shards(node).is_ok()));
            found.iter().map(|node| node.shards.len()).collect::<Vec<_>>()
        };
        assert_eq!((of(&[0, 1, 2], 5), of(&[3, 4], 5)), (vec![2, 1], vec![1, 1]));
        for leaves in [2, 4097] {
            assert!(nodes(&mut ShardsWork { leaves, ..part(&[1, 2]) }).is_err(), "{leaves}");
        }
        for bad in [&[1, 3][..], &[2, 1], &[1, 1], &[u32::MAX], &[u32::MAX, 0]] {
            assert!(nodes(&mut part(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_place_that_can_not_be_is_refused() {
        let form = |rank, size, bytes: usize| FormRing { generation: 1, rank, size, id: vec![1; bytes] };
        assert!(check(&form(0, 1, 0)).is_ok() && check(&form(1, 2, 128)).is_ok());
        for bad in [form(0, 0, 0), form(2, 2, 128), form(1, 2, 127), form(0, 2, 128), form(1, 5000, 128)] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_session_that_ends_ends_its_rings() {
        let dissolved = Dissolved::default();
        dissolved.up_to(3);
        dissolved.up_to(2);
        assert!(dissolved.has(3) && !dissolved.has(4));
        drop(EndOfRings(dissolved.clone()));
        assert!(dissolved.has(u64::MAX));
    }
}
