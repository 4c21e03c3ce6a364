//! `lockstep predict`: any picture, from the weights of a run.

use std::fs;

use lockstep_coordinator::dataset::picture;

use crate::support::Desk;

/// Oracle: what the run itself counted in its last evaluation.
#[test]
fn predictions_of_the_test_images_are_those_of_the_evaluation() {
    let desk = Desk::new();
    desk.train(
        "run",
        &["--epochs", "3", "--lr", "0.05", "--set", "data.mean=0.4,0.5,0.5", "--set", "data.std=0.2,0.3,0.25"],
    )
    .ok();
    let records = fs::read(desk.path("images/test_batch.bin")).expect("test images");
    let mut args =
        vec!["predict".to_owned(), "run".to_owned(), "--json".to_owned(), "--top".to_owned(), "10".to_owned()];
    for (number, record) in records.chunks(3073).enumerate() {
        let name = format!("{number}.png");
        fs::write(desk.path(&name), picture::to_png(&record[1..]).expect("32×32")).expect("written");
        args.push(name);
    }
    let done = desk.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    let mut confusion = vec![vec![0_u64; 10]; 10];
    for (line, record) in done.stdout.lines().zip(records.chunks(3073)) {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let top = line["top"].as_array().expect("a list");
        let shares: Vec<f64> = top.iter().map(|one| one["probability"].as_f64().expect("a share")).collect();
        assert_eq!(shares.len(), 10);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
        confusion[usize::from(record[0])][top[0]["label"].as_u64().expect("a label") as usize] += 1;
    }
    assert_eq!(serde_json::json!(confusion), desk.summary("run")["confusion"]);
}

#[test]
fn a_folder_a_checkpoint_and_weights_say_the_same_with_the_classes_names() {
    let desk = Desk::new();
    desk.train("run", &["--max-steps", "3"]).ok();
    let picture = picture::to_png(&[200; 3072]).expect("32×32");
    fs::write(desk.path("grey.png"), picture).expect("written");
    let say = |file: &str| desk.run(&["predict", file, "grey.png", "--top", "3"]).ok().stdout;
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (folder, weights) = (say("run"), say("run/model.safetensors"));
    assert_eq!(folder, weights, "a folder stands for its final weights");
    assert!(folder.starts_with("lenet of run/model.safetensors, after 3 steps\ngrey.png\n"), "{folder}");
    assert_eq!(lines(&folder), lines(&say("run/checkpoints/step-00000003.safetensors")));
    let found = lines(&folder);
    assert_eq!(found.len(), 4, "{folder}");
    let ends: Vec<_> = found[1..].iter().map(|line| line.find('%').expect("a share")).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "not aligned: {folder}");
    let names = lockstep_coordinator::dataset::CIFAR10_CLASSES;
    assert!(found[1..].iter().all(|line| names.contains(&line.split_whitespace().next().expect("a name"))), "{folder}");
    // weights that lie nowhere: the network has to be named, and nobody knows what its classes are called
    fs::copy(desk.path("run/model.safetensors"), desk.path("bare.safetensors")).expect("copied");
    desk.run(&["predict", "bare.safetensors", "grey.png"]).refused(&["bare.safetensors", "--model"]);
    let bare = desk.run(&["predict", "bare.safetensors", "grey.png", "--model", "lenet"]).ok().stdout;
    assert!(bare.contains("have their numbers"), "{bare}");
}

#[test]
fn what_is_no_picture_is_named_and_the_others_are_predicted() {
    let desk = Desk::new();
    desk.train("run", &["--max-steps", "3"]).ok();
    let good = picture::to_png(&[7; 3072]).expect("32×32");
    fs::write(desk.path("good.png"), &good).expect("written");
    fs::write(desk.path("notes.txt"), "not a picture").expect("written");
    fs::write(desk.path("cut.png"), &good[..good.len() / 2]).expect("written");
    fs::write(desk.path("cut.jpg"), [0xff, 0xd8, 0xff]).expect("written");
    // a header that claims 60,000 × 60,000 pixels: the size stands in bytes 16 to 24, their checksum in 29 to 33
    let mut bomb = good.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let sum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    fs::write(desk.path("bomb.png"), bomb).expect("written");
    let one = |name: &str, words: &[&str]| desk.run(&["predict", "run", name]).refused(&[&[name], words].concat());
    one("notes.txt", &["neither PNG nor JPEG"]);
    one("cut.png", &["cannot be decoded"]);
    one("cut.jpg", &["cannot be decoded"]);
    one("bomb.png", &["60000×60000 pixels", "at most 128000000"]);
    one("gone.png", &["no such file"]);
    // nobody writes into it: opening it would wait for ever
    desk.pipe("pipe.png");
    one("pipe.png", &["a pipe", "no regular file"]);
    desk.run(&["predict", "pipe.png", "good.png", "--model", "lenet"]).refused(&["pipe.png", "no regular file"]);
    one("images", &["is a folder"]);
    let done = desk.run(&["predict", "run", "notes.txt", "good.png", "gone.png"]);
    done.refused(&["notes.txt", "gone.png", "2 of 3 pictures could not be read"]);
    assert!(done.stdout.contains("good.png"), "{}", done.stdout);
    desk.run(&["predict", "run"]).refused(&["IMAGE"]);
    desk.run(&["predict", "images", "good.png"]).refused(&["images is a folder without model.safetensors"]);
}

/// PNG's checksum (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}
