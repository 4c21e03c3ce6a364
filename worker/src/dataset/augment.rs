//! Random crop and horizontal flip, drawn by key: an example looks the same whoever prepares it.

use lockstep_proto::keys::Key;

/// Which augmentations, with torchvision's meaning. The default changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Probability of a mirror image (`RandomHorizontalFlip(p)`), in \[0, 1\].
    pub flip: f32,
    /// Black pixels added on each side before a window of the old size is cut out (`RandomCrop(size, padding)`).
    pub crop: u32,
}

/// The draws of one run and epoch.
#[derive(Clone, Copy, Debug)]
pub struct Augmenter {
    settings: Augment,
    flip: Key,
    crop: Key,
    epoch: u32,
}

impl Augmenter {
    /// The augmentations of `seed` in `epoch` (from 0).
    #[must_use]
    pub fn new(settings: Augment, seed: u64, epoch: u32) -> Self {
        let key = |op| Key::new(seed, "augment", op);
        Self { settings, flip: key("flip"), crop: key("crop"), epoch }
    }

    /// Writes example number `example` into `out`, cropped, then flipped. Both are channels × height × width bytes of
    /// `shape`.
    pub(super) fn apply(&self, pixels: &[u8], shape: [usize; 3], example: u32, out: &mut [u8]) {
        let [_, height, width] = shape;
        let Augment { flip, crop } = self.settings;
        let flipped = flip > 0.0 && self.flip.stream(self.epoch, example, 0).unit() < flip;
        // where the window's corner lies in the padded image: 0 ..= 2·crop, down first, as in RandomCrop.get_params;
        // a crop beyond the image's size shows nothing more than one of the image's size
        let crop = crop.min(height.max(width) as u32);
        let mut draws = self.crop.stream(self.epoch, example, 0);
        let mut corner = || if crop == 0 { 0 } else { i64::from(draws.below(2 * crop + 1)) - i64::from(crop) };
        let (top, left) = (corner(), corner());
        if !flipped && (top, left) == (0, 0) {
            out.copy_from_slice(pixels);
            return;
        }
        let planes = pixels.chunks(height * width).zip(out.chunks_mut(height * width));
        for (from, to) in planes {
            for (y, row) in to.chunks_mut(width).enumerate() {
                let source = inside(y as i64 + top, height).map(|y| &from[y * width..][..width]);
                for (x, pixel) in row.iter_mut().enumerate() {
                    let x = if flipped { width - 1 - x } else { x };
                    let column = inside(x as i64 + left, width);
                    *pixel = source.zip(column).map_or(0, |(row, x)| row[x]);
                }
            }
        }
    }
}

/// The position as an index, if the image has it; outside is padding.
fn inside(at: i64, size: usize) -> Option<usize> {
    usize::try_from(at).ok().filter(|&at| at < size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [2, 4, 5];

    /// Pixels 1, 2, 3, …, so that 0 is padding and each place is known by its value.
    fn image() -> Vec<u8> {
        (1..=40).collect()
    }

    fn apply(settings: Augment, example: u32) -> Vec<u8> {
        let mut out = vec![99; 40];
        Augmenter::new(settings, 7, 3).apply(&image(), SHAPE, example, &mut out);
        out
    }

    /// The plain way: pad, cut, mirror.
    fn reference(top: usize, left: usize, padding: usize, flipped: bool) -> Vec<u8> {
        let [channels, height, width] = SHAPE;
        let mut out = Vec::new();
        for c in 0..channels {
            let mut padded = vec![vec![0; width + 2 * padding]; height + 2 * padding];
            for y in 0..height {
                for x in 0..width {
                    padded[y + padding][x + padding] = image()[(c * height + y) * width + x];
                }
            }
            for row in &padded[top..top + height] {
                let mut row = row[left..left + width].to_vec();
                if flipped {
                    row.reverse();
                }
                out.extend(row);
            }
        }
        out
    }

    #[test]
    fn nothing_is_changed_by_default() {
        assert_eq!(apply(Augment::default(), 0), image());
    }

    #[test]
    fn a_sure_flip_mirrors_every_row() {
        assert_eq!(apply(Augment { flip: 1.0, crop: 0 }, 5), reference(0, 0, 0, true));
    }

    #[test]
    fn every_outcome_is_a_cut_of_the_padded_image_and_all_occur() {
        let mut seen = std::collections::HashMap::new();
        for example in 0..2000 {
            *seen.entry(apply(Augment { flip: 0.5, crop: 2 }, example)).or_insert(0_u32) += 1;
        }
        for flipped in [false, true] {
            for top in 0..5 {
                for left in 0..5 {
                    // 50 outcomes of 40 expected each; five standard deviations of a binomial(2000, 1/50) are 31
                    let n = seen.remove(&reference(top, left, 2, flipped)).unwrap_or(0);
                    assert!(n.abs_diff(40) < 31, "top {top}, left {left}, flipped {flipped}: {n} times");
                }
            }
        }
        assert!(seen.is_empty(), "{} images are no cut of the padded one", seen.len());
    }

    #[test]
    fn draws_change_with_seed_and_epoch_and_repeat_otherwise() {
        let settings = Augment { flip: 0.5, crop: 2 };
        let all = |seed, epoch| {
            let augmenter = Augmenter::new(settings, seed, epoch);
            let mut out = vec![0; 50 * 40];
            for (example, out) in out.chunks_mut(40).enumerate() {
                augmenter.apply(&image(), SHAPE, example as u32, out);
            }
            out
        };
        assert_eq!(all(1, 0), all(1, 0));
        assert_ne!(all(1, 0), all(1, 1));
        assert_ne!(all(1, 0), all(2, 0));
    }
}
