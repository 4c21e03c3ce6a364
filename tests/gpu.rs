//! GPU workers, in a build with `--features cuda`: on a GPU, or on the stand-ins of `tests/standin` (`.ci/cuda`).

use crate::support::{Desk, Done, skip};

const SHORT: &[&str] = &["--max-steps", "3", "--batch-size", "24"];

/// None where there is no GPU.
pub fn desk() -> Option<Desk> {
    let desk = Desk::new();
    let found = desk.run(&["worker", "--join", "127.0.0.1:9", "--reconnect", "0", "--device", "cuda:0"]);
    if found.code == Some(64) {
        skip("no GPU");
        return None;
    }
    Some(desk)
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

#[test]
fn without_the_promise_a_gpu_and_a_cpu_share_a_run() {
    let Some(desk) = desk() else { return };
    let out =
        ["coordinator", "--data", "images", "--plain", "--listen", "127.0.0.1:0", "--out", "run", "--min-workers", "2"];
    let mut running = desk.start(&[&out[..], &["--max-steps", "3", "--fast", "--batch-size", "48"]].concat());
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
    let class = desk.run(&["bench", "--workers", "1", "--steps", "20", "--device", "cuda:0", "--json"]).ok().json();
    desk.run(&["train", "--data", "images", "--device", "cuda:99"]).refused(&["cuda:99", "GPUs of this machine"]);
    if !class["device_class"].as_str().is_some_and(|class| class.contains("Stand-in")) {
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
