//! One run, one result.

use crate::support::Desk;

fn verify(desk: &Desk, args: &[&str]) -> crate::support::Done {
    let mut all = vec!["verify", "--data", "images", "--batch-size", "45", "--steps", "16", "--json"];
    all.extend(args);
    desk.run(&all)
}

/// 45 images: neither 4 nor 6 shards divide them, and the epoch's last batch has 10.
#[test]
fn every_worker_count_and_a_lost_worker_give_one_hash_for_each_lenet() {
    let desk = Desk::new();
    let mut hashes = std::collections::BTreeSet::new();
    for recipe in ["lenet", "lenet-dropout", "lenet-dropout-bn"] {
        for shards in ["4", "6"] {
            let line =
                verify(&desk, &[recipe, "--shards", shards, "--workers", "1,2,3,4", "--kill", "1@7"]).ok().json();
            assert_eq!(line["trials"].as_array().map(Vec::len), Some(5), "{line}");
            hashes.insert(line["weights_hash"].as_str().expect("hash").to_owned());
        }
    }
    assert_eq!(hashes.len(), 6, "six trainings, six results");
}

/// Losses, penalties, shards with images of their own, evaluations as in training and of the training images: who computes them
/// shows in no bit of the weights, nor of what is reported. 47 images on 5 shards leave some a step with one image less.
#[test]
fn losses_penalties_partitions_and_evaluations_have_one_result() {
    let desk = Desk::new();
    let mut hashes = std::collections::BTreeMap::new();
    let all = ["evaluation.mode=train", "evaluation.train_images=true", "evaluation.slice=30", "data.validation=0.1"];
    for (name, settings) in [
        ("plain", vec![]),
        ("logits", vec!["loss.name=l1-logits"]),
        ("softmax", vec!["loss.name=l1-softmax", "optimizer.lr=0.1"]),
        ("penalties", vec!["loss.l1=1e-4", "loss.l2=1e-3", "optimizer.clip_grad_norm=1"]),
        ("interleaved", vec!["data.partition=interleaved"]),
        ("contiguous", vec!["data.partition=contiguous", "loss.l1=1e-3", "wire=bf16"]),
    ] {
        let settings: Vec<&str> = all.iter().chain(&settings).flat_map(|setting| ["--set", setting]).collect();
        let fixed = ["lenet-dropout-bn", "--epochs", "2", "--batch-size", "47", "--shards", "5"];
        let results = ["1", "2", "3"].map(|workers| {
            let out = format!("{name}-{workers}");
            desk.train(&out, &[&fixed[..], &["--workers", workers], &settings[..]].concat()).ok();
            let summary = desk.summary(&out);
            assert_eq!(summary["ledger"]["used"], 1152, "{name}: {summary}");
            for key in ["repeated", "lost"] {
                assert_eq!(summary["ledger"][key], 0, "{name}: {key}");
            }
            let evaluated: Vec<_> = desk
                .events(&out, "evaluated")
                .iter()
                .map(|event| ["step", "split", "loss", "accuracy", "confusion"].map(|key| event[key].clone()))
                .collect();
            assert_eq!(evaluated.len(), 6, "two evaluations of three splits");
            let keys =
                ["weights_hash", "train_loss", "train_penalty", "train_eval_loss", "train_eval_accuracy", "test_loss"];
            (keys.map(|key| summary[key].clone()), evaluated)
        });
        assert_eq!(results[0], results[1], "{name}");
        assert_eq!(results[0], results[2], "{name}");
        hashes.insert(results[0].0[0].to_string(), name);
    }
    assert_eq!(hashes.len(), 6, "six trainings, six results: {hashes:?}");
}

/// How a network is looked at changes no weight; and with one shard, images have nowhere else to be.
#[test]
fn evaluations_touch_no_weight_and_one_shard_has_one_partition() {
    let desk = Desk::new();
    let fixed = ["lenet-dropout-bn", "--epochs", "2", "--batch-size", "64", "--shards", "1"];
    let run = |out: &str, settings: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        desk.train(out, &[&fixed[..], &settings[..]].concat()).ok();
        desk.summary(out)
    };
    let plain = run("plain", &[]);
    let watched = run("watched", &["evaluation.mode=train", "evaluation.train_images=true"]);
    assert_eq!(watched["weights_hash"], plain["weights_hash"]);
    assert_ne!(watched["test_loss"], plain["test_loss"], "dropout and the slice's statistics must show");
    assert_eq!((&plain["train_eval_loss"], &plain["evaluation_mode"]), (&serde_json::Value::Null, &"eval".into()));
    for partition in ["interleaved", "contiguous"] {
        let summary = run(partition, &[&format!("data.partition={partition}")]);
        assert_eq!(summary["weights_hash"], plain["weights_hash"], "{partition}");
    }
}

