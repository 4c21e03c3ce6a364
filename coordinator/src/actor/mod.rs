//! The one task that owns a run's state: reads the clock, feeds the engine, does what it says.
//!
//! No lock anywhere: whoever wants something sends a message. Sums and optimizer steps run here, in the order of the
//! engine's commands.

mod behind;
mod check;
mod door;
mod evaluate;
mod message;
mod meter;
mod perform;
mod report;
mod rings;
mod sessions;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_proto::buffers::Buffers;
use lockstep_proto::optimizer::Optimizer;
use lockstep_proto::wire::{Refused, StopReply, ToWorker, Welcome};
use tokio::sync::{mpsc, oneshot};

pub(crate) use message::{Admitted, Answer, Message, Outbound, RingNews, State};

use crate::average::Average;
use crate::checkpoint::{Epoch, Store, Writer, Written};
use crate::engine::{Engine, Event, LeaseId, Outcome, WorkerId};
use crate::evaluation::Tally;
use crate::ledger::Ledger;
use crate::parameters::Parameters;
use crate::partition::Partition;
use crate::plan::Plan;
use crate::plane::Plane;
use crate::run::{Report, Run, RunError};
use crate::schedule::Schedule;
use crate::telemetry::{self, Summary, Telemetry};
use crate::traffic::TrafficMeter;
use behind::{Elsewhere, Mark, Told};
use meter::Meter;
use sessions::{Farewell, Sessions};

/// How often the engine hears that time went by: a fraction of the shortest deadline that it keeps.
const TICK: Duration = Duration::from_millis(100);

/// How long a checkpoint waits for the metrics that belong to it: without them it is still worth having.
const SETTLE: Duration = Duration::from_secs(5);

/// Refusals at the door that are told: somebody who knocks for ever must not fill the disk with what is said of it.
const REFUSALS_TOLD: u32 = 100;

/// How often workers are to call.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Everything that a run consists of.
pub(crate) struct Actor {
    run: Run,
    plan: Plan,
    engine: Engine,
    sessions: Sessions,
    partition: Partition,
    average: Average,
    plane: Plane,
    /// Vectors for the sessions to fill with the next gradients.
    buffers: Buffers,
    parameters: Parameters,
    optimizer: Optimizer,
    /// Steps that only a worker has the parameters of.
    mark: Option<Mark>,
    /// The open step, if its worker made it.
    elsewhere: Option<Elsewhere>,
    /// What brings workers the optimizer's state of which version, while ranks of a ring are sent it one after the other.
    replica: Option<(u64, Vec<ToWorker>)>,
    /// What was told of the steps that are made again now, the next one first.
    told: VecDeque<Told>,
    /// Epochs whose end was told by this process, counted from the run's first.
    epochs_told: u32,
    /// The version with which this process began.
    begun_at: u64,
    schedule: Schedule,
    tally: Option<Tally>,
    ledger: Ledger,
    epoch: Epoch,
    best: Option<(f64, u64)>,
    /// Answers that wait for another one to agree, at most four for each piece of work that is open; or for the other parts of a ring's steps.
    held: BTreeMap<LeaseId, Answer>,
    /// Examples of the shards that are summed into the open step.
    accepted: Vec<u32>,
    device_class: Option<String>,
    data_hash: String,
    /// Length of the records file that workers fetch.
    data_bytes: u64,
    summary: Summary,
    trace: Vec<Vec<u64>>,
    meter: Meter,
    traffic: Arc<TrafficMeter>,
    telemetry: Telemetry,
    store: Option<Store>,
    writer: Option<Writer>,
    /// Steps after this version rest on a wrong one.
    tainted: Option<u64>,
    warnings: Vec<String>,
    started: Instant,
    waiting_told: bool,
    /// Workers that were refused at the door.
    refused: u32,
    stops: Vec<oneshot::Sender<StopReply>>,
    outcome: Option<Outcome>,
}

