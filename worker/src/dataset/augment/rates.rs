//! How often each draw comes, over many examples: what the recipe says, within five standard deviations.

use std::collections::BTreeMap;

use lockstep_proto::recipe::DataSettings;

use super::affine::RandomAffine;
use super::jitter::{Adjustment, ColorJitter};
use super::window::RandomWindow;

const EXAMPLES: u32 = 20_000;
const SIZE: [usize; 2] = [32, 32];

/// `count` of [`EXAMPLES`] is what probability `p` gives.
fn likely(count: usize, p: f64) -> bool {
    let n = f64::from(EXAMPLES);
    (count as f64 - n * p).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt()
}

/// Uniform in [least, most): nothing outside, and each tenth has its share.
fn uniform(values: &[f32], least: f32, most: f32) {
    let mut tenths = [0; 10];
    for &value in values {
        assert!(value >= least && value <= most, "{value} is not in {least} to {most}");
        tenths[(((value - least) / (most - least) * 10.0) as usize).min(9)] += 1;
    }
    assert!(tenths.iter().all(|&count| likely(count, 0.1)), "{least} to {most}: {tenths:?}");
}

#[test]
fn flips_come_as_often_as_their_probability_and_by_themselves() {
    let settings = DataSettings { horizontal_flip: 0.5, vertical_flip: 0.2, ..DataSettings::default() };
    let random = RandomWindow::new(&settings, 3).expect("on");
    let mut counts = BTreeMap::new();
    for example in 0..EXAMPLES {
        let window = random.draw(1, example, SIZE);
        assert_eq!((window.top, window.left), (0, 0));
        *counts.entry((window.mirrored, window.upside_down)).or_insert(0) += 1;
    }
    let count = |mirrored, upside_down| counts[&(mirrored, upside_down)];
    assert!(likely(count(true, true), 0.1) && likely(count(true, false), 0.4), "{counts:?}");
    assert!(likely(count(false, true), 0.1) && likely(count(false, false), 0.4), "{counts:?}");
}

#[test]
fn angle_shift_and_scale_are_uniform_in_their_ranges() {
    let settings = DataSettings { rotation: 30.0, translate: [0.1, 0.3], scale: [1.1, 1.2], ..DataSettings::default() };
    let random = RandomAffine::new(&settings, 3).expect("on");
    let draws: Vec<_> = (0..EXAMPLES).map(|example| random.draw(1, example, SIZE)).collect();
    uniform(&draws.iter().map(|draw| draw.angle).collect::<Vec<_>>(), -30.0, 30.0);
    uniform(&draws.iter().map(|draw| draw.scale).collect::<Vec<_>>(), 1.1, 1.2);
    // x is uniform in ±3.2 and y in ±9.6, then rounded: whole pixels inside have 1 / (2·most) each, the last ones what is left
    for (axis, most) in [(0, 3.2), (1, 9.6)] {
        let last = f64::round(most) as i32;
        let mut counts = BTreeMap::new();
        for draw in &draws {
            *counts.entry(draw.shift[axis]).or_insert(0) += 1;
        }
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), (-last..=last).collect::<Vec<_>>());
        for (&shift, &count) in &counts {
            let width = if shift.abs() == last { most - (f64::from(last) - 0.5) } else { 1.0 };
            assert!(likely(count, width / (2.0 * most)), "{shift} of ±{most}: {count} times");
        }
    }
    // across and down do not go together: both to one side half the time, of those that move
    let moved: Vec<_> = draws.iter().filter(|draw| draw.shift[0] != 0 && draw.shift[1] != 0).collect();
    let same = moved.iter().filter(|draw| (draw.shift[0] > 0) == (draw.shift[1] > 0)).count() as f64;
    let n = moved.len() as f64;
    assert!((same - n / 2.0).abs() < 2.5 * n.sqrt(), "{same} of {n}");
}

#[test]
fn an_affine_setting_alone_leaves_the_other_two_neutral() {
    let off = DataSettings::default();
    assert!(RandomAffine::new(&off, 3).is_none());
    let draw = |settings: &DataSettings| RandomAffine::new(settings, 3).expect("on").draw(0, 0, SIZE);
    let turned = draw(&DataSettings { rotation: 10.0, ..off.clone() });
    assert!(turned.angle != 0.0 && turned.shift == [0, 0] && turned.scale == 1.0, "{turned:?}");
    let moved = draw(&DataSettings { translate: [1.0, 1.0], ..off.clone() });
    assert!(moved.angle == 0.0 && moved.shift != [0, 0] && moved.scale == 1.0, "{moved:?}");
    let scaled = draw(&DataSettings { scale: [2.0, 2.0], ..off });
    assert!(scaled.angle == 0.0 && scaled.shift == [0, 0] && scaled.scale == 2.0, "{scaled:?}");
}

#[test]
fn colours_have_uniform_factors_and_each_order_comes_as_often() {
    let settings =
        DataSettings { brightness: 0.4, contrast: 2.0, saturation: 1.0, hue: 0.1, ..DataSettings::default() };
    let random = ColorJitter::new(&settings, 3).expect("on");
    let mut factors: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    let mut orders: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for example in 0..EXAMPLES {
        let draws: Vec<_> =
            random.draw(1, example).map(|(adjustment, factor)| (format!("{adjustment:?}"), factor)).collect();
        *orders.entry(draws.iter().map(|(name, _)| name.clone()).collect()).or_insert(0) += 1;
        for (name, factor) in draws {
            factors.entry(name).or_default().push(factor);
        }
    }
    uniform(&factors["Brightness"], 0.6, 1.4);
    uniform(&factors["Contrast"], 0.0, 3.0);
    uniform(&factors["Saturation"], 0.0, 2.0);
    uniform(&factors["Hue"], -0.1, 0.1);
    assert!(orders.len() == 24 && orders.values().all(|&count| likely(count, 1.0 / 24.0)), "{orders:?}");
}

#[test]
fn colours_that_are_off_are_not_touched_and_do_not_move_the_others() {
    let hue = DataSettings { hue: 0.1, ..DataSettings::default() };
    let two = DataSettings { contrast: 0.3, ..hue.clone() };
    let four = DataSettings { brightness: 0.2, saturation: 0.2, ..two.clone() };
    let [hue, two, four] = [hue, two, four].map(|settings| ColorJitter::new(&settings, 3).expect("on"));
    assert!(ColorJitter::new(&DataSettings::default(), 3).is_none());
    for example in 0..100 {
        let of = |random: &ColorJitter, kept: &[Adjustment]| -> Vec<_> {
            random.draw(0, example).filter(|(adjustment, _)| kept.contains(adjustment)).collect()
        };
        let both = [Adjustment::Contrast, Adjustment::Hue];
        assert_eq!(hue.draw(0, example).collect::<Vec<_>>(), of(&four, &both[1..]));
        assert_eq!(two.draw(0, example).collect::<Vec<_>>(), of(&four, &both));
    }
}
