//! GPU workers, in a build with `--features cuda`: on a GPU, or on the stand-ins of `tests/standin` (`.ci/cuda`).

use std::collections::HashMap;

use serde_json::Value;

use crate::support::watched::Cluster;
use crate::support::{Desk, Done, skip};

const SHORT: &[&str] = &["--max-steps", "3", "--batch-size", "24"];

/// None where there is no GPU.
pub fn desk() -> Option<Desk> {
    let desk = Desk::new();
    let found = desk.run(&["worker", "--join", "127.0.0.1:9", "--reconnect", "0", "--device", "cuda:0"]);
    if found.stderr.contains("there is no GPU here") {
        skip("no GPU");
        return None;
    }
    // one that can't be opened is a fault, and no reason to skip
    assert_ne!(found.code, Some(64), "{}", found.stderr);
    Some(desk)
}

/// Only the stand-ins count and refuse.
fn on_standin(desk: &Desk) -> bool {
    let class = desk.run(&["bench", "--workers", "1", "--steps", "20", "--device", "cuda:0", "--json"]).ok().json();
    class["device_class"].as_str().is_some_and(|class| class.contains("Stand-in"))
}

/// With so many GPUs, as the stand-ins show them.
pub fn with_gpus(desk: &Desk, gpus: &str, args: &[&str]) -> Done {
    desk.start_under(&["env", &format!("STANDIN_DEVICES={gpus}")], args).finish()
}

#[test]
fn one_gpu_gives_one_hash_to_any_number_of_workers_and_not_the_cpus() {
    let Some(desk) = desk() else { return };
    let args =
        ["verify", "lenet-dropout-bn", "--data", "images", "--workers", "1,2,4", "--kill", "1@2", "--steps", "3"];
    let on =
        |device| desk.run(&[&args[..], &["--batch-size", "24", "--json", "--device", device]].concat()).ok().json();
    let (gpu, cpu) = (on("cuda:0"), on("cpu"));
    assert_eq!(gpu["equal"], true, "{gpu}");
    assert!(gpu["device_class"].as_str().is_some_and(|class| class.starts_with("cuda/")), "{gpu}");
    assert_ne!(gpu["weights_hash"], cpu["weights_hash"]);
}

/// Oracle: the coordinator, whose optimizer is held against PyTorch's.
#[test]
fn a_gpu_that_makes_the_steps_itself_comes_to_the_coordinators_weights() {
    let Some(desk) = desk() else { return };
    // BatchNorm's buffers, state that begins and goes on, each way of decay, penalties, a gradient that is clipped and one that is not
    let optimizers: [&[&str]; 9] = [
        &["--optimizer", "sgd", "--momentum", "0"],
        &["--optimizer", "sgd", "--momentum", "0.9", "--weight-decay", "1e-3"],
        &["--optimizer", "sgd", "--momentum", "0.9", "--set", "optimizer.nesterov=true"],
        &["--optimizer", "adam", "--lr", "0.01", "--weight-decay", "1e-3"],
        &["--optimizer", "adamw", "--lr", "0.01", "--set", "schedule.name=cosine"],
        &["--optimizer", "sgd", "--weight-decay", "1e-3", "--set", "loss.l1=1e-3"],
        &["--optimizer", "adamw", "--set", "loss.l1=1e-4", "--set", "loss.l2=1e-3"],
        &["--optimizer", "sgd", "--set", "optimizer.clip_grad_norm=0.3", "--set", "loss.l2=1e-3"],
        &["--optimizer", "sgd", "--set", "optimizer.clip_grad_norm=100"],
    ];
    for (number, optimizer) in optimizers.into_iter().enumerate() {
        let train = |name: &str, word: &str| {
            let out = format!("{name}-{number}");
            let args =
                ["train", "lenet-dropout-bn", "--data", "images", "--plain", "--workers", "1", "--device", "cuda:0"];
            // however slow the machine is
            let more =
                ["--catch-up", "3600", "--plane", "grpc", "--max-steps", "20", "--batch-size", "24", "--out", &out];
            let word = format!("LOCKSTEP_OWN_STEPS={word}");
            desk.start_under(&["env", &word], &[&args[..], &more, optimizer].concat()).finish().ok();
            let step = |event: &Value| ["loss", "accuracy", "gradient_norm"].map(|key| event[key].clone());
            let told: Vec<_> = desk.events(&out, "step").iter().map(step).collect();
            let traffic = ["sent", "received"].map(|way| desk.summary(&out)["traffic"][way].as_u64().expect("bytes"));
            ((desk.hash(&out), told), traffic)
        };
        // first, with the images, which the other one has then
        let (its, [more, gradients]) = train("its", "off");
        let (own, [fewer, few]) = train("own", "on");
        assert_eq!(own, its, "{optimizer:?}");
        // 62,070 parameters for each step, or once
        let parameters = 4 * 62_070;
        assert!(more > 20 * parameters && fewer < 2 * parameters, "{more} {fewer}");
        // a gradient for each step, or of the first few, and what it came to at the end: parameters, and two vectors of state at most
        assert!(gradients > 20 * parameters && few < 16 * parameters, "{gradients} {few}");
    }
}

