//! Gradients summed among GPUs (`--plane nccl`), in a build with `--features nccl`: with one rank on a GPU, with more on stand-ins.

use std::fs;

use serde_json::Value;

use crate::gpu::{counted, desk, with_gpus};
use crate::support::{Desk, skip};

const LENET: &[&str] = &["train", "lenet-dropout-bn", "--data", "images", "--plain"];
const RUN: &[&str] = &["train", "lenet-dropout-bn", "--data", "images", "--plain", "--fast", "--batch-size", "32"];
const NCCL: &[&str] = &["--plane", "nccl"];
const ORDERED: &[&str] = &["--plane", "nccl-ordered"];

/// A desk with GPUs that are stand-ins: a real machine's number of them is not for a test to say.
fn standins() -> Option<Desk> {
    let desk = desk()?;
    let done = with_gpus(&desk, "7", &["train", "--data", "images", "--device", "cuda:7"]);
    if done.stderr.contains("0 to 6") {
        return Some(desk);
    }
    skip("these GPUs are real, and only so many");
    None
}

fn loss(summary: &Value) -> [f64; 2] {
    ["train_loss", "test_loss"].map(|key| summary[key].as_f64().expect(key))
}

/// Rounding is all that differs: as far as it comes in so few steps.
fn alike(desk: &Desk, a: &str, b: &str) {
    let (a, b) = (desk.summary(a), desk.summary(b));
    for (a, b) in loss(&a).into_iter().zip(loss(&b)) {
        assert!((a - b).abs() < 1e-3, "{a} and {b}");
    }
    assert_eq!(a["steps"], b["steps"]);
    assert_eq!(a["ledger"]["used"], b["ledger"]["used"]);
    assert_eq!((&a["ledger"]["lost"], &a["ledger"]["repeated"]), (&0.into(), &0.into()), "{a}");
}

#[test]
fn one_gpu_is_a_ring_of_one_rank_and_the_results_name_it() {
    let Some(desk) = desk() else { return };
    let gpu = ["--max-steps", "4", "--device", "cuda:0"];
    desk.run(&[RUN, NCCL, &gpu, &["--out", "nccl"]].concat()).ok();
    let done = desk.run(&[RUN, NCCL, &gpu, &["--out", "again", "--shards", "3"]].concat()).ok();
    desk.run(&[RUN, &gpu, &["--out", "grpc"]].concat()).ok();
    assert_eq!((&desk.summary("nccl")["plane"], &desk.summary("grpc")["plane"]), (&"nccl".into(), &"grpc".into()));
    alike(&desk, "nccl", "grpc");
    for words in ["--plane nccl: gradients are summed among the GPUs", "NCCL ring 1 of 1 GPU", "plane     nccl"] {
        assert!(done.stdout.contains(words), "no {words:?} in {}", done.stdout);
    }
    let bench = ["bench", "--steps", "20", "--fast", "--json", "--device", "cuda:0"];
    assert_eq!(desk.run(&[&bench, NCCL].concat()).ok().json()["plane"], "nccl");
    desk.run(&[&bench[..], NCCL, &["--wire"]].concat()).refused(&["--wire", "NCCL"]);
}

#[test]
fn two_gpus_sum_among_themselves_and_come_to_what_grpc_comes_to() {
    let Some(desk) = standins() else { return };
    let counts = desk.path("count-%p").display().to_string();
    let environment = ["env", "STANDIN_DEVICES=2", &format!("STANDIN_COUNT={counts}")];
    let train = |out: &str, more: &[&str]| {
        let args = [RUN, &["--max-steps", "6", "--out", out], more].concat();
        desk.start_under(&environment, &args).finish().ok()
    };
    let done = train("nccl", NCCL);
    assert!(done.stdout.contains("workers  2 for 4 shards"), "{}", done.stdout);
    assert!(done.stdout.contains("NCCL ring 1 of 2 GPUs"), "{}", done.stdout);
    let mut collectives = 0;
    for entry in fs::read_dir(desk.path("")).expect("the desk").flatten() {
        if entry.file_name().to_string_lossy().starts_with("count-") {
            let text = fs::read_to_string(entry.path()).expect("counters");
            let number = text.lines().find_map(|line| line.strip_prefix("collectives "));
            collectives += number.map_or(0, |number| number.parse::<u32>().expect("a number"));
        }
    }
    assert_eq!(collectives, 2 * 6, "one a step for each rank");
    train("grpc", &[]);
    alike(&desk, "nccl", "grpc");
    // an uneven cut, and more GPUs than shards: one stands by
    let args = [RUN, NCCL, &["--max-steps", "3", "--shards", "3", "--out", "uneven"]].concat();
    with_gpus(&desk, "2", &args).ok();
    let args = [RUN, NCCL, &["--max-steps", "3", "--shards", "2", "--out", "idle"]].concat();
    let done = with_gpus(&desk, "3", &args).ok();
    assert!(done.stdout.contains("NCCL ring 1 of 2 GPUs"), "{}", done.stdout);
    let args = [RUN, &["--max-steps", "3", "--shards", "3", "--out", "even", "--device", "cuda:0"]].concat();
    with_gpus(&desk, "1", &args).ok();
    alike(&desk, "uneven", "even");
}

