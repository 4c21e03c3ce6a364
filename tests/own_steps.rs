//! A worker of another make that makes the optimizer step itself, and says what it should not: the run goes back to what the coordinator has,
//! and comes to the same hash.

use std::fs;

use lockstep_proto::tensors;
use lockstep_proto::wire::{GradientSummary, Lease, Made, Report, ShardOutcome, ShardsWork, StatePart, from_worker};

use crate::support::Desk;
use crate::support::cluster::Coordinator;
use crate::support::peer::{Peer, connect};

/// 123,330 values: two parts.
const MODEL: &str = r#"
name = "mlp"
layers = [{ type = "flatten" }, { type = "linear", out_features = 40 }, { type = "linear", out_features = 10 }]
"#;

/// Ten steps: the first few with gradients, until it is known how fast they are, and what they come to with the last.
const RUN: &[&str] = &[
    "--max-steps",
    "10",
    "--batch-size",
    "64",
    "--model",
    "./mlp.toml",
    "--momentum",
    "0",
    "--lr",
    "0.01",
    "--allow-foreign-workers",
    "--plane",
    "grpc",
    "--catch-up",
    "3600",
];

/// The gradient of each shard, everywhere.
const SLOPE: f32 = 1e-3;

/// What answers a lease with an own step.
struct Answer {
    parts: Vec<StatePart>,
    made: Made,
}

type Spoil = fn(&mut Answer, Report);

/// What is wrong, and a word of how it is told.
const SPOILED: &[(&str, Spoil)] = &[
    ("NaN in tensor", |answer, _| {
        let Some(first) = answer.parts.first_mut() else { return };
        let mut data = first.data.to_vec();
        data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        first.data = data.into();
        // its own checksum is right
        let values = |part: &StatePart| part.data.to_vec();
        let all: Vec<u8> = answer.parts.iter().flat_map(values).collect();
        answer.parts.last_mut().expect("two parts").digest = tensors::digest(&all);
    }),
    ("the checksum is", |answer, _| answer.parts.iter_mut().for_each(|part| part.digest ^= 1)),
    ("0 of 1 vectors", |answer, _| answer.parts.truncate(1)),
    ("optimizer has made 77 steps", |answer, _| answer.parts.iter_mut().for_each(|part| part.steps = 77)),
    ("it has the Counts, and the State was asked for", |answer, _| answer.parts.clear()),
    ("the norm NaN", |answer, report| {
        if report == Report::Counts {
            answer.made.norm = f64::NAN;
        }
    }),
    ("right answers in shard", |answer, _| {
        let outcomes = &mut answer.made.summary.as_mut().expect("a summary").outcomes;
        outcomes[0].correct = outcomes[0].count + 1;
    }),
    ("version", |answer, _| answer.made.version += 1),
    ("no answer to", |answer, _| answer.made.node = None),
];

/// The optimizer step: SGD without momentum, as proto/src/optimizer/sgd.rs rounds it.
fn step(peer: &mut Peer, work: &ShardsWork, lr: f64) {
    let (rate, slope) = (-lr as f32, SLOPE * work.shards.len() as f32);
    peer.flat.iter_mut().for_each(|value| *value += rate * slope);
}

fn answer(peer: &Peer, lease: &Lease, work: &ShardsWork, report: Report) -> Answer {
    let outcome = |shard: &lockstep_proto::wire::Shard| ShardOutcome {
        shard: shard.shard,
        count: shard.examples.len() as u32,
        ..ShardOutcome::default()
    };
    let outcomes = work.shards.iter().map(outcome).collect();
    let summary = Some(GradientSummary { outcomes, ..GradientSummary::default() });
    let made = Made { lease: lease.lease, version: lease.version, node: work.node, summary, penalty: 0.0, norm: 1.0 };
    let bytes = tensors::into_bytes(peer.flat.clone());
    let digest = tensors::digest(&bytes);
    let part = |part: std::ops::Range<usize>| StatePart {
        lease: lease.lease,
        steps: lease.version + 1,
        name: String::new(),
        offset: (part.start / 4) as u64,
        data: bytes.slice(part),
        digest,
        slot: None,
    };
    let parts = tensors::parts(bytes.len()).map(part).filter(|_| report == Report::State).collect();
    Answer { parts, made }
}

