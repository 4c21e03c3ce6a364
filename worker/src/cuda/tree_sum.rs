//! A ring's sum along the reduction tree: its bits are those of one worker that has all shards, however many ranks there are.
//!
//! Each rank adds up one slice of the vector, in the tree's order, of what all ranks sent it, and sends all of them what that came to. Every
//! rank sends and receives as much as in a ring's all-reduce (Patarasu and Yuan, 2009) where it gives one node: 2 (ranks − 1) / ranks of the
//! vector; and where the cut gives it several, the first half once for each.

#![allow(unsafe_code)] // a C library's communicator

use std::ops::Range;

use candle_core::cuda_backend::cudarc::nccl::sys;
use lockstep_proto::tree::{self, Node};

use super::kernels::Add;
use super::memory::Address;
use super::ring::{Ring, failed};
use crate::ring::{GoOn, RingError};

/// Slices begin where 256 bytes do, as all memory of the device.
const ALIGNMENT: usize = 64;

/// The part of `len` values that `rank` adds up. The last ranks may have less, or nothing.
fn slice(len: usize, rank: u32, ranks: u32) -> Range<usize> {
    let width = len.div_ceil(ranks.max(1) as usize).next_multiple_of(ALIGNMENT);
    let bound = |rank: u32| (rank as usize * width).min(len);
    bound(rank)..bound(rank + 1)
}

fn offset(at: Address, values: usize) -> Address {
    at + 4 * values as Address
}

impl Ring {
    /// As [`Ring::sum`]: `given` are the nodes of this rank's part, and the total lies in `at` once the GPU is done.
    pub(super) fn sum_along_tree(
        &mut self,
        leaves: u32,
        given: &[(Node, Address)],
        at: Address,
        len: usize,
        go_on: GoOn<'_>,
    ) -> Result<(), RingError> {
        let nodes_of = |part: Range<u32>| tree::nodes_of(&part.collect::<Vec<_>>(), leaves);
        let nodes: Vec<Vec<Node>> = tree::parts(leaves, self.size).into_iter().map(nodes_of).collect();
        let mine = &nodes[self.rank as usize];
        if !given.iter().map(|(node, _)| node).eq(mine) {
            let given: Vec<_> = given.iter().map(|(node, _)| node).collect();
            return Err(RingError::Failed(format!(
                "rank {} of {} gives the nodes {given:?} of a step with {leaves} shards, and has {mine:?}",
                self.rank, self.size
            )));
        }
        let own = slice(len, self.rank, self.size);
        let others = nodes.iter().map(Vec::len).sum::<usize>() - mine.len();
        let width = own.len().next_multiple_of(ALIGNMENT);
        let room = self.sent.of(&self.gpu, others * width)?;
        let mut rooms = (0..others).map(|number| offset(room, number * width));
        // this rank's slice of every node's sum, in the tree's order
        let operands: Vec<Vec<Address>> = (0..)
            .zip(&nodes)
            .map(|(rank, nodes)| {
                if rank == self.rank {
                    given.iter().map(|(_, node)| offset(*node, own.start)).collect()
                } else {
                    rooms.by_ref().take(nodes.len()).collect()
                }
            })
            .collect();
        self.scatter(given, len, &operands)?;
        // until then NCCL takes no more, and may not have asked the GPU for it
        self.wait(go_on, Ring::is_idle)?;
        let total = offset(at, own.start);
        self.add_up(&tree::additions(&nodes.concat(), leaves), &operands.concat(), total, own.len())?;
        self.gather(at, len)
    }

