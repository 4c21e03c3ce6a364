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
}

#[test]
fn images_that_are_damaged() {
    let desk = Desk::new();
    let data = |path: &str| desk.run(&["data", "--data", path, "--offline"]);
    data("nowhere").refused(&["nowhere"]);
    fs::create_dir(desk.path("empty")).expect("folder");
    data("empty").refused(&["empty"]);

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