#[test]
fn a_run_on_a_gpu_is_trained_evaluated_and_looked_at() {
    let Some(desk) = desk() else { return };
    // everything that may happen to an image, on the way
    let settings =
        ["data.crop_padding=4", "data.horizontal_flip=0.5", "data.rotation=10", "data.brightness=0.2", "data.hue=0.1"];
    let set: Vec<&str> = settings.iter().flat_map(|one| ["--set", one]).collect();
    desk.train("gpu", &[SHORT, &set, &["--device", "cuda:0"]].concat()).ok();
    desk.train("cpu", &[SHORT, &set, &["--device", "cpu"]].concat()).ok();
    let (gpu, cpu) = (desk.summary("gpu"), desk.summary("cpu"));
    let off = |key: &str| (gpu[key].as_f64().expect(key) - cpu[key].as_f64().expect(key)).abs();
    // three steps from the same weights on the same images: rounding is all that differs
    assert!(off("train_loss") < 1e-3 && off("test_loss") < 1e-3, "{gpu} {cpu}");
    for device in ["cuda:0", "cpu"] {
        let file = "gpu/model.safetensors";
        let found = desk.run(&["eval", file, "--data", "images", "--json", "--device", device]).ok().json();
        assert!((found["test_loss"].as_f64().expect("loss") - gpu["test_loss"].as_f64().expect("loss")).abs() < 1e-3);
    }
}

#[test]
fn a_cpu_worker_is_refused_by_a_run_on_a_gpu_with_the_reason() {
    let Some(desk) = desk() else { return };
    let out =
        ["coordinator", "--data", "images", "--plain", "--listen", "127.0.0.1:0", "--out", "run", "--min-workers", "2"];
    let mut running = desk.start(&[&out[..], SHORT].concat());
    let line = running.wait_for_error("join with");
    let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
    let gpu = |name| desk.start(&["worker", "--join", &address, "--device", "cuda:0", "--name", name]);
    let first = gpu("first");
    while desk.run(&["status", &address, "--json"]).ok().json()["workers"].as_array().is_none_or(Vec::is_empty) {}
    desk.run(&["worker", "--join", &address, "--threads", "1", "--device", "cpu"]).refused(&["device class", "cuda/"]);
    let second = gpu("second");
    running.finish().ok();
    first.finish().ok();
    second.finish().ok();
}

/// One thread at a time has the GPU: that of the lost session is waited for, in the middle of a step too.
#[test]
fn a_worker_that_lost_its_coordinator_comes_back_with_its_gpu() {
    let Some(desk) = desk() else { return };
    let recipe = ["lenet-dropout-bn", "--max-steps", "20", "--batch-size", "45", "--set", "checkpoint.every_steps=1"];
    desk.train("quiet", &[&recipe[..], &["--device", "cuda:0", "--workers", "1"]].concat()).ok();
    let mut cluster = Cluster::start(&desk, "run", &recipe);
    // on the first GPU, since there is one
    let _anna = cluster.worker("anna", None);
    for kill in 1..=3 {
        assert!(cluster.wait("a step", |said| said.step >= kill * 5), "the run ended before the kill");
        cluster.kill();
        cluster.resume(&[]);
    }
    assert!(cluster.wait("the last return", |said| said.is_present("anna")));
    let log = cluster.log("anna");
    cluster.finish();
    assert_eq!(desk.hash("run"), desk.hash("quiet"));
    assert!(log.matches("back in run").count() >= 2, "{log}");
}

#[test]
fn a_switch_of_nvidias_that_overrides_ours_is_refused() {
    let Some(desk) = desk() else { return };
    let worker = ["worker", "--join", "127.0.0.1:9", "--reconnect", "0", "--device", "cuda:0"];
    let done = desk.start_under(&["env", "NVIDIA_TF32_OVERRIDE=0"], &worker).finish();
    done.refused(&["NVIDIA_TF32_OVERRIDE is \"0\"", "unset it", "--no-tf32"]);
}

