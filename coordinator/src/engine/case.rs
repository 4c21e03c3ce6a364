//! One piece of work: who has it, who answered what, and what that shows.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Finding, LeaseId, Purpose, WorkerId};

/// Computations that settle a difference among three workers: two agree, or the work has no one result.
const THREE: usize = 3;

/// … and between two workers, where nobody else is there: each once more, and who contradicts itself is wrong. Then
/// somebody new must come.
const TWO_TWICE: usize = 4;

/// One worker's answer.
#[derive(Clone, Debug)]
struct Testimony {
    worker: WorkerId,
    lease: LeaseId,
    finding: Finding,
}

/// What is known of one piece of work.
#[derive(Clone, Debug)]
pub(super) struct Case {
    holders: BTreeMap<LeaseId, WorkerId>,
    testimonies: Vec<Testimony>,
    /// Workers that failed at it.
    barred: Vec<WorkerId>,
    /// How often somebody said that it can't be computed.
    failures: u32,
    /// Answers that must agree before one is used: 2 if it is audited.
    wanted: usize,
    /// The answer that was used.
    accepted: Option<LeaseId>,
}

/// What an answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One more must agree.
    Hold,
    /// Use this answer, forget the others; these workers gave a wrong one.
    Accept { worker: WorkerId, lease: LeaseId, forget: Vec<(WorkerId, LeaseId)>, odd: Vec<WorkerId> },
    /// It agrees with the one that was used.
    Same,
    /// It differs from the one that was used.
    Dispute { first: WorkerId },
    /// The one that was used is right; these workers gave a wrong one.
    Confirmed { odd: Vec<WorkerId> },
    /// The one that was used is wrong, as are any others of these workers.
    Overturned { odd: Vec<WorkerId> },
    /// Whoever computes it finds this.
    NotFinite(String),
    /// They differ, and nothing shows which is right.
    Hopeless,
}

impl Case {
    pub(super) fn new(wanted: usize) -> Self {
        Self {
            holders: BTreeMap::new(),
            testimonies: Vec::new(),
            barred: Vec::new(),
            failures: 0,
            wanted,
            accepted: None,
        }
    }

    /// Whether two must agree.
    #[cfg(test)]
    pub(super) fn is_audited(&self) -> bool {
        self.wanted > 1
    }

    pub(super) fn hold(&mut self, lease: LeaseId, worker: WorkerId) {
        self.holders.insert(lease, worker);
    }

    pub(super) fn is_held_by(&self, lease: LeaseId) -> bool {
        self.holders.contains_key(&lease)
    }

    /// Nobody has it in hands.
    pub(super) fn is_free(&self) -> bool {
        self.holders.is_empty()
    }

    /// Whether `worker` has it, answered it or failed at it: another one should be asked next.
    pub(super) fn knows(&self, worker: WorkerId) -> bool {
        self.holders.values().any(|holder| *holder == worker)
            || self.testimonies.iter().any(|testimony| testimony.worker == worker)
            || self.barred.contains(&worker)
    }

    pub(super) fn was_answered_by(&self, worker: WorkerId) -> bool {
        self.testimonies.iter().any(|testimony| testimony.worker == worker)
    }

    /// Whom to ask again where nobody new is there: who answered least often, and rather who found a number than who did
    /// not, for that is what broken hardware makes of numbers.
    pub(super) fn asked(&self, worker: WorkerId) -> (usize, bool) {
        let mine = self.testimonies.iter().filter(|testimony| testimony.worker == worker);
        let not_finite = mine.clone().any(|testimony| matches!(testimony.finding, Finding::NotFinite(_)));
        (mine.count(), not_finite)
    }

    /// Whether asking the same workers again shows nothing more.
    pub(super) fn needs_somebody_new(&self) -> bool {
        self.testimonies.len() >= TWO_TWICE && self.due().is_some()
    }

    pub(super) fn has_in_hand(&self, worker: WorkerId) -> bool {
        self.holders.values().any(|holder| *holder == worker)
    }

    /// Whether somebody's answer was used and nothing speaks against it.
    pub(super) fn is_settled(&self) -> bool {
        self.accepted.is_some() && self.majority().is_some()
    }

    /// Who gave the answer that was used.
    pub(super) fn source(&self) -> Option<WorkerId> {
        let used = |testimony: &&Testimony| Some(testimony.lease) == self.accepted;
        self.testimonies.iter().find(used).map(|testimony| testimony.worker)
    }

    /// Nothing is known of it but who had it.
    pub(super) fn is_blank(&self) -> bool {
        self.testimonies.is_empty() && self.barred.is_empty()
    }

    /// A lone holder: the work may be copied.
    pub(super) fn is_held_once(&self) -> bool {
        self.holders.len() == 1 && !self.is_settled()
    }

    /// The lease came to nothing: its worker is gone.
    pub(super) fn lost(&mut self, lease: LeaseId) {
        self.holders.remove(&lease);
    }

