//! The rules of `[data]`: which images, and what happens to their pixels.

use super::super::Recipe;
use super::{Broken, first, unless};

/// At this scale a pixel covers three images; at its inverse three images fit into a pixel.
const MAX_SCALE: f64 = 100.0;

/// One level of brightness times a factor of 256 is white: more changes nothing.
const MAX_JITTER: f64 = 255.0;

pub(super) fn data(r: &Recipe) -> Option<Broken> {
    let d = &r.data;
    let probability = "must be a probability from 0 to 1; 0.5 is usual, 0 is never";
    first([
        unless(
            d.fraction > 0.0 && d.fraction <= 1.0,
            "data.fraction",
            d.fraction,
            "must be above 0 and at most 1; 1 uses all images",
        ),
        unless(
            (0.0..1.0).contains(&d.validation),
            "data.validation",
            d.validation,
            "must be at least 0 and below 1; 0 holds nothing out",
        ),
        unless(d.mean.iter().all(|m| (*m as f32).is_finite()), "data.mean", d.mean, "each must be finite"),
        unless(
            d.std.iter().all(|s| *s as f32 > 0.0 && (*s as f32).is_finite()),
            "data.std",
            d.std,
            "each must be finite and above 0, because pixels are divided by it; 1 changes nothing",
        ),
        unless((0.0..=1.0).contains(&d.horizontal_flip), "data.horizontal_flip", d.horizontal_flip, probability),
        unless(
            d.crop_padding < 32,
            "data.crop_padding",
            d.crop_padding,
            "must be below 32, or a crop may hold no pixel of the image; 4 is usual, 0 is off",
        ),
        unless((0.0..=1.0).contains(&d.vertical_flip), "data.vertical_flip", d.vertical_flip, probability),
    ])
    .or_else(|| affine(r))
    .or_else(|| jitter(r))
}

fn affine(r: &Recipe) -> Option<Broken> {
    let d = &r.data;
    let [least, most] = d.scale;
    first([
        unless(
            (0.0..=180.0).contains(&d.rotation),
            "data.rotation",
            d.rotation,
            "must be 0 to 180 degrees: the angle is drawn between minus and plus this, and 180 is all the way round",
        ),
        unless(
            d.translate.iter().all(|share| (0.0..=1.0).contains(share)),
            "data.translate",
            d.translate,
            "each must be a share of the image's width or height from 0 to 1; [0, 0] is off",
        ),
        unless(
            least >= 1.0 / MAX_SCALE && least <= most && most <= MAX_SCALE,
            "data.scale",
            d.scale,
            format!("must be a least and a greatest factor between {} and {MAX_SCALE}; [1, 1] is off", 1.0 / MAX_SCALE),
        ),
    ])
}

fn jitter(r: &Recipe) -> Option<Broken> {
    let d = &r.data;
    let strength = |key, found: f64| {
        let rule =
            format!("must be 0 to {MAX_JITTER}: the factor is drawn from 1 minus this (or 0) to 1 plus this; 0 is off");
        unless((0.0..=MAX_JITTER).contains(&found), key, found, rule)
    };
    first([
        strength("data.brightness", d.brightness),
        strength("data.contrast", d.contrast),
        strength("data.saturation", d.saturation),
        unless(
            (0.0..=0.5).contains(&d.hue),
            "data.hue",
            d.hue,
            "must be 0 to 0.5: the hue turns by at most this share of the colour circle either way; 0 is off",
        ),
    ])
}
