//! What the processes do with the work that they are given: one thing after the other, each for a while.

use super::super::super::{Event, Finding, Report, Work, WorkerId};
use super::super::process::{Process, What};
use super::super::toy;
use super::super::world::{Broken, Job, Payload};
use super::{STORM, Weather};

impl Weather {
    pub(super) fn give(&mut self, worker: WorkerId, job: Job) -> Result<(), Broken> {
        let Some(process) = self.owner.get(&worker).copied() else {
            return Err(format!("work for {worker}, who is gone"));
        };
        if self.processes[process].session != Some(worker) {
            return Ok(()); // sent to nobody
        }
        if self.processes[process].leaving && job.report != Some(Report::State) {
            return Err(format!("work for {worker}, who is leaving"));
        }
        if let Work::Part { generation, .. } = job.work
            && self.processes[process].formed != generation
        {
            return Err(format!("{:?} for {worker}, whose ring is not formed", job.work));
        }
        self.processes[process].jobs.push_back(job);
        // one thread computes, and waits in rings
        if self.processes[process].jobs.len() == 1 && self.processes[process].stuck_in.is_none() {
            self.begin_job(process);
        }
        Ok(())
    }

    pub(super) fn begin_job(&mut self, process: usize) {
        let Process { session: Some(session), jobs, slow, frozen: false, .. } = &self.processes[process] else {
            return;
        };
        let (session, Some(job)) = (*session, jobs.front()) else { return };
        let units = match job.work {
            Work::Shards { step, node } => node.covers(self.plan.leaves(step)).len() as u64,
            Work::Part { first, end, .. } => u64::from(end - first),
            Work::Slice { .. } => 1,
        };
        let mut takes = units * slow + u64::from(self.dice.below(1 + *slow as u32));
        if self.now < STORM && self.dice.below(40) == 0 {
            takes = takes * 30 + 200; // a neighbour on its machine
        }
        self.later(takes, What::Done(process, session));
    }

    /// The first job of `process` is computed: its answer, or what became of it.
    pub(super) fn done(&mut self, process: usize) -> Result<(), Broken> {
        if self.processes[process].frozen || self.processes[process].stuck_in.is_some() {
            return Ok(());
        }
        let Some(mut job) = self.processes[process].jobs.pop_front() else { return Ok(()) };
        let Some(worker) = self.processes[process].session else { return Ok(()) };
        let Some(value) = self.processes[process].input(&job) else {
            // something became of the step before
            self.begin_job(process);
            let event = Event::Failed { worker, lease: job.lease, reason: "never came to it".to_owned() };
            return self.send(worker, job, event, 0);
        };
        job.input.value = value;
        if let Work::Part { .. } = job.work {
            return self.enter(process, worker, job);
        }
        let event = self.answer(process, worker, job);
        self.begin_job(process);
        let value = toy::compute(&self.plan, job.work, job.input.value);
        if job.report.is_some() {
            // who lies goes on from the lie
            let said = match &event {
                Event::Answered { finding: Finding::Bits(bits), .. } => *bits,
                _ => value,
            };
            self.make_step(process, &mut job, &event, said);
        }
        self.send(worker, job, event, value)
    }

    /// A process goes on from the step that it makes of `sum`.
    pub(super) fn make_step(&mut self, process: usize, job: &mut Job, answer: &Event, sum: u64) {
        job.input.state = toy::update(job.input.value, sum);
        self.processes[process].go_on(job, answer);
    }

    /// An answer is on its way, with what was computed.
    pub(super) fn send(&mut self, worker: WorkerId, job: Job, event: Event, value: u64) -> Result<(), Broken> {
        self.world.holders.remove(&job.lease);
        self.sent.push((worker, job.lease));
        let payload = Payload { value, ..job.input };
        let payload = match &event {
            // a ring's says what was made of it
            Event::Answered { finding: Finding::Bits(bits), .. } if !self.plan.ring => {
                Payload { value: *bits, ..payload }
            }
            _ => payload,
        };
        self.tell(event, Some((job.lease, payload)))
    }
}
