//! The workers that the actor talks to.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::wire::{Finished, Hello, Refused, ToWorker, to_worker};

use super::door::Rank;
use super::message::Outbound;
use crate::engine::WorkerId;
use crate::plane::Edition;

/// Names of workers that are kept before anything of theirs was accepted: those of peers that come and go must not add up.
const MOST_IDLE_NAMES: usize = 1024;

/// One worker's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: String,
    pub(super) device_class: String,
    pub(super) threads: u32,
    pub(super) foreign: bool,
    /// The GPU that computes, if it said so.
    pub(super) gpu: String,
    /// Its NCCL's version; 0: it has none.
    pub(super) nccl: u32,
    /// Its number on the screen: the smallest that is free, so that a worker that comes back gets its old line.
    pub(super) slot: u32,
    pub(super) ready: bool,
    /// It has mapped our memory.
    pub(super) shared: bool,
    /// The parameters that it was sent last, or that it comes to by itself with what it has in hand.
    pub(super) holds: Option<Edition>,
    /// The version that it has the optimizer's state of when it has done what it has in hand.
    pub(super) replica: Option<u64>,
    /// Shards accepted in this session.
    pub(super) shards: u64,
    pub(super) since_stats: Stats,
    outbound: Outbound,
}

/// What a worker did since it was last reported.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) shards: u32,
    pub(super) images: u64,
    pub(super) compute_us: u64,
    pub(super) wait_us: u64,
}

impl Session {
    /// A send fails only when the stream is gone, and then `Left` is on its way: nothing to do here.
    pub(super) fn send(&self, message: to_worker::Message) {
        let _ = self.outbound.send(ToWorker { message: Some(message) });
    }

    pub(super) fn send_all(&self, messages: Vec<ToWorker>) {
        for message in messages {
            let _ = self.outbound.send(message);
        }
    }
}

/// Shards accepted, in each session and of each worker.
#[derive(Clone, Debug)]
pub(super) struct Credits {
    open: BTreeMap<WorkerId, u64>,
    accepted: BTreeMap<String, u64>,
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    RunOver { complete: bool },
    MayReturn,
    StayAway,
}

/// All sessions, and what ended ones left behind.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: BTreeMap<WorkerId, Session>,
    next: WorkerId,
    /// How many sessions mapped our memory.
    pub(super) shared: usize,
    /// Shards accepted by worker name, over all its sessions.
    pub(super) accepted: BTreeMap<String, u64>,
}

impl Sessions {
    pub(super) fn open(&mut self, hello: Hello, outbound: Outbound) -> WorkerId {
        self.next += 1;
        let taken: BTreeSet<u32> = self.open.values().map(|session| session.slot).collect();
        let slot = (0..).find(|slot| !taken.contains(slot)).unwrap_or(u32::MAX);
        let session = Session {
            name: hello.name,
            device_class: hello.device_class,
            threads: hello.threads,
            foreign: hello.foreign,
            gpu: hello.gpu,
            nccl: hello.nccl,
            slot,
            ready: false,
            shared: false,
            holds: None,
            replica: None,
            shards: 0,
            since_stats: Stats::default(),
            outbound,
        };
        if self.accepted.len() < MOST_IDLE_NAMES {
            self.accepted.entry(session.name.clone()).or_insert(0);
        }
        self.open.insert(self.next, session);
        self.next
    }

    /// Something became of a worker's answer: whatever it came to by itself from there, it is sent parameters and state anew.
    pub(super) fn doubt(&mut self, worker: WorkerId) {
        if let Some(session) = self.open.get_mut(&worker) {
            (session.holds, session.replica) = (None, None);
        }
    }

    /// All workers are sent parameters and state anew.
    pub(super) fn doubt_all(&mut self) {
        for session in self.open.values_mut() {
            (session.holds, session.replica) = (None, None);
        }
    }

    /// Ends a session; the worker hears why, and whether to come again.
    pub(super) fn close(&mut self, worker: WorkerId, reason: &str, farewell: Farewell) {
        let Some(session) = self.open.remove(&worker) else { return };
        let reason = reason.to_owned();
        session.send(match farewell {
            Farewell::RunOver { complete } => {
                to_worker::Message::Finished(Finished { reason, complete, run_over: true })
            }
            Farewell::MayReturn => to_worker::Message::Finished(Finished { reason, complete: false, run_over: false }),
            Farewell::StayAway => to_worker::Message::Refused(Refused { reason, mistake: true }),
        });
    }

    /// What people call a worker; one that is gone by its number.
    pub(super) fn name(&self, worker: WorkerId) -> String {
        self.open.get(&worker).map_or_else(|| format!("worker number {worker}"), |session| session.name.clone())
    }

    /// The class that those who are here agreed on at the door.
    pub(super) fn device_class(&self) -> Option<&str> {
        self.open.values().find(|session| !session.foreign).map(|session| session.device_class.as_str())
    }

    /// Who computes on which GPU, and with which NCCL.
    pub(super) fn gpus(&self) -> Vec<Rank<'_>> {
        self.open.values().map(|Session { name, gpu, nccl, .. }| Rank { name, gpu, nccl: *nccl }).collect()
    }

    pub(super) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Session> {
        self.open.get_mut(&worker)
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Session> {
        self.open.get(&worker)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Session)> {
        self.open.iter().map(|(worker, session)| (*worker, session))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.open.values_mut()
    }

    /// What all workers have been credited with.
    pub(super) fn credits(&self) -> Credits {
        let open = self.open.iter().map(|(worker, session)| (*worker, session.shards)).collect();
        Credits { open, accepted: self.accepted.clone() }
    }

    /// Takes back what came since.
    pub(super) fn restore(&mut self, credits: Credits) {
        let Credits { open, accepted } = credits;
        for (worker, session) in &mut self.open {
            session.shards = open.get(worker).copied().unwrap_or(0);
        }
        // who joined since keeps its place
        self.accepted.values_mut().for_each(|shards| *shards = 0);
        self.accepted.extend(accepted);
    }

    /// Credits an accepted node to its worker.
    pub(super) fn credit(&mut self, worker: WorkerId, stats: &Stats) {
        let Some(session) = self.open.get_mut(&worker) else { return };
        session.shards += u64::from(stats.shards);
        session.since_stats.shards += stats.shards;
        session.since_stats.images += stats.images;
        session.since_stats.compute_us += stats.compute_us;
        session.since_stats.wait_us += stats.wait_us;
        *self.accepted.entry(session.name.clone()).or_insert(0) += u64::from(stats.shards);
    }
}
