//! One PNG or JPEG file as the planes of a record, and back. PNG is exact; JPEG decoders differ by a level or two in how they
//! round, so the same JPEG files read by another program may hash otherwise.

use std::io::{Cursor, ErrorKind, Read as _};
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use lockstep_proto::records::PIXELS;

use super::{DataError, jpeg};
use crate::regular;

/// Rows and columns of every image.
const SIDE: u32 = 32;

/// Bytes of a picture's file at most: what cameras write is smaller.
const LARGEST_FILE: u64 = 64 << 20;

/// Pixels of a picture at most: phones make pictures of 108 million. A small file may claim any number.
const MOST_PIXELS: u64 = 128_000_000;

/// Bytes of a decoded picture at most: four a pixel, so that only half as many pixels may have 16 bits a channel.
const LARGEST_DECODED: u64 = 4 * MOST_PIXELS;

/// Rows or columns of a picture at most: while it shrinks, 32 rows of it stand in memory as floats.
const LONGEST_SIDE: u32 = 16_384;

/// Decodes `bytes` and appends its red, green and blue plane to `pixels`. Grey images get three equal planes, and
/// transparency is dropped. Errors say what is wrong; the caller knows the place.
pub(super) fn decode(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<(), String> {
    let (width, height) = dimensions(bytes)?;
    if (width, height) != (SIDE, SIDE) {
        return Err(format!("is {width}×{height} pixels; images are {SIDE}×{SIDE}: resize it first"));
    }
    // a 32×32 image needs a few kilobytes
    let picture = reader(bytes, 16 << 20)?.decode().map_err(damaged)?.into_rgb8();
    planes(&picture, pixels);
    Ok(())
}

/// The planes of any PNG or JPEG picture, whatever its size and colours: three of 32×32 ([`PIXELS`] bytes). One of 32×32 is read
/// as a data set's image, to the byte. Another one is turned upright as its EXIF data say, and shrunk or stretched to 32×32
/// without regard to its shape, with a triangle filter as wide as the shrinking asks for (torchvision's `Resize((32, 32))`:
/// bilinear, with antialiasing). Transparency is dropped in both.
///
/// # Errors
/// A file that can't be read, is neither PNG nor JPEG, is damaged or cut short, or is larger than 64 MiB, 128 million pixels (64
/// million of 16 bits a channel) or 16,384 a side.
pub fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let opening = DataError::io(path, "opening the picture");
    if path.is_dir() {
        return Err(DataError::layout(path, "is a folder; give the PNG or JPEG files in it"));
    }
    let file = match regular::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(DataError::layout(path, "there is no such file; give PNG or JPEG files"));
        }
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            return Err(DataError::layout(path, error.to_string()));
        }
        other => other.map_err(opening)?,
    };
    let mut bytes = Vec::new();
    // one byte more tells a file that is too long, also one that grows meanwhile
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(DataError::io(path, "reading the picture"))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(DataError::layout(path, format!("has more than {} MiB: make it smaller", LARGEST_FILE >> 20)));
    }
    shrink(&bytes).map_err(|problem| DataError::content(path.display().to_string(), problem))
}

/// The planes of the picture in `bytes`, resized if need be.
fn shrink(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut pixels = Vec::new();
    let (width, height) = dimensions(bytes)?;
    if (width, height) == (SIDE, SIDE) {
        decode(bytes, &mut pixels)?;
        return Ok(pixels);
    }
    let area = u64::from(width) * u64::from(height);
    if area > MOST_PIXELS || width.max(height) > LONGEST_SIDE {
        return Err(format!(
            "is {width}×{height} pixels; a picture has at most {MOST_PIXELS} and {LONGEST_SIDE} a side: make it smaller"
        ));
    }
    // the picture, and what the decoder keeps beside it
    let mut decoder = reader(bytes, LARGEST_DECODED + (64 << 20))?.into_decoder().map_err(damaged)?;
    if decoder.total_bytes() > LARGEST_DECODED {
        return Err(format!(
            "is {width}×{height} pixels of 16 bits a channel; such a picture has at most {LARGEST_DECODED} bytes, and this one {}: \
             make it smaller",
            decoder.total_bytes()
        ));
    }
    // a picture whose EXIF data make no sense is taken as it lies
    let orientation = decoder.orientation();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    if let Ok(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    planes(&imageops::resize(&picture.into_rgb8(), SIDE, SIDE, FilterType::Triangle), &mut pixels);
    Ok(pixels)
}

/// The planes of one record ([`PIXELS`] bytes) as a PNG file.
///
/// # Errors
/// Another number of bytes.
pub fn to_png(pixels: &[u8]) -> Result<Vec<u8>, DataError> {
    let odd = |problem: String| DataError::content("an image", problem);
    if pixels.len() != PIXELS {
        return Err(odd(format!("it has {} bytes; one of 32×32 has {PIXELS}", pixels.len())));
    }
    let plane = PIXELS / 3;
    let at = |x: u32, y: u32| (y * SIDE + x) as usize;
    let picture = RgbImage::from_fn(SIDE, SIDE, |x, y| image::Rgb([0, 1, 2].map(|c| pixels[c * plane + at(x, y)])));
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png).map_err(|error| odd(error.to_string()))?;
    Ok(file.into_inner())
}

