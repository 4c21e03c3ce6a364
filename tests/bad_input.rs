//! Mistakes get an error that names the thing, the number found and the rule, and exit code 64.

use std::fs;
use std::net::TcpListener;

use crate::support::Desk;

#[test]
fn settings_that_can_not_be_meant() {
    let desk = Desk::new();
    let train = |args: &[&str]| desk.train("run", args);
    train(&["--set", "optimizer.lerning_rate=0.1"]).refused(&["lerning_rate", "nearest"]);
    train(&["--set", "batch_sise=64"]).refused(&["batch_sise", "batch_size"]);
    train(&["lenett"]).refused(&["lenett", "lenet"]);
    train(&["--batch-size", "3"]).refused(&["batch_size", "3", "4"]);
    train(&["--shards", "0"]).refused(&["shards", "0"]);
    train(&["--workers", "0"]).refused(&["--workers", "at least 1"]);
    train(&["--lr", "NaN"]).refused(&["optimizer.lr", "--lr"]);
    train(&["--lr", "-1"]).refused(&["lr", "-1"]);
    train(&["--epochs", "many"]).refused(&["epochs", "many"]);
    train(&["--kill", "5@1"]).refused(&["no worker 5", "0 to 1"]);
    train(&["--momentum"]).refused(&["--momentum"]);
    train(&["--worker-timeout", "-3"]).refused(&["--worker-timeout"]);
    train(&["--worker-timeout", "0"]).refused(&["--worker-timeout", "at least 1 second"]);
    train(&["--threads", "100000"]).refused(&["--threads", "100000", "1024"]);
    train(&["--epochs", "99999999999999999999"]).refused(&["--epochs", "99999999999999999999", "more than"]);
    train(&["--wait-for-workers", "1e30"]).refused(&["--wait-for-workers", "at most"]);
    train(&["--set", "data.validation=0.99999"]).refused(&["data.validation", "0.99999", "all 640 images"]);
    let nothing_near = train(&["--set", "xyzzy=1"]);
    nothing_near.refused(&["xyzzy", "lockstep recipes lenet"]);
    assert!(!nothing_near.stderr.contains("nearest"), "{}", nothing_near.stderr);
    train(&["missing.toml"]).refused(&["missing.toml", "no such file"]);
    desk.run(&["bench", "--steps", "5"]).refused(&["--steps", "at least 20"]);
    desk.run(&["bench", "--epochs", "5"]).refused(&["--epochs", "--steps"]);
    desk.run(&["bench", "--set", "max_steps=50"]).refused(&["max_steps", "--steps"]);
    train(&["--workers", "500"]).refused(&["--workers", "500", "64"]);
    desk.run(&["verify", "--data", "images", "--workers", "2,2"]).refused(&["one run", "--kill"]);
    train(&["--set", "data.fraction=0.0001"]).refused(&["fraction"]);
    assert!(!desk.path("run").exists(), "a refusal leaves nothing behind");
}

#[test]
fn models_whose_shapes_do_not_fit() {
    let desk = Desk::new();
    let model = |layers: &str| {
        fs::write(desk.path("net.toml"), format!("name = \"net\"\nprefix = \"net\"\nlayers = [{layers}]\n"))
            .expect("model");
        desk.run(&["model", "show", "net.toml"])
    };
    model("{type=\"conv\", out_channels=4, kernel_size=40}").refused(&["conv", "net.0", "40", "32"]);
    model("{type=\"flatten\"}, {type=\"linear\", out_features=7}").refused(&["7", "10"]);
    model("{type=\"linear\", out_features=10}").refused(&["linear", "flatten"]);
    model("{type=\"conv\", out_chanels=4, kernel_size=3}").refused(&["out_chanels", "out_channels"]);
    model("{type=\"convv\", out_channels=4, kernel_size=3}").refused(&["convv", "conv"]);
    model("{type=\"dropout\", p=1.5}, {type=\"flatten\"}, {type=\"linear\", out_features=10}")
        .refused(&["dropout", "1.5"]);
    desk.run(&["model", "show", "missing.toml"]).refused(&["missing.toml"]);

    // one value a channel and example: fine in a shard of two, and not where a batch leaves a shard of one
    let layers = "{type=\"flatten\"}, {type=\"batch_norm\"}, {type=\"linear\", out_features=10}";
    fs::write(desk.path("net.toml"), format!("name = \"net\"\nprefix = \"net\"\nlayers = [{layers}]\n"))
        .expect("model");
    let train = |batch: &str| desk.train("norm", &["--model", "net.toml", "--batch-size", batch, "--epochs", "1"]);
    train("6").refused(&["net.1", "batch_norm", "6 images", "4 shards", "no variance"]);
    train("127").refused(&["net.1", "5 images", "the last of the 640", "4 shards"]);
    let with = |settings: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        desk.train("norm", &[&["--model", "net.toml", "--epochs", "1"], &settings[..]].concat())
    };
    // shards with images of their own: 160 each, over 107 steps, and over 6
    with(&["batch_size=6", "data.partition=interleaved"]).refused(&["net.1", "4 shards", "no variance"]);
    // an evaluation as in training: 100 test images are 99 and one
    with(&["evaluation.mode=train", "evaluation.slice=99"]).refused(&[
        "net.1",
        "100 images",
        "slices of 99",
        "variance",
    ]);
    assert!(!desk.path("norm").exists(), "a refusal leaves nothing behind");
    with(&["batch_size=127", "data.partition=contiguous", "evaluation.mode=train"]).ok();
    fs::remove_dir_all(desk.path("norm")).expect("removed");
    train("128").ok();
}

