//! Detects truncated JPEG files, whose missing part the decoder silently fills with grey.

use std::io::{BufRead, ErrorKind, Read, Result, Seek, SeekFrom};

/// Whether the image at the start of `file` reaches its end-of-image marker.
///
/// Searching for the marker is not enough: an embedded thumbnail has one too, and phones append whole
/// videos after it.
pub(crate) fn is_whole(file: &mut (impl BufRead + Seek)) -> Result<bool> {
    // Most files simply end with it. Entropy-coded data cannot end so by chance: in them a zero or a
    // restart marker follows 0xff.
    let mut end = [0; 2];
    file.seek(SeekFrom::End(-2))?;
    file.read_exact(&mut end)?;
    if end == [0xff, 0xd9] {
        return Ok(true);
    }
    file.seek(SeekFrom::Start(0))?;
    match walk(file) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        found => found,
    }
}

/// Walks from marker to marker, skipping the contents of segments, to the end of the image.
fn walk(file: &mut (impl BufRead + Seek)) -> Result<bool> {
    loop {
        file.skip_until(0xff)?;
        let mut marker = 0xff;
        while marker == 0xff {
            marker = byte(file)?;
        }
        match marker {
            0xd9 => return Ok(true),
            // An escaped 0xff, and markers without contents.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = u16::from_be_bytes([byte(file)?, byte(file)?]);
                file.seek_relative(i64::from(length.saturating_sub(2)))?;
            }
        }
    }
}

fn byte(file: &mut impl Read) -> Result<u8> {
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn whole(bytes: &[u8]) -> bool {
        is_whole(&mut Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn only_the_end_marker_of_the_image_itself_counts() {
        let thumbnail = [0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [0xff, 0xda, 0, 3, 1, 9, 0xff, 0, 8, 0xff, 0xd3, 7];
        let end = [0xff, 0xff, 0xd9];
        let picture = [&[0xff, 0xd8][..], &thumbnail, &scan, &end].concat();
        assert!(whole(&picture));
        assert!(whole(&[&picture[..], b"a video"].concat()));
        for keep in 2..picture.len() {
            // Cut right after the thumbnail there is no scan, which the decoder refuses.
            assert_eq!(whole(&picture[..keep]), keep == 10, "cut to {keep}");
        }
    }
}
