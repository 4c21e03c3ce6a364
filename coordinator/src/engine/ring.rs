//! A ring: which workers sum a step's gradients among themselves (NCCL's communicator), and how far they are with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::command::{LeaseId, Report, WorkerId};

/// What a ring is at.
#[derive(Debug)]
enum Stage {
    /// Rank 0 makes the name by which the others find it.
    Naming,
    /// They look for each other; these have found all.
    Forming(BTreeSet<WorkerId>),
    /// Nothing to do.
    Ready,
    /// A step's parts are in these hands, or answered.
    Summing { open: BTreeMap<LeaseId, WorkerId>, answered: Vec<Part> },
}

/// A part of the open step, of so many shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) worker: WorkerId,
    pub(super) lease: LeaseId,
    pub(super) shards: u32,
    /// A fingerprint of what its member came to, where that is compared; else the same of all.
    pub(super) bits: u64,
}

/// What follows from an answer to a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Others are still at theirs.
    Wait,
    /// All parts of the step, all of whose members came to the same.
    Close(Vec<Part>),
    /// They did not: who came to something else than most of them; nobody, if that can't be told.
    Differ(Vec<WorkerId>),
}

/// One ring, from the first word about it to its end.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) generation: u64,
    /// In the order of their ranks.
    members: Vec<WorkerId>,
    stage: Stage,
    /// When the stage began.
    since: Duration,
    /// Who has done its own part of the stage, and waits for the others.
    waiting: BTreeSet<WorkerId>,
    /// What rank 0 sends of the last step that was opened, if the members make it.
    report: Option<Report>,
}

impl Ring {
    pub(super) fn new(generation: u64, members: Vec<WorkerId>, now: Duration) -> Self {
        Self { generation, members, stage: Stage::Naming, since: now, waiting: BTreeSet::new(), report: None }
    }

    pub(super) fn members(&self) -> &[WorkerId] {
        &self.members
    }

