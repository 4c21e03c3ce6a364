//! The built-in procedural set: ten shapes on coloured, noisy ground, made from a seed. It needs no network and no disk, it
//! is hard enough that a network has to learn: LeNet (PyTorch, SGD 0.01, momentum 0.9, batch 64) tests at 72 to 85% after 3
//! epochs and at 91 to 93% after 5, two seeds each seen. It is not CIFAR-10.
//!
//! Only IEEE sums, products, quotients and square roots are used, no function of the host's maths library, so that every
//! machine makes the same bytes.

use lockstep_proto::keys::{Key, Stream};
use lockstep_proto::records::{PIXELS, Split};

use super::shapes::{self, REACH, inside};
use super::{Dataset, Progress};

/// What the labels of the built-in set mean.
pub const CLASSES: [&str; 10] = shapes::NAMES;

/// What every result calls these images.
pub const NAME: &str = "builtin";

/// Training images: an epoch of LeNet takes seconds, and is long enough to learn something.
const TRAIN: u32 = 20_000;
const TEST: u32 = 4_000;

/// The hash of the set of seed 0: a stored copy of it is recognised, and a change of one pixel fails a test.
pub(super) const DEFAULT_HASH: &str = "7ac8537de2f6b8bc994afa60b12a0545b55dc2feb4d95d06df23eef16dc5fa11";

const SIDE: usize = 32;

/// Makes the set of `seed`.
pub(super) fn make(seed: u64, progress: &dyn Progress) -> Dataset {
    progress.start("making the built-in images", Some(u64::from(TRAIN + TEST)));
    let train = split(Key::new(seed, "builtin", "train"), TRAIN, progress);
    let test = split(Key::new(seed, "builtin", "test"), TEST, progress);
    progress.finish();
    Dataset {
        name: NAME.to_owned(),
        source: format!("the built-in procedural set, seed {seed} (not CIFAR-10)"),
        classes: CLASSES.map(str::to_owned).to_vec(),
        train,
        test,
    }
}

fn split(key: Key, count: u32, progress: &dyn Progress) -> Split {
    // as many of each class as of any other, in no order
    let mut labels: Vec<u8> = (0..count).map(|at| (at % 10) as u8).collect();
    key.stream(u32::MAX, 0, 0).shuffle(&mut labels);
    let mut pixels = vec![0; labels.len() * PIXELS];
    for (at, image) in pixels.chunks_exact_mut(PIXELS).enumerate() {
        paint(&mut key.stream(at as u32, 0, 0), labels[at], image);
        if at % 1000 == 999 {
            progress.advance(1000);
        }
    }
    Split { pixels, labels }
}

type Colour = [f32; 3];

/// How far an ink is drawn from any colour towards its class's own.
const TINT: f32 = 0.3;
/// Each class's own ink.
const TINTS: [Colour; 10] = [
    [255.0, 80.0, 80.0],
    [80.0, 255.0, 80.0],
    [80.0, 80.0, 255.0],
    [255.0, 255.0, 80.0],
    [255.0, 80.0, 255.0],
    [80.0, 255.0, 255.0],
    [255.0, 170.0, 80.0],
    [170.0, 80.0, 255.0],
    [80.0, 255.0, 170.0],
    [220.0, 220.0, 220.0],
];

/// One shape at a place, turned and scaled.
struct Placed {
    label: u8,
    x: f32,
    y: f32,
    /// The shape's axes per pixel: a rotation divided by the radius.
    cos: f32,
    sin: f32,
    /// Pixels that the shape can reach from its centre.
    reach: f32,
}

impl Placed {
    fn draw(stream: &mut Stream, label: u8, radius: f32, wander: f32) -> Self {
        let (cos, sin) = direction(stream);
        Self {
            label,
            x: 15.5 + stream.range(-wander, wander),
            y: 15.5 + stream.range(-wander, wander),
            cos: cos / radius,
            sin: sin / radius,
            reach: REACH * 1.5 * radius,
        }
    }