#[test]
fn without_the_promise_a_gpu_and_a_cpu_share_a_run() {
    let Some(desk) = desk() else { return };
    let out =
        ["coordinator", "--data", "images", "--plain", "--listen", "127.0.0.1:0", "--out", "run", "--min-workers", "2"];
    let mut running = desk.start(&[&out[..], &["--fast", "--max-steps", "3", "--batch-size", "48"]].concat());
    let line = running.wait_for_error("join with");
    let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
    let workers = ["cuda:0", "cpu"].map(|device| desk.start(&["worker", "--join", &address, "--device", device]));
    running.finish().ok();
    workers.into_iter().for_each(|worker| drop(worker.finish().ok()));
    let class = desk.summary("run")["device_class"].as_str().expect("class").to_owned();
    assert!(class.contains("cuda/") && class.contains("cpu/") && class.contains(" + "), "{class}");
}

#[test]
fn each_gpu_gets_a_worker_and_a_gpu_that_is_not_there_is_named() {
    let Some(desk) = desk() else { return };
    desk.run(&["train", "--data", "images", "--device", "cuda:99"]).refused(&["cuda:99", "GPUs of this machine"]);
    if !on_standin(&desk) {
        return; // how many there are is not for the test to say
    }
    let args = [&["train", "--data", "images", "--out", "two", "--plain"], SHORT].concat();
    let done = with_gpus(&desk, "2", &args).ok();
    assert!(done.stdout.contains("workers  2 for 4 shards"), "{}", done.stdout);
    with_gpus(&desk, "0", &["train", "--data", "images", "--device", "cuda"]).refused(&["no GPU here", "--device"]);
    // and without one, auto is the CPU
    let args = [&["train", "--data", "images", "--out", "none"], SHORT].concat();
    with_gpus(&desk, "0", &args).ok();
    assert!(desk.summary("none")["device_class"].as_str().is_some_and(|class| class.starts_with("cpu/")));
}

/// Each pass kernel by kernel has the bits of the graphs, and so has one whose capture CUDA refuses, which is said once.
#[test]
fn graphs_change_no_bit() {
    let Some(desk) = desk() else { return };
    let with = |environment: &str| {
        let out = environment.replace('=', "-");
        let args = ["train", "lenet-dropout-bn", "--data", "images", "--plain", "--out", &out, "--device", "cuda:0"];
        let done = desk.start_under(&["env", environment], &[&args[..], &["--workers", "1"], SHORT].concat()).finish();
        let losses = ["train_loss", "test_loss"].map(|key| desk.summary(&out)[key].as_f64().expect(key));
        ((desk.hash(&out), losses), done.ok().stderr)
    };
    let worker = ["worker", "--join", "127.0.0.1:9", "--reconnect", "0", "--device", "cuda:0"];
    let wrong = desk.start_under(&["env", "LOCKSTEP_CUDA_GRAPHS=no"], &worker).finish();
    wrong.refused(&["LOCKSTEP_CUDA_GRAPHS is \"no\"", "may be off"]);
    let (hash, said) = with("NOTHING=off");
    assert!(!said.contains("CUDA graphs"), "{said}");
    // the stand-ins' lanes from the last to the first; memory for one shard at a time; and what is asked for
    // done as late as may be, or what is awaited after all else
    for environment in [
        "LOCKSTEP_CUDA_GRAPHS=off",
        "STANDIN_CAPTURE=off",
        "STANDIN_ORDER=reverse",
        "STANDIN_MEMORY=100000000",
        "STANDIN_LATE=last",
        "STANDIN_LATE=first",
    ] {
        let (other, said) = with(environment);
        assert_eq!(other, hash, "{environment}");
        if environment.starts_with("STANDIN") && on_standin(&desk) {
            let refused = usize::from(environment.ends_with("off"));
            assert_eq!(said.matches("CUDA graphs are refused").count(), refused, "{said}");
        }
    }
}

