//! Changes of colour, in an order that is drawn too.

use lockstep_proto::keys::Key;
use lockstep_proto::recipe::DataSettings;

use super::hue::hue;
use super::tone::{brightness, contrast, saturation};

/// One of `ColorJitter`'s four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adjustment {
    Brightness,
    Contrast,
    Saturation,
    Hue,
}

use Adjustment::{Brightness, Contrast, Hue, Saturation};

impl Adjustment {
    /// Changes an image of three planes: red, green, blue.
    pub(super) fn apply(self, pixels: &mut [u8], factor: f32) {
        match self {
            Brightness => brightness(pixels, factor),
            Contrast => contrast(pixels, factor),
            Saturation => saturation(pixels, factor),
            Hue => hue(pixels, factor),
        }
    }
}

/// `ColorJitter(brightness, contrast, saturation, hue)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColorJitter {
    /// What the factor is uniform between; none where it is always neutral.
    adjustments: [(Adjustment, Option<[f32; 2]>, Key); 4],
    order: Key,
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
        any.then(|| Self { adjustments, order: key("order") })
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