    /// The lease came to nothing that can be used. Returns how often the work itself was said to be the reason.
    pub(super) fn refuse(&mut self, lease: LeaseId, failed: bool) -> u32 {
        self.barred.extend(self.holders.remove(&lease));
        self.failures += u32::from(failed);
        self.failures
    }

    /// Why one more should be asked, if so.
    pub(super) fn due(&self) -> Option<Purpose> {
        if self.is_settled() {
            return None;
        }
        let open = self.target().saturating_sub(self.testimonies.len() + self.holders.len());
        match (open, &self.testimonies[..]) {
            (0, _) => None,
            (_, [Testimony { finding: Finding::Bits(_), .. }]) if self.accepted.is_none() => Some(Purpose::Audit),
            (_, []) if self.holders.is_empty() => Some(Purpose::Again),
            (_, []) => Some(Purpose::Audit),
            _ => Some(Purpose::Decide),
        }
    }

    /// Takes in an answer.
    pub(super) fn testify(&mut self, worker: WorkerId, lease: LeaseId, finding: Finding) -> Verdict {
        self.holders.remove(&lease);
        self.testimonies.push(Testimony { worker, lease, finding });
        let Some(right) = self.majority().cloned() else {
            return match self.source() {
                _ if self.testimonies.len() >= self.target() => Verdict::Hopeless,
                Some(first) => Verdict::Dispute { first },
                None => Verdict::Hold,
            };
        };
        let agrees = |testimony: &&Testimony| testimony.finding.agrees(&right.finding);
        let odd: Vec<_> = self.testimonies.iter().filter(|t| !agrees(t)).map(|t| t.worker).collect();
        if let Finding::NotFinite(what) = right.finding {
            return Verdict::NotFinite(what);
        }
        let Some(used) = self.accepted else {
            self.accepted = Some(right.lease);
            let others = self.testimonies.iter().filter(|testimony| testimony.lease != right.lease);
            let forget = others.map(|testimony| (testimony.worker, testimony.lease)).collect();
            return Verdict::Accept { worker: right.worker, lease: right.lease, forget, odd };
        };
        let stands = self.testimonies.iter().filter(agrees).any(|testimony| testimony.lease == used);
        match (stands, odd.is_empty()) {
            (true, true) => Verdict::Same,
            (true, false) => Verdict::Confirmed { odd },
            (false, _) => Verdict::Overturned { odd },
        }
    }

    /// All answers so far agree, and are numbers.
    fn unanimous(&self) -> bool {
        let first = self.testimonies.first().map(|testimony| &testimony.finding);
        let agree = |first: &Finding| self.testimonies.iter().all(|testimony| testimony.finding.agrees(first));
        first.is_none_or(|first| matches!(first, Finding::Bits(_)) && agree(first))
    }

    /// The first of those answers that enough others agree with. A worker that repeats itself has one voice, unless nobody
    /// else spoke, or nobody else found a number.
    fn majority(&self) -> Option<&Testimony> {
        let needed = if self.unanimous() { self.wanted } else { 2 };
        self.testimonies.iter().find(|one| {
            let (with, against): (Vec<_>, Vec<_>) =
                self.testimonies.iter().partition(|other| other.finding.agrees(&one.finding));
            let is_number = matches!(one.finding, Finding::Bits(_));
            let opposed = against.iter().any(|other| !is_number || matches!(other.finding, Finding::Bits(_)));
            if opposed { voices(with.into_iter()) >= needed } else { with.len() >= needed }
        })
    }

    /// Computations that it takes.
    fn target(&self) -> usize {
        let first = self.testimonies.first().map(|testimony| &testimony.finding);
        match first {
            _ if self.unanimous() => self.wanted,
            Some(first) if self.testimonies.iter().all(|testimony| testimony.finding.agrees(first)) => 2,
            _ if voices(self.testimonies.iter()) >= THREE => THREE,
            _ => (self.testimonies.len() + 1).max(THREE),
        }
    }
}

