//! Which part of the padded image is seen, and which way round: random crop and flips.

use lockstep_proto::keys::Key;
use lockstep_proto::recipe::DataSettings;

/// `RandomCrop(size, padding)` to the old size, then `RandomHorizontalFlip(p)`, then `RandomVerticalFlip(p)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RandomWindow {
    /// Black pixels on each side.
    padding: u32,
    horizontal: f32,
    vertical: f32,
    crop_key: Key,
    horizontal_key: Key,
    vertical_key: Key,
}

/// One draw. The default is the whole image as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// Where its corner lies in the image; negative in the padding.
    pub(super) top: i64,
    pub(super) left: i64,
    /// Left and right change places.
    pub(super) mirrored: bool,
    /// Top and bottom change places.
    pub(super) upside_down: bool,
}

impl RandomWindow {
    /// None if the settings leave every image as it is.
    pub(super) fn new(settings: &DataSettings, seed: u64) -> Option<Self> {
        let key = |name| Key::new(seed, "augment", name);
        let window = Self {
            // a crop beyond any image's size shows nothing more than one of its size, and `draw` cuts it to that
            padding: u32::try_from(settings.crop_padding).unwrap_or(u32::MAX),
            horizontal: settings.horizontal_flip as f32,
            vertical: settings.vertical_flip as f32,
            crop_key: key("crop"),
            horizontal_key: key("flip"),
            vertical_key: key("vertical-flip"),
        };
        (window.padding > 0 || window.horizontal > 0.0 || window.vertical > 0.0).then_some(window)
    }

    pub(super) fn draw(&self, epoch: u32, example: u32, [height, width]: [usize; 2]) -> Window {
        let happens = |p: f32, key: Key| p > 0.0 && key.stream(epoch, example, 0).unit() < p;
        // where the corner lies in the padded image: 0 ..= 2·padding, down first, as in RandomCrop.get_params
        let padding = self.padding.min(height.max(width) as u32);
        let mut draws = self.crop_key.stream(epoch, example, 0);
        let mut corner = || if padding == 0 { 0 } else { i64::from(draws.below(2 * padding + 1)) - i64::from(padding) };
        Window {
            top: corner(),
            left: corner(),
            mirrored: happens(self.horizontal, self.horizontal_key),
            upside_down: happens(self.vertical, self.vertical_key),
        }
    }
}

impl Window {
    /// Writes what it shows of `pixels` into `out`; both are planes of `[height, width]` bytes.
    pub(super) fn cut(&self, pixels: &[u8], [height, width]: [usize; 2], out: &mut [u8]) {
        if *self == Self::default() {
            out.copy_from_slice(pixels);
            return;
        }
        // the columns that lie on the image; the others are padding
        let column = |at: i64| at.clamp(0, width as i64) as usize;
        let (first, last) = (column(-self.left), column(width as i64 - self.left));
        let source = column(self.left);
        let planes = pixels.chunks_exact(height * width).zip(out.chunks_exact_mut(height * width));
        for (from, to) in planes {
            for (y, row) in to.chunks_exact_mut(width).enumerate() {
                let y = if self.upside_down { height - 1 - y } else { y };
                let line = usize::try_from(y as i64 + self.top).ok().filter(|&line| line < height);
                let Some(line) = line else {
                    row.fill(0);
                    continue;
                };
                row[..first].fill(0);
                row[first..last].copy_from_slice(&from[line * width + source..][..last - first]);
                row[last..].fill(0);
                if self.mirrored {
                    row.reverse();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [2, 4, 5];

    /// Pixels 1, 2, 3, …, so that 0 is padding and each place is known by its value.
    fn image() -> Vec<u8> {
        (1..=40).collect()
    }

    fn settings(crop_padding: usize, horizontal_flip: f64, vertical_flip: f64) -> DataSettings {
        DataSettings { crop_padding, horizontal_flip, vertical_flip, ..DataSettings::default() }
    }

    fn apply(settings: &DataSettings, example: u32) -> Vec<u8> {
        let mut out = vec![99; 40];
        let window = RandomWindow::new(settings, 7).expect("something is on").draw(3, example, [4, 5]);
        window.cut(&image(), [4, 5], &mut out);
        out
    }

    /// The plain way: pad, cut, mirror, turn.
    fn reference(top: usize, left: usize, padding: usize, mirrored: bool, upside_down: bool) -> Vec<u8> {
        let [channels, height, width] = SHAPE;
        let mut out = Vec::new();
        for c in 0..channels {
            let mut padded = vec![vec![0; width + 2 * padding]; height + 2 * padding];
            for y in 0..height {
                for x in 0..width {
                    padded[y + padding][x + padding] = image()[(c * height + y) * width + x];
                }
            }
            let mut rows: Vec<Vec<u8>> =
                padded[top..top + height].iter().map(|row| row[left..left + width].to_vec()).collect();
            if mirrored {
                rows.iter_mut().for_each(|row| row.reverse());
            }
            if upside_down {
                rows.reverse();
            }
            out.extend(rows.concat());
        }
        out
    }

    #[test]
    fn nothing_is_drawn_by_default() {
        assert!(RandomWindow::new(&DataSettings::default(), 7).is_none());
    }

    #[test]
    fn a_sure_flip_mirrors_every_row_and_a_sure_vertical_one_every_column() {
        assert_eq!(apply(&settings(0, 1.0, 0.0), 5), reference(0, 0, 0, true, false));
        assert_eq!(apply(&settings(0, 0.0, 1.0), 5), reference(0, 0, 0, false, true));
        assert_eq!(apply(&settings(0, 1.0, 1.0), 5), reference(0, 0, 0, true, true));
    }

    #[test]
    fn every_outcome_is_a_cut_of_the_padded_image_and_all_occur() {
        let mut seen = std::collections::HashMap::new();
        for example in 0..4000 {
            *seen.entry(apply(&settings(2, 0.5, 0.5), example)).or_insert(0_u32) += 1;
        }
        for (mirrored, upside_down) in [(false, false), (true, false), (false, true), (true, true)] {
            for top in 0..5 {
                for left in 0..5 {
                    // 100 outcomes of 40 expected each; five standard deviations of a binomial(4000, 1/100) are 31
                    let n = seen.remove(&reference(top, left, 2, mirrored, upside_down)).unwrap_or(0);
                    let place = (top, left, mirrored, upside_down);
                    assert!(n.abs_diff(40) < 32, "{place:?}: {n} times");
                }
            }
        }
        assert!(seen.is_empty(), "{} images are no cut of the padded one", seen.len());
    }

    /// A padding of more than the image: the window may show nothing, and never reads beyond.
    #[test]
    fn a_window_beside_the_image_is_black() {
        for (top, left) in [(4, 0), (-4, 0), (0, 5), (0, -5), (5, -6), (-6, 6)] {
            let mut out = vec![99; 40];
            Window { top, left, ..Window::default() }.cut(&image(), [4, 5], &mut out);
            assert_eq!(out, [0; 40], "{top}, {left}");
        }
        for example in 0..200 {
            apply(&settings(1_000_000, 0.5, 0.5), example);
        }
    }
}
