//! A ring: which workers sum a step's gradients among themselves (NCCL's communicator), and how far they are with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::command::{LeaseId, Report, WorkerId};
use super::pace::OwnPace;

/// What a ring is at.
#[derive(Debug)]
enum Stage {
    /// Rank 0 makes the name by which the others find it.
    Naming,
    /// They look for each other; these have found all.
    Forming(BTreeSet<WorkerId>),
    /// They have.
    Formed,
}

/// A step whose parts are given out: in these hands, or answered.
#[derive(Debug)]
struct Round {
    open: BTreeMap<LeaseId, WorkerId>,
    answered: Vec<Part>,
    /// What rank 0 sends of it, if the members make it.
    report: Option<Report>,
}

/// A part of a step, of so many shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) worker: WorkerId,
    pub(super) lease: LeaseId,
    pub(super) step: u64,
    pub(super) shards: u32,
    /// A fingerprint of what its member came to, where that is compared; else the same of all.
    pub(super) bits: u64,
}

/// What follows from an answer to a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Others are still at theirs.
    Wait,
    /// All parts of the open step, whose members came to the same; and rank 0, with what it sent of it, if they made it.
    Close { parts: Vec<Part>, made_by: Option<(WorkerId, Report)>, took: Duration },
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
    /// Steps that are given out: the open one, and those after it, which the members go on with by themselves.
    rounds: VecDeque<Round>,
    /// When the stage began, or the open step.
    since: Duration,
    /// Who has done its own part of that, and waits for the others.
    waiting: BTreeSet<WorkerId>,
}

impl Ring {
    pub(super) fn new(generation: u64, members: Vec<WorkerId>, now: Duration) -> Self {
        let (rounds, waiting) = (VecDeque::new(), BTreeSet::new());
        Self { generation, members, stage: Stage::Naming, rounds, since: now, waiting }
    }

    pub(super) fn members(&self) -> &[WorkerId] {
        &self.members
    }

    pub(super) fn has(&self, worker: WorkerId) -> bool {
        self.members.contains(&worker)
    }

    pub(super) fn is_formed(&self) -> bool {
        matches!(self.stage, Stage::Formed)
    }

