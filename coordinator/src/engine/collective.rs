//! Steps whose gradients the workers sum among themselves: everybody takes part at once, or the step begins again.
//!
//! Nothing is computed twice on purpose. What the members come to is compared where all of it promises to be the same.

use std::ops::Range;
use std::time::Duration;

use lockstep_proto::tree;

use super::answers::{FAILURES, WHAT_TO_DO, drop_it};
use super::behind::WORTH_IT;
use super::command::{Command, Finding, LeaseId, Outcome, Report, Work, WorkerId};
use super::mutant::Mutant;
use super::pool::{Kind, Pool};
use super::ring::{Next, Part, Ring};
use super::{Engine, Lease, Phase};

/// Rings in a row that may fail although nobody is lost: a link that recovers costs one or two, one that does not would fail for ever.
const SETBACKS: u32 = 5;

/// Times that the members of a ring may come to several results without anybody to blame, until they make no more steps themselves: one is a
/// bit that flipped in a memory, more are a machine, and of two nobody can tell which.
const DIFFERENCES: u32 = 3;

impl Engine {
    /// Brings the open step on: first a ring of all who should be in it, then everybody's part of the step.
    pub(super) fn sum_in_ring(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Phase::Working(Pool { kind: Kind::Shards { step }, .. }) = &self.phase else { return };
        let step = *step;
        let mut wanted = self.workers.staying();
        // more than shards would have nothing to do, ever
        wanted.truncate(self.plan.shards as usize);
        match &self.rings.current {
            Some(ring) if !ring.is_formed() => return,
            // what they came to goes with them: first it is asked for
            Some(ring) if ring.steps() > 0 || ring.members() == wanted || self.is_behind() => {
                if ring.steps() == 0 {
                    let own = self.ring_report(now, step, self.is_behind());
                    self.give_parts(now, step, own, out);
                }
                return self.give_parts_in_advance(now, out);
            }
            _ => {}
        }
        self.dissolve("others are to take part from now on", out);
        let Some(first) = wanted.first().copied().filter(|_| now >= self.rings.not_before) else { return };
        self.rings.last += 1;
        let (generation, size) = (self.rings.last, wanted.len() as u32);
        self.rings.current = Some(Ring::new(generation, wanted, now));
        out.push(Command::Form { worker: first, generation, rank: 0, size, id: None });
    }

    /// What rank 0 is to send of a step that all members make themselves, with the sum that all of them have; none if it is to send
    /// the sum, of which the step is made here. `lacks`: the coordinator will not have the parameters that it begins with.
    fn ring_report(&mut self, now: Duration, step: u64, lacks: bool) -> Option<Report> {
        let every = self.plan.catch_up?;
        let members = self.rings.current.as_ref()?.members();
        let able = || members.iter().all(|member| self.workers.makes_steps(*member));
        if !lacks && (step < self.behind.open_until() || !able()) {
            return None;
        }
        let long_ago = lacks && self.behind.is_long_ago(now, every);
        let wanted = long_ago || self.is_wanted(now, members, step + 1);
        match (wanted, lacks) {
            (false, _) => Some(Report::Counts),
            (true, false) => None,
            (true, true) => {
                self.behind.asked(now);
                Some(Report::State)
            }
        }
    }

    /// Gives members that make their steps the next ones before the open one is answered, up to one that something else follows: the last of
    /// them is asked for what it comes to.
    fn give_parts_in_advance(&mut self, now: Duration, out: &mut Vec<Command>) {
        loop {
            let Some(ring) = &self.rings.current else { return };
            let (step, last) = (self.version + ring.steps(), ring.last_report());
            let plan = &self.plan;
            // slow ones would be many seconds of work, which may be lost, and which who stops the run or joins would wait for
            let quick = |every: Duration| {
                self.rings.pace.seconds().is_some_and(|seconds| seconds * WORTH_IT <= every.as_secs_f64())
            };
            let ends = step >= plan.total_steps() || plan.evaluates(step);
            let ends = ends && !self.is(Mutant::AdvanceAcrossEvaluations);
            let full = ring.steps() > u64::from(plan.in_advance);
            if ends || full || last.is_none() || !plan.catch_up.is_some_and(quick) {
                return;
            }
            // if the coordinator is to make it, or others are to take part, those before must be made first
            let Some(own) = self.ring_report(now, step, last == Some(Report::Counts)) else { return };
            self.give_parts(now, step, Some(own), out);
        }
    }

