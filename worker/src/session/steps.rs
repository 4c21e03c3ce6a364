//! The optimizer at a worker. One that has all of a step in hand makes the optimizer step itself, with the coordinator's bits, and goes on with
//! the next one: nobody waits for parameters to come back.

use std::borrow::Cow;

use lockstep_proto::optimizer::Optimizer;
use lockstep_proto::optimizer::whole::{self, Diverged, Made};
use lockstep_proto::recipe::OptimizerSettings;
#[cfg(feature = "cuda")]
use lockstep_proto::recipe::Recipe;
#[cfg(feature = "cuda")]
use lockstep_proto::schema::Schema;
use lockstep_proto::tensors::{self, Assembly};
use lockstep_proto::wire::{OptimizerState, StatePart, from_worker};

use super::compute::Computer;
use crate::error::WorkerError;
#[cfg(feature = "cuda")]
use crate::model::Weights;

/// An optimizer's state that goes with the parameters of `version`.
#[derive(Debug)]
pub(super) struct State {
    version: u64,
    steps: u64,
    vectors: Vec<(String, Vec<f32>)>,
}

/// A state that is on its way.
#[derive(Debug)]
pub(super) struct Incoming {
    state: State,
    open: Assembly,
}

/// Adds a part of the state of an optimizer of so many `parameters`; the state once it is whole.
pub(super) fn take_state(
    incoming: &mut Option<Incoming>,
    part: OptimizerState,
    settings: &OptimizerSettings,
    parameters: usize,
) -> Result<Option<State>, WorkerError> {
    let OptimizerState { version, steps, name, offset, data, digest } = part;
    if name.is_empty() {
        *incoming = None;
        return Ok(Some(State { version, steps, vectors: Vec::new() }));
    }
    let wrong = |problem: String| Err(WorkerError::Protocol(format!("the optimizer's state: {problem}")));
    // one value is enough to know its vectors' names
    let one = Optimizer::new(settings, 1);
    let names: Vec<&str> = one.state().into_iter().map(|(name, _)| name).collect();
    let mut now = match incoming.take() {
        Some(now) if (now.state.version, now.state.steps) == (version, steps) => now,
        _ => {
            let state = State { version, steps, vectors: Vec::new() };
            Incoming { state, open: Assembly::new(parameters) }
        }
    };
    let expected = names.get(now.state.vectors.len()).copied();
    if expected != Some(name.as_str()) {
        return wrong(format!("{name:.40?} comes where {:?} is expected", expected.unwrap_or("nothing")));
    }
    now.open.add(offset, &data)?;
    if now.open.is_complete() {
        let done = std::mem::replace(&mut now.open, Assembly::new(0));
        now.state.vectors.push((name, done.finish(digest)?));
        if now.state.vectors.len() == names.len() {
            return Ok(Some(now.state));
        }
        now.open = Assembly::new(parameters);
    }
    *incoming = Some(now);
    Ok(None)
}

/// Where steps are made.
#[derive(Debug)]
enum Stepper {
    Here(Optimizer),
    #[cfg(feature = "cuda")]
    OnDevice(Box<crate::cuda::OnDevice>),
}

/// An optimizer that has made all steps up to `version`.
#[derive(Debug)]
pub(super) struct Replica {
    version: u64,
    stepper: Stepper,
}

impl Replica {
    pub(super) fn new(settings: &OptimizerSettings, parameters: usize, state: State) -> Result<Self, String> {
        let State { version, steps, vectors } = state;
        let mut optimizer = Optimizer::new(settings, parameters);
        if steps > 0 {
            optimizer.restore(steps, &vectors).map_err(|error| error.to_string())?;
        }
        Ok(Self { version, stepper: Stepper::Here(optimizer) })
    }