/// Channels side by side round otherwise than plane by plane, and are one class of their own where they were asked for by name; a wide
/// network has them unasked.
#[test]
fn memory_formats_agree_and_each_has_its_bits() {
    let Some(desk) = desk() else { return };
    let worker = ["worker", "--join", "127.0.0.1:9", "--reconnect", "0", "--device", "cuda:0"];
    let wrong = desk.start_under(&["env", "LOCKSTEP_CUDA_MEMORY_FORMAT=nhwc"], &worker).finish();
    wrong.refused(&["LOCKSTEP_CUDA_MEMORY_FORMAT", "nhwc", "channels_last or contiguous"]);
    let with = |recipe: &str, environment: &[&str], workers: &str| {
        let out = format!("{recipe}{workers}{}", environment.join("-"));
        let args = ["train", recipe, "--data", "images", "--plain", "--out", &out, "--device", "cuda:0"];
        let done = desk
            .start_under(&[&["env"], environment].concat(), &[&args[..], &["--workers", workers], SHORT].concat())
            .finish();
        done.ok();
        let summary = desk.summary(&out);
        let class = summary["device_class"].as_str().expect("a class").to_owned();
        (desk.hash(&out), summary["test_loss"].as_f64().expect("a loss"), class)
    };
    let (last, plain) = ("LOCKSTEP_CUDA_MEMORY_FORMAT=channels_last", "LOCKSTEP_CUDA_MEMORY_FORMAT=contiguous");
    for (recipe, wide) in [("lenet-dropout-bn", false), ("base", true)] {
        let [own, beside, apart] = [&["NOTHING=off"], &[last], &[plain]].map(|named| with(recipe, named, "1"));
        assert_ne!(beside.0, apart.0, "{recipe}");
        assert!((beside.1 - apart.1).abs() < 1e-3, "{recipe}: {} and {}", beside.1, apart.1);
        assert!(beside.2.contains("-nhwc/") && apart.2.contains("-nchw/"), "{} {}", beside.2, apart.2);
        assert_eq!(own.0, if wide { &beside } else { &apart }.0, "{recipe}");
        assert!(!own.2.contains("-n"), "{}", own.2);
        let others: [(&[&str], &str); 4] = [
            (&[last], "2"),
            (&[last, "LOCKSTEP_CUDA_GRAPHS=off"], "1"),
            (&[last, "STANDIN_ORDER=reverse"], "1"),
            (&[last, "STANDIN_LATE=last"], "1"),
        ];
        for (environment, workers) in others {
            assert_eq!(with(recipe, environment, workers).0, beside.0, "{recipe} {environment:?} {workers}");
        }
    }
}

/// What the stand-ins of all processes counted in a run of lenet, 4 shards of 16 images.
pub fn counted(desk: &Desk, steps: u32, environment: &str, more: &[&str]) -> HashMap<String, u64> {
    let folder = format!("{steps}{environment}");
    std::fs::create_dir(desk.path(&folder)).expect("a folder");
    let count = format!("STANDIN_COUNT={}/%p", desk.path(&folder).display());
    let steps = steps.to_string();
    let args =
        ["bench", "--model", "lenet", "--batch-size", "64", "--shards", "4", "--workers", "1", "--steps", &steps];
    let one = ["--device", "cuda:0", "--catch-up", "3600"];
    desk.start_under(&["env", &count, environment], &[&args[..], &one, more].concat()).finish().ok();
    let mut counters = HashMap::<String, u64>::new();
    for file in std::fs::read_dir(desk.path(&folder)).expect("the counters' folder") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("counters");
        for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            *counters.entry(name.to_owned()).or_default() += value.parse::<u64>().expect("a number");
        }
    }
    counters
}

/// What the host asks for in one step: docs/gpu.md has these numbers. Counted as the difference of two runs, one of which has 40 steps more,
/// so that what happens once is not in it; rounded, because a few of the first steps are asked for their gradient.
#[test]
fn a_step_costs_few_calls() {
    let Some(desk) = desk() else { return };
    if !on_standin(&desk) {
        return;
    }
    let names = [
        "launches",
        "graph_launches",
        "graph_nodes",
        "convolutions",
        "products",
        "h2d",
        "d2d",
        "d2h",
        "memsets",
        "allocations",
        "synchronisations",
    ];
    for (graphs, expected) in [
        ("NOTHING=off", [5, 2, 105, 0, 0, 5, 5, 1, 0, 4, 1]),
        ("LOCKSTEP_CUDA_GRAPHS=off", [54, 0, 0, 20, 36, 5, 5, 1, 0, 4, 1]),
    ] {
        let [few, many] = [20, 60].map(|steps| counted(&desk, steps, graphs, &[]));
        let of = |counters: &HashMap<String, u64>, name| counters.get(name).copied().unwrap_or(0);
        let step = names.map(|name| (of(&many, name) - of(&few, name) + 20) / 40);
        assert_eq!(step, expected, "{names:?}, {graphs}");
    }
}

/// While a lone worker waits for a gradient, its GPU has the next pass to do.
#[test]
fn a_gpu_computes_while_a_gradient_goes_home() {
    let Some(desk) = desk() else { return };
    if !on_standin(&desk) {
        return;
    }
    let steps = 24;
    let left = counted(&desk, steps, "STANDIN_LATE=last", &[]).get("graphs_left").copied().unwrap_or(0);
    // a pass back for each wait, but for the first ones, which are no graphs yet; a lease may come late now and then
    assert!(left >= u64::from(steps) / 3, "{left} of {steps}");
}