    /// Cuts the step's shards evenly over the ring, in rank order.
    fn give_parts(&mut self, now: Duration, step: u64, own: Option<Report>, out: &mut Vec<Command>) {
        let Some(members) = self.rings.current.as_ref().map(|ring| ring.members().to_vec()) else { return };
        let Phase::Working(pool) = &self.phase else { return };
        let (purpose, Some(ring)) = (pool.purpose(), &mut self.rings.current) else { return };
        let cut = tree::parts(self.plan.leaves(step), members.len() as u32);
        let mut parts = Vec::with_capacity(members.len());
        for ((rank, worker), Range { start: first, end }) in (0..).zip(members).zip(cut) {
            let lease = self.next_lease;
            self.next_lease += 1;
            let work = Work::Part { step, generation: ring.generation, rank, first, end };
            self.leases.insert(lease, Lease { worker, work, since: now, own });
            self.workers.hold(worker, lease);
            out.push(Command::Lease { worker, lease, work, purpose, own });
            parts.push(Part { worker, lease, step, shards: end - first, bits: 0 });
        }
        ring.open(&parts, own, now);
    }

    /// Rank 0 made the ring's name: the others may look for it.
    pub(super) fn named(
        &mut self,
        now: Duration,
        worker: WorkerId,
        generation: u64,
        id: &[u8],
        out: &mut Vec<Command>,
    ) {
        self.workers.beat(worker, now);
        let Some(ring) = self.rings.of(generation).filter(|ring| ring.has(worker)) else { return };
        if !ring.named(worker, now) {
            return;
        }
        let (generation, size) = (ring.generation, ring.members().len() as u32);
        for (rank, worker) in (1..).zip(ring.members().iter().skip(1).copied()) {
            out.push(Command::Form { worker, generation, rank, size, id: Some(id.to_vec()) });
        }
    }

    pub(super) fn formed(&mut self, now: Duration, worker: WorkerId, generation: u64) {
        self.workers.beat(worker, now);
        if let Some(ring) = self.rings.of(generation) {
            ring.formed(worker, now);
        }
    }

    pub(super) fn waits(&mut self, now: Duration, worker: WorkerId, generation: u64) {
        self.workers.beat(worker, now);
        if let Some(ring) = self.rings.of(generation) {
            ring.waits(worker);
        }
    }

    /// A member's ring failed. Maybe because another one is gone: then that shows soon, and nobody is to blame.
    pub(super) fn broken(
        &mut self,
        now: Duration,
        worker: WorkerId,
        generation: u64,
        reason: &str,
        out: &mut Vec<Command>,
    ) {
        self.workers.beat(worker, now);
        if self.rings.of(generation).is_some_and(|ring| ring.has(worker)) {
            self.setback(now, reason, out);
        }
    }

    fn setback(&mut self, now: Duration, reason: &str, out: &mut Vec<Command>) {
        self.rings.setbacks += 1;
        let setbacks = self.rings.setbacks;
        if setbacks >= SETBACKS {
            let reason = format!(
                "{setbacks} rings in a row failed, and nobody was lost; the last one: {reason}; NCCL_DEBUG=INFO has the workers say \
                 more, and with --plane auto none is needed"
            );
            return self.finish(Outcome::Failed { reason }, out);
        }
        self.dissolve(reason, out);
        self.rings.not_before = now + self.plan.worker_timeout;
    }

