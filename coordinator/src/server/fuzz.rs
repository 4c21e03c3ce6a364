//! What a worker may send, decoded from damaged bytes or made up field by field, through everything that a session does with
//! it before the actor hears of it.

use std::sync::Arc;

use lockstep_fuzz::{Bound, cases, damaged, numbers};
use lockstep_proto::buffers::Buffers;
use lockstep_proto::codec;
use lockstep_proto::recipe::{OptimizerName, OptimizerSettings};
use lockstep_proto::schema::{Kind, Schema, TensorSpec};
use lockstep_proto::shared::Shared;
use lockstep_proto::tensors::{as_bytes, digest_values};
use lockstep_proto::wire::{self, FromWorker, Gradient, GradientSummary, ShardOutcome, from_worker};
use proptest::prelude::*;
use prost::Message as _;

use super::answer::{self, Inbox};
use super::made::States;
use crate::actor::{Answer, RingNews};

/// Values of the model, five of them parameters: an odd number, so that bf16 fills its last word by half.
const VALUES: usize = 8;
const PARAMETERS: usize = 5;

/// A message's own (see the same constant in proto's fuzz test), and a vector of the model's length each way.
const MESSAGE: Bound = Bound { each: 256, constant: 1 << 16 };

fn schema() -> Schema {
    let tensor = |name: &str, n, kind| TensorSpec { name: name.to_owned(), shape: vec![n], kind };
    let buffer = Kind::Buffer { momentum: 0.1 };
    Schema::new(vec![tensor("a", PARAMETERS, Kind::Parameter), tensor("b", VALUES - PARAMETERS, buffer)]).expect("two")
}

fn inbox(shared: Option<Arc<Shared>>) -> Inbox {
    Inbox::new(schema(), Buffers::keeping(8), shared)
}

fn values() -> Vec<f32> {
    (0..VALUES).map(|i| i as f32 + 0.5).collect()
}

/// A part of a gradient; each field is often what it should be.
fn gradients() -> impl Strategy<Value = Gradient> {
    let data = prop_oneof![
        4 => Just(values()),
        4 => Just(codec::pack(&values(), PARAMETERS)),
        1 => prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..10),
        1 => Just(Vec::new()),
    ];
    let node = prop::option::weighted(
        0.9,
        (any::<u32>(), any::<u32>()).prop_map(|(level, index)| wire::Node { level, index }),
    );
    let outcome = (any::<u32>(), any::<f64>(), any::<u32>(), any::<u32>(), any::<u64>())
        .prop_map(|(shard, loss_sum, correct, count, digest)| ShardOutcome { shard, loss_sum, correct, count, digest });
    let offset = prop_oneof![4 => Just(0), 2 => Just(VALUES as u64), 1 => numbers()];
    let slot = prop::option::weighted(0.2, 0..4_u32);
    let summary = (
        prop::option::weighted(0.7, prop::collection::vec(outcome, 0..3)),
        prop::option::weighted(0.2, numbers()),
        numbers(),
    );
    (0..2_u64, any::<u64>(), node, offset, (data, 0..3_usize), summary, slot, any::<bool>()).prop_map(
        |(lease, version, node, offset, (values, ragged), (outcomes, digest, compute_us), slot, bf16)| {
            let digest = digest.unwrap_or_else(|| digest_values(&values));
            let mut data = as_bytes(&values).to_vec();
            data.truncate(data.len().saturating_sub(ragged / 2));
            let summary =
                outcomes.map(|outcomes| GradientSummary { digest, outcomes, compute_us, ..Default::default() });
            Gradient { lease, version, node, offset, data: data.into(), summary, slot, bf16 }
        },
    )
}