impl Actor {
    pub(crate) fn new(
        run: Run,
        data_bytes: u64,
        telemetry: Telemetry,
        buffers: Buffers,
        traffic: Arc<TrafficMeter>,
    ) -> Result<Self, RunError> {
        run.check()?;
        let plan = run.plan();
        let position = run.position();
        let optimizer = run.optimizer()?;
        let state = run.resume.as_ref().map(|snapshot| snapshot.state.clone());
        let values = run.resume.as_ref().map_or_else(|| run.initial.clone(), |snapshot| snapshot.values.clone());
        let ledger = run.resume.as_ref().map_or_else(
            || Ledger::new(run.dataset.train.len()),
            |snapshot| Ledger::restore(snapshot.state.ledger, snapshot.used.clone()),
        );
        let store = run.folder.as_ref().map(|folder| Store::open(folder, run.recipe.checkpoint.keep)).transpose()?;
        let emitter = telemetry.emitter();
        let report = move |written: Written| emitter.emit(report::checkpoint_event(written));
        let files = telemetry.emitter();
        // a run that goes on from a checkpoint cuts its files back to there: they must hold what came before it
        let settle = move || files.settle(SETTLE);
        let writer = store.clone().map(|store| Writer::start(store, settle, report)).transpose()?;
        let summary = state.as_ref().map_or_else(Summary::default, |state| state.summary.clone());
        let best = state.as_ref().and_then(|state| Some((state.best_accuracy?, state.best_step?)));
        let steps_per_epoch = plan.steps_per_epoch();
        let mut actor = Self {
            engine: Engine::new(plan.clone(), position),
            sessions: Sessions::default(),
            partition: Partition::new(&plan, run.selection.train.clone()),
            average: Average::new(run.reducer, plan.leaves(position.version), buffers.clone()),
            plane: Plane::new(run.schema.len(), run.limits.shared_memory),
            buffers,
            parameters: Parameters::new(run.schema.clone(), values, position.version),
            optimizer,
            mark: None,
            elsewhere: None,
            replica: None,
            told: VecDeque::new(),
            epochs_told: 0,
            begun_at: position.version,
            schedule: Schedule::new(&run.recipe.schedule, run.recipe.optimizer.lr, steps_per_epoch, plan.total_steps()),
            tally: position.evaluation_owed.then(|| run.tally()),
            ledger,
            epoch: state.as_ref().map_or_else(Epoch::default, |state| state.epoch),
            best,
            held: BTreeMap::new(),
            accepted: Vec::new(),
            device_class: state.and_then(|state| state.device_class),
            data_hash: run.dataset.hash(),
            data_bytes,
            summary,
            trace: Vec::new(),
            meter: Meter::new(plan.total_steps() - position.version.min(plan.total_steps())),
            traffic,
            telemetry,
            store: store.clone(),
            writer,
            tainted: None,
            warnings: Vec::new(),
            started: Instant::now(),
            waiting_told: false,
            refused: 0,
            stops: Vec::new(),
            outcome: None,
            plan,
            run,
        };
        if let (Some(store), None) = (store, &actor.run.resume) {
            // before the first step, so that there is something to go on from whenever the run is killed
            store.save(&actor.snapshot(position))?;
        }
        Ok(actor)
    }

