//! One step: which shards are free, held, done.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::tree::{self, Node};

use super::command::{Work, WorkerId};

/// Who gets what, and why.
pub(super) type Grant = (WorkerId, Work, Cow<'static, str>);

/// The shards of one step.
#[derive(Debug)]
pub(super) struct Training {
    step: u64,
    leaves: u32,
    free: BTreeSet<u32>,
    missing: u32,
    failures: BTreeMap<u32, u32>,
    reissued: bool,
}

impl Training {
    pub(super) fn new(step: u64, leaves: u32) -> Self {
        Self { step, leaves, free: (0..leaves).collect(), missing: leaves, failures: BTreeMap::new(), reissued: false }
    }

    /// Makes the shards of `node` free again; returns how many.
    pub(super) fn free(&mut self, node: Node) -> u32 {
        let cover = node.covers(self.leaves);
        self.reissued = true;
        self.free.extend(cover.clone());
        cover.len() as u32
    }

    /// Counts `node` as summed. True if it was the last.
    pub(super) fn done(&mut self, node: Node) -> bool {
        self.missing -= node.covers(self.leaves).len() as u32;
        self.missing == 0
    }

    /// Notes that `node` could not be computed. True if one of its shards failed before.
    pub(super) fn failed(&mut self, node: Node) -> bool {
        let mut repeated = false;
        for shard in node.covers(self.leaves) {
            let count = self.failures.entry(shard).or_insert(0);
            *count += 1;
            repeated |= *count > 1;
        }
        repeated
    }

    /// Cuts the free shards over the idle workers, evenly, in blocks of neighbours.
    pub(super) fn assign(&mut self, idle: &[WorkerId]) -> Vec<Grant> {
        if self.free.is_empty() || idle.is_empty() {
            return Vec::new();
        }
        let free: Vec<u32> = std::mem::take(&mut self.free).into_iter().collect();
        let reason = if self.reissued { "its holder is gone" } else { "the step opens" };
        tree::cut(&free, idle.len(), self.leaves)
            .into_iter()
            .zip(idle)
            .flat_map(|(nodes, worker)| {
                let step = self.step;
                nodes.into_iter().map(move |node| (*worker, Work::Shards { step, node }, Cow::Borrowed(reason)))
            })
            .collect()
    }
}
