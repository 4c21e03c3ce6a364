//! The sizes of a convolution of stride 1 whose places are pooled two by two, and how its image is laid out.

/// Elements that a vector load may read past an image's last: two of the longest registers.
pub(in super::super) const SLACK: usize = 32;

/// One example's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Geometry {
    pub(in super::super) channels: usize,
    pub(in super::super) height: usize,
    pub(in super::super) width: usize,
    pub(in super::super) kernel: usize,
    pub(in super::super) padding: usize,
    pub(in super::super) outputs: usize,
    /// What pooling leaves: rows and columns.
    pub(in super::super) rows: usize,
    pub(in super::super) columns: usize,
}

impl Geometry {
    pub(in super::super) fn padded_height(&self) -> usize {
        self.height + 2 * self.padding
    }

    pub(in super::super) fn padded_width(&self) -> usize {
        self.width + 2 * self.padding
    }

    /// Elements of an example.
    pub(in super::super) fn example(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Elements of a padded example, [`SLACK`] included.
    pub(in super::super) fn padded_example(&self) -> usize {
        self.channels * self.padded_height() * self.padded_width() + SLACK
    }

    /// Pooled places of one output.
    pub(in super::super) fn places(&self) -> usize {
        self.rows * self.columns
    }

    /// Elements of a pooled example.
    pub(in super::super) fn pooled(&self) -> usize {
        self.outputs * self.places()
    }

    /// Whether a place in a padded image, or a table of weights, is beyond 32 bits: no image, but a slip of the pen.
    pub(in super::super) fn is_huge(&self) -> bool {
        let image = [self.channels, self.padded_height() + self.kernel, self.padded_width() + self.kernel];
        let weight = [self.outputs, self.channels, self.kernel + 3, 2 * self.kernel + 6];
        [&image[..], &weight[..]].into_iter().any(|factors| {
            let product = factors.iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor));
            product.is_none_or(|product| product > i32::MAX as usize)
        })
    }

    /// Terms of one place's sum.
    pub(in super::super) fn taps(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// Elements of one row of a window in the channels-last layout.
    pub(in super::super) fn window_row(&self) -> usize {
        self.kernel * self.channels
    }

    /// Elements of one row of a padded image in the channels-last layout.
    pub(in super::super) fn image_row(&self) -> usize {
        self.padded_width() * self.channels
    }

    /// Copies an example with zeros around each channel; `padded` has [`Self::padded_example`] elements.
    pub(in super::super) fn pad(&self, x: &[f32], padded: &mut [f32]) {
        let (p, width) = (self.padding, self.padded_width());
        if p > 0 {
            padded.fill(0.0);
        } else {
            padded[x.len()..].fill(0.0);
        }
        let planes = padded.chunks_exact_mut(self.padded_height() * width);
        for (plane, x) in planes.zip(x.chunks_exact(self.height * self.width)) {
            for (row, x) in plane[p * width..].chunks_exact_mut(width).zip(x.chunks_exact(self.width)) {
                row[p..p + self.width].copy_from_slice(x);
            }
        }
    }

    /// Copies an example into the channels-last layout (row, column, channel), with zeros around the image.
    pub(in super::super) fn channels_last(&self, x: &[f32], padded: &mut [f32]) {
        let (p, row_len, plane) = (self.padding, self.image_row(), self.height * self.width);
        if p > 0 {
            padded.fill(0.0);
        } else {
            padded[x.len()..].fill(0.0);
        }
        for y in 0..self.height {
            let row = &mut padded[(p + y) * row_len + p * self.channels..][..self.width * self.channels];
            match self.channels {
                // known numbers of channels let the compiler shuffle registers
                1 => interleave::<1>(&x[y * self.width..], plane, row),
                2 => interleave::<2>(&x[y * self.width..], plane, row),
                3 => interleave::<3>(&x[y * self.width..], plane, row),
                4 => interleave::<4>(&x[y * self.width..], plane, row),
                6 => interleave::<6>(&x[y * self.width..], plane, row),
                channels => {
                    for c in 0..channels {
                        let x = &x[c * plane + y * self.width..][..self.width];
                        for (pixel, &x) in row.chunks_exact_mut(channels).zip(x) {
                            pixel[c] = x;
                        }
                    }
                }
            }
        }
    }

    /// The reverse of [`Self::channels_last`]: what lies in the padding is left out.
    pub(in super::super) fn channels_first(&self, padded: &[f32], x: &mut [f32]) {
        let (p, row_len, plane) = (self.padding, self.image_row(), self.height * self.width);
        for y in 0..self.height {
            let row = &padded[(p + y) * row_len + p * self.channels..][..self.width * self.channels];
            match self.channels {
                // as above
                3 => separate::<3>(row, plane, &mut x[y * self.width..]),
                6 => separate::<6>(row, plane, &mut x[y * self.width..]),
                channels => {
                    for c in 0..channels {
                        let x = &mut x[c * plane + y * self.width..][..self.width];
                        for (pixel, x) in row.chunks_exact(channels).zip(x) {
                            *x = pixel[c];
                        }
                    }
                }
            }
        }
    }
}

/// Interleaves a row of `C` planes.
fn interleave<const C: usize>(x: &[f32], plane: usize, row: &mut [f32]) {
    let width = row.len() / C;
    let planes: [&[f32]; C] = std::array::from_fn(|c| &x[c * plane..][..width]);
    for (i, pixel) in row.as_chunks_mut::<C>().0.iter_mut().enumerate() {
        for c in 0..C {
            pixel[c] = planes[c][i];
        }
    }
}

/// The reverse of [`interleave`].
fn separate<const C: usize>(row: &[f32], plane: usize, x: &mut [f32]) {
    let width = row.len() / C;
    for c in 0..C {
        let x = &mut x[c * plane..][..width];
        for (pixel, x) in row.as_chunks::<C>().0.iter().zip(x) {
            *x = pixel[c];
        }
    }
}