    /// Serves until the run is over.
    pub(crate) async fn serve(mut self, mut inbox: mpsc::Receiver<Message>) -> Report {
        self.say_start();
        if self.engine.phase() == "finished" {
            // resumed where nothing is left to do
            self.outcome = Some(Outcome::Complete);
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.outcome.is_none() {
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => self.event(Event::Stop { reason: "the server is gone".to_owned() }),
                },
                _ = ticks.tick() => self.event(Event::Tick),
            }
        }
        self.finish()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Knock { hello, outbound, reply } => {
                let answer = self.knock(hello, outbound);
                let _ = reply.send(answer);
            }
            Message::Ready { worker, shared, makes_steps } => {
                if self.worker_ready(worker, shared) {
                    self.event(Event::Joined { worker, makes_steps });
                }
            }
            Message::Beat { worker, reply } => {
                let _ = reply.send(self.sessions.get(worker).is_some());
                self.event(Event::Beat { worker });
            }
            Message::Answer { worker, lease, answer } => self.answer(worker, lease, answer),
            Message::Ring { worker, generation, news } => self.event(match news {
                RingNews::Named { id } => Event::Named { worker, generation, id },
                RingNews::Formed => Event::Formed { worker, generation },
                RingNews::Waits => Event::Waits { worker, generation },
                RingNews::Broken { reason } => Event::Broken { worker, generation, reason },
            }),
            Message::Leaving { worker } => self.event(Event::Leaving { worker }),
            Message::Left { worker, reason } => {
                self.event(Event::Left { worker, reason: reason.clone() });
                self.sessions.close(worker, &reason, Farewell::MayReturn);
            }
            Message::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Message::Stop { reason, reply } => {
                self.stops.extend(reply);
                self.event(Event::Stop { reason });
                if let Some(within) = self.engine.stops_within() {
                    self.telemetry.emit(telemetry::Event::Waiting {
                        what: "the last steps, which only their worker has".to_owned(),
                        deadline_seconds: within.as_secs_f64(),
                    });
                }
            }
        }
    }

    /// Feeds the engine an event that carries no data.
    fn event(&mut self, event: Event) {
        let now = self.now();
        let commands = self.engine.handle(now, event);
        self.perform(commands, None);
        self.say_waiting();
    }

    /// Checks an answer against what was asked, then lets the engine decide what becomes of it.
    fn answer(&mut self, worker: WorkerId, lease: LeaseId, answer: Answer) {
        let event = self.judge(worker, lease, &answer);
        let now = self.now();
        let commands = self.engine.handle(now, event);
        self.perform(commands, Some((lease, answer)));
    }

    fn knock(&mut self, hello: lockstep_proto::wire::Hello, outbound: Outbound) -> Result<Admitted, Refused> {
        // before the first accepted shard the class is that of who is here: a worker that came by mistake and left pins nothing
        let present = self.sessions.device_class();
        let pinned = self.device_class.as_deref().or(present);
        let rules = door::Rules {
            build: &self.run.build,
            pinned,
            allow_foreign: self.run.limits.allow_foreign_workers,
            deterministic: self.run.recipe.deterministic,
            nccl: self.plan.ring.then(|| self.sessions.gpus()),
        };
        if let Err(refused) = door::check(&hello, &rules) {
            self.say_refused(&hello.name, &refused.reason);
            return Err(refused);
        }
        if hello.foreign {
            self.warn(format!("{} is a foreign worker: this run no longer promises one result", hello.name));
        }
        let worker = self.sessions.open(hello, outbound);
        let (gradients, shared) = self.plane.offer().unzip();
        let welcome = Welcome {
            worker,
            run: self.run.name.clone(),
            recipe: self.run.recipe.to_toml(),
            schema_fingerprint: self.run.schema.fingerprint(),
            data_hash: self.data_hash.clone(),
            data_bytes: self.data_bytes,
            heartbeat_ms: HEARTBEAT.as_millis() as u32,
            shared,
        };
        Ok(Admitted { worker, welcome, gradients })
    }

    /// False if its session is over, or it said so before.
    fn worker_ready(&mut self, worker: WorkerId, shared: bool) -> bool {
        let Some(session) = self.sessions.get_mut(worker).filter(|session| !session.ready) else { return false };
        session.ready = true;
        session.shared = shared;
        let joined = telemetry::Event::WorkerJoined {
            worker: session.slot,
            name: session.name.clone(),
            device_class: session.device_class.clone(),
            threads: session.threads,
        };
        self.sessions.shared += usize::from(shared);
        self.telemetry.emit(joined);
        true
    }

    fn say_refused(&mut self, name: &str, reason: &str) {
        self.refused = self.refused.saturating_add(1);
        match self.refused {
            ..REFUSALS_TOLD => self.warn(format!("refused worker {name}: {reason}")),
            REFUSALS_TOLD => {
                self.warn(format!("refused worker {name}: {reason} ({REFUSALS_TOLD} were refused; more are not told)"));
            }
            _ => tracing::debug!("refused worker {name}: {reason}"),
        }
    }

    fn warn(&self, text: String) {
        tracing::warn!("{text}");
        self.telemetry.emit(telemetry::Event::Warning { text });
    }
}