    pub(super) fn has(&self, worker: WorkerId) -> bool {
        self.members.contains(&worker)
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    fn enter(&mut self, stage: Stage, now: Duration) {
        self.stage = stage;
        self.since = now;
        self.waiting.clear();
    }

    /// Rank 0 made the name; false if that was not what we waited for.
    pub(super) fn named(&mut self, worker: WorkerId, now: Duration) -> bool {
        let expected = matches!(self.stage, Stage::Naming) && self.members.first() == Some(&worker);
        if expected {
            self.enter(Stage::Forming(BTreeSet::new()), now);
        }
        expected
    }

    /// A member has found all others.
    pub(super) fn formed(&mut self, worker: WorkerId, now: Duration) {
        let Stage::Forming(formed) = &mut self.stage else { return };
        if self.members.contains(&worker) {
            formed.insert(worker);
        }
        if formed.len() == self.members.len() {
            self.enter(Stage::Ready, now);
        }
    }

    /// A member waits for the others.
    pub(super) fn waits(&mut self, worker: WorkerId) {
        if self.has(worker) {
            self.waiting.insert(worker);
        }
    }

    /// The members are given their parts of a step, which they make if there is a `report` to be sent of it.
    pub(super) fn open(&mut self, parts: &[Part], report: Option<Report>, now: Duration) {
        self.report = report;
        let open = parts.iter().map(|part| (part.lease, part.worker)).collect();
        self.enter(Stage::Summing { open, answered: Vec::new() }, now);
    }

    /// What rank 0 sends of the last step that was given out, if the members make it.
    pub(super) fn report(&self) -> Option<Report> {
        self.report
    }

    /// Rank 0, and that.
    pub(super) fn made_by(&self) -> Option<(WorkerId, Report)> {
        self.members.first().copied().zip(self.report)
    }

    /// A part is answered.
    pub(super) fn answered(&mut self, part: Part, now: Duration) -> Next {
        let Stage::Summing { open, answered } = &mut self.stage else { return Next::Wait };
        if open.remove(&part.lease).is_some() {
            answered.push(part);
        }
        if !open.is_empty() {
            return Next::Wait;
        }
        if answered.windows(2).any(|pair| pair[0].bits != pair[1].bits) {
            return Next::Differ(odd(answered));
        }
        let all = std::mem::take(answered);
        self.enter(Stage::Ready, now);
        Next::Close(all)
    }

    /// Parts that are in somebody's hands.
    pub(super) fn in_hand(&self) -> Vec<LeaseId> {
        match &self.stage {
            Stage::Summing { open, .. } => open.keys().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// Parts that are answered, and wait for the others.
    pub(super) fn put_aside(&self) -> &[Part] {
        match &self.stage {
            Stage::Summing { answered, .. } => answered,
            _ => &[],
        }
    }

    /// If the stage takes longer than `timeout`: who holds the others up. Nobody does, if all of them wait.
    pub(super) fn overdue(&self, now: Duration, timeout: Duration) -> Option<Vec<WorkerId>> {
        if self.is_ready() || now.saturating_sub(self.since) <= timeout {
            return None;
        }
        let owes = |worker: &&WorkerId| match &self.stage {
            Stage::Naming => self.members.first() == Some(*worker),
            Stage::Forming(formed) => !formed.contains(*worker) && !self.waiting.contains(*worker),
            Stage::Ready => false,
            Stage::Summing { open, .. } => open.values().any(|one| one == *worker) && !self.waiting.contains(*worker),
        };
        Some(self.members.iter().filter(owes).copied().collect())
    }

    /// Moves the deadline.
    fn forgive(&mut self, gap: Duration) {
        self.since += gap;
    }
}

/// Whose bits are not those of more than half of all.
fn odd(parts: &[Part]) -> Vec<WorkerId> {
    let with = |bits| parts.iter().filter(|part| part.bits == bits).count();
    let Some(most) = parts.iter().map(|part| part.bits).find(|bits| 2 * with(*bits) > parts.len()) else {
        return Vec::new();
    };
    parts.iter().filter(|part| part.bits != most).map(|part| part.worker).collect()
}

/// The ring that there is, and what is remembered of those before it.
#[derive(Debug, Default)]
pub(super) struct Rings {
    pub(super) current: Option<Ring>,
    /// The number of the last one.
    pub(super) last: u64,
    /// Rings in a row that failed although everybody stayed.
    pub(super) setbacks: u32,
    /// Steps after which members had come to several results.
    pub(super) differed: u32,
    /// No new one before: a member that is dead without a word is found out until then.
    pub(super) not_before: Duration,
    /// Who could not compute its part of which step that is still to be made; none: their sum was not finite.
    pub(super) failed: Vec<(u64, Option<WorkerId>)>,
}

impl Rings {
    /// The ring of this generation, if it is still there: what is said of one that is gone counts no more.
    pub(super) fn of(&mut self, generation: u64) -> Option<&mut Ring> {
        self.current.as_mut().filter(|ring| ring.generation == generation)
    }

    pub(super) fn forgive(&mut self, gap: Duration) {
        self.not_before += gap;
        if let Some(ring) = &mut self.current {
            ring.forgive(gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const LATER: Duration = Duration::from_secs(111);
    const PATIENCE: Duration = Duration::from_secs(10);

    fn part(worker: WorkerId, lease: LeaseId) -> Part {
        Part { worker, lease, shards: 2, bits: 0 }
    }

    #[test]
    fn who_came_to_something_else_than_most_is_told() {
        let differ = |bits: &[u64]| {
            let mut ring = Ring::new(1, (0..bits.len() as u64).collect(), NOW);
            let all: Vec<Part> =
                (0..).zip(bits).map(|(worker, bits)| Part { bits: *bits, ..part(worker, worker) }).collect();
            ring.open(&all, Some(Report::State), NOW);
            let last = all.iter().fold(Next::Wait, |_, one| ring.answered(*one, NOW));
            assert_eq!(ring.is_ready(), matches!(last, Next::Close(_)), "else the step is still theirs");
            last
        };
        assert!(matches!(differ(&[5, 5, 5]), Next::Close(all) if all.len() == 3));
        assert_eq!(differ(&[5, 5, 6]), Next::Differ(vec![2]));
        assert_eq!(differ(&[7, 5, 5, 6, 5]), Next::Differ(vec![0, 3]));
        assert_eq!((differ(&[5, 6]), differ(&[5, 6, 5, 6])), (Next::Differ(vec![]), Next::Differ(vec![])));
    }

    #[test]
    fn a_ring_is_named_by_its_first_formed_by_all_and_ready_for_the_next_step_when_all_have_answered() {
        let mut ring = Ring::new(3, vec![7, 9], NOW);
        assert!(!ring.named(9, NOW), "it is not rank 0");
        assert!(ring.named(7, NOW) && !ring.named(7, NOW));
        ring.formed(9, NOW);
        ring.formed(9, NOW);
        ring.formed(8, NOW);
        assert!(!ring.is_ready(), "one of two");
        ring.formed(7, NOW);
        assert!(ring.is_ready());
        ring.open(&[part(7, 1), part(9, 2)], Some(Report::Counts), NOW);
        assert_eq!(ring.made_by(), Some((7, Report::Counts)));
        assert_eq!(ring.answered(part(9, 2), NOW), Next::Wait);
        assert_eq!((ring.in_hand(), ring.put_aside()), (vec![1], &[part(9, 2)][..]));
        assert_eq!(ring.answered(part(7, 1), NOW), Next::Close(vec![part(9, 2), part(7, 1)]));
        assert!(ring.is_ready() && ring.in_hand().is_empty());
    }

    #[test]
    fn who_waits_for_the_others_does_not_hold_them_up() {
        let mut ring = Ring::new(1, vec![7, 8, 9], NOW);
        assert_eq!(ring.overdue(NOW + PATIENCE, PATIENCE), None);
        assert_eq!(ring.overdue(LATER, PATIENCE), Some(vec![7]));
        ring.named(7, NOW);
        ring.waits(7);
        ring.formed(8, NOW);
        assert_eq!(ring.overdue(LATER, PATIENCE), Some(vec![9]));
        ring.waits(9);
        assert_eq!(ring.overdue(LATER, PATIENCE), Some(vec![]), "NCCL itself hangs");
        [7, 9].into_iter().for_each(|worker| ring.formed(worker, NOW));
        assert_eq!(ring.overdue(LATER, PATIENCE), None, "nobody owes anything");
        ring.open(&[part(7, 1), part(8, 2), part(9, 3)], None, NOW);
        assert_eq!(ring.made_by(), None);
        ring.waits(8);
        ring.answered(part(9, 3), NOW);
        assert_eq!(ring.overdue(LATER, PATIENCE), Some(vec![7]));
    }
}