/// What a rank says: of its part, and of its ring.
fn of_a_rank() -> [from_worker::Message; 4] {
    let summary = GradientSummary { outcomes: vec![ShardOutcome::default(); 3], ..Default::default() };
    let part = wire::Part { lease: 1, version: 2, summary: Some(summary) };
    let ring = |news| from_worker::Message::Ring(wire::RingNews { generation: 3, news: Some(news) });
    [
        from_worker::Message::Part(part),
        ring(wire::ring_news::News::Named(vec![7; wire::RING_ID_BYTES])),
        ring(wire::ring_news::News::Broken("ß".repeat(2000))),
        ring(wire::ring_news::News::Waits(true)),
    ]
}

/// What a worker says of a step that it made itself.
fn of_an_own_step() -> [from_worker::Message; 4] {
    let outcomes = vec![ShardOutcome { count: 4, ..Default::default() }];
    let summary = Some(GradientSummary { outcomes, ..Default::default() });
    let node = Some(wire::Node { level: 0, index: 0 });
    let made = wire::Made { lease: 1, version: 2, node, summary, penalty: 0.5, norm: 1.5 };
    let part = |name: &str, values: &[f32]| {
        let (data, digest) = (as_bytes(values).to_vec().into(), digest_values(values));
        let name = name.to_owned();
        from_worker::Message::State(wire::StatePart { lease: 1, steps: 3, name, offset: 0, data, digest, slot: None })
    };
    [
        part("", &values()),
        part("exp_avg", &[1.0; PARAMETERS]),
        part("exp_avg_sq", &[1.0; PARAMETERS]),
        from_worker::Message::Made(made),
    ]
}

fn states(shared: Option<Arc<Shared>>) -> States {
    let settings = OptimizerSettings { name: OptimizerName::Adam, ..OptimizerSettings::default() };
    States::new(schema(), settings, shared)
}

fn samples() -> Vec<Vec<u8>> {
    let gradient = |values: &[f32], bf16| {
        let summary = GradientSummary {
            digest: digest_values(values),
            outcomes: vec![ShardOutcome { shard: 1, loss_sum: 2.5, correct: 3, count: 16, digest: 99 }; 4],
            ..Default::default()
        };
        from_worker::Message::Gradient(Gradient {
            lease: 1,
            version: 2,
            node: Some(wire::Node { level: 1, index: 2 }),
            data: as_bytes(values).to_vec().into(),
            summary: Some(summary),
            bf16,
            ..Default::default()
        })
    };
    let evaluation = wire::Evaluation { lease: 7, loss_sum: 1.5, confusion: vec![1; 100], ..Default::default() };
    let hello = wire::Hello { name: "here-1".to_owned(), build: "0.1.0".to_owned(), ..Default::default() };
    [
        gradient(&values(), false),
        gradient(&codec::pack(&values(), PARAMETERS), true),
        from_worker::Message::Evaluation(evaluation),
        from_worker::Message::Failed(wire::Failed { lease: 1, reason: "no".to_owned() }),
        from_worker::Message::Hello(hello),
    ]
    .into_iter()
    .chain(of_a_rank())
    .chain(of_an_own_step())
    .map(|message| FromWorker { message: Some(message) }.encode_to_vec())
    .collect()
}