    /// Has everybody who is there leave the ring, and opens its step again.
    fn dissolve(&mut self, reason: &str, out: &mut Vec<Command>) {
        let Some(ring) = self.rings.current.take() else { return };
        let mut reissued = 0;
        for lease in ring.in_hand() {
            let Some(Lease { worker, work, .. }) = self.leases.remove(&lease) else { continue };
            self.workers.release(worker, lease);
            reissued += self.open_shards(work);
        }
        let (in_hand, put_aside) = (ring.in_hand(), ring.put_aside());
        for part in &put_aside {
            reissued += if part.step == self.version { part.shards } else { 0 };
            out.push(drop_it(part.worker, part.lease, "its ring is dissolved"));
        }
        if let (true, Phase::Working(pool)) = (!in_hand.is_empty(), &mut self.phase) {
            pool.begin_again();
        }
        let here = |worker: &WorkerId| self.workers.get(*worker).is_some();
        let members: Vec<_> = ring.members().iter().copied().filter(here).collect();
        if !members.is_empty() && !self.is(Mutant::KeepRing) {
            let (generation, reason) = (ring.generation, reason.to_owned());
            out.push(Command::Dissolve { generation, members, reissued, reason });
        }
        // in the open up to here, so that the run comes on, and what is wrong shows
        let (given, unmade) = (self.version + ring.steps(), ring.last_report().is_some());
        if self.is_behind() && !self.is(Mutant::GoOnWithoutRing) {
            // its members may have come to another version each
            self.roll_back(given.max(self.version + 1), reason, out);
        } else if unmade {
            self.behind.open_up_to(given);
        }
    }

    /// `worker` is lost: if it is a member, its ring is over.
    pub(super) fn leave_ring(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        // what broke the last ring has maybe been found
        (self.rings.setbacks, self.rings.not_before) = (0, Duration::ZERO);
        let Some(ring) = self.rings.current.as_ref().filter(|ring| ring.has(worker)) else { return };
        let all = ring.put_aside();
        if self.is(Mutant::StepWithoutMember) && !all.is_empty() {
            self.rings.current = None;
            return self.use_parts(self.heard, all, None, out);
        }
        self.dissolve("a member is lost", out);
    }

    /// A member answered its part of the step.
    pub(super) fn part_answered(
        &mut self,
        now: Duration,
        worker: WorkerId,
        lease: LeaseId,
        work: Work,
        finding: Finding,
        out: &mut Vec<Command>,
    ) {
        let bits = match finding {
            Finding::Bits(_) if self.is(Mutant::CompareNoRanks) => 0,
            Finding::Bits(bits) => bits,
            Finding::NotFinite(what) => {
                out.push(drop_it(worker, lease, "it is not finite"));
                return self.fail_part(now, worker, work, &what, false, out);
            }
        };
        let (Some(ring), Work::Part { step, .. }) = (&mut self.rings.current, work) else { return };
        ring.answered(Part { worker, lease, step, shards: shards(work), bits });
        let mut hold = true;
        // one by one: whoever answers out of order may have held several up
        while let Some(ring) = &mut self.rings.current {
            match ring.next(now) {
                Next::Close { parts, made_by, took } => {
                    hold = false;
                    self.rings.pace.took(took, 1);
                    self.use_parts(now, parts, made_by, out);
                }
                Next::Wait if hold => {
                    let reason = format!("{work}: others are still at theirs");
                    return out.push(Command::Hold { worker, lease, reason });
                }
                Next::Wait => return,
                Next::Differ(odd) => return self.come_apart(now, &odd, out),
            }
        }
    }

    /// The members of a ring made the same steps, and came to several results: all of these are made again, from what the coordinator has, in
    /// the open. Who came to something else than most goes.
    fn come_apart(&mut self, now: Duration, odd: &[WorkerId], out: &mut Vec<Command>) {
        let made = self.version + 1;
        self.rings.differed += u32::from(odd.is_empty());
        let often = odd.is_empty() && self.rings.differed >= DIFFERENCES;
        let reason = match (odd, often) {
            ([], false) => "its ranks came to several results, and who computed wrong can't be told",
            ([], true) => "its ranks came to several results once more; from now on every sum is sent",
            _ => "a rank came to another result than most",
        };
        self.dissolve(reason, out);
        if often {
            self.behind.open_up_to(u64::MAX);
        }
        for worker in odd {
            let reason = format!(
                "it can't be trusted: after step {made} it had come to another result than most ranks of its ring"
            );
            self.quarantine(now, *worker, reason, out);
        }
    }

