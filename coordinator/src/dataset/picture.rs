//! One PNG or JPEG file as the planes of a record. PNG is exact; JPEG decoders differ by a level or two in how they round, so
//! the same JPEG files read by another program may hash otherwise.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits};
use lockstep_proto::records::PIXELS;

/// Rows and columns of every image.
const SIDE: u32 = 32;

/// Decodes `bytes` and appends its red, green and blue plane to `pixels`. Grey images get three equal planes, and
/// transparency is dropped. Errors say what is wrong; the caller knows the place.
pub(super) fn decode(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<(), String> {
    let reader = || -> Result<_, String> {
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
        if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
            return Err("is neither PNG nor JPEG".to_owned());
        }
        // a 32×32 image needs a few kilobytes; the size is checked before anything is decoded
        let mut limits = Limits::default();
        limits.max_alloc = Some(16 << 20);
        reader.limits(limits);
        Ok(reader)
    };
    let damaged = |e: image::ImageError| format!("cannot be decoded: {e}");
    let (width, height) = reader()?.into_dimensions().map_err(damaged)?;
    if (width, height) != (SIDE, SIDE) {
        return Err(format!("is {width}×{height} pixels; images are {SIDE}×{SIDE}: resize it first"));
    }
    let picture = reader()?.decode().map_err(damaged)?.into_rgb8();
    let interleaved = picture.as_raw();
    pixels.reserve(PIXELS);
    for channel in 0..3 {
        pixels.extend(interleaved.iter().skip(channel).step_by(3));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, RgbImage};

    fn png(width: u32, height: u32) -> Vec<u8> {
        let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 200]));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgb8(image).write_to(&mut bytes, ImageFormat::Png).expect("memory");
        bytes.into_inner()
    }

    #[test]
    fn planes_are_rows_of_columns() {
        let mut pixels = Vec::new();
        decode(&png(32, 32), &mut pixels).expect("a PNG");
        assert_eq!(pixels.len(), PIXELS);
        // row 2, column 5
        assert_eq!([pixels[2 * 32 + 5], pixels[1024 + 2 * 32 + 5], pixels[2048 + 2 * 32 + 5]], [5, 2, 200]);
    }

    #[test]
    fn another_size_and_another_format_are_refused() {
        let text = decode(&png(31, 32), &mut Vec::new()).expect_err("31 wide");
        assert!(text.contains("31×32") && text.contains("32×32"), "{text}");
        assert!(decode(b"GIF89a", &mut Vec::new()).is_err());
        let cut = png(32, 32);
        assert!(decode(&cut[..cut.len() / 2], &mut Vec::new()).is_err());
    }
}
