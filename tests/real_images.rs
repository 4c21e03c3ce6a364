//! On the real images, where they are at hand.

use crate::support::{Desk, real_images};

#[test]
fn one_epoch_of_the_default_recipe_learns_cifar10() {
    let Some(images) = real_images() else { return };
    let desk = Desk::new();
    let images = images.display().to_string();
    desk.run(&["train", "--data", &images, "--plain", "--epochs", "1", "--out", "run"]).ok();
    let summary = desk.summary("run");
    assert_eq!((summary["steps"].as_u64(), summary["test_images"].as_u64()), (Some(782), Some(10_000)));
    assert_eq!(summary["ledger"]["used"], 50_000);
    let accuracy = summary["test_accuracy"].as_f64().expect("accuracy");
    // PyTorch reaches 0.30 to 0.38 after one epoch of this recipe; guessing gives 0.10
    assert!(accuracy > 0.25, "{accuracy}");
    assert!(accuracy < 0.5, "too good to be LeNet after one epoch: {accuracy}");
}

#[test]
fn the_jpeg_copy_is_called_by_its_name_and_has_the_right_numbers() {
    let Some(images) = real_images() else { return };
    let desk = Desk::new();
    let line = desk.run(&["data", "--data", &images.display().to_string(), "--json"]).ok().json();
    let name = line["data"].as_str().expect("name");
    assert!(matches!(name, "cifar10" | "cifar10-jpeg"), "{name}");
    assert_eq!(line["train_counts"], serde_json::json!([5000; 10]));
    assert_eq!(line["test_counts"], serde_json::json!([1000; 10]));
    // the published means and deviations of the training set
    for (found, published) in [("mean", [0.4914, 0.4822, 0.4465]), ("std", [0.2470, 0.2435, 0.2616])] {
        for (channel, published) in published.iter().enumerate() {
            let found = line[found][channel].as_f64().expect("number");
            assert!((found - published).abs() < 0.003, "channel {channel}: {found}, published {published}");
        }
    }
}