fn reader(bytes: &[u8], memory: u64) -> Result<ImageReader<Cursor<&[u8]>>, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err("is neither PNG nor JPEG".to_owned());
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(memory);
    reader.limits(limits);
    Ok(reader)
}

/// What the header says, before anything is decoded, of a file that is all there.
fn dimensions(bytes: &[u8]) -> Result<(u32, u32), String> {
    let reader = reader(bytes, 16 << 20)?;
    let is_jpeg = reader.format() == Some(ImageFormat::Jpeg);
    let dimensions = reader.into_dimensions().map_err(damaged)?;
    // PNG's decoder finds it out by itself
    if is_jpeg && !jpeg::is_whole(bytes) {
        return Err(
            "is cut short: a JPEG file ends with an end-of-image marker, and this one has none; get the whole file"
                .into(),
        );
    }
    Ok(dimensions)
}

fn damaged(error: ImageError) -> String {
    format!("cannot be decoded: {error}")
}

/// Appends the red, the green and the blue plane.
fn planes(picture: &RgbImage, pixels: &mut Vec<u8>) {
    let interleaved = picture.as_raw();
    pixels.reserve(PIXELS);
    for channel in 0..3 {
        pixels.extend(interleaved.iter().skip(channel).step_by(3));
    }
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

    fn file(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).expect("memory");
        bytes.into_inner()
    }

    #[test]
    fn a_picture_of_the_right_size_stays_as_it_is_and_comes_back() {
        let bytes = png(32, 32);
        let mut pixels = Vec::new();
        decode(&bytes, &mut pixels).expect("a PNG");
        assert_eq!(shrink(&bytes).expect("a PNG"), pixels);
        assert_eq!(shrink(&to_png(&pixels).expect("32×32")).expect("a PNG"), pixels);
        assert!(to_png(&pixels[1..]).is_err());
    }

    /// A triangle that is symmetric about a pixel's middle leaves a slope as it is: the value of the middle, away from the edges.
    #[test]
    fn a_slope_keeps_its_values_in_the_middle() {
        for (width, height) in [(64, 96), (16, 200), (320, 8)] {
            let slope = |at: u32, of: u32| (f64::from(at) + 0.5) / f64::from(of) * 240.0;
            let picture = RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([slope(x, width).round() as u8, slope(y, height).round() as u8, 9])
            });
            let found = shrink(&file(picture, ImageFormat::Png)).expect("a PNG");
            for at in 6..26 {
                let expected = slope(at, SIDE);
                let (red, green) = (found[16 * 32 + at as usize], found[1024 + at as usize * 32 + 16]);
                // half a level of rounding before, and half a level after
                for found in [red, green] {
                    assert!((f64::from(found) - expected).abs() <= 1.0, "{width}×{height} at {at}: {found} {expected}");
                }
            }
            assert!(found[2048..].iter().all(|blue| *blue == 9));
        }
    }

    /// Oracle: Pillow 13.0, `Image.resize((32, 32), Image.BILINEAR)`, which torchvision's `Resize` is for such pictures. Both round
    /// once a direction, so that a level of difference is nobody's mistake.
    #[test]
    fn resizing_is_pillows() {
        const PLACES: [(usize, usize); 5] = [(0, 0), (31, 31), (7, 19), (16, 16), (25, 3)];
        let of_47_61 = [[5, 1, 0], [241, 94, 148], [184, 148, 129], [70, 84, 172], [21, 92, 162]];
        let of_200_100 = [[27, 16, 4], [127, 157, 117], [149, 125, 126], [103, 122, 133], [119, 117, 125]];
        let of_20_24 = [[0, 0, 0], [202, 128, 181], [71, 32, 60], [105, 108, 117], [114, 129, 33]];
        for (width, height, expected) in [(47, 61, of_47_61), (200, 100, of_200_100), (20, 24, of_20_24)] {
            let picture = RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([x * 7 + y * 3, x * x + y, x * y].map(|value| (value % 256) as u8))
            });
            let found = shrink(&file(picture, ImageFormat::Png)).expect("a PNG");
            for ((x, y), expected) in PLACES.into_iter().zip(expected) {
                for (channel, expected) in expected.into_iter().enumerate() {
                    let found = i32::from(found[channel * 1024 + y * 32 + x]);
                    assert!(
                        (found - expected).abs() <= 1,
                        "{width}×{height}, {channel} at {x},{y}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_kind_of_colour_is_read() {
        use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba, RgbaImage};
        let grey = file(GrayImage::from_pixel(40, 50, Luma([77])), ImageFormat::Png);
        let grey_alpha = file(GrayAlphaImage::from_pixel(40, 50, LumaA([77, 3])), ImageFormat::Png);
        let alpha = file(RgbaImage::from_pixel(40, 50, Rgba([77, 77, 77, 0])), ImageFormat::Png);
        // 16 bits: 77 · 257
        let deep = file(ImageBuffer::from_pixel(40, 50, Rgb([19_789_u16; 3])), ImageFormat::Png);
        let jpeg = file(GrayImage::from_pixel(40, 50, Luma([77])), ImageFormat::Jpeg);
        for bytes in [grey, grey_alpha, alpha, deep, jpeg] {
            assert_eq!(shrink(&bytes).expect("a picture"), [77; PIXELS]);
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_decoded() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("wide.png");
        std::fs::write(&path, file(image::GrayImage::new(LONGEST_SIDE + 1, 1), ImageFormat::Png)).expect("written");
        let text = read(&path).expect_err("too wide").to_string();
        assert!(text.contains("wide.png") && text.contains("16385×1") && text.contains("16384 a side"), "{text}");
        std::fs::File::create(&path).and_then(|file| file.set_len(LARGEST_FILE + 1)).expect("a file of zeros");
        let text = read(&path).expect_err("too long").to_string();
        assert!(text.contains("more than 64 MiB"), "{text}");
    }

    #[test]
    fn another_size_and_another_format_are_refused() {
        let text = decode(&png(31, 32), &mut Vec::new()).expect_err("31 wide");
        assert!(text.contains("31×32") && text.contains("32×32"), "{text}");
        assert!(decode(b"GIF89a", &mut Vec::new()).is_err());
        let cut = png(32, 32);
        assert!(decode(&cut[..cut.len() / 2], &mut Vec::new()).is_err());
    }

    /// JPEG's decoder fills the missing rows with grey.
    #[test]
    fn a_picture_that_is_cut_short_is_refused() {
        for side in [32, 200] {
            for format in [ImageFormat::Png, ImageFormat::Jpeg] {
                let picture = RgbImage::from_fn(side, side, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
                let whole = file(picture, format);
                shrink(&whole).expect("a picture");
                // a PNG without its last four bytes has all its pixels
                let lengths =
                    if format == ImageFormat::Png { [whole.len() / 2; 2] } else { [whole.len() / 2, whole.len() - 1] };
                for length in lengths {
                    let text = shrink(&whole[..length]).expect_err("cut");
                    // half of a small file ends in the header
                    let in_the_header = length < whole.len() - 1 && text.contains("cannot be decoded");
                    assert!(in_the_header || text.contains("cut short"), "{side} {format:?}: {text}");
                }
            }
        }
    }

    #[test]
    fn a_picture_of_16_bits_may_have_half_as_many_pixels() {
        use image::{ImageBuffer, Luma, Rgba};
        // headers alone: the size stands in bytes 16 to 24, depth and kind of colour in the next two, their checksum behind
        let claim = |whole: Vec<u8>, width: u32, height: u32| {
            let mut bytes = whole;
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
            let sum = crc32(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&sum.to_be_bytes());
            shrink(&bytes).expect_err("too large, or no such pixels in it")
        };
        let deep = || file(ImageBuffer::from_pixel(8, 8, Rgba([9_u16; 4])), ImageFormat::Png);
        let grey = || file(ImageBuffer::from_pixel(8, 8, Luma([9_u8])), ImageFormat::Png);
        assert!(claim(deep(), 10_000, 6_401).contains("16 bits a channel"));
        assert!(claim(deep(), 1_000, 640).contains("cannot be decoded"));
        assert!(claim(grey(), 12_801, 10_000).contains("at most 128000000"));
    }

    /// PNG's checksum (ISO 3309), bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
    }
}
