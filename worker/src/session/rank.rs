//! A rank's part of a step: its shards' sum, which stays on the GPU until all ranks' are added to it, and the step that follows, if the ring
//! makes it.

use std::time::Instant;

use lockstep_proto::optimizer::whole::Made;
use lockstep_proto::tree::Node;
use lockstep_proto::wire::{
    self, Failed, GradientSummary, OwnStep, Part, Report, ShardOutcome, ShardsWork, from_worker, ring_news::News,
};

use super::compute::{Computer, check_examples};
use super::node::{Underway, asked, summed};
use super::ring::{nodes, of_ring};
use crate::cuda::{Address, Asked};
use crate::node::{Coming, Home};
use crate::ring::{GoOn, Ring, RingError};

impl Computer {
    /// The part of a step that is this rank's, added to all others'; and the step that follows from the sum, if the ring makes it.
    pub(super) fn part(
        &mut self,
        lease: u64,
        version: u64,
        mut work: ShardsWork,
        own: Option<OwnStep>,
        wait_us: u64,
    ) -> Result<(), String> {
        let begun = Instant::now();
        check_examples(&work, self.prepared.records.train.len())?;
        let leaves = Some(work.leaves).filter(|leaves| *leaves > 0);
        let nodes = nodes(&mut work)?;
        let part = OfRing { lease, version, ring: work.ring, leaves, own: asked(own)?, begun, wait_us };
        if part.own.is_some() && self.steps.on_host() {
            return Err("a rank makes its steps on its GPU, and its optimizer is not there".to_owned());
        }
        match nodes.is_empty() {
            false => self.part_there(part, nodes),
            true => self.nothing(&part),
        }?;
        self.prepare(work.epoch, &work.next);
        Ok(())
    }

    /// A rank's sum stays on the GPU until all ranks' are added to it, and the step is made there. The next part is asked for before anybody
    /// waits for what this one counted.
    fn part_there(&mut self, part: OfRing, works: Vec<ShardsWork>) -> Result<(), String> {
        let plain = |error| crate::model::plain(error).to_string();
        let (mut sums, mut nodes) = (Vec::with_capacity(works.len()), Vec::with_capacity(works.len()));
        for work in works {
            let shards: Vec<u32> = work.shards.iter().map(|shard| shard.shard).collect();
            let (node, coming) = self.ask_or_make_room(part.version, work)?;
            let Coming::OnGpu { asked, broken } = coming else {
                return Err("a rank's sum is not on a GPU".to_owned());
            };
            nodes.push(node);
            sums.push((shards, asked, broken));
        }
        // the part before this one, while the GPU computes
        self.bring_home();
        let there = sums.iter_mut().map(|(_, asked, _)| asked.there());
        let given = there.collect::<Result<Vec<_>, _>>().map_err(plain)?;
        let len = given.first().map_or(0, |(_, len)| *len);
        let given: Vec<_> = nodes.into_iter().zip(given).map(|(node, (at, _))| (node, at)).collect();
        // what came before is counted there
        let compute_us = part.begun.max(self.sent_at).elapsed().as_micros() as u64;
        // `sums` live longer than the ring, if that fails
        let (is_first, _) = self.take_part(&part, &given, len)?;
        if let (Some((lr, _)), Some((_, first, broken))) = (part.own, sums.first_mut()) {
            if *broken {
                first.spoil().map_err(plain)?;
            }
            self.steps.remember_on_device(first.gradient(is_first).map_err(plain)?);
            self.make_step(part.version, lr)?;
        }
        for (number, (_, asked, _)) in sums.iter_mut().enumerate() {
            // the first has all there is
            let whole = number == 0 && is_first && part.own.is_none();
            asked.send_home(if whole { Home::Sum } else { Home::Made }).map_err(plain)?;
        }
        let goes_on = matches!(part.own, Some((_, Report::Counts)));
        let underway = OfPart { part, is_first, sums, compute_us };
        if goes_on {
            self.underway = Some(Underway::Part(Box::new(underway)));
        } else {
            self.deliver_part(underway);
        }
        Ok(())
    }

    /// Sends what came of a part, when it is here.
    pub(super) fn deliver_part(&mut self, underway: OfPart) {
        let lease = underway.part.lease;
        if let Err(reason) = self.answer_part(underway) {
            self.send(from_worker::Message::Failed(Failed { lease, reason }));
        }
    }

