//! The groups of one model's shards, and their workspaces: made once for each size.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Result, bail};

use super::format::Format;
use super::gpu::{Gpu, LANES};
use super::group::Group;
use super::workspace::Workspace;
use crate::model::Model;

/// What a workspace is made of.
#[derive(Clone, Copy)]
pub(super) struct Maker<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) model: &'a Model,
    /// Values of the weights' layout.
    pub(super) weights: usize,
    pub(super) format: Format,
    /// Convolutions with whatever algorithms are fastest here.
    pub(super) trial: bool,
    /// A backward pass follows.
    pub(super) training: bool,
}

pub(super) struct Groups {
    /// By how many examples each shard has, and whether a backward pass follows.
    groups: HashMap<(Vec<usize>, bool), Arc<Group>>,
    /// By the shard's examples, likewise, and its lane: groups take turns.
    workspaces: HashMap<(usize, bool, usize), Arc<Workspace>>,
    /// Shards of a group, at most: so many have had room so far.
    lanes: usize,
}

impl Default for Groups {
    fn default() -> Self {
        Self { groups: HashMap::new(), workspaces: HashMap::new(), lanes: LANES }
    }
}

impl Groups {
    /// For shards of so many examples each, in their order.
    pub(super) fn of(&mut self, maker: Maker, sizes: &[usize]) -> Result<Vec<Arc<Group>>> {
        let (mut found, mut rest) = (Vec::new(), sizes);
        while !rest.is_empty() {
            let group = self.next(maker, rest)?;
            rest = &rest[group.workspaces.len()..];
            found.push(group);
        }
        Ok(found)
    }

    /// A group of the first shards: as many as have room.
    fn next(&mut self, maker: Maker, sizes: &[usize]) -> Result<Arc<Group>> {
        loop {
            let sizes = &sizes[..sizes.len().min(self.lanes)];
            let key = (sizes.to_vec(), maker.training);
            if let Some(found) = self.groups.get(&key) {
                return Ok(Arc::clone(found));
            }
            let mut workspaces = Vec::with_capacity(sizes.len());
            for (lane, &size) in sizes.iter().enumerate() {
                match self.workspace(maker, size, lane) {
                    Ok(workspace) => workspaces.push(workspace),
                    Err(problem) if self.lanes == 1 => return Err(problem),
                    Err(problem) => {
                        self.narrow(lane, &problem);
                        break;
                    }
                }
            }
            if workspaces.len() == key.0.len() {
                let made = Arc::new(Group::new(maker.gpu, workspaces));
                self.groups.insert(key, Arc::clone(&made));
                return Ok(made);
            }
        }
    }

    /// Fewer lanes for good, since this one has no room: the bits are the same. Where it is the first, all others give theirs back.
    fn narrow(&mut self, lane: usize, problem: &candle_core::Error) {
        self.lanes = lane.max(1);
        self.groups.retain(|(sizes, _), _| sizes.len() <= self.lanes);
        self.workspaces.retain(|&(_, _, of), _| of < self.lanes);
        tracing::info!("at most {} shards at once from now on: {problem}", self.lanes);
    }

    fn workspace(&mut self, maker: Maker, examples: usize, lane: usize) -> Result<Arc<Workspace>> {
        let key = (examples, maker.training, lane);
        if let Some(found) = self.workspaces.get(&key) {
            return Ok(Arc::clone(found));
        }
        if lane > 0 && !maker.gpu.has_room()? {
            bail!("less than half of the GPU's memory is free")
        }
        // what the lane needs, too, before a graph is captured
        maker.gpu.lane(lane)?;
        let made = Arc::new(Workspace::new(maker, examples)?);
        self.workspaces.insert(key, Arc::clone(&made));
        Ok(made)
    }
}
