//! Steps that a worker made itself: what it came to, put together and checked before anybody uses it.

use std::sync::Arc;

use lockstep_proto::optimizer::Optimizer;
use lockstep_proto::recipe::OptimizerSettings;
use lockstep_proto::schema::Schema;
use lockstep_proto::shared::Shared;
use lockstep_proto::tensors::{self, Assembly, PartError};
use lockstep_proto::tree::Node;
use lockstep_proto::wire::{Made, StatePart};

use super::answer::{Answered, check, times};
use crate::actor::{Answer, State};
use crate::engine::LeaseId;

/// One worker's state on its way in.
#[derive(Debug)]
pub(super) struct States {
    schema: Schema,
    settings: OptimizerSettings,
    /// Name and length of each vector, in order. The flat vector has no name.
    vectors: Vec<(String, usize)>,
    /// Memory that the worker may lay vectors down in.
    shared: Option<Arc<Shared>>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    lease: LeaseId,
    steps: u64,
    done: Vec<Vec<f32>>,
    digests: Vec<u64>,
    next: Assembly,
    /// Why it can't be used. What still comes of it is passed over.
    problem: Option<String>,
}

impl States {
    pub(super) fn new(schema: Schema, settings: OptimizerSettings, shared: Option<Arc<Shared>>) -> Self {
        // one value is enough to know its vectors' names
        let one = Optimizer::new(&settings, 1);
        let of_optimizer = one.state().into_iter().map(|(name, _)| (name.to_owned(), schema.parameters()));
        let vectors = std::iter::once((String::new(), schema.len())).chain(of_optimizer).collect();
        Self { schema, settings, vectors, shared, open: None }
    }

    /// Takes in a part. Whether a state was given up for it that was not whole.
    pub(super) fn add(&mut self, part: &StatePart) -> bool {
        let same = |open: &mut Open| (open.lease, open.steps) == (part.lease, part.steps);
        let before = self.open.is_some();
        let open = self.open.take_if(same);
        let given_up = before && open.is_none();
        let fresh = || Open {
            lease: part.lease,
            steps: part.steps,
            done: Vec::new(),
            digests: Vec::new(),
            next: Assembly::new(self.vectors[0].1),
            problem: None,
        };
        let mut open = open.unwrap_or_else(fresh);
        if open.problem.is_none() {
            open.problem = self.take(&mut open, part).err();
        } else if let (Some(shared), Some(slot)) = (&self.shared, part.slot) {
            shared.release(slot as usize);
        }
        self.open = Some(open);
        given_up
    }

    fn take(&self, open: &mut Open, part: &StatePart) -> Result<(), String> {
        let wrong = |problem: String| format!("what it came to was refused: {problem}");
        let Some((name, _)) = self.vectors.get(open.done.len()).filter(|(name, _)| *name == part.name) else {
            let expected = self.vectors.get(open.done.len()).map_or("nothing", |(name, _)| name);
            return Err(wrong(format!("{:.40?} comes where {expected:?} is expected", part.name)));
        };
        let len = self.vectors.get(open.done.len() + 1).map_or(0, |(_, len)| *len);
        let whole = match part.slot {
            Some(slot) => Some(self.pick_up(slot, open, part.digest).map_err(wrong)?),
            None => {
                open.next.add(part.offset, &part.data).map_err(|error| wrong(error.to_string()))?;
                let done = open.next.is_complete().then(|| std::mem::replace(&mut open.next, Assembly::new(len)));
                done.map(|done| Ok::<_, PartError>((done.is_finite(), done.finish(part.digest)?)))
                    .transpose()
                    .map_err(|error| wrong(error.to_string()))?
            }
        };
        if let Some((finite, values)) = whole {
            if !finite && let Some(at) = tensors::first_not_finite(&values) {
                let tensor = self.schema.at(at).map_or("?", |tensor| &tensor.name);
                let what = if name.is_empty() { "the parameters" } else { name };
                return Err(wrong(format!("{what} have {} in tensor {tensor}", values[at])));
            }
            open.done.push(values);
            open.digests.push(part.digest);
        }
        Ok(())
    }

