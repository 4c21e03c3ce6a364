//! Answers that are wrong, from a worker of another make: each is refused by name, and the run goes on to the same hash.

use std::fs;

use lockstep_proto::wire::{Gradient, Lease, Node, ShardsWork};

use crate::support::Desk;
use crate::support::cluster::{Coordinator, worker};
use crate::support::peer::{Peer, connect};

/// 123,330 values: two parts.
const MODEL: &str = r#"
name = "mlp"
prefix = "net"
layers = [
  { type = "flatten" },
  { type = "linear", out_features = 40 },
  { type = "relu" },
  { type = "linear", out_features = 10 },
]
"#;

const RUN: &[&str] =
    &["--max-steps", "6", "--batch-size", "64", "--model", "./mlp.toml", "--allow-foreign-workers", "--plane", "grpc"];

/// Spoils a good answer.
type Spoil = fn(&mut Vec<Gradient>, &Lease, &ShardsWork);

/// What is wrong, and a word of how it is told.
const SPOILED: &[(&str, Spoil)] = &[
    ("the checksum is", |parts, _, _| {
        let mut data = parts[0].data.to_vec();
        data[1000] ^= 4;
        parts[0].data = data.into();
    }),
    ("the last part ends at value", |parts, _, _| {
        let last = parts.pop().expect("two parts");
        parts[0].summary = last.summary;
    }),
    ("but the vector has 123330", |parts, _, _| {
        let mut data = parts[1].data.to_vec();
        data.extend([0; 4]);
        parts[1].data = data.into();
    }),
    ("parts must come in order", |parts, _, _| {
        parts.swap(0, 1);
    }),
    ("parts must come in order", |parts, _, _| parts[1].offset = u64::MAX - 7),
    ("version", |parts, _, _| parts.iter_mut().for_each(|part| part.version += 1)),
    ("node", |parts, _, work| {
        let node = work.node.expect("a node");
        let other = Node { index: node.index ^ 1, ..node };
        parts.iter_mut().for_each(|part| part.node = Some(other));
    }),
];

fn desk() -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("mlp.toml"), MODEL).expect("written");
    desk
}

/// A run with honest workers, and a peer that spoils every answer until it is sent away; everything that was said of it.
async fn spoil(
    desk: &Desk,
    out: &str,
    honest: usize,
    answer: impl Fn(&Peer, &Lease, &ShardsWork) -> Vec<Gradient>,
) -> String {
    let all = (honest + 1).to_string();
    let coordinator = Coordinator::start(desk, out, &[RUN, &["--min-workers", &all]].concat());
    let mut peer = Peer::join(connect(&coordinator.address).await, "spoiler").await.expect("let in");
    let honest: Vec<_> = (0..honest).map(|_| worker(desk, &coordinator.address, &[])).collect();
    peer.ready();
    let mut said = loop {
        match peer.lease().await {
            Ok((lease, work)) => peer.send_parts(answer(&peer, &lease, &work)),
            Err(reason) => break reason,
        }
    };
    let done = coordinator.finish().ok();
    for worker in honest {
        worker.finish().ok();
    }
    said += &done.stdout;
    said += &done.stderr;
    said + &fs::read_to_string(desk.path(out).join("metrics.jsonl")).expect("metrics")
}

fn quiet(desk: &Desk) -> String {
    let coordinator = Coordinator::start(desk, "quiet", RUN);
    let honest = worker(desk, &coordinator.address, &[]);
    coordinator.finish().ok();
    honest.finish().ok();
    desk.hash("quiet")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_network_could_do_to_an_answer_is_refused_by_name() {
    let desk = desk();
    let hash = quiet(&desk);
    for (number, (word, spoiled)) in SPOILED.iter().enumerate() {
        let out = format!("run-{number}");
        let said = spoil(&desk, &out, 1, |peer, lease, work| {
            let mut parts = peer.answer(lease, work, 1e-3);
            spoiled(&mut parts, lease, work);
            parts
        });
        let said = said.await;
        assert!(said.contains(word), "{number}: no {word:?} in {said}");
        assert_eq!(desk.hash(&out), hash, "{number}: {word}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_not_finite_is_refused_by_the_tensor_s_name() {
    let desk = desk();
    let hash = quiet(&desk);
    for (out, bad) in [("nan", f32::NAN), ("infinite", f32::NEG_INFINITY)] {
        // one honest worker beside it is enough: saying it twice is still one voice
        let said = spoil(&desk, out, 1, |peer, lease, work| {
            let mut values = vec![1e-3; peer.values];
            values[70_000] = bad;
            peer.parts(lease, work, &values)
        });
        let said = said.await;
        let number = if bad.is_nan() { "NaN" } else { "-inf" };
        assert!(said.contains(number) && said.contains(".weight"), "{out}: {said}");
        assert_eq!(desk.hash(out), hash, "{out}");
    }
}

/// Echoes know the right answer without computing it, so they can give it twice, or late.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_counts_once_however_often_and_late_it_comes() {
    let desk = desk();
    let alone = Coordinator::start(&desk, "alone", RUN);
    tokio::spawn(Peer::join(connect(&alone.address).await, "echo").await.expect("let in").echo(1e-3));
    alone.finish().ok();

    let run = [RUN, &["--min-workers", "2", "--lease-timeout", "1"]].concat();
    let coordinator = Coordinator::start(&desk, "run", &run);
    let honest = Peer::join(connect(&coordinator.address).await, "echo").await.expect("let in");
    let mut twice = Peer::join(connect(&coordinator.address).await, "twice").await.expect("let in");
    tokio::spawn(honest.echo(1e-3));
    twice.ready();
    let mut answers = 0;
    while let Ok((lease, work)) = twice.lease().await {
        answers += 1;
        if answers == 3 {
            // by then it has been given to somebody else
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
        let parts = twice.answer(&lease, &work, 1e-3);
        twice.send_parts(parts.clone());
        twice.send_parts(parts);
    }
    coordinator.finish().ok();
    assert!(answers >= 3, "{answers}");
    assert_eq!(desk.hash("run"), desk.hash("alone"));
    let ledger = &desk.summary("run")["ledger"];
    assert_eq!((ledger["lost"].as_u64(), ledger["repeated"].as_u64()), (Some(0), Some(0)), "{ledger}");
}
