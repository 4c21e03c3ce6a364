//! Whether a JPEG file is all there. Its decoder fills what is missing with grey and says nothing.

/// The marker of an image's beginning.
const START: u8 = 0xd8;

/// The marker of its end.
const END: u8 = 0xd9;

/// Whether `bytes` begin as a JPEG file and reach its end-of-image marker (ITU-T T.81, B.1.1.2). What cameras put behind it is
/// not looked at. Segments are stepped over, since a preview in one of them has such a marker of its own.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(&[0xff, START]) else { return false };
    // compressed data lie between two markers after each scan's header: in them, 0xff has a zero behind it or restarts
    let marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xd0..=0xd7 | 0xff);
    loop {
        let Some(at) = rest.windows(2).position(marker) else { return false };
        let kind = rest[at + 1];
        rest = &rest[at + 2..];
        if kind == END {
            return true;
        }
        if kind == START {
            continue;
        }
        let [high, low, ..] = *rest else { return false };
        // the length counts its own two bytes
        let length = usize::from(u16::from_be_bytes([high, low])).max(2);
        let Some(next) = rest.get(length..) else { return false };
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg() -> Vec<u8> {
        let mut file = std::io::Cursor::new(Vec::new());
        let picture = image::RgbImage::from_fn(70, 90, |x, y| image::Rgb([x as u8 * 3, y as u8, (x * y) as u8]));
        picture.write_to(&mut file, image::ImageFormat::Jpeg).expect("memory");
        file.into_inner()
    }

    #[test]
    fn every_beginning_of_a_file_is_cut_and_what_stands_behind_it_does_not_matter() {
        let whole = jpeg();
        assert!(is_whole(&whole));
        assert!((0..whole.len()).all(|length| !is_whole(&whole[..length])));
        assert!(is_whole(&[&whole[..], b"a film of the same moment"].concat()));
    }

    #[test]
    fn a_previews_end_is_not_the_pictures() {
        let whole = jpeg();
        // an APP1 segment with a JPEG file in it
        let length = u16::try_from(whole.len() + 2).expect("a small file").to_be_bytes();
        let with = [&[0xff, START, 0xff, 0xe1][..], &length, &whole, &whole[2..]].concat();
        assert!(is_whole(&with));
        let cut = &with[..with.len() - whole.len() / 2];
        assert!(cut.windows(2).any(|pair| pair == [0xff, END]), "the preview's");
        assert!(!is_whole(cut));
        // downloads that reserve their room end in zeros
        assert!(!is_whole(&[cut, &vec![0; 4096]].concat()));
    }

    #[test]
    fn what_makes_no_sense_is_not_whole() {
        for bytes in
            [&b""[..], b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0\x00\x00", b"GIF"]
        {
            assert!(!is_whole(bytes), "{bytes:?}");
        }
    }
}