/// What the actor relies on.
fn check(answer: &Answer) {
    match answer {
        Answer::Part { values: None, outcomes, compute_us, .. } => {
            assert!(outcomes.iter().all(|outcome| outcome.loss_sum.is_finite() && outcome.correct <= outcome.count));
            assert!(outcomes.len() <= 4096 && *compute_us < u64::MAX >> 16);
        }
        Answer::Gradient { values, outcomes, compute_us, .. }
        | Answer::Part { values: Some(values), outcomes, compute_us, .. } => {
            assert_eq!(values.len(), VALUES);
            assert!(values.iter().all(|value| value.is_finite()), "{values:?}");
            assert!(outcomes.iter().all(|outcome| outcome.loss_sum.is_finite() && outcome.correct <= outcome.count));
            // a sum over all answers of a run stays a number
            assert!(outcomes.len() <= 4096 && *compute_us < u64::MAX >> 16);
        }
        Answer::Made { outcomes, penalty, norm, state, compute_us, .. } => {
            assert!(outcomes.iter().all(|outcome| outcome.loss_sum.is_finite() && outcome.correct <= outcome.count));
            assert!(penalty.is_finite() && norm.is_finite());
            assert!(outcomes.len() <= 4096 && *compute_us < u64::MAX >> 16);
            if let Some(state) = state {
                let vectors = state.optimizer.state();
                assert!(state.values.len() == VALUES && vectors.iter().all(|(_, values)| values.len() == PARAMETERS));
                let all = state.values.iter().chain(vectors.into_iter().flat_map(|(_, values)| values));
                assert!(all.into_iter().all(|value| value.is_finite()));
            }
        }
        Answer::Failed { reason } | Answer::Refused { reason } | Answer::NotFinite { what: reason } => {
            assert!(reason.len() < 1 << 13, "{} bytes of reason", reason.len());
        }
        Answer::Slice { .. } => {}
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn fuzz_messages_of_a_worker(messages in prop::collection::vec(damaged(samples()), 1..4)) {
        let (mut inbox, mut states) = (inbox(None), states(None));
        for bytes in messages {
            let answered = MESSAGE.hold(bytes.len(), || match FromWorker::decode(&bytes[..]).ok()?.message? {
                from_worker::Message::Gradient(part) => inbox.gradient(part),
                from_worker::Message::Evaluation(evaluation) => Some(answer::evaluation(evaluation)),
                from_worker::Message::Failed(failed) => Some(answer::failed(failed)),
                from_worker::Message::State(part) => {
                    states.add(&part);
                    None
                }
                from_worker::Message::Made(made) => Some(states.made(made)),
                from_worker::Message::Part(part) => Some(answer::part(part)),
                from_worker::Message::Ring(news) => {
                    if let Ok(RingNews::Broken { reason }) = answer::ring(news) {
                        assert!(reason.len() < 1 << 13, "{} bytes of reason", reason.len());
                    }
                    None
                }
                _ => None,
            });
            if let Some((_, answer)) = answered {
                check(&answer);
            }
        }
    }

    /// Whole states among damaged ones.
    #[test]
    fn fuzz_own_steps(order in prop::collection::vec((0..4_usize, prop::option::weighted(0.1, any::<u64>())), 1..12)) {
        let memory = Shared::create(VALUES, 2, [3; 16]).expect("memory").0;
        let digest = memory.write(0, &values());
        let mut states = states(Some(Arc::new(memory)));
        for (number, other) in order {
            let Some(message) = of_an_own_step().into_iter().nth(number) else { continue };
            let answered = match message {
                from_worker::Message::State(part) => {
                    let steps = other.unwrap_or(part.steps);
                    // the flat vector now and then in memory, in a slot that may not be there
                    let slot = other.filter(|_| number == 0).map(|other| (other % 3) as u32);
                    let digest = if slot.is_some() { digest } else { part.digest };
                    states.add(&wire::StatePart { steps, slot, digest, ..part });
                    None
                }
                from_worker::Message::Made(made) => {
                    let norm = other.map_or(made.norm, f64::from_bits);
                    Some(states.made(wire::Made { norm, ..made }))
                }
                _ => None,
            };
            if let Some((_, answer)) = answered {
                check(&answer);
            }
        }
    }

    #[test]
    fn fuzz_gradients(parts in prop::collection::vec(gradients(), 1..6), shared in any::<bool>()) {
        let memory = shared.then(|| Shared::create(VALUES, 2, [3; 16]).expect("memory").0);
        if let Some(memory) = &memory {
            memory.write(0, &values());
        }
        let mut inbox = inbox(memory.map(Arc::new));
        for part in parts {
            let length = part.encoded_len();
            if let Some((_, answer)) = MESSAGE.hold(length, || inbox.gradient(part)) {
                check(&answer);
            }
        }
    }
}