/// Works alone until the run is over; what it is asked for that is no gradient is spoiled `times` times. How often it was asked so.
async fn work(mut peer: Peer, spoil: Spoil, mut times: u32) -> usize {
    peer.makes_steps = true;
    peer.ready();
    let mut asked = 0;
    while let Ok((lease, work)) = peer.lease().await {
        let (parts, own) = (peer.answer(&lease, &work, SLOPE), lease.own.expect("it is alone"));
        step(&mut peer, &work, own.lr);
        if own.report() == Report::Gradient {
            peer.send_parts(parts);
            continue;
        }
        asked += 1;
        let mut answer = answer(&peer, &lease, &work, own.report());
        let before = (answer.parts.clone(), answer.made.clone());
        if times > 0 {
            spoil(&mut answer, own.report());
            times -= u32::from((&answer.parts, &answer.made) != (&before.0, &before.1));
        }
        answer.parts.into_iter().for_each(|part| peer.send(from_worker::Message::State(part)));
        peer.send(from_worker::Message::Made(answer.made));
    }
    asked
}

fn desk() -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("mlp.toml"), MODEL).expect("written");
    desk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_lone_worker_should_not_say_is_told_and_made_again() {
    let desk = desk();
    let echo = Coordinator::start(&desk, "echo", RUN);
    tokio::spawn(Peer::join(connect(&echo.address).await, "echo").await.expect("let in").echo(SLOPE));
    echo.finish().ok();
    let run = async |out: &str, spoil: Spoil, times| {
        let coordinator = Coordinator::start(&desk, out, RUN);
        let peer = Peer::join(connect(&coordinator.address).await, "alone").await.expect("let in");
        let asked = tokio::spawn(work(peer, spoil, times));
        let done = coordinator.finish().ok();
        assert_eq!(desk.hash(out), desk.hash("echo"), "{out}");
        assert!(asked.await.expect("no panic") > 0, "{out}: it was asked for every gradient");
        let ledger = desk.summary(out)["ledger"].clone();
        assert_eq!(
            ["used", "repeated", "lost"].map(|key| ledger[key].as_u64()),
            [640, 0, 0].map(Some),
            "{out}: {ledger}"
        );
        assert_eq!(desk.events(out, "step").len(), 10, "{out}");
        (done.stdout + &done.stderr, ledger["recomputed"].as_u64().expect("a count"))
    };
    let (_, recomputed) = run("honest", |_, _| {}, 0).await;
    assert_eq!(recomputed, 0);
    for (number, (word, spoil)) in SPOILED.iter().enumerate() {
        let (said, _) = run(&format!("run-{number}"), *spoil, 1).await;
        assert!(said.contains(word), "no {word:?} in {said}");
    }
}

/// Two epochs of 10 steps, with nothing between. What was wrong in the first, and told, is found out in the second.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_epoch_that_comes_out_differently_is_told_again() {
    let desk = desk();
    let quiet = ["--epochs", "2", "--set", "evaluation.every_epochs=0", "--set", "checkpoint.every_epochs=0"];
    let coordinator = Coordinator::start(&desk, "run", &[&RUN[2..], &quiet].concat());
    let peer = Peer::join(connect(&coordinator.address).await, "alone").await.expect("let in");
    let spoil: Spoil = |answer, report| match (report, answer.made.version) {
        (Report::Counts, 7) => answer.made.summary.as_mut().expect("a summary").outcomes[0].loss_sum = 6.4,
        (Report::Counts, 13) => answer.made.norm = f64::NAN,
        _ => {}
    };
    let work = tokio::spawn(work(peer, spoil, 2));
    let done = coordinator.finish().ok();
    work.await.expect("no panic");
    assert!(done.stderr.contains("step 8 has the loss 0 now"), "{}", done.stderr);
    let told: Vec<_> = desk
        .events("run", "epoch_ended")
        .iter()
        .map(|event| (event["epoch"].as_u64(), event["train_loss"].as_f64()))
        .collect();
    // 6.4 over 640 images; and the first epoch again, before the second ends
    assert_eq!(told, [(Some(1), Some(0.01)), (Some(1), Some(0.0)), (Some(2), Some(0.0))]);
    assert_eq!(desk.summary("run")["train_loss"], 0.0);
}
