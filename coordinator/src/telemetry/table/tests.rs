use super::*;
use crate::telemetry::summary::{Ledger, Traffic, accuracy_by_class};

fn summary() -> Summary {
    let names = ["airplane", "car", "bird"];
    let confusion = vec![vec![641, 300, 59], vec![0, 1000, 0], vec![1000, 0, 0]];
    let per_class = names.iter().zip(accuracy_by_class(&confusion));
    Summary {
        wire: "f32".to_owned(),
        model: "lenet".into(),
        data: "cifar10 (binary)".into(),
        workers: 2,
        shards: 4,
        batch_size: 64,
        epochs: 20,
        steps: 15_640,
        seed: 7,
        device_class: "cpu-v4".into(),
        deterministic: true,
        plane: "grpc".into(),
        train_loss: Some(1.0213),
        train_accuracy: Some(0.6371),
        train_penalty: None,
        train_eval_loss: None,
        train_eval_accuracy: None,
        validation_loss: None,
        validation_accuracy: None,
        test_loss: Some(1.164),
        test_accuracy: Some(0.5983),
        test_images: 10_000,
        images_per_s: 4210.4,
        seconds: 238.0,
        weights_hash: "0123456789abcdef".repeat(4),
        ledger: Ledger { used: 1_000_000, reissued: 1, ..Default::default() },
        evaluation_mode: "eval".into(),
        recipe: "lenet".into(),
        parameters: 61_706,
        data_hash: "feedbeef".repeat(8),
        best_accuracy: Some(0.6012),
        best_step: Some(14_076),
        per_class: per_class.map(|(class, accuracy)| ClassAccuracy { class: (*class).into(), accuracy }).collect(),
        confusion,
        dead_outputs: None,
        traffic: Traffic { received: 41_300_000, sent: 198_000_000, shared: 15_500_000_000 },
        folder: "runs/2026-01-02-lenet-1".into(),
        stopped_early: false,
    }
}

#[test]
fn at_eighty_columns() {
    let expected = "  recipe    lenet
  model     lenet, 61,706 parameters
  data      cifar10 (binary) feedbeeffeed
  workers   2 for 4 shards of a batch of 64, cpu-v4
  length    20 epochs, 15,640 steps, in 3:58 at 4,210 images/s
  train     loss 1.0213  accuracy 63.71%
  test      loss 1.1640  accuracy 59.83%  of 10,000 images
            best 60.12% at step 14,076
  examples  1,000,000 used, 0 repeated, 0 lost, 0 recomputed; 1 shard re-issued
  traffic   198 MB sent, 41.3 MB received, 15.5 GB through shared memory
  seed      7
  weights   0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  folder    runs/2026-01-02-lenet-1

  airplane   64.10%  ######      bird        0.00%
  car       100.00%  ##########";
    assert_eq!(plain(&summary(), 79), expected);
}

#[test]
fn nothing_is_lost_when_it_is_narrow() {
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let summary = Summary { per_class: Vec::new(), ..summary() };
    let wide = plain(&summary, 200);
    for width in 12..200 {
        let text = plain(&summary, width);
        assert_eq!(letters(&text), letters(&wide), "{width} columns");
        if width >= 20 {
            assert!(text.lines().all(|line| measure_text_width(line) <= width), "{width} columns:\n{text}");
        }
    }
}

#[test]
fn what_was_not_measured_is_not_shown() {
    let bench =
        Summary { test_loss: None, test_accuracy: None, best_accuracy: None, folder: String::new(), ..summary() };
    let text = plain(&bench, 79);
    assert!(!text.contains("  test ") && !text.contains("best") && !text.contains("folder"), "{text}");
}

#[test]
fn what_few_runs_have_stands_where_it_belongs() {
    let rare = Summary {
        train_eval_loss: Some(0.9),
        train_eval_accuracy: Some(0.7),
        evaluation_mode: "train".into(),
        dead_outputs: Some(vec![1, 2]),
        ..summary()
    };
    let text = plain(&rare, 79);
    for row in [
        "  train     loss 1.0213  accuracy 63.71%\n            loss 0.9000  accuracy 70.00%  evaluated\n",
        "  test      loss 1.1640  accuracy 59.83%  of 10,000 images, in training mode\n",
        "  dead      car, bird\n",
    ] {
        assert!(text.contains(row), "no {row:?} in\n{text}");
    }
    let held_out = Summary { validation_loss: Some(1.2), validation_accuracy: Some(0.6), ..summary() };
    let row = "  valid     loss 1.2000  accuracy 60.00%
            best 60.12% at step 14,076
  test      loss 1.1640  accuracy 59.83%  of 10,000 images
  examples";
    assert!(plain(&held_out, 79).contains(row), "{}", plain(&held_out, 79));
    let lively = plain(&Summary { dead_outputs: Some(Vec::new()), ..rare }, 79);
    assert!(!lively.contains("dead"), "{lively}");
}

#[test]
fn the_confusion_matrix_names_rows_and_columns() {
    let expected = "            airpl    car   bird
  airplane    641    300     59
  car           0  1,000      0
  bird      1,000      0      0";
    assert_eq!(confusion(&summary()), expected);
    assert_eq!(confusion(&Summary::default()), "");
}