    /// The same beside its parameters, if they are on a GPU.
    #[cfg(feature = "cuda")]
    fn on(self, weights: Option<&Weights>, schema: &Schema, recipe: &Recipe) -> Result<Self, String> {
        let Self { version, stepper } = self;
        let stepper = match (weights.and_then(Weights::packed), stepper) {
            (Some(packed), Stepper::Here(optimizer)) => {
                let moved = crate::cuda::OnDevice::new(packed, schema, recipe, optimizer);
                Stepper::OnDevice(Box::new(moved.map_err(|error| crate::model::plain(error).to_string())?))
            }
            (_, stepper) => stepper,
        };
        Ok(Self { version, stepper })
    }
}

/// What a computing thread makes steps with.
#[derive(Debug, Default)]
pub(super) struct OwnSteps {
    incoming: Option<Incoming>,
    replica: Option<Replica>,
    /// The gradient that becomes a step; kept, because fresh pages cost more than the copy.
    sum: Vec<f32>,
    /// Where it is on a GPU.
    #[cfg(feature = "cuda")]
    on_device: Option<crate::cuda::Gradient>,
}

impl OwnSteps {
    /// Whether steps are made of what is on the host.
    pub(super) fn on_host(&self) -> bool {
        matches!(self.replica, Some(Replica { stepper: Stepper::Here(_), .. }))
    }

    /// The gradient that the next step is made of.
    pub(super) fn remember(&mut self, sum: &[f32]) {
        self.sum.clear();
        self.sum.extend_from_slice(sum);
    }

    /// The same, where the GPU has it, or will: as long as nothing else is asked for before the step.
    #[cfg(feature = "cuda")]
    pub(super) fn remember_on_device(&mut self, gradient: crate::cuda::Gradient) {
        self.on_device = Some(gradient);
    }
}

impl Computer {
    /// A part of the coordinator's optimizer, which is also this worker's when all of it is here.
    ///
    /// What goes wrong here, and in [`Computer::make_step`], shows at the next lease: it finds no parameters, and says so.
    pub(super) fn begin_steps(&mut self, part: OptimizerState) {
        let (settings, parameters) = (&self.prepared.recipe.optimizer, self.prepared.schema.parameters());
        let state = take_state(&mut self.steps.incoming, part, settings, parameters).map_err(|error| error.to_string());
        let replica = state.and_then(|state| state.map(|state| Replica::new(settings, parameters, state)).transpose());
        #[cfg(feature = "cuda")]
        let replica = replica.and_then(|replica| {
            let weights = self.weights.as_ref().map(|(_, weights)| weights);
            let (schema, recipe) = (&self.prepared.schema, &self.prepared.recipe);
            replica.map(|replica| replica.on(weights, schema, recipe)).transpose()
        });
        self.steps.replica = replica.unwrap_or_else(|error| {
            tracing::error!("{error}");
            None
        });
    }

    /// Makes the step that follows from the gradient that was remembered, which is of all of `version`, at the rate `lr`: what was made, or none
    /// where a GPU was asked for it and says so later.
    ///
    /// A gradient that diverged is none to go on from; its norm says so.
    ///
    /// # Errors
    /// It can't be made, in words; there are no weights then.
    pub(super) fn make_step(&mut self, version: u64, lr: f64) -> Result<Option<Made>, String> {
        let replica = self.steps.replica.take().filter(|replica| replica.version == version);
        let made = match replica {
            Some(mut replica) => self.step_of(&mut replica.stepper, version, lr).map(|made| (replica, made)),
            None => Err(format!("there is no optimizer of version {version} here")),
        };
        match made {
            Ok((_, Some(made))) if !made.norm.is_finite() => {
                self.weights = None;
                Ok(Some(made))
            }
            Ok((replica, made)) => {
                self.steps.replica = Some(Replica { version: version + 1, ..replica });
                Ok(made)
            }
            Err(problem) => {
                self.weights = None;
                Err(format!("step {}: {problem}", version + 1))
            }
        }
    }