    /// Has every rank sent its slice of the nodes in `given`, and receives this rank's of all others'.
    fn scatter(&self, given: &[(Node, Address)], len: usize, operands: &[Vec<Address>]) -> Result<(), RingError> {
        let (kind, stream) = (sys::ncclDataType_t::ncclFloat32, self.gpu.stream.cu_stream());
        let own = slice(len, self.rank, self.size).len();
        self.group(|ring| {
            for (peer, theirs) in (0..).zip(operands).filter(|(peer, _)| *peer != ring.rank) {
                let (slice, peer) = (slice(len, peer, ring.size), peer as i32);
                for (_, node) in given.iter().filter(|_| !slice.is_empty()) {
                    let from = offset(*node, slice.start);
                    // SAFETY: the values are there, and kept until the communicator is gone; the stream is the GPU's
                    let status = unsafe {
                        sys::ncclSend(from as *const _, slice.len(), kind, peer, ring.communicator, stream.cast())
                    };
                    ring.expect("ncclSend", status)?;
                }
                for room in theirs.iter().filter(|_| own > 0) {
                    // SAFETY: room for as many values, the ring's own
                    let status =
                        unsafe { sys::ncclRecv(*room as *mut _, own, kind, peer, ring.communicator, stream.cast()) };
                    ring.expect("ncclRecv", status)?;
                }
            }
            Ok(())
        })
    }

    /// Adds `len` values at `operands` by `pairs`, into `total`.
    fn add_up(
        &self,
        pairs: &[(usize, usize)],
        operands: &[Address],
        total: Address,
        len: usize,
    ) -> Result<(), RingError> {
        let count = len as u32;
        let gpu = &self.gpu;
        if len == 0 {
            return Ok(());
        }
        for (number, &(to, from)) in pairs.iter().enumerate() {
            let y = if number + 1 == pairs.len() { total } else { operands[to] };
            gpu.launch(Add { a: operands[to], b: operands[from], y, count }, count).map_err(failed)?;
        }
        match operands.first() {
            // a node that is the root
            Some(only) if pairs.is_empty() && *only != total => gpu.copy(*only, total, len).map_err(failed),
            _ => Ok(()),
        }
    }

    /// Sends all ranks what this one's slice came to, and receives theirs.
    fn gather(&self, at: Address, len: usize) -> Result<(), RingError> {
        let (kind, stream) = (sys::ncclDataType_t::ncclFloat32, self.gpu.stream.cu_stream());
        self.group(|ring| {
            for root in 0..ring.size {
                let slice = slice(len, root, ring.size);
                if slice.is_empty() {
                    continue;
                }
                let (at, root) = (offset(at, slice.start), root as i32);
                // SAFETY: as many values are there, kept until the communicator is gone; the stream is the GPU's
                let status = unsafe {
                    let (from, to) = (at as *const _, at as *mut _);
                    sys::ncclBroadcast(from, to, slice.len(), kind, root, ring.communicator, stream.cast())
                };
                ring.expect("ncclBroadcast", status)?;
            }
            Ok(())
        })
    }

    /// Asks for several things that NCCL does at once. A lone rank has nobody to ask for anything.
    fn group(&self, ask: impl FnOnce(&Self) -> Result<(), RingError>) -> Result<(), RingError> {
        if self.size == 1 {
            return Ok(());
        }
        // SAFETY: ended below, whatever was asked for
        self.expect("ncclGroupStart", unsafe { sys::ncclGroupStart() })?;
        let asked = ask(self);
        // SAFETY: begun above, by this thread
        let ended = self.expect("ncclGroupEnd", unsafe { sys::ncclGroupEnd() });
        asked.and(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slices_of_all_ranks_are_the_vector() {
        for (len, ranks) in [(62_006, 4), (1, 3), (64, 2), (65, 2), (5_851_338, 7), (0, 2)] {
            let slices: Vec<_> = (0..ranks).map(|rank| slice(len, rank, ranks)).collect();
            assert_eq!((slices[0].start, slices[slices.len() - 1].end), (0, len));
            assert!(slices.windows(2).all(|pair| pair[0].end == pair[1].start), "{slices:?}");
            assert!(slices.iter().all(|slice| slice.is_empty() || slice.start % ALIGNMENT == 0), "{slices:?}");
        }
    }
}