    /// All parts are there: the step is made.
    fn use_parts(
        &mut self,
        now: Duration,
        parts: Vec<Part>,
        made_by: Option<(WorkerId, Report)>,
        out: &mut Vec<Command>,
    ) {
        let Phase::Working(Pool { kind: Kind::Shards { step }, .. }) = &self.phase else { return };
        let step = *step;
        self.closed_by = made_by;
        for Part { worker, lease, .. } in parts {
            self.workers.clear(worker);
            out.push(Command::Part { worker, lease, made: made_by.is_some() });
        }
        self.short_since = None;
        self.rings.setbacks = 0;
        self.rings.failed.retain(|(failed, _)| *failed > step);
        self.close_step(step, now, out);
    }

    /// A member could not compute its part (`failed`), or what it sent can't be used.
    pub(super) fn part_refused(
        &mut self,
        now: Duration,
        worker: WorkerId,
        work: Work,
        reason: &str,
        failed: bool,
        out: &mut Vec<Command>,
    ) {
        if failed {
            return self.fail_part(now, worker, work, reason, true, out);
        }
        out.push(Command::Reissue { worker, shards: shards(work), reason: format!("{work}: {reason}") });
        self.dissolve("an answer to its step can't be used", out);
        self.strike(now, worker, reason, out);
    }

    /// A part can't be computed, or the sum is not finite: once more, for it may be a machine. `own`: it is the member's own failure,
    /// and not one that any of them may have brought into the sum.
    fn fail_part(
        &mut self,
        now: Duration,
        worker: WorkerId,
        work: Work,
        reason: &str,
        own: bool,
        out: &mut Vec<Command>,
    ) {
        let Work::Part { step, .. } = work else { return };
        if own && self.rings.current.as_ref().is_some_and(|ring| ring.last_report().is_some()) {
            // maybe it has no room for an optimizer: whatever it was, it shows without one or is gone
            self.workers.makes_no_steps(worker);
        }
        let who = own.then_some(worker);
        let failed = &mut self.rings.failed;
        let again = failed.contains(&(step, who));
        failed.push((step, who));
        let alone = self.workers.staying().len() <= 1;
        let others = failed.iter().filter(|(of, one)| *of == step && one.is_some() && *one != who).count() as u32;
        let give_up = if own { others + 1 >= FAILURES || (again && alone) } else { again };
        if give_up {
            let reason = format!("{work} failed twice, so it is not one worker's fault: {reason}; {WHAT_TO_DO}");
            return self.finish(Outcome::Failed { reason }, out);
        }
        out.push(Command::Reissue { worker, shards: shards(work), reason: format!("{work}: {reason}") });
        self.dissolve("a part of its step failed", out);
        if again {
            let reason = format!("it failed twice at a step, and the others did not: {reason}");
            self.quarantine(now, worker, reason, out);
        }
    }

    /// How many shards of the open step `work` has, if it is a part.
    pub(super) fn open_shards(&self, work: Work) -> u32 {
        match work {
            Work::Part { step, .. } if step == self.version => shards(work),
            _ => 0,
        }
    }

    /// Nothing in a ring takes longer than a lease may: who holds the others up goes.
    pub(super) fn watch_ring(&mut self, now: Duration, out: &mut Vec<Command>) {
        let timeout = self.plan.lease_timeout;
        let Some(late) = self.rings.current.as_ref().and_then(|ring| ring.overdue(now, timeout)) else { return };
        let seconds = timeout.as_secs_f64();
        if late.is_empty() {
            return self.setback(now, &format!("all its members waited for each other for {seconds:.1} s"), out);
        }
        for worker in late {
            let reason = format!("the other members of its ring waited for it for {seconds:.1} s");
            self.dismiss(now, worker, reason, true, out);
        }
    }
}

/// How many shards a part has.
fn shards(work: Work) -> u32 {
    match work {
        Work::Part { first, end, .. } => end - first,
        _ => 0,
    }
}