    fn answer_part(&mut self, OfPart { part, is_first, sums, compute_us }: OfPart) -> Result<(), String> {
        let (start, mut outcomes) = (Instant::now(), Vec::new());
        let (mut sum, mut made) = (None, None);
        for (number, (shards, asked, broken)) in sums.into_iter().enumerate() {
            let found = summed(Coming::OnGpu { asked, broken }, &shards, self)?;
            outcomes.extend(found.outcomes);
            match (number == 0 && is_first, part.own) {
                (true, None) => sum = Some(found.values),
                (true, Some(_)) => made = Some(found.made),
                (false, _) => {}
            }
        }
        let encode_us = start.elapsed().as_micros() as u64;
        let digest = match part.own {
            Some((_, Report::State)) if is_first => {
                self.send_state(part.lease, part.version + 1)?;
                0
            }
            _ => self.digest_of(&part)?,
        };
        self.send_part(&part, Told { outcomes, sum, made, digest, times: [compute_us, encode_us] });
        self.sent_at = Instant::now();
        Ok(())
    }

    /// The checksum of what this rank came to, for the coordinator to compare with rank 0's; 0 where it does not.
    fn digest_of(&mut self, part: &OfRing) -> Result<u64, String> {
        match part.own {
            Some((_, Report::State)) => self.state_digest(part.version + 1),
            _ => Ok(0),
        }
    }

    /// A rank without a shard adds nothing, and makes the step like all others.
    fn nothing(&mut self, part: &OfRing) -> Result<(), String> {
        self.bring_home();
        let len = self.on_gpu(part.version)?.values();
        let (_, sum) = self.take_part(part, &[], len)?;
        if let Some((lr, _)) = part.own {
            self.steps.remember_on_device(crate::cuda::Gradient { sum, told: None });
            self.make_step(part.version, lr)?;
        }
        let digest = self.digest_of(part)?;
        self.send_part(part, Told { digest, ..Told::default() });
        Ok(())
    }

    fn on_gpu(&self, version: u64) -> Result<&crate::cuda::Packed, String> {
        self.weights(version)?.packed().ok_or_else(|| "a rank's weights are not on a GPU".to_owned())
    }

    /// Takes part in a sum of `len` values with those at `given`: whether this is rank 0, and where the sum lies; or why it can't.
    fn take_part(&mut self, part: &OfRing, given: &[(Node, Address)], len: usize) -> Result<(bool, Address), String> {
        let outbound = self.outbound.clone();
        let say = |generation, news| super::compute::say(&outbound, of_ring(generation, news));
        let sum = |ring: &mut Ring, go_on: GoOn<'_>| ring.sum(given, len, part.leaves, go_on);
        self.seat.sum(part.ring, &say, sum).map_err(|error| {
            if let RingError::Failed(reason) = &error {
                say(part.ring, News::Broken(reason.clone()));
            }
            error.to_string()
        })
    }

    /// What this rank answers. The first one has all ranks' `sum`, or says what was `made` of it.
    fn send_part(&self, part: &OfRing, told: Told) {
        let &OfRing { lease, version, wait_us, .. } = part;
        let Told { outcomes, sum, made, digest, times: [compute_us, encode_us] } = told;
        let summary = GradientSummary { outcomes, digest, compute_us, encode_us, wait_us };
        match (sum, made) {
            (Some(values), _) => self.send_gradient(lease, version, None, values, summary),
            (None, Some(Made { penalty, norm })) => {
                let summary = Some(summary);
                let made = wire::Made { lease, version, node: None, summary, penalty, norm };
                self.send(from_worker::Message::Made(made));
            }
            (None, None) => self.send(from_worker::Message::Part(Part { lease, version, summary: Some(summary) })),
        }
    }
}

/// A part that is summed, and whose shards' counts are on their way.
pub(super) struct OfPart {
    part: OfRing,
    /// Rank 0.
    is_first: bool,
    /// Each node's shards, and their sum; the first is the whole step's by now.
    sums: Vec<(Vec<u32>, Box<Asked>, bool)>,
    compute_us: u64,
}

/// What is said of a part.
#[derive(Default)]
struct Told {
    outcomes: Vec<ShardOutcome>,
    /// Of rank 0, if the coordinator makes the step.
    sum: Option<Vec<f32>>,
    /// Of rank 0, if the ring makes it.
    made: Option<Made>,
    digest: u64,
    times: [u64; 2],
}

/// A lease in a ring.
struct OfRing {
    lease: u64,
    version: u64,
    ring: u64,
    /// The step's shards, if the ring adds along the tree.
    leaves: Option<u32>,
    /// The rate of the step that the ring makes, and what its first rank sends.
    own: Option<(f64, Report)>,
    begun: Instant,
    wait_us: u64,
}