#[test]
fn each_kernel_set_keeps_a_hash_of_its_own() {
    let desk = Desk::new();
    let mut seen = Vec::new();
    for kernels in ["portable", "v3", "v4"] {
        let done = verify(&desk, &["lenet-dropout-bn", "--workers", "1,3", "--kernels", kernels]);
        if done.code == Some(64) && kernels != "portable" {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "SKIPPED: {}", done.stderr.trim());
            continue;
        }
        let line = done.ok().json();
        assert!(line["device_class"].as_str().expect("class").contains(kernels), "{line}");
        seen.push(line["weights_hash"].clone());
    }
    seen.dedup();
    assert!(!seen.is_empty());
}

/// Every augmentation at once. 16 steps reach into the second epoch.
const AUGMENTED: &[&str] = &[
    "--set",
    "data.crop_padding=4",
    "--set",
    "data.horizontal_flip=0.5",
    "--set",
    "data.vertical_flip=0.2",
    "--set",
    "data.rotation=15",
    "--set",
    "data.translate=0.1,0.3",
    "--set",
    "data.scale=0.9,1.2",
    "--set",
    "data.brightness=0.3",
    "--set",
    "data.contrast=0.3",
    "--set",
    "data.saturation=0.3",
    "--set",
    "data.hue=0.1",
];

/// Draws belong to the image and the epoch, not to who makes the batch, with how many threads, or after whose death.
#[test]
fn augmented_images_are_the_same_whoever_prepares_them() {
    let desk = Desk::new();
    let hash = |line: serde_json::Value| line["weights_hash"].as_str().expect("hash").to_owned();
    let all = verify(&desk, &[&["lenet", "--workers", "1,2,3", "--kill", "1@7"], AUGMENTED].concat()).ok().json();
    assert_eq!(all["trials"].as_array().map(Vec::len), Some(4), "{all}");
    let plain = verify(&desk, &["lenet", "--workers", "1,2"]).ok().json();
    assert_ne!(hash(plain), hash(all), "augmentation must show");
    let fixed = ["bench", "lenet", "--data", "images", "--batch-size", "45", "--steps", "20", "--json"];
    let bench = |threads: &str| hash(desk.run(&[&fixed[..], &["--threads", threads], AUGMENTED].concat()).ok().json());
    assert_eq!(bench("1"), bench("3"));
}

/// A reducer that sums in order of arrival breaks the promise: `verify` must find it, and say where.
#[test]
fn verify_finds_sums_in_order_of_arrival() {
    let desk = Desk::new();
    let mut command = desk.command(&["verify", "--data", "images", "--steps", "16", "--workers", "1,3,4"]);
    let output = command.env("LOCKSTEP_TEST_REDUCER", "arrival").output().expect("runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("NOT one result") && stderr.contains("tensor net.") && stderr.contains("after step"),
        "{stderr}"
    );
}

/// Without BatchNorm the number of shards changes only the order of sums. Over 50 steps of SGD with momentum at 0.01 the
/// weights then stay within 1e-5 (relative to the largest of their tensor) and each step's loss within 1e-5.
#[test]
fn one_shard_and_six_agree_within_float_error_dropout_included() {
    let desk = Desk::new();
    for recipe in ["lenet", "lenet-dropout"] {
        let mut runs = Vec::new();
        for shards in ["1", "6"] {
            let out = format!("{recipe}-{shards}");
            desk.train(
                &out,
                &[recipe, "--shards", shards, "--workers", "1", "--max-steps", "50", "--batch-size", "45"],
            )
            .ok();
            let losses: Vec<f64> =
                desk.events(&out, "step").iter().map(|step| step["loss"].as_f64().expect("loss")).collect();
            let bytes = std::fs::read(desk.path(&out).join("model.safetensors")).expect("weights");
            runs.push((losses, bytes, desk.hash(&out)));
        }
        let [(one, a, first), (six, b, second)] = &runs[..] else { panic!("two runs") };
        assert_eq!(one.len(), 50);
        for (step, (x, y)) in one.iter().zip(six).enumerate() {
            assert!((x - y).abs() < 1e-5, "{recipe}, step {step}: loss {x} and {y}");
        }
        assert_ne!(first, second, "another order of sums should show in some bit");
        let (a, b) = (tensors(a), tensors(b));
        for ((name, x), (_, y)) in a.iter().zip(&b) {
            let largest = x.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            let furthest = x.iter().zip(y).fold(0.0_f32, |most, (x, y)| most.max((x - y).abs()));
            assert!(furthest <= 1e-5 * largest, "{recipe}, {name}: {furthest} apart, largest {largest}");
        }
    }
}

