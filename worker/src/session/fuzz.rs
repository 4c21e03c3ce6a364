//! What a coordinator may send, decoded from damaged bytes or made up field by field, through what a session does with it before
//! anything is computed.

use lockstep_fuzz::{Bound, cases, damaged, numbers};
use lockstep_proto::buffers::Buffers;
use lockstep_proto::codec;
use lockstep_proto::recipe::OptimizerSettings;
use lockstep_proto::schema::{Kind, Schema, TensorSpec};
use lockstep_proto::tensors::{as_bytes, digest_values};
use lockstep_proto::tree::{Node, Reduction};
use lockstep_proto::wire::{self, Parameters, ShardsWork, ToWorker, lease, to_worker};
use proptest::prelude::*;
use prost::Message as _;

use super::compute::{Job, check_examples, check_shards};
use super::plane::Plane;
use super::ring::nodes;
use super::steps::{self, Replica, take_state};
use super::stream::{Incoming, take_part};

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

fn values() -> Vec<f32> {
    (0..VALUES).map(|i| i as f32 + 0.5).collect()
}

/// A part of the parameters; each field is often what it should be.
fn parts() -> impl Strategy<Value = Parameters> {
    let data = prop_oneof![
        4 => Just(values()),
        4 => Just(codec::pack(&values(), PARAMETERS)),
        1 => Just(vec![1.0; 3]),
        1 => Just(Vec::new()),
    ];
    let total =
        prop_oneof![4 => Just(VALUES as u64), 4 => Just(codec::words(PARAMETERS, VALUES) as u64), 1 => numbers()];
    let offset = prop_oneof![4 => Just(0), 2 => 0..9_u64, 1 => numbers()];
    let digest = prop::option::weighted(0.2, any::<u64>());
    (0..2_u64, offset, total, data, digest, any::<bool>(), prop::option::weighted(0.1, any::<u32>())).prop_map(
        |(version, offset, total, values, digest, bf16, slot)| {
            let digest = digest.unwrap_or_else(|| digest_values(&values));
            let data = as_bytes(&values).to_vec().into();
            Parameters { version, offset, total, data, digest, bf16, slot }
        },
    )
}

fn samples() -> Vec<Vec<u8>> {
    let part = |values: &[f32], bf16| Parameters {
        version: 3,
        total: values.len() as u64,
        data: as_bytes(values).to_vec().into(),
        digest: digest_values(values),
        bf16,
        ..Default::default()
    };
    let region = |fd| wire::SharedRegion { path: format!("/proc/1/fd/{fd}"), nonce: vec![7; 16], values: 8, slots: 2 };
    let shard = |shard| wire::Shard { shard, examples: (0..4).collect() };
    let shards = ShardsWork {
        step: 1,
        epoch: 2,
        batch_size: 64,
        node: Some(wire::Node { level: 1, index: 1 }),
        shards: vec![shard(2), shard(3)],
        next: vec![shard(0)],
        ring: 0,
        leaves: 0,
    };
    let ring = ShardsWork { node: None, ring: 3, ..shards.clone() };
    [
        to_worker::Message::Parameters(part(&values(), false)),
        to_worker::Message::Parameters(part(&codec::pack(&values(), PARAMETERS), true)),
        to_worker::Message::Lease(wire::Lease {
            lease: 7,
            version: 8,
            work: Some(lease::Work::Shards(shards)),
            own: Some(wire::OwnStep { lr: 0.1, report: 1 }),
        }),
        to_worker::Message::Lease(wire::Lease {
            lease: 8,
            version: 8,
            work: Some(lease::Work::Shards(ring)),
            own: None,
        }),
        to_worker::Message::OptimizerState(wire::OptimizerState {
            version: 3,
            steps: 3,
            name: "momentum_buffer".to_owned(),
            offset: 0,
            data: as_bytes(&values()[..PARAMETERS]).to_vec().into(),
            digest: digest_values(&values()[..PARAMETERS]),
        }),
        to_worker::Message::FormRing(wire::FormRing { generation: 3, rank: 1, size: 2, id: vec![7; 128] }),
        to_worker::Message::Welcome(wire::Welcome {
            shared: Some(wire::SharedMemory { parameters: Some(region(3)), gradients: Some(region(4)) }),
            ..Default::default()
        }),
    ]
    .map(|message| ToWorker { message: Some(message) }.encode_to_vec())
    .to_vec()
}

fn take(incoming: &mut Option<Incoming>, part: Parameters) {
    if let Ok(Some(Job::Parameters { values, .. })) = take_part(incoming, part, &schema(), &Buffers::keeping(1)) {
        assert_eq!(values.len(), VALUES);
    }
}

/// What is whole is an optimizer's, or is refused.
fn take_vectors(incoming: &mut Option<steps::Incoming>, part: wire::OptimizerState) {
    let settings = OptimizerSettings { momentum: 0.9, ..OptimizerSettings::default() };
    if let Ok(Some(state)) = take_state(incoming, part, &settings, PARAMETERS) {
        drop(Replica::new(&settings, PARAMETERS, state));
    }
}