    /// How many steps are given out.
    pub(super) fn steps(&self) -> u64 {
        self.rounds.len() as u64
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
            self.enter(Stage::Formed, now);
        }
    }

    /// A member waits for the others.
    pub(super) fn waits(&mut self, worker: WorkerId) {
        if self.has(worker) {
            self.waiting.insert(worker);
        }
    }

    /// The members are given their parts of the step after all that they have; they make it if there is a `report` to be sent of it.
    pub(super) fn open(&mut self, parts: &[Part], report: Option<Report>, now: Duration) {
        if self.rounds.is_empty() {
            self.since = now;
            self.waiting.clear();
        }
        let open = parts.iter().map(|part| (part.lease, part.worker)).collect();
        self.rounds.push_back(Round { open, answered: Vec::new(), report });
    }

    /// What rank 0 sends of the last step that is given out, if the members make it.
    pub(super) fn last_report(&self) -> Option<Report> {
        self.rounds.back().and_then(|round| round.report)
    }

    /// A part is answered. What its member says of waiting from now on is of its next one.
    pub(super) fn answered(&mut self, part: Part) {
        let of = self.rounds.iter_mut().find_map(|round| round.open.remove(&part.lease).map(|_| &mut round.answered));
        if let Some(answered) = of {
            answered.push(part);
            self.waiting.remove(&part.worker);
        }
    }

    /// What becomes of the open step.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        match self.rounds.front() {
            Some(Round { open, answered, .. }) if open.is_empty() => {
                if answered.windows(2).any(|pair| pair[0].bits != pair[1].bits) {
                    return Next::Differ(odd(answered));
                }
            }
            _ => return Next::Wait,
        }
        let Some(Round { answered: parts, report, .. }) = self.rounds.pop_front() else { return Next::Wait };
        let took = now.saturating_sub(std::mem::replace(&mut self.since, now));
        Next::Close { parts, made_by: self.members.first().copied().zip(report), took }
    }

    /// Parts that are in somebody's hands.
    pub(super) fn in_hand(&self) -> Vec<LeaseId> {
        self.rounds.iter().flat_map(|round| round.open.keys().copied()).collect()
    }

    /// Parts that are answered, and wait for the others.
    pub(super) fn put_aside(&self) -> Vec<Part> {
        self.rounds.iter().flat_map(|round| round.answered.iter().copied()).collect()
    }

    /// If the stage takes longer than `timeout`: who holds the others up. Nobody does, if all of them wait.
    pub(super) fn overdue(&self, now: Duration, timeout: Duration) -> Option<Vec<WorkerId>> {
        let idle = self.is_formed() && self.rounds.is_empty();
        if idle || now.saturating_sub(self.since) <= timeout {
            return None;
        }
        let open = self.rounds.front().map(|round| &round.open);
        let owes = |worker: &&WorkerId| match &self.stage {
            Stage::Naming => self.members.first() == Some(*worker),
            Stage::Forming(formed) => !formed.contains(*worker) && !self.waiting.contains(*worker),
            Stage::Formed => {
                let has_it = open.is_some_and(|open| open.values().any(|one| one == *worker));
                has_it && !self.waiting.contains(*worker)
            }
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
    /// Steps after which members had come to several results, and nobody could be blamed.
    pub(super) differed: u32,
    /// No new one before: a member that is dead without a word is found out until then.
    pub(super) not_before: Duration,
    /// Who could not compute its part of which step that is still to be made; none: their sum was not finite.
    pub(super) failed: Vec<(u64, Option<WorkerId>)>,
    /// How long its last steps took.
    pub(super) pace: OwnPace,
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
        Part { worker, lease, step: 0, shards: 2, bits: 0 }
    }

    #[test]
    fn who_came_to_something_else_than_most_is_told() {
        let differ = |bits: &[u64]| {
            let mut ring = Ring::new(1, (0..bits.len() as u64).collect(), NOW);
            let all: Vec<Part> =
                (0..).zip(bits).map(|(worker, bits)| Part { bits: *bits, ..part(worker, worker) }).collect();
            ring.open(&all, Some(Report::State), NOW);
            all.iter().for_each(|one| ring.answered(*one));
            let next = ring.next(NOW);
            assert_eq!(ring.steps() == 0, matches!(next, Next::Close { .. }), "else the step is still theirs");
            next
        };
        assert!(matches!(differ(&[5, 5, 5]), Next::Close { parts, .. } if parts.len() == 3));
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
        assert!(!ring.is_formed(), "one of two");
        ring.formed(7, NOW);
        assert!(ring.is_formed());
        ring.open(&[part(7, 1), part(9, 2)], Some(Report::Counts), NOW);
        // they go on with the next one by themselves
        ring.open(&[part(7, 3), part(9, 4)], Some(Report::State), NOW);
        assert_eq!((ring.steps(), ring.last_report()), (2, Some(Report::State)));
        ring.answered(part(9, 2));
        ring.answered(part(9, 4));
        assert_eq!(ring.next(NOW), Next::Wait);
        assert_eq!((ring.in_hand(), ring.put_aside()), (vec![1, 3], vec![part(9, 2), part(9, 4)]));
        ring.answered(part(7, 1));
        let parts = vec![part(9, 2), part(7, 1)];
        assert_eq!(
            ring.next(LATER),
            Next::Close { parts, made_by: Some((7, Report::Counts)), took: LATER.saturating_sub(NOW) }
        );
        assert_eq!(ring.next(LATER), Next::Wait);
        ring.answered(part(7, 3));
        let last = ring.next(LATER);
        assert!(
            matches!(last, Next::Close { made_by: Some((7, Report::State)), took: Duration::ZERO, .. }),
            "{last:?}"
        );
        assert!(ring.steps() == 0 && ring.in_hand().is_empty());
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
        ring.open(&[part(7, 1), part(8, 2), part(9, 3)], Some(Report::Counts), NOW);
        ring.open(&[part(7, 4), part(8, 5), part(9, 6)], Some(Report::Counts), NOW);
        ring.waits(8);
        ring.answered(part(9, 3));
        assert_eq!(ring.overdue(LATER, PATIENCE), Some(vec![7]));
        // who waits after its answer waits in the next step
        ring.waits(9);
        [part(8, 2), part(7, 1)].into_iter().for_each(|one| ring.answered(one));
        assert!(matches!(ring.next(NOW), Next::Close { made_by: Some(_), .. }));
        assert_eq!(ring.overdue(LATER, PATIENCE), Some(vec![7, 8]));
    }
}
