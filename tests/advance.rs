//! A lone worker makes the optimizer step itself and goes on: the weights are those of any other number of workers.

use serde_json::Value;

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
    // so that it shows in the bytes who sends what, however slow the machine is
    "--plane",
    "grpc",
    "--catch-up",
    "3600",
];

fn train(desk: &Desk, out: &str, more: &[&str]) -> Done {
    desk.train(out, &[EVERYTHING, more].concat()).ok()
}

fn traffic(desk: &Desk, out: &str, way: &str) -> u64 {
    desk.summary(out)["traffic"][way].as_u64().expect("bytes")
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
    let [sent_two, sent_one] = ["two", "one"].map(|out| traffic(&desk, out, "sent"));
    assert!(sent_two > 2 * (images + 20 * parameters), "{sent_two}");
    assert!(sent_one < images + 3 * parameters, "{sent_one}");
    // Two send a gradient for each step. The lone one does until it is known how fast it is, five at most of 34, and then for an evaluation
    // what it came to: parameters and two vectors of state.
    let [received_two, received_one] = ["two", "one"].map(|out| traffic(&desk, out, "received"));
    assert!(received_two > 34 * parameters, "{received_two}");
    assert!(received_one < 20 * parameters, "{received_one}");
}

/// Epochs long enough that most of one is lost with its worker: 160 steps of 4 images.
#[test]
fn steps_that_are_lost_with_their_worker_are_made_again_and_told_once() {
    lost_and_made_again(&[], 100);
}

/// Nothing is made of the epochs' ends, so that more than one is lost.
#[test]
fn epochs_that_are_lost_with_their_worker_are_made_again_and_told_once() {
    lost_and_made_again(&["--set", "evaluation.every_epochs=0", "--set", "checkpoint.every_epochs=0"], 200);
}

fn lost_and_made_again(more: &[&str], lost_at: u64) {
    let desk = Desk::new();
    let small = "lenet-dropout-bn --batch-size 4 --epochs 2 --momentum 0.9 --workers 1 --catch-up 3600";
    let small = [&small.split(' ').collect::<Vec<_>>(), more].concat();
    desk.train("quiet", &small).ok();
    desk.train("killed", &[&small[..], &["--kill", &format!("0@{lost_at}")]].concat()).ok();
    assert_eq!(desk.hash("killed"), desk.hash("quiet"));
    let ledger = |out: &str, key: &str| desk.summary(out)["ledger"][key].as_u64().expect("a count");
    for (key, count) in [("used", 1280), ("repeated", 0), ("lost", 0)] {
        assert_eq!(ledger("killed", key), count, "{key}");
    }
    assert_eq!(ledger("quiet", "recomputed"), 0);
    // all steps but the first few were its worker's alone
    assert!(ledger("killed", "recomputed") >= 4 * (lost_at - 20), "{}", ledger("killed", "recomputed"));
    let told = |out: &str, kind: &str, keys: &[&str]| {
        let of = |event: &Value| keys.iter().map(|key| event[key].clone()).collect::<Vec<_>>();
        desk.events(out, kind).iter().map(of).collect::<Vec<_>>()
    };
    for (kind, keys, times) in [
        ("step", &["step", "loss", "accuracy", "gradient_norm"][..], 320),
        ("epoch_ended", &["epoch", "step", "train_loss", "train_accuracy", "lr"], 2),
    ] {
        assert_eq!(told("quiet", kind, keys).len(), times);
        assert_eq!(told("killed", kind, keys), told("quiet", kind, keys));
    }
    for key in ["train_loss", "train_accuracy"] {
        assert_eq!(desk.summary("killed")[key], desk.summary("quiet")[key], "{key}");
    }
}

#[test]
fn where_a_lone_worker_is_lost_the_next_one_gets_the_optimizers_state() {
    let desk = Desk::new();
    train(&desk, "quiet", &["--workers", "1"]);
    let done = desk.run(
        &[&["verify", "--data", "images", "--workers", "1,2", "--kill", "0@7"], &EVERYTHING[..EVERYTHING.len() - 4]]
            .concat(),
    );
    let done = done.ok();
    assert!(done.stdout.contains(&desk.hash("quiet")[..12]), "{}", done.stdout);
}