/// Oracle: the coordinator, which makes each step of the sum that rank 0 sends. Ranks with one node of the tree, with several, and with none;
/// momentum, AdamW, a gradient that is clipped.
#[test]
fn ranks_that_make_the_steps_themselves_come_to_the_coordinators_weights() {
    let Some(desk) = standins() else { return };
    for (number, (gpus, more)) in [
        ("2", "--batch-size 32 --max-steps 12 --momentum 0.9 --weight-decay 1e-3"),
        // 3 + 2 shards: the second rank's are two nodes of the tree
        (
            "2",
            "--batch-size 32 --max-steps 12 --shards 5 --optimizer adamw --lr 0.01 --set optimizer.clip_grad_norm=0.5",
        ),
        // an epoch's last step of one image: two of the three have none, and all have the next one
        ("3", "--batch-size 213 --epochs 2 --model lenet --momentum 0.5 --set optimizer.clip_grad_norm=0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let [(kept, few), (sent, many)] = ["3600", "0"].map(|catch_up| {
            let (out, more) = (format!("{number}-{catch_up}"), more.split(' ').collect::<Vec<_>>());
            with_gpus(&desk, gpus, &[LENET, NCCL, &["--fast", "--catch-up", catch_up, "--out", &out], &more].concat())
                .ok();
            let summary = desk.summary(&out);
            let shared = summary["traffic"]["shared"].as_u64().expect("bytes");
            ((desk.hash(&out), loss(&summary)), shared)
        });
        assert_eq!(kept, sent, "{more}");
        assert!(number == 2 || 2 * few < many, "{few} bytes, and {many} with every sum");
    }
}

/// A rank has its next parts in hand, and its GPU the next passes to do, while what the last one counted comes home.
#[test]
fn a_rank_computes_while_a_part_is_answered() {
    let Some(desk) = standins() else { return };
    let steps = 24;
    let left = counted(&desk, steps, "STANDIN_LATE=last", ORDERED).get("graphs_left").copied().unwrap_or(0);
    // the passes of the next part for each wait, but for the first ones, which are no graphs yet; a lease may come late now and then
    assert!(left >= u64::from(steps) / 3, "{left} of {steps}");
}

/// What the last batch of an epoch is too small for: a rank without a shard must not keep the others waiting.
#[test]
fn a_rank_without_a_shard_takes_part_in_the_sum() {
    let Some(desk) = standins() else { return };
    // 640 images in batches of 213: three steps, and one image is left for the fourth
    let args = ["train", "lenet", "--data", "images", "--plain", "--fast", "--batch-size", "213", "--epochs", "1"];
    with_gpus(&desk, "2", &[&args[..], NCCL, &["--out", "nccl"]].concat()).ok();
    with_gpus(&desk, "2", &[&args[..], &["--out", "grpc"]].concat()).ok();
    assert_eq!(desk.summary("nccl")["steps"], 4);
    alike(&desk, "nccl", "grpc");
}

#[test]
fn a_lost_rank_forms_the_ring_anew_and_every_step_is_made() {
    let Some(desk) = standins() else { return };
    let args = [RUN, NCCL, &["--max-steps", "8", "--kill", "1@2", "--kill", "0@5", "--out", "loud"]].concat();
    let done = with_gpus(&desk, "3", &args).ok();
    let args = [RUN, NCCL, &["--max-steps", "8", "--out", "quiet"]].concat();
    with_gpus(&desk, "3", &args).ok();
    alike(&desk, "loud", "quiet");
    let ledger = &desk.summary("loud")["ledger"];
    // whoever is lost, the whole step is given out again
    assert!(ledger["reissued"].as_u64() >= Some(8), "{ledger}");
    for words in ["NCCL ring 1 of 3 GPUs", "NCCL ring 2 of 2 GPUs", "lost"] {
        assert!(done.stdout.contains(words), "no {words:?} in {}", done.stdout);
    }
}