    /// The same where the coordinator makes it, too: it comes to what goes wrong, and ends the run, or the next lease finds no parameters.
    pub(super) fn make_step_or_say(&mut self, version: u64, lr: f64) {
        if let Err(problem) = self.make_step(version, lr) {
            tracing::error!("{problem}");
        }
    }

    fn step_of(&mut self, stepper: &mut Stepper, version: u64, lr: f64) -> Result<Option<Made>, String> {
        let (recipe, schema) = (&self.prepared.recipe, &self.prepared.schema);
        match stepper {
            Stepper::Here(optimizer) => {
                match whole::step(optimizer, recipe, schema, lr, &mut self.steps.sum, &mut self.flat) {
                    Err(Diverged(norm)) => Ok(Some(Made { penalty: 0.0, norm })),
                    Ok(made) => {
                        let flat = std::mem::take(&mut self.flat);
                        self.take(version + 1, &flat);
                        self.flat = flat;
                        Ok(Some(made))
                    }
                }
            }
            #[cfg(feature = "cuda")]
            Stepper::OnDevice(optimizer) => {
                let (held, weights) = self.weights.as_mut().ok_or("there are no weights")?;
                let (Some(packed), Some(sum)) = (weights.packed(), self.steps.on_device.take()) else {
                    return Err("weights and gradient are not on the GPU".to_owned());
                };
                optimizer.step(packed, sum, lr).map_err(|error| crate::model::plain(error).to_string())?;
                *held = version + 1;
                Ok(None)
            }
        }
    }

    /// Sends parameters and the optimizer's state of `version`, which this worker came to, for the answer to `lease`.
    pub(super) fn send_state(&mut self, lease: u64, version: u64) -> Result<(), String> {
        let Some(mut replica) = self.steps.replica.take_if(|replica| replica.version == version) else {
            // the step diverged: there is nothing to send, and its answer says so
            return Ok(());
        };
        let send = |steps, name: &str, values: Cow<'_, [f32]>| self.send_vector(lease, steps, name, values);
        let sent = self.with_vectors(&mut replica.stepper, send);
        self.steps.replica = Some(replica);
        sent
    }