/// Sums what was accepted: it must come to an end, with a sum.
fn lease(work: &ShardsWork) {
    if work.ring != 0 {
        nodes(&mut work.clone()).into_iter().flatten().for_each(|node| lease(&node));
        return;
    }
    if let Ok((top, leaves)) = check_shards(work) {
        let mut tree = Reduction::new(leaves);
        let sums = work.shards.iter().filter_map(|shard| tree.add_below(top, Node::leaf(shard.shard), vec![1.0]));
        assert_eq!(sums.last(), Some(vec![work.shards.len() as f32]));
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn fuzz_messages_of_a_coordinator(messages in prop::collection::vec(damaged(samples()), 1..4)) {
        let (mut incoming, mut state) = (None, None);
        for bytes in messages {
            MESSAGE.hold(bytes.len(), || match ToWorker::decode(&bytes[..]).ok().and_then(|message| message.message) {
                Some(to_worker::Message::Parameters(part)) => take(&mut incoming, part),
                Some(to_worker::Message::OptimizerState(part)) => take_vectors(&mut state, part),
                Some(to_worker::Message::Lease(wire::Lease { work: Some(lease::Work::Shards(work)), .. })) => lease(&work),
                Some(to_worker::Message::FormRing(form)) => drop(super::ring::check(&form)),
                Some(to_worker::Message::Welcome(wire::Welcome { shared: Some(offer), .. })) => drop(Plane::open(&offer, VALUES)),
                _ => {}
            });
        }
    }

    #[test]
    fn fuzz_parameters(parts in prop::collection::vec(parts(), 1..6)) {
        let mut incoming = None;
        for part in parts {
            MESSAGE.hold(part.encoded_len(), || take(&mut incoming, part));
        }
    }

    #[test]
    fn fuzz_leases(level in prop_oneof![4 => 0..4_u32, 1 => any::<u32>()], index in prop_oneof![4 => 0..4_u32, 1 => any::<u32>()],
                   start in prop_oneof![4 => 0..8_u32, 1 => any::<u32>()], count in 0..9_u32, odd in prop::option::weighted(0.2, any::<u32>())) {
        let shard = |shard| wire::Shard { shard, examples: Vec::new() };
        let mut shards: Vec<_> = (0..count).map(|i| shard(start.wrapping_add(i))).collect();
        shards.extend(odd.map(shard));
        let node = Some(wire::Node { level, index });
        MESSAGE.hold(0, || lease(&ShardsWork { node, shards, ..Default::default() }));
    }
}

/// Found for the fuzz test: a panic, and climbs without an end.
#[test]
fn parts_that_travel_differently_and_shards_of_another_node_are_refused() {
    let (mut incoming, buffers) = (None, Buffers::keeping(1));
    let chunk = wire::CHUNK_BYTES / 4;
    let tensor = TensorSpec { name: "a".to_owned(), shape: vec![2 * chunk], kind: Kind::Parameter };
    let schema = Schema::new(vec![tensor]).expect("one");
    let first = Parameters { total: 2 * chunk as u64, data: vec![0; 4 * chunk].into(), ..Default::default() };
    assert!(take_part(&mut incoming, first, &schema, &buffers).expect("a part").is_none());
    let last = Parameters {
        total: chunk as u64,
        offset: chunk as u64,
        data: vec![0; 4 * chunk].into(),
        bf16: true,
        ..Default::default()
    };
    let error = take_part(&mut incoming, last, &schema, &buffers).expect_err("refused").to_string();
    assert!(error.contains("bf16 is true in a part of the parameters and false in the first one"), "{error}");

    let work = |level, index, shards: &[u32]| ShardsWork {
        node: Some(wire::Node { level, index }),
        shards: shards.iter().map(|&shard| wire::Shard { shard, examples: Vec::new() }).collect(),
        ..Default::default()
    };
    for (level, index, shards) in [
        (0, 5, &[3][..]),
        (u32::MAX, 0, &[0]),
        (1, 0, &[0, 2]),
        (1, 0, &[1, 0]),
        (0, 0, &[]),
        (0, u32::MAX, &[u32::MAX]),
    ] {
        let error = check_shards(&work(level, index, shards)).expect_err("refused");
        assert!(error.contains("not those below it"), "{error}");
    }
    let long = wire::Shard { shard: 0, examples: vec![0; 60] };
    let error = check_examples(&ShardsWork { next: vec![long; 2], ..Default::default() }, 100).expect_err("refused");
    assert!(error.contains("120 examples in its shards to come, and there are 100"), "{error}");
    assert_eq!(
        check_examples(&ShardsWork { shards: vec![wire::Shard::default(); 2], ..Default::default() }, 0),
        Ok(())
    );
    // the last node of six shards, and a whole step of three
    assert_eq!(check_shards(&work(2, 1, &[4, 5])), Ok((Node { level: 2, index: 1 }, 6)));
    assert_eq!(check_shards(&work(2, 0, &[0, 1, 2])), Ok((Node { level: 2, index: 0 }, 3)));
}