fn tensors(file: &[u8]) -> Vec<(String, Vec<f32>)> {
    let file = safetensors::SafeTensors::deserialize(file).expect("safetensors");
    let mut tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let four = |b: &[u8]| f32::from_le_bytes(b.try_into().expect("four bytes"));
            (name, view.data().chunks_exact(4).map(four).collect())
        })
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

/// The hash is compared between runs of one command too: nothing in it may come from the clock or the process.
/// Shared memory and gRPC are two ways for the same bits, and so are bf16's two.
#[test]
fn the_way_that_tensors_travel_decides_no_bits() {
    let desk = Desk::new();
    let args = ["--max-steps", "12", "--batch-size", "48"];
    let run = |name: &str, more: &[&str]| {
        desk.train(name, &[&args[..], more].concat()).ok();
        desk.hash(name)
    };
    assert_eq!(run("shared", &[]), run("grpc", &["--plane", "grpc"]));
    let bf16 = ["--set", "wire=bf16"];
    let rounded = run("rounded", &bf16);
    assert_ne!(rounded, desk.hash("shared"), "rounding must show");
    for (name, more) in [
        ("one", ["--workers", "1", "--plane", "grpc"]),
        ("four", ["--workers", "4", "--plane", "grpc"]),
        ("both", ["--workers", "3", "--plane", "auto"]),
    ] {
        assert_eq!(run(name, &[&bf16[..], &more].concat()), rounded, "{name}");
    }
    assert_eq!(desk.summary("rounded")["wire"], "bf16");
}

/// One worker with two threads puts shards side by side, with seven it can't: neither shows.
#[test]
fn threads_and_workers_of_a_scale_have_one_result() {
    let desk = Desk::new();
    let fixed = ["bench", "lenet-dropout-bn", "--data", "images", "--batch-size", "45", "--steps", "20", "--json"];
    let mut hashes = std::collections::BTreeSet::new();
    for threads in ["1", "2", "7"] {
        let done = desk.run(&[&fixed[..], &["--threads", threads, "--scale", "1,2"]].concat()).ok();
        for line in done.stdout.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let part = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
            let parts = ["compute_s", "encode_s", "wire_s", "wait_s", "sum_s", "optimizer_s", "publish_s"];
            // what was measured twice (an answer that is summed while another is computed) may exceed the step
            assert!(parts.map(part).iter().sum::<f64>() >= part("step_s") * 0.999, "{line}");
            hashes.insert(line["weights_hash"].as_str().expect("hash").to_owned());
        }
    }
    assert_eq!(hashes.len(), 1, "{hashes:?}");
}

#[test]
fn the_wire_bench_says_which_way_it_measured() {
    let desk = Desk::new();
    let wire = ["bench", "--wire", "--floats", "70000", "--steps", "20", "--json"];
    let line = desk.run(&[&wire[..], &["--plane", "grpc"]].concat()).ok().json();
    assert_eq!(
        (line["plane"].as_str(), line["floats"].as_u64(), line["rounds"].as_u64()),
        (Some("grpc"), Some(70_000), Some(10))
    );
    let line = desk.run(&wire).ok().json();
    if cfg!(target_os = "linux") {
        assert_eq!(line["plane"], "shared memory");
    }
    assert!(line["seconds"].as_f64() > Some(0.0) && line["raw_tcp_gb_per_s"].as_f64() > Some(0.0), "{line}");
}

#[test]
fn the_same_command_twice_gives_the_same_hash_and_another_seed_another() {
    let desk = Desk::new();
    for (out, seed) in [("a", "5"), ("b", "5"), ("c", "6")] {
        desk.train(out, &["--max-steps", "10", "--seed", seed]).ok();
    }
    assert_eq!(desk.hash("a"), desk.hash("b"));
    assert_ne!(desk.hash("a"), desk.hash("c"));
}