/// NCCL's end may never come, and its kernel may write for as long: the process ends instead, and another takes its place.
#[test]
fn a_worker_that_nccl_does_not_let_go_of_ends_and_is_started_again() {
    let Some(desk) = standins() else { return };
    let environment = ["env", "STANDIN_DEVICES=2", &format!("STANDIN_HANG={}", desk.path("hangs").display())];
    // the other one leaves its ring, and hangs
    let args = [RUN, NCCL, &["--max-steps", "6", "--kill", "1@2", "--out", "loud"]].concat();
    let done = desk.start_under(&environment, &args).finish().ok();
    assert!(desk.path("hangs").exists(), "nobody hung: {}", done.stderr);
    for words in ["NCCL has not let go of its ring after 10 s", "NCCL_DEBUG=INFO"] {
        assert!(done.stderr.contains(words), "no {words:?} in {}", done.stderr);
    }
    let args = [RUN, NCCL, &["--max-steps", "6", "--out", "quiet"]].concat();
    with_gpus(&desk, "2", &args).ok();
    alike(&desk, "loud", "quiet");
}

#[test]
fn in_a_storm_of_faults_every_step_is_made() {
    let Some(desk) = standins() else { return };
    let storm = ["--chaos", "kill=2s,freeze=2s/300ms,leave=3s"];
    let run = |out: &str, plane: &[&str], faults: &[&str]| {
        let settings = ["--epochs", "3", "--out", out, "--set", "evaluation.every_epochs=1"];
        let fast: &[&str] = if plane == NCCL { &["--fast"] } else { &[] };
        with_gpus(&desk, "3", &[LENET, plane, fast, &["--batch-size", "32"], &settings, faults].concat()).ok();
        let summary = desk.summary(out);
        assert_eq!((&summary["steps"], &summary["ledger"]["used"]), (&(3 * 20).into(), &(3 * 640).into()));
        assert_eq!((&summary["ledger"]["lost"], &summary["ledger"]["repeated"]), (&0.into(), &0.into()), "{summary}");
    };
    run("fast", NCCL, &storm);
    run("loud", ORDERED, &storm);
    run("quiet", ORDERED, &[]);
    assert_eq!(desk.hash("loud"), desk.hash("quiet"));
}

/// Oracle: the coordinator's sum of what comes by gRPC. Even and uneven parts, several nodes of the tree in one rank, a rank without a shard,
/// values that are rounded; the coordinator's steps and the ring's own.
#[test]
fn a_sum_along_the_tree_has_one_hash_however_many_gpus() {
    let Some(desk) = standins() else { return };
    for (number, more) in [
        "--batch-size 32 --max-steps 8 --momentum 0.9",
        "--batch-size 32 --max-steps 8 --shards 5 --optimizer adamw --lr 0.01 --set optimizer.clip_grad_norm=0.5",
        "--batch-size 32 --max-steps 8 --shards 3 --catch-up 0",
        "--batch-size 32 --max-steps 8 --shards 6 --set wire=\"bf16\"",
        // the last step of an epoch is of one image
        "--model lenet --batch-size 213 --epochs 2 --set optimizer.clip_grad_norm=0.1",
    ]
    .into_iter()
    .enumerate()
    {
        let more: Vec<&str> = more.split(' ').collect();
        let run = |out: &str, gpus: &str, plane: &[&str]| {
            let out = format!("{number}-{out}");
            with_gpus(&desk, gpus, &[LENET, plane, &["--out", &out], &more].concat()).ok();
            (desk.hash(&out), loss(&desk.summary(&out)))
        };
        let expected = run("grpc", "2", &[]);
        for gpus in ["1", "2", "3"] {
            assert_eq!(run(gpus, gpus, ORDERED), expected, "{gpus} of {more:?}");
        }
        assert_eq!(desk.summary(&format!("{number}-3"))["plane"], "nccl-ordered");
    }
    let of = |order: &str| {
        let environment = ["env", "STANDIN_DEVICES=3", order];
        let args =
            [LENET, ORDERED, &["--batch-size", "32", "--max-steps", "8", "--shards", "5", "--out", order]].concat();
        desk.start_under(&environment, &args).finish().ok();
        desk.hash(order)
    };
    let expected = of("STANDIN_ORDER=forward");
    for order in ["STANDIN_ORDER=reverse", "STANDIN_LATE=last", "STANDIN_LATE=first"] {
        assert_eq!(of(order), expected, "{order}");
    }
    let verify = ["verify", "lenet-dropout-bn", "--data", "images", "--batch-size", "32", "--steps", "6"];
    let done = with_gpus(&desk, "3", &[&verify, ORDERED, &["--workers", "1,2,3", "--kill", "1@3"]].concat()).ok();
    assert!(done.stdout.contains("one result: 4 runs, one hash"), "{}", done.stdout);
    with_gpus(&desk, "3", &[&verify, ORDERED, &["--workers", "1,4"]].concat()).refused(&["4 workers for 3 GPUs"]);
    with_gpus(&desk, "3", &[&verify, NCCL].concat()).refused(&["--plane nccl promises none", "--plane nccl-ordered"]);
}