#[test]
fn images_that_are_damaged() {
    let desk = Desk::new();
    let data = |path: &str| desk.run(&["data", "--data", path, "--offline"]);
    data("nowhere").refused(&["nowhere"]);
    fs::create_dir(desk.path("empty")).expect("folder");
    data("empty").refused(&["empty"]);
    fs::create_dir_all(desk.path("half/train/ant")).expect("folder");
    data("half").refused(&["half", "test/<class>"]);
    // a header that is no header
    fs::write(desk.path("broken.tar"), [&[b'x'; 257][..], b"ustar", &[200; 250]].concat()).expect("archive");
    let broken = data("broken.tar");
    broken.refused(&["broken.tar", "damaged"]);
    assert!(broken.stderr.len() < 200 && !broken.stderr.contains('\u{fffd}'), "{}", broken.stderr);

    let batch = desk.path("images/data_batch_3.bin");
    let good = fs::read(&batch).expect("batch");
    fs::write(&batch, &good[..good.len() - 1]).expect("cut");
    data("images").refused(&["data_batch_3.bin", "3073"]);
    let mut bad = good.clone();
    bad[2 * 3073] = 10;
    fs::write(&batch, &bad).expect("label");
    data("images").refused(&["data_batch_3.bin", "label", "10"]);
}

#[test]
fn a_port_in_use_and_an_address_that_is_none() {
    let desk = Desk::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("address").to_string();
    desk.run(&["coordinator", "--data", "images", "--listen", &address]).refused(&[&address, "--listen"]);
    desk.run(&["worker", "--join", "host:99999"]).refused(&["99999", "65535"]);
    desk.run(&["coordinator", "--listen", "::1:7077"]).refused(&["--listen", "brackets"]);
    desk.run(&["worker", "--join", "nonsense"]).refused(&["nonsense", "host:port"]);
    desk.run(&["worker", "--device", "tpu"]).refused(&["tpu", "cpu"]);
    desk.run(&["frobnicate"]).refused(&["frobnicate"]);
    assert_eq!(desk.run(&["status", "127.0.0.1:9"]).code, Some(2));
}

/// No mistake that can be seen beforehand, so not 64: but an end, with what to change, and not a run of NaN.
#[test]
fn a_training_that_diverges_ends_and_says_what_to_change() {
    let desk = Desk::new();
    let done = desk.train("run", &["--lr", "1e6", "--epochs", "3"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for word in ["of step", "tensor net.", "optimizer.lr"] {
        assert!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    let desk = Desk::new();
    for args in [&["--help"][..], &["--version"], &["train", "--help"], &["recipes"], &["model"]] {
        assert!(!desk.run(args).ok().stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn output_that_is_lost_is_an_error_and_a_closed_pipe_is_not() {
    let desk = Desk::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full");
    if full().is_err() {
        return; // not Linux
    }
    let into = |args: &[&str]| {
        let output = desk.command(args).stdout(full().expect("opened")).output().expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for args in [&["recipes"][..], &["--help"], &["train", "--data", "images", "--max-steps", "3", "--out", "run"]] {
        let (code, text) = into(args);
        assert_eq!(code, Some(1), "{args:?}: {text}");
        assert!(text.contains("standard output"), "{args:?}: {text}");
    }
    assert_eq!(desk.summary("run")["steps"], 3, "the run itself is whole");
    // gone before the first word
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_eq!(desk.command(&["recipes"]).stdout(writer).output().expect("runs").status.code(), Some(0));
}
