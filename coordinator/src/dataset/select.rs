//! Which training images a run uses: a subset, a fraction of it, and a validation split held out.

use lockstep_proto::keys::Key;
use lockstep_proto::recipe::Subset;

use super::DataError;

/// Example numbers of the training set, ascending; the two lists share none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub train: Vec<u32>,
    pub validation: Vec<u32>,
}

/// Picks from `train_len` images: first `subset`, then a random `fraction` of it (0 < fraction ≤ 1), then a random
/// `validation` part of that (0 ≤ validation < 1) is held out. Parts are rounded to the nearest number of images. Draws are
/// keyed by `seed`: a larger fraction holds the smaller one, and the same seed gives the same images on every machine.
pub fn select(
    train_len: usize,
    subset: Subset,
    fraction: f64,
    validation: f64,
    seed: u64,
) -> Result<Selection, DataError> {
    let setting =
        |name, found: f64, rule: &str| DataError::Setting { name, found: found.to_string(), rule: rule.to_owned() };
    if !(fraction > 0.0 && fraction <= 1.0) {
        return Err(setting("data.fraction", fraction, "a number above 0 and at most 1"));
    }
    if !(0.0..1.0).contains(&validation) {
        return Err(setting("data.validation", validation, "a number from 0 to below 1"));
    }
    let Ok(length) = u32::try_from(train_len) else {
        return Err(setting("training images", train_len as f64, "at most 4294967295"));
    };
    let mut chosen: Vec<u32> = match subset {
        Subset::All => (0..length).collect(),
        // rounded down; the second half has the odd one
        Subset::FirstHalf => (0..length / 2).collect(),
        Subset::SecondHalf => (length / 2..length).collect(),
        Subset::Even => (0..length).step_by(2).collect(),
        Subset::Odd => (1..length).step_by(2).collect(),
    };
    let part = |n: usize, share: f64| (n as f64 * share).round() as usize;
    if fraction < 1.0 {
        Key::new(seed, "subset", "fraction").stream(0, 0, 0).shuffle(&mut chosen);
        chosen.truncate(part(chosen.len(), fraction));
        chosen.sort_unstable(); // the next draw is from the images, not from the order of the first
    }
    let mut held_out = Vec::new();
    if validation > 0.0 {
        Key::new(seed, "subset", "validation").stream(0, 0, 0).shuffle(&mut chosen);
        held_out = chosen.split_off(chosen.len() - part(chosen.len(), validation));
        if held_out.is_empty() {
            return Err(setting("data.validation", validation, "large enough for at least one image"));
        }
    }
    if chosen.is_empty() && !held_out.is_empty() {
        let n = held_out.len();
        return Err(setting(
            "data.validation",
            validation,
            &format!("it holds out all {n} images; leave some to train on"),
        ));
    }
    if chosen.is_empty() {
        return Err(DataError::Setting {
            name: "data.fraction",
            found: format!("{fraction} (data.subset = {subset})"),
            rule: format!("at least one of the {train_len} training images must be left to train on"),
        });
    }
    chosen.sort_unstable();
    held_out.sort_unstable();
    Ok(Selection { train: chosen, validation: held_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(subset: Subset, fraction: f64, validation: f64) -> Selection {
        select(1001, subset, fraction, validation, 7).expect("in range")
    }

    #[test]
    fn halves_and_parities_split_the_set() {
        for (one, other, first) in [(Subset::FirstHalf, Subset::SecondHalf, 500), (Subset::Even, Subset::Odd, 501)] {
            let (one, other) = (pick(one, 1.0, 0.0).train, pick(other, 1.0, 0.0).train);
            assert_eq!(one.len(), first);
            let mut all = [one, other].concat();
            all.sort_unstable();
            assert_eq!(all, (0..1001).collect::<Vec<_>>());
        }
        assert_eq!(pick(Subset::Even, 1.0, 0.0).train[..3], [0, 2, 4]);
    }

    #[test]
    fn validation_is_disjoint_and_of_the_chosen_ones() {
        let whole = pick(Subset::Odd, 0.5, 0.0).train;
        let Selection { train, validation } = pick(Subset::Odd, 0.5, 0.2);
        assert_eq!((whole.len(), train.len(), validation.len()), (250, 200, 50));
        assert!(train.is_sorted() && validation.is_sorted());
        let mut both = [train, validation].concat();
        both.sort_unstable();
        assert_eq!(both, whole);
    }

    #[test]
    fn a_larger_fraction_holds_the_smaller_and_seeds_differ() {
        let (small, large) = (pick(Subset::All, 0.1, 0.0).train, pick(Subset::All, 0.4, 0.0).train);
        assert!(small.iter().all(|n| large.binary_search(n).is_ok()));
        assert_ne!(small, select(1001, Subset::All, 0.1, 0.0, 8).expect("in range").train);
        // not simply the first ones: the mean of 100 numbers of 0..1001 is 500 ± 29
        let mean = small.iter().sum::<u32>() / small.len() as u32;
        assert!((400..600).contains(&mean), "{mean}");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let cases = [
            (0.0, 0.0),
            (1.1, 0.0),
            (f64::NAN, 0.0),
            (1.0, 1.0),
            (1.0, -0.1),
            (1.0, f64::NAN),
            (1.0, 1e-9),
            (1e-9, 0.0),
        ];
        for (fraction, validation) in cases {
            let error = select(1001, Subset::All, fraction, validation, 7).expect_err("out of range");
            assert!(matches!(error, DataError::Setting { .. }) && error.is_users_mistake(), "{fraction} {validation}");
        }
        assert!(select(0, Subset::All, 1.0, 0.0, 7).is_err());
        let error = select(100, Subset::All, 1.0, 0.99999, 7).expect_err("all held out").to_string();
        assert!(error.contains("data.validation = 0.99999") && error.contains("all 100 images"), "{error}");
        let error = select(100, Subset::FirstHalf, 1e-9, 0.0, 7).expect_err("nothing left").to_string();
        assert!(error.contains("data.fraction") && error.contains("first-half"), "{error}");
    }
}
