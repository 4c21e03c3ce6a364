//! Changes of colour, in an order that is drawn too.

use lockstep_proto::keys::Key;
use lockstep_proto::recipe::DataSettings;

use super::hue::hue;
use super::tone::{brightness, contrast, saturation};
use crate::layers::{Kernel, KernelSet, Lanes, kernel_set, run};

/// One of `ColorJitter`'s four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adjustment {
    Brightness,
    Contrast,
    Saturation,
    Hue,
}

use Adjustment::{Brightness, Contrast, Hue, Saturation};

impl Adjustment {
    /// Changes an image of three planes: red, green, blue. Plain loops without a fused operation: all sets give the same bits.
    pub(super) fn apply(self, set: KernelSet, pixels: &mut [u8], factor: f32) {
        run(set, Change { adjustment: self, pixels, factor });
    }
}

struct Change<'a> {
    adjustment: Adjustment,
    pixels: &'a mut [u8],
    factor: f32,
}

impl Kernel for Change<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        match self.adjustment {
            Brightness => brightness(self.pixels, self.factor),
            Contrast => contrast(self.pixels, self.factor),
            Saturation => saturation(self.pixels, self.factor),
            Hue => hue(self.pixels, self.factor),
        }
    }
}

/// `ColorJitter(brightness, contrast, saturation, hue)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColorJitter {
    /// What the factor is uniform between; none where it is always neutral.
    adjustments: [(Adjustment, Option<[f32; 2]>, Key); 4],
    order: Key,
    set: KernelSet,
}

impl ColorJitter {
    /// None if the settings leave every image as it is.
    pub(super) fn new(settings: &DataSettings, seed: u64) -> Option<Self> {
        let key = |name| Key::new(seed, "augment", name);
        // a factor of 1 is neutral, and none is negative
        let factor = |most: f64| (most > 0.0).then(|| [(1.0 - most).max(0.0) as f32, (1.0 + most) as f32]);
        let turn = |most: f64| (most > 0.0).then_some([-most as f32, most as f32]);
        let adjustments = [
            (Brightness, factor(settings.brightness), key("brightness")),
            (Contrast, factor(settings.contrast), key("contrast")),
            (Saturation, factor(settings.saturation), key("saturation")),
            (Hue, turn(settings.hue), key("hue")),
        ];
        let any = adjustments.iter().any(|(_, range, _)| range.is_some());
        // a choice that can't be had is the layers' to refuse; here it would only be slower
        let set = kernel_set().unwrap_or(KernelSet::Portable);
        any.then(|| Self { adjustments, order: key("order"), set })
    }

    /// Changes an image of three planes with the draws of `example`.
    pub(super) fn apply(&self, epoch: u32, example: u32, pixels: &mut [u8]) {
        for (adjustment, factor) in self.draw(epoch, example) {
            adjustment.apply(self.set, pixels, factor);
        }
    }

    /// The adjustments that are on, each with its factor, in the order drawn: all orders are equally likely, as in
    /// `ColorJitter.get_params`.
    pub(super) fn draw(&self, epoch: u32, example: u32) -> impl Iterator<Item = (Adjustment, f32)> {
        let mut adjustments = self.adjustments;
        // all four are shuffled, so that the order of two is the same whichever others are on
        self.order.stream(epoch, example, 0).shuffle(&mut adjustments);
        adjustments.into_iter().filter_map(move |(adjustment, range, key)| {
            let [least, most] = range?;
            Some((adjustment, key.stream(epoch, example, 0).range(least, most)))
        })
    }
}