/// How many workers they are of.
fn voices<'a>(testimonies: impl Iterator<Item = &'a Testimony>) -> usize {
    testimonies.map(|testimony| testimony.worker).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: &str = "NaN in tensor a";

    fn bits(n: u64) -> Finding {
        Finding::Bits(n)
    }

    fn nan() -> Finding {
        Finding::NotFinite(NAN.to_owned())
    }

    /// Worker w answers with lease 10 + w.
    fn case(wanted: usize, findings: &[Finding]) -> (Case, Verdict) {
        let by: Vec<_> = (0..).zip(findings.iter().cloned()).collect();
        case_of(wanted, &by)
    }

    /// Answer n has lease 10 + n.
    fn case_of(wanted: usize, answers: &[(WorkerId, Finding)]) -> (Case, Verdict) {
        let mut case = Case::new(wanted);
        let mut verdict = Verdict::Hold;
        for (lease, (worker, finding)) in (10..).zip(answers) {
            case.hold(lease, *worker);
            verdict = case.testify(*worker, lease, finding.clone());
        }
        (case, verdict)
    }

    #[test]
    fn who_repeats_itself_has_one_voice_and_who_contradicts_itself_is_wrong() {
        // a worker that always says NaN does not outvote the other by saying it again
        let (open, verdict) = case_of(1, &[(0, nan()), (1, bits(7)), (0, nan())]);
        assert_eq!((verdict, open.due()), (Verdict::Hold, Some(Purpose::Decide)));
        assert_eq!((open.asked(0), open.asked(1)), ((2, true), (1, false)), "the other one is asked");
        let odd = |verdict: Verdict| match verdict {
            Verdict::Accept { odd, .. } => odd,
            other => panic!("{other:?}"),
        };
        assert_eq!(odd(case_of(1, &[(0, nan()), (1, bits(7)), (1, bits(7))]).1), [0]);
        assert_eq!(odd(case_of(2, &[(0, bits(9)), (1, bits(7)), (1, bits(7)), (0, bits(7))]).1), [0]);
        assert_eq!(case_of(2, &[(0, bits(9)), (1, bits(7)), (1, bits(7))]).1, Verdict::Hold);
        let four = [(0, bits(9)), (1, bits(7)), (1, bits(7)), (0, bits(9))];
        let (stuck, verdict) = case_of(2, &four);
        assert!(verdict == Verdict::Hold && stuck.needs_somebody_new());
        assert_eq!(odd(case_of(2, &[&four[..], &[(2, bits(7))]].concat()).1), [0, 0]);
        assert_eq!(case_of(2, &[&four[..], &[(2, bits(8))]].concat()).1, Verdict::Hopeless);
        // alone, its word must do
        assert_eq!(case_of(1, &[(0, nan()), (0, nan())]).1, Verdict::NotFinite(NAN.to_owned()));
        assert_eq!(odd(case_of(2, &[(0, bits(7)), (0, bits(7))]).1), Vec::<WorkerId>::new());
    }

    fn accept(lease: LeaseId, forget: &[WorkerId], odd: &[WorkerId]) -> Verdict {
        let forget = forget.iter().map(|worker| (*worker, 10 + worker)).collect();
        Verdict::Accept { worker: lease - 10, lease, forget, odd: odd.to_vec() }
    }

    #[test]
    fn the_first_answer_counts_and_a_later_one_is_compared() {
        assert_eq!(case(1, &[bits(7)]).1, accept(10, &[], &[]));
        assert_eq!(case(1, &[bits(7), bits(7)]).1, Verdict::Same);
        let (disputed, verdict) = case(1, &[bits(7), bits(8)]);
        assert_eq!((verdict, disputed.due()), (Verdict::Dispute { first: 0 }, Some(Purpose::Decide)));
        assert!(!disputed.is_settled());
        assert_eq!(case(1, &[bits(7), bits(8), bits(7)]).1, Verdict::Confirmed { odd: vec![1] });
        assert_eq!(case(1, &[bits(7), bits(8), bits(8)]).1, Verdict::Overturned { odd: vec![0] });
        assert_eq!(case(1, &[bits(7), bits(8), bits(9)]).1, Verdict::Hopeless);
    }

    #[test]
    fn an_audited_answer_waits_for_another() {
        let (held, verdict) = case(2, &[bits(7)]);
        assert_eq!((verdict, held.due()), (Verdict::Hold, Some(Purpose::Audit)));
        assert_eq!(case(2, &[bits(7), bits(7)]).1, accept(10, &[1], &[]));
        assert_eq!(case(2, &[bits(7), bits(8)]).1, Verdict::Hold);
        assert_eq!(case(2, &[bits(7), bits(8), bits(8)]).1, accept(11, &[0, 2], &[0]));
    }

    #[test]
    fn what_is_not_finite_is_asked_of_another() {
        let (held, verdict) = case(1, &[nan()]);
        assert_eq!((verdict, held.due()), (Verdict::Hold, Some(Purpose::Decide)));
        assert_eq!(case(1, &[nan(), nan()]).1, Verdict::NotFinite(NAN.to_owned()));
        assert_eq!(case(1, &[nan(), bits(7)]).1, Verdict::Hold);
        assert_eq!(case(1, &[nan(), bits(7), bits(7)]).1, accept(11, &[0, 2], &[0]));
        assert_eq!(case(1, &[nan(), bits(7), nan()]).1, Verdict::NotFinite(NAN.to_owned()));
    }

    #[test]
    fn a_refused_answer_makes_the_work_due_for_somebody_else() {
        let mut case = Case::new(1);
        case.hold(10, 0);
        assert_eq!(case.due(), None);
        assert_eq!(case.refuse(10, false), 0);
        assert_eq!(case.due(), Some(Purpose::Again));
        assert!(case.knows(0) && !case.knows(1) && !case.is_blank());
        case.hold(11, 1);
        assert_eq!(case.refuse(11, true), 1);
    }
}