    /// How much of the pixel is covered, in quarters: four points are looked at, which softens the edges.
    fn cover(&self, column: usize, row: usize) -> f32 {
        let (x, y) = (column as f32 - self.x, row as f32 - self.y);
        if x.abs() > self.reach || y.abs() > self.reach {
            return 0.0;
        }
        let mut points = 0;
        for (dx, dy) in [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)] {
            let (x, y) = (x + dx, y + dy);
            points += u32::from(inside(self.label, self.cos * x + self.sin * y, self.cos * y - self.sin * x));
        }
        points as f32 * 0.25
    }
}

/// A direction within some 35 degrees of upright, as (cosine, sine).
fn direction(stream: &mut Stream) -> (f32, f32) {
    let slope = stream.range(-0.7, 0.7);
    let length = (1.0 + slope * slope).sqrt(); // exact in IEEE, on every machine
    (1.0 / length, slope / length)
}

fn colour(stream: &mut Stream) -> Colour {
    [stream.range(0.0, 255.0), stream.range(0.0, 255.0), stream.range(0.0, 255.0)]
}

/// Darker than half, so that there are lighter colours.
fn ground_colour(stream: &mut Stream) -> Colour {
    colour(stream).map(|value| value * 0.6)
}

/// A colour lighter than `ground` by at least 120, summed over the channels; often near the class's own, as a ship is
/// often on blue: so that there is something to learn from the first step on.
fn ink_colour(stream: &mut Stream, label: u8, ground: Colour) -> Colour {
    let own = TINTS[usize::from(label)];
    loop {
        let any = colour(stream);
        let found: Colour = std::array::from_fn(|c| any[c] + (own[c] - any[c]) * TINT);
        if (0..3).map(|c| found[c] - ground[c]).sum::<f32>() > 120.0 {
            return found;
        }
    }
}

fn paint(stream: &mut Stream, label: u8, image: &mut [u8]) {
    let ground = ground_colour(stream);
    let tilt: [(f32, f32); 3] = std::array::from_fn(|_| (stream.range(-2.0, 2.0), stream.range(-2.0, 2.0)));
    let ink = ink_colour(stream, label, ground);
    let radius = stream.range(7.0, 11.0);
    let shape = Placed::draw(stream, label, radius, 4.0);
    // clutter: small shapes of any class, in any colour, some over the edge
    let clutter: [(Placed, Colour); 3] = std::array::from_fn(|_| {
        let class = stream.below(10) as u8;
        let radius = stream.range(1.5, 3.5);
        (Placed::draw(stream, class, radius, 15.0), colour(stream))
    });
    let noise = stream.range(0.1, 0.5);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let mut pixel: Colour = std::array::from_fn(|c| {
                ground[c] + tilt[c].0 * (column as f32 - 15.5) + tilt[c].1 * (row as f32 - 15.5)
            });
            blend(&mut pixel, ink, shape.cover(column, row));
            for (small, ink) in &clutter {
                blend(&mut pixel, *ink, small.cover(column, row));
            }
            let bytes = stream.bits().to_le_bytes();
            for (c, value) in pixel.iter().enumerate() {
                let noisy = value + noise * (f32::from(bytes[c]) - 127.5);
                image[c * SIDE * SIDE + row * SIDE + column] = noisy.clamp(0.0, 255.0) as u8;
            }
        }
    }
}

fn blend(pixel: &mut Colour, ink: Colour, cover: f32) {
    for (value, ink) in pixel.iter_mut().zip(ink) {
        *value += (ink - *value) * cover;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Silent, class_counts};

    #[test]
    fn the_set_of_seed_0_never_changes() {
        let set = make(0, &Silent);
        assert_eq!(set.hash(), DEFAULT_HASH);
        assert_eq!((class_counts(&set.train, 10), class_counts(&set.test, 10)), (vec![2000; 10], vec![400; 10]));
    }

    #[test]
    fn seeds_and_splits_give_other_images() {
        let key = |seed, name| split(Key::new(seed, "builtin", name), 20, &Silent);
        let base = key(0, "train");
        assert_ne!(base.pixels, key(1, "train").pixels);
        assert_ne!(base.pixels, key(0, "test").pixels);
    }
}