/// A wrong step, which its rank goes on from, and which is in the sums of all others from then on.
#[test]
fn a_rank_that_comes_to_another_result_than_most_is_sent_away_and_nothing_of_it_stays() {
    let Some(desk) = standins() else { return };
    let run = ["--batch-size", "32", "--max-steps", "16", "--momentum", "0.9"];
    with_gpus(&desk, "3", &[LENET, ORDERED, &run, &["--out", "quiet"]].concat()).ok();
    // with two of them nobody can tell who was wrong
    for (ranks, out) in [(3, "most"), (2, "two")] {
        let listen = ["--listen", "127.0.0.1:0", "--min-workers", if ranks == 3 { "3" } else { "2" }, "--out", out];
        let args = [&["coordinator"], &LENET[1..], ORDERED, &run, &listen].concat();
        let environment = ["env", "STANDIN_DEVICES=3"];
        let mut running = desk.start_under(&environment, &args);
        let line = running.wait_for_error("join with");
        let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
        let worker = |number: usize, more: &[&str]| {
            let device = format!("cuda:{number}");
            let args = [&["worker", "--join", &address, "--device", &device, "--name", &device], more].concat();
            desk.start_under(&environment, &args)
        };
        // who comes first is rank 0, and sends what it came to; or, with two, every sum after a while, which may not be the broken one's
        let first = if ranks == 3 { worker(0, &["--lie-at-step", "9"]) } else { worker(1, &[]) };
        while desk.run(&["status", &address, "--json"]).ok().json()["workers"].as_array().is_none_or(Vec::is_empty) {}
        let (broken, honest) = if ranks == 3 {
            (first, vec![worker(1, &[]), worker(2, &[])])
        } else {
            (worker(0, &["--lie-at-step", "9"]), vec![first])
        };
        let done = running.finish().ok();
        honest.into_iter().for_each(|worker| drop(worker.finish().ok()));
        let said = &done.stdout;
        if ranks == 3 {
            broken.finish().refused(&["can't be trusted", "another result than most ranks"]);
            assert!(said.contains("a rank came to another result than most"), "{said}");
        } else {
            broken.finish().ok();
            assert!(said.contains("who computed wrong can't be told"), "{said}");
        }
        assert_eq!(desk.hash(out), desk.hash("quiet"), "{said}");
    }
}

#[test]
fn who_can_not_be_a_rank_is_refused_with_the_way_out() {
    let Some(desk) = desk() else { return };
    let gpu = ["--device", "cuda:0", "--max-steps", "3"];
    desk.run(&["train", "--data", "images", "--plane", "nccl", "--device", "cuda:0"]).refused(&[
        "--fast",
        "one result",
        "--plane nccl-ordered",
    ]);
    desk.run(&[&["train", "--data", "images", "--audit", "0.1", "--device", "cuda:0"], ORDERED].concat())
        .refused(&["--audit 0.1", "--plane nccl-ordered"]);
    desk.run(&[RUN, NCCL, &gpu, &["--workers", "2"]].concat()).refused(&["1 GPU", "one rank a GPU", "--workers 1"]);
    desk.run(&[RUN, NCCL, &["--device", "cpu"]].concat()).refused(&["--plane nccl:", "--device cpu"]);
    desk.run(&[RUN, ORDERED, &["--device", "cpu"]].concat()).refused(&["--plane nccl-ordered:", "--device cpu"]);

    let out = ["coordinator", "--data", "images", "--plain", "--listen", "127.0.0.1:0", "--out", "run"];
    let mut running = desk.start(&[&out[..], NCCL, &["--fast", "--max-steps", "3", "--min-workers", "2"]].concat());
    let line = running.wait_for_error("join with");
    let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
    let worker = |device, name| ["worker", "--join", &address, "--device", device, "--name", name].map(str::to_owned);
    let start = |args: [String; 7]| desk.start(&args.each_ref().map(String::as_str));
    let first = start(worker("cuda:0", "first"));
    while desk.run(&["status", &address, "--json"]).ok().json()["workers"].as_array().is_none_or(Vec::is_empty) {}
    start(worker("cpu", "slow")).finish().refused(&["by NCCL", "cpu/", "--device cuda"]);
    start(worker("cuda:0", "second")).finish().refused(&["as first does", "one rank a GPU", "--device cuda:N"]);
    desk.run(&["stop", &address]).ok();
    running.finish().ok();
    first.finish().ok();
}