    /// Hands `each` vector that a step came to over, with the number of steps and its name: first the flat one, which has none.
    #[cfg_attr(not(feature = "cuda"), expect(clippy::unnecessary_wraps, reason = "only a GPU fails"))]
    fn with_vectors(
        &self,
        stepper: &mut Stepper,
        mut each: impl FnMut(u64, &str, Cow<'_, [f32]>),
    ) -> Result<(), String> {
        match stepper {
            Stepper::Here(optimizer) => {
                let steps = optimizer.steps();
                each(steps, "", Cow::Borrowed(&self.flat));
                for (name, values) in optimizer.state() {
                    each(steps, name, Cow::Borrowed(values));
                }
            }
            #[cfg(feature = "cuda")]
            Stepper::OnDevice(optimizer) => {
                let weights = self.weights.as_ref().and_then(|(_, weights)| weights.packed());
                let weights = weights.ok_or("there are no weights")?;
                for vector in 0..optimizer.vectors() {
                    let fetched = optimizer.fetch(weights, vector, self.buffers.take());
                    let (name, values) = fetched.map_err(|error| crate::model::plain(error).to_string())?;
                    each(optimizer.steps(), name, Cow::Owned(values));
                }
            }
        }
        Ok(())
    }

    /// The checksum of what [`Computer::send_state`] would send; 0 where there is nothing to send.
    #[cfg(feature = "nccl")]
    pub(super) fn state_digest(&mut self, version: u64) -> Result<u64, String> {
        let Some(mut replica) = self.steps.replica.take_if(|replica| replica.version == version) else {
            return Ok(0);
        };
        let mut digests = Vec::new();
        let looked_at = self.with_vectors(&mut replica.stepper, |_, _, values| {
            digests.push(tensors::digest_values(&values));
            if let Cow::Owned(values) = values {
                self.buffers.give(values);
            }
        });
        self.steps.replica = Some(replica);
        looked_at.map(|()| tensors::digest_of(&digests))
    }

    /// Through shared memory, if there is room, or in parts.
    fn send_vector(&self, lease: u64, steps: u64, name: &str, values: Cow<'_, [f32]>) {
        let name = name.to_owned();
        let send = |part| self.send(from_worker::Message::State(part));
        if let Some((plane, slot)) = self.plane.as_ref().and_then(|plane| Some((plane, plane.gradients.claim()?))) {
            let (digest, slot) = (plane.gradients.write(slot, &values), Some(slot as u32));
            send(StatePart { lease, steps, name, digest, slot, ..StatePart::default() });
            if let Cow::Owned(values) = values {
                self.buffers.give(values);
            }
            return;
        }
        let digest = tensors::digest_values(&values);
        let bytes = self.buffers.lend(values.into_owned());
        for part in tensors::parts(bytes.len()) {
            let (name, offset, data) = (name.clone(), (part.start / 4) as u64, bytes.slice(part));
            send(StatePart { lease, steps, name, offset, data, digest, slot: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::recipe::OptimizerName;
    use lockstep_proto::tensors;

    use super::*;

    fn settings() -> OptimizerSettings {
        OptimizerSettings { name: OptimizerName::Adam, ..OptimizerSettings::default() }
    }

    fn part(name: &str, values: &[f32]) -> OptimizerState {
        let data = tensors::into_bytes(values.to_vec());
        let digest = tensors::digest(&data);
        OptimizerState { version: 7, steps: 7, name: name.to_owned(), offset: 0, data, digest }
    }

    #[test]
    fn a_state_is_whole_when_all_its_vectors_are_there() {
        let (first, second) = (part("exp_avg", &[1.0, -2.0]), part("exp_avg_sq", &[3.0, 4.0]));
        let mut incoming = None;
        let mut take = |part| take_state(&mut incoming, part, &settings(), 2);
        assert!(take(first.clone()).expect("the first").is_none());
        let state = take(second.clone()).expect("the second").expect("whole");
        let replica = Replica::new(&settings(), 2, state).expect("its own");
        #[cfg_attr(
            not(feature = "cuda"),
            expect(irrefutable_let_patterns, reason = "without a GPU there is one place")
        )]
        let Stepper::Here(optimizer) = &replica.stepper else { panic!("it has not moved") };
        assert_eq!(optimizer.state(), [("exp_avg", &[1.0_f32, -2.0][..]), ("exp_avg_sq", &[3.0, 4.0])]);
        assert_eq!((replica.version, optimizer.steps()), (7, 7));
        // a new one begins where another was cut off
        assert!(take(first.clone()).expect("the first").is_none());
        let fresh = OptimizerState { version: 0, ..OptimizerState::default() };
        assert!(take(fresh).expect("nothing to send").is_some_and(|state| state.vectors.is_empty()));
        assert!(take(first).expect("the first again").is_none());
        assert!(take(second).expect("the second again").is_some());
    }

    #[test]
    fn what_is_no_state_of_the_optimizer_is_refused() {
        let refused = |part: OptimizerState| {
            take_state(&mut None, part, &settings(), 2).expect_err("it should be refused").to_string()
        };
        assert!(refused(part("exp_avg_sq", &[1.0, 2.0])).contains("exp_avg"), "out of order");
        assert!(refused(part("velocity", &[1.0, 2.0])).contains("velocity"));
        refused(part("exp_avg", &[1.0, 2.0, 3.0]));
        refused(OptimizerState { digest: 1, ..part("exp_avg", &[1.0, 2.0]) });
        let negative = State {
            version: 1,
            steps: 1,
            vectors: vec![("exp_avg".into(), vec![0.0]), ("exp_avg_sq".into(), vec![-1.0])],
        };
        assert!(Replica::new(&settings(), 1, negative).expect_err("a mean of squares").contains("not negative"));
    }
}
