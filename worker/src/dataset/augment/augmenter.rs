//! All transforms of a recipe, one after another.

use lockstep_proto::recipe::DataSettings;

use super::affine::RandomAffine;
#[cfg(feature = "cuda")]
use super::jitter::Adjustment;
use super::jitter::ColorJitter;
use super::window::RandomWindow;

/// The augmentations of one run in one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Augmenter {
    window: Option<RandomWindow>,
    affine: Option<RandomAffine>,
    jitter: Option<ColorJitter>,
    epoch: u32,
}

/// What is drawn for one example, for whoever applies it elsewhere.
#[cfg(feature = "cuda")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Draw {
    /// Where the window's corner lies in the image.
    pub(crate) top: i64,
    pub(crate) left: i64,
    pub(crate) mirrored: bool,
    pub(crate) upside_down: bool,
    /// The factors of the map's two lines.
    pub(crate) affine: Option<[[f32; 3]; 2]>,
    /// In their order; fewer than four leave the last ones empty.
    pub(crate) adjustments: [Option<(Adjustment, f32)>; 4],
}

impl Augmenter {
    /// What `settings` ask for, with the draws of epoch 0; none if they change no image. Make it once: keys cost hashes.
    #[must_use]
    pub fn new(settings: &DataSettings, seed: u64) -> Option<Self> {
        let window = RandomWindow::new(settings, seed);
        let affine = RandomAffine::new(settings, seed);
        let jitter = ColorJitter::new(settings, seed);
        let any = window.is_some() || affine.is_some() || jitter.is_some();
        any.then_some(Self { window, affine, jitter, epoch: 0 })
    }

    /// The same with the draws of `epoch`, which counts from 0.
    #[must_use]
    pub fn in_epoch(self, epoch: u32) -> Self {
        Self { epoch, ..self }
    }

    /// The draws of example number `example`, of an image of `size` with three colours.
    #[cfg(feature = "cuda")]
    pub(crate) fn draw(&self, example: u32, size: [usize; 2]) -> Draw {
        let window = self.window.map(|random| random.draw(self.epoch, example, size)).unwrap_or_default();
        let affine = self.affine.map(|affine| affine.draw(self.epoch, example, size).lines(size));
        let mut adjustments = [None; 4];
        let drawn = self.jitter.iter().flat_map(|jitter| jitter.draw(self.epoch, example));
        adjustments.iter_mut().zip(drawn).for_each(|(place, one)| *place = Some(one));
        let super::window::Window { top, left, mirrored, upside_down } = window;
        Draw { top, left, mirrored, upside_down, affine, adjustments }
    }

    /// Writes example number `example` into `out`. `pixels` and `out` are channels × height × width bytes of `shape`, and so
    /// is `scratch`, which is overwritten. Colours change only where there are three.
    pub(in crate::dataset) fn apply(
        &self,
        pixels: &[u8],
        shape: [usize; 3],
        example: u32,
        scratch: &mut [u8],
        out: &mut [u8],
    ) {
        let [channels, height, width] = shape;
        let size = [height, width];
        let window = self.window.map(|random| random.draw(self.epoch, example, size)).unwrap_or_default();
        if let Some(affine) = &self.affine {
            window.cut(pixels, size, scratch);
            affine.draw(self.epoch, example, size).apply(scratch, size, out);
        } else {
            window.cut(pixels, size, out);
        }
        if let (Some(jitter), 3) = (&self.jitter, channels) {
            jitter.apply(self.epoch, example, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [3, 6, 5];

    fn image() -> Vec<u8> {
        (0..90).map(|i| (i * 53 % 251) as u8).collect()
    }

    fn apply(augmenter: Augmenter, example: u32) -> Vec<u8> {
        let (mut scratch, mut out) = (vec![7; 90], vec![9; 90]);
        augmenter.apply(&image(), SHAPE, example, &mut scratch, &mut out);
        out
    }

    /// Each transform alone, at a strength that changes nearly every image.
    fn each() -> Vec<(&'static str, DataSettings)> {
        let off = DataSettings::default();
        vec![
            ("crop_padding", DataSettings { crop_padding: 2, ..off.clone() }),
            ("horizontal_flip", DataSettings { horizontal_flip: 0.5, ..off.clone() }),
            ("vertical_flip", DataSettings { vertical_flip: 0.5, ..off.clone() }),
            ("rotation", DataSettings { rotation: 180.0, ..off.clone() }),
            ("translate", DataSettings { translate: [0.5, 0.5], ..off.clone() }),
            ("scale", DataSettings { scale: [0.5, 2.0], ..off.clone() }),
            ("brightness", DataSettings { brightness: 0.5, ..off.clone() }),
            ("contrast", DataSettings { contrast: 0.5, ..off.clone() }),
            ("saturation", DataSettings { saturation: 0.5, ..off.clone() }),
            ("hue", DataSettings { hue: 0.5, ..off }),
        ]
    }

    #[test]
    fn all_off_is_no_augmenter() {
        assert!(Augmenter::new(&DataSettings::default(), 1).is_none());
        // the pixels' normalisation and the choice of images are none of its business
        let others = DataSettings { mean: [0.5; 3], std: [0.5; 3], fraction: 0.5, ..DataSettings::default() };
        assert!(Augmenter::new(&others, 1).is_none());
    }

    /// Transforms that can't do anything: a flip that never comes, a shift of less than half a pixel, a factor of 1.
    #[test]
    fn at_their_neutral_values_all_transforms_together_change_nothing() {
        let neutral = DataSettings {
            horizontal_flip: 1e-30,
            vertical_flip: 1e-30,
            rotation: 1e-30,
            translate: [0.05, 0.05],
            brightness: 1e-30,
            contrast: 1e-30,
            saturation: 1e-30,
            ..DataSettings::default()
        };
        let augmenter = Augmenter::new(&neutral, 1).expect("each is on");
        for example in 0..50 {
            assert_eq!(apply(augmenter, example), image());
        }
    }

    #[test]
    fn each_alone_changes_images_by_seed_epoch_and_example_and_by_nothing_else() {
        for (name, settings) in each() {
            let all = |seed, epoch| -> Vec<Vec<u8>> {
                let augmenter = Augmenter::new(&settings, seed).expect("it is on").in_epoch(epoch);
                (0..20).map(|example| apply(augmenter, example)).collect()
            };
            let base = all(1, 0);
            assert!(base.iter().any(|made| *made != image()), "{name} changes nothing");
            assert!(base.iter().any(|made| *made != base[0]), "{name}: examples");
            assert_eq!(base, all(1, 0), "{name}");
            assert_ne!(base, all(1, 1), "{name}: epochs");
            assert_ne!(base, all(2, 0), "{name}: seeds");
        }
    }

    /// Each transform draws under keys of its own: what one does to an example is the same with and without the others.
    #[test]
    fn turning_one_on_leaves_the_draws_of_the_others() {
        let alone = DataSettings { vertical_flip: 0.5, ..DataSettings::default() };
        let beside = DataSettings { horizontal_flip: 1.0, ..alone.clone() };
        let [alone, beside] = [alone, beside].map(|settings| Augmenter::new(&settings, 1).expect("on"));
        let mut turned = 0;
        for example in 0..100 {
            let mut mirrored = apply(alone, example);
            turned += usize::from(mirrored != image());
            mirrored.chunks_exact_mut(SHAPE[2]).for_each(<[u8]>::reverse);
            assert_eq!(apply(beside, example), mirrored, "example {example}");
        }
        // five standard deviations of a binomial(100, 1/2) are 25
        assert!(turned.abs_diff(50) < 25, "{turned}");
    }
}