    /// Copies a vector out of shared memory, and gives its slot back; whether it is finite.
    fn pick_up(&self, slot: u32, open: &mut Open, digest: u64) -> Result<(bool, Vec<f32>), String> {
        let shared = self.shared.as_ref().ok_or("it is in shared memory, and there is none")?;
        let (_, len) = self.vectors.get(open.done.len()).ok_or("there is no such vector")?;
        let mut values = vec![0.0; *len];
        let found = shared.read(slot as usize, &mut values).ok_or("it is in a slot that is not there")?;
        shared.release(slot as usize);
        if found.digest != digest {
            return Err(PartError::Digest { found: found.digest, expected: digest }.to_string());
        }
        let next = self.vectors.get(open.done.len() + 1).map_or(0, |(_, len)| *len);
        open.next = Assembly::new(next);
        Ok((found.finite, values))
    }

    /// The lease is answered otherwise: what came of it is of no use.
    pub(super) fn forget(&mut self, lease: LeaseId) {
        self.open.take_if(|open| open.lease == lease);
    }

    /// The answer that `made` is, with the state that came before it.
    pub(super) fn made(&mut self, made: Made) -> Answered {
        let Made { lease, version, node, summary, penalty, norm } = made;
        let (open, summary) = (self.open.take(), summary.unwrap_or_default());
        let refused = |reason: String| (lease, Answer::Refused { reason });
        let [compute_us, encode_us, wait_us] = times(&summary);
        if let Err(answer) = check(&summary) {
            return (lease, answer);
        }
        if !norm.is_finite() || !penalty.is_finite() {
            let what = format!("its gradient has the norm {norm}, and the penalty is {penalty}");
            return (lease, Answer::NotFinite { what });
        }
        let node = node.map(|node| Node { level: node.level, index: node.index });
        let state = match open {
            None => None,
            Some(open) if open.lease != lease => {
                return refused("it sends the state of another lease's step".to_owned());
            }
            Some(Open { problem: Some(problem), .. }) => return refused(problem),
            Some(open) => match self.complete(open, version.saturating_add(1)) {
                Ok(state) => Some(Box::new(state)),
                Err(problem) => return refused(problem),
            },
        };
        let outcomes = summary.outcomes;
        (lease, Answer::Made { version, node, outcomes, penalty, norm, state, compute_us, encode_us, wait_us })
    }

