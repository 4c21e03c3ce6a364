//! A lone worker makes the optimizer step itself and goes on: the weights are those of any other number of workers.

use crate::support::{Desk, Done};

/// All that a step is made of: two vectors of state, penalties, clipping, a schedule and BatchNorm's buffers.
const EVERYTHING: &[&str] = &[
    "lenet-dropout-bn",
    "--epochs",
    "2",
    "--batch-size",
    "45",
    "--optimizer",
    "adamw",
    "--lr",
    "0.01",
    "--set",
    "loss.l1=1e-4",
    "--set",
    "loss.l2=1e-3",
    "--set",
    "optimizer.clip_grad_norm=1",
    "--set",
    "schedule.name=cosine",
    // so that it shows in the bytes who sends what
    "--plane",
    "grpc",
];

fn train(desk: &Desk, out: &str, more: &[&str]) -> Done {
    desk.train(out, &[EVERYTHING, more].concat()).ok()
}

fn sent(desk: &Desk, out: &str) -> u64 {
    desk.summary(out)["traffic"]["sent"].as_u64().expect("bytes")
}

#[test]
fn a_lone_worker_that_makes_the_steps_comes_to_the_weights_of_two() {
    let desk = Desk::new();
    train(&desk, "two", &["--workers", "2"]);
    train(&desk, "one", &["--workers", "1"]);
    assert_eq!(desk.hash("one"), desk.hash("two"));
    for key in ["train_loss", "train_accuracy", "train_penalty", "test_loss", "confusion", "steps"] {
        assert_eq!(desk.summary("one")[key], desk.summary("two")[key], "{key}");
    }
    // The images, 740 × 3072 bytes, go to each worker. Parameters, 62,070 values, go to each of two for 34 steps (but for one that is too
    // slow to be given a part), and to the lone one at the beginning.
    let (images, parameters) = (740 * 3072, 62_070 * 4);
    assert!(sent(&desk, "two") > 2 * (images + 20 * parameters), "{}", sent(&desk, "two"));
    assert!(sent(&desk, "one") < images + 3 * parameters, "{}", sent(&desk, "one"));
}

#[test]
fn where_a_lone_worker_is_lost_the_next_one_gets_the_optimizers_state() {
    let desk = Desk::new();
    train(&desk, "quiet", &["--workers", "1"]);
    let done = desk.run(
        &[&["verify", "--data", "images", "--workers", "1,2", "--kill", "0@7"], &EVERYTHING[..EVERYTHING.len() - 2]]
            .concat(),
    );
    let done = done.ok();
    assert!(done.stdout.contains(&desk.hash("quiet")[..12]), "{}", done.stdout);
}
