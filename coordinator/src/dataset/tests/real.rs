//! Golden numbers of real images, where `LOCKSTEP_DATA` names some.

use super::*;

#[test]
fn the_real_images_have_their_published_numbers() {
    let Some(path) = std::env::var_os("LOCKSTEP_DATA") else {
        eprintln!("SKIPPED: set LOCKSTEP_DATA to the CIFAR-10 images to hold the loader against their numbers");
        return;
    };
    let set = load_path(Path::new(&path)).expect("LOCKSTEP_DATA loads");
    // class counts as the data set's authors publish them; moments as NumPy gives them in float64
    let (means, deviations) = match set.name.as_str() {
        "cifar10" => ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        "cifar10-jpeg" => ([0.4913, 0.4821, 0.4465], [0.2452, 0.2428, 0.2606]),
        other => {
            eprintln!("SKIPPED: LOCKSTEP_DATA holds {other}, of which nothing is known");
            return;
        }
    };
    assert_eq!(class_counts(&set.train, 10), [5000; 10]);
    assert_eq!(class_counts(&set.test, 10), [1000; 10]);
    let (mean, deviation) = channel_moments(&set.train);
    for channel in 0..3 {
        assert!((mean[channel] - means[channel]).abs() < 1e-4, "{mean:?}");
        assert!((deviation[channel] - deviations[channel]).abs() < 1e-4, "{deviation:?}");
    }
    if set.name == "cifar10-jpeg" {
        // read with NumPy: the first training image and the last test image
        let (first, last) = (set.train.image(0), set.test.image(9_999));
        assert_eq!([0, 1, 32, 33, 1024, 2048].map(|at| first[at]), [138, 135, 134, 131, 145, 151]);
        assert_eq!([0, 31, 992, 1023, 3071].map(|at| last[at]), [254, 255, 255, 252, 250]);
        assert_eq!((&set.train.labels[..4], &set.test.labels[9_997..]), (&[0, 6, 1, 6][..], &[7, 0, 9][..]));
    }
}