    fn complete(&self, open: Open, steps: u64) -> Result<State, String> {
        let Open { steps: found, mut done, digests, .. } = open;
        if done.len() != self.vectors.len() {
            return Err(format!("what it came to has {} of {} vectors", done.len(), self.vectors.len()));
        }
        if found != steps {
            return Err(format!("its optimizer has made {found} steps, and these are {steps}"));
        }
        let values = done.remove(0);
        let names = self.vectors[1..].iter().map(|(name, _)| name.clone());
        let mut optimizer = Optimizer::new(&self.settings, self.schema.parameters());
        let vectors: Vec<_> = names.zip(done).collect();
        optimizer.restore(steps, &vectors).map_err(|error| error.to_string())?;
        Ok(State { values, optimizer, digest: tensors::digest_of(&digests) })
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::recipe::OptimizerName;
    use lockstep_proto::schema::{Kind, TensorSpec};
    use lockstep_proto::wire::{self, GradientSummary, ShardOutcome};

    use super::*;

    fn states() -> States {
        with_memory(None)
    }

    fn with_memory(shared: Option<Arc<Shared>>) -> States {
        let tensor = |name: &str, n, kind| TensorSpec { name: name.to_owned(), shape: vec![n], kind };
        let tensors = vec![tensor("a", 2, Kind::Parameter), tensor("b", 1, Kind::Buffer { momentum: 0.1 })];
        let settings = OptimizerSettings { name: OptimizerName::Adam, ..OptimizerSettings::default() };
        States::new(Schema::new(tensors).expect("two tensors"), settings, shared)
    }

    fn part(name: &str, values: &[f32]) -> StatePart {
        let data = tensors::into_bytes(values.to_vec());
        let digest = tensors::digest(&data);
        StatePart { lease: 1, steps: 8, name: name.to_owned(), offset: 0, data, digest, slot: None }
    }

    fn whole() -> [StatePart; 3] {
        [part("", &[1.0, 2.0, 3.0]), part("exp_avg", &[4.0, 5.0]), part("exp_avg_sq", &[6.0, 7.0])]
    }

    fn made() -> Made {
        let outcomes = vec![ShardOutcome { count: 4, correct: 2, loss_sum: 1.0, ..ShardOutcome::default() }];
        let summary = Some(GradientSummary { outcomes, ..GradientSummary::default() });
        let node = Some(wire::Node { level: 0, index: 0 });
        Made { lease: 1, version: 7, node, summary, penalty: 0.5, norm: 2.0 }
    }

    fn reason((_, answer): Answered) -> String {
        match answer {
            Answer::Refused { reason } => reason,
            Answer::NotFinite { what } => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_state_is_whole_when_all_its_vectors_came() {
        let mut states = states();
        assert!(whole().iter().all(|part| !states.add(part)));
        let (1, Answer::Made { version: 7, state: Some(state), .. }) = states.made(made()) else { panic!("no state") };
        assert_eq!(state.values, [1.0, 2.0, 3.0]);
        assert_eq!(state.digest, tensors::digest_of(&whole().map(|part| part.digest)), "as another rank has it");
        assert_eq!((state.optimizer.steps(), state.optimizer.state()[1].1), (8, &[6.0, 7.0][..]));
        let (_, Answer::Made { state: None, penalty, norm, .. }) = states.made(made()) else { panic!("a state") };
        assert_eq!((penalty, norm), (0.5, 2.0));
        // one that failed after all, and is asked for again
        assert!(!states.add(&whole()[0]));
        states.forget(2);
        assert!(reason(states.made(made())).contains("1 of 3 vectors"));
        assert!(!states.add(&whole()[0]));
        states.forget(1);
        assert!(matches!(states.made(made()), (1, Answer::Made { state: None, .. })));
        // another lease's begins anew
        assert!(!states.add(&whole()[0]));
        assert!(states.add(&StatePart { lease: 2, ..part("", &[1.0; 3]) }));
        assert!(reason(states.made(made())).contains("another lease"));
    }

    #[test]
    fn a_state_may_lie_in_shared_memory() {
        let shared = Arc::new(Shared::create(3, 2, [3; 16]).expect("memory").0);
        let mut states = with_memory(Some(Arc::clone(&shared)));
        // three vectors through two slots: each is given back
        for (name, values) in [("", &[1.0, 2.0, 3.0][..]), ("exp_avg", &[4.0, 5.0]), ("exp_avg_sq", &[6.0, 7.0])] {
            let slot = shared.claim().expect("a slot");
            let digest = shared.write(slot, values);
            let part = StatePart { digest, slot: Some(slot as u32), data: Vec::new().into(), ..part(name, &[]) };
            assert!(!states.add(&part));
        }
        let (_, Answer::Made { state: Some(state), .. }) = states.made(made()) else { panic!("no state") };
        assert_eq!((&state.values[..], state.optimizer.state()[0].1), (&[1.0, 2.0, 3.0][..], &[4.0, 5.0][..]));
        // damaged, then passed over: the slots are free all the same
        for _ in 0..4 {
            let slot = shared.claim().expect("a slot");
            shared.write(slot, &[1.0; 3]);
            states.add(&StatePart { digest: 1, slot: Some(slot as u32), ..part("", &[]) });
        }
        assert!(reason(states.made(made())).contains("checksum"));
        states.add(&StatePart { slot: Some(7), ..part("", &[]) });
        assert!(reason(states.made(made())).contains("slot"));
    }

    #[test]
    fn what_can_not_be_a_state_is_refused() {
        let with = |number: usize, part: StatePart| {
            let mut states = states();
            let mut parts = whole();
            parts[number] = part;
            for part in &parts {
                states.add(part);
            }
            reason(states.made(made()))
        };
        assert!(with(1, part("exp_avg_sq", &[1.0; 2])).contains("exp_avg"), "out of order");
        assert!(with(0, part("", &[1.0; 4])).contains("has 3"), "too long");
        assert!(with(0, part("", &[1.0, f32::NAN, 1.0])).contains("NaN in tensor a"));
        assert!(with(2, StatePart { digest: 1, ..part("exp_avg_sq", &[1.0; 2]) }).contains("checksum"));
        assert!(with(2, part("exp_avg_sq", &[-1.0; 2])).contains("not negative"));
        assert!(
            with(2, StatePart { steps: 9, ..whole()[2].clone() }).contains("where \"\" is expected"),
            "another one's"
        );
        let mut states = states();
        assert!(whole()[..2].iter().all(|part| !states.add(part)));
        assert!(reason(states.made(made())).contains("2 of 3 vectors"));
        for part in whole() {
            states.add(&StatePart { steps: 7, ..part });
        }
        assert!(reason(states.made(made())).contains("7 steps"));
        assert!(reason(states.made(Made { norm: f64::NAN, ..made() })).contains("NaN"));
        assert!(!states.add(&whole()[0]));
        assert!(reason(states.made(Made { version: u64::MAX, ..made() })).contains("vectors"));
    }
}
