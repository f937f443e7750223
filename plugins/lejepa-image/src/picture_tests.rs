//! Decoding of valid, unusual, damaged and malicious files.

use super::*;
use proptest::prelude::*;

fn sample() -> image::RgbImage {
    image::RgbImage::from_fn(40, 24, |x, y| image::Rgb([x as u8 * 6, y as u8 * 10, 77]))
}

/// The sample encoded in a format.
fn encoded(extension: &str) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    sample().write_to(&mut file, ImageFormat::from_extension(extension).unwrap()).unwrap();
    file.into_inner()
}

fn decode_bytes(bytes: &[u8]) -> Result<Picture, String> {
    decode(&Blob::bytes("x", bytes))
}

/// A JPEG with a leading EXIF segment, as cameras write it.
fn with_exif(jpeg: &[u8], tiff: &[u8]) -> Vec<u8> {
    let length = (tiff.len() + 8) as u16;
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), b"Exif\0\0", tiff, &jpeg[2..]].concat()
}

#[test]
fn every_format_round_trips() {
    for ext in ["png", "bmp", "tiff", "webp", "gif", "jpg"] {
        let bytes = encoded(ext);
        let p = decode_bytes(&bytes).unwrap();
        assert_eq!((p.width(), p.height(), p.channels()), (40, 24, 3), "{ext}");
        let lossless = !matches!(ext, "jpg" | "gif");
        let off = p.pixels().iter().zip(sample().as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(!lossless || off == Some(0), "{ext}: {off:?}");
        // The content counts, not the name.
        assert_eq!(decode(&Blob::bytes("wrong.name", &bytes)).unwrap(), p);
    }
}

#[test]
fn files_and_parts_of_files_decode_like_bytes() {
    let d = tempfile::tempdir().unwrap();
    for ext in ["png", "jpg", "tiff"] {
        let bytes = encoded(ext);
        let (file, archive) = (d.path().join("x"), d.path().join("archive"));
        std::fs::write(&file, &bytes).unwrap();
        std::fs::write(&archive, [&b"before"[..], &bytes, b"after"].concat()).unwrap();
        let want = decode_bytes(&bytes).unwrap();
        assert_eq!(decode(&Blob::file(&file)).unwrap(), want, "{ext}");
        let member = Blob::part("archive/x", &archive, 6..6 + bytes.len() as u64);
        assert_eq!(decode(&member).unwrap(), want, "{ext}");
    }
}

#[test]
fn alpha_and_depth_are_reduced() {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("a.png");
    image::RgbaImage::from_pixel(4, 4, image::Rgba([200, 100, 50, 0])).save(&path).unwrap();
    assert!(decode(&Blob::file(&path)).unwrap().pixels().iter().all(|&v| v == 0));
    image::ImageBuffer::<image::Luma<u16>, _>::from_pixel(4, 4, image::Luma([0x8000u16]))
        .save(&path)
        .unwrap();
    let grey = decode(&Blob::file(&path)).unwrap();
    assert_eq!((grey.channels(), grey.pixels()[0]), (1, 0x80));
}

#[test]
fn the_exif_orientation_is_applied() {
    // One entry, 0x0112 (orientation), a short: 6, rotate by 90 degrees clockwise.
    let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let upright = decode_bytes(&encoded("jpg")).unwrap();
    let turned = decode_bytes(&with_exif(&encoded("jpg"), tiff)).unwrap();
    assert_eq!((turned.width(), turned.height()), (24, 40));
    // The bottom left corner becomes the top left one.
    assert_eq!(turned.pixels()[..3], upright.pixels()[23 * 40 * 3..][..3]);
}

#[test]
fn damaged_files_are_errors() {
    for ext in ["png", "jpg", "webp", "bmp", "tiff", "gif"] {
        let bytes = encoded(ext);
        for keep in [0, 1, 9, bytes.len() / 2, bytes.len() * 9 / 10] {
            let e = decode_bytes(&bytes[..keep]).expect_err(ext);
            assert!(!e.is_empty() && !e.contains('\n'), "{ext} cut to {keep}: {e}");
        }
    }
    assert!(decode_bytes(b"not a picture at all").unwrap_err().contains("not a picture"));
    let d = tempfile::tempdir().unwrap();
    assert!(decode(&Blob::file(d.path().join("missing.png"))).is_err());
    assert!(decode(&Blob::file(d.path())).unwrap_err().contains("not a regular file"));
}

#[test]
fn truncated_jpegs_are_refused_and_unusual_ones_are_not() {
    let jpeg = encoded("jpg");
    let with_thumbnail = with_exif(&jpeg, &jpeg);
    assert!(decode_bytes(&with_thumbnail).is_ok());
    let cut = &with_thumbnail[..with_thumbnail.len() - 40];
    assert!(decode_bytes(cut).unwrap_err().contains("cut short"));
    // Phones append a video to the picture.
    assert!(decode_bytes(&[&jpeg[..], &[7; 100_000]].concat()).is_ok());
}

#[test]
fn headers_that_claim_huge_sizes_are_refused_before_allocating() {
    // The header of a bitmap alone can claim gigabytes.
    let mut bmp = encoded("bmp");
    for (width, height) in [(30_000u32, 30_000u32), (60_000, 2)] {
        bmp[18..22].copy_from_slice(&width.to_le_bytes());
        bmp[22..26].copy_from_slice(&height.to_le_bytes());
        let e = decode_bytes(&bmp).unwrap_err();
        assert!(e.contains("too large"), "{width}x{height}: {e}");
    }
}

#[test]
fn large_pictures_are_scaled_down() {
    let p = Picture::new(100, 40, 3, vec![9; 12_000]).unwrap().at_most(50);
    assert_eq!((p.width(), p.height()), (50, 20));
    assert!(p.pixels().iter().all(|&v| v == 9));
    assert_eq!(p.clone().at_most(50), p);
    assert_eq!(p.clone().at_most(0), p);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_bytes_never_panic(
        magic in prop::sample::select(vec![
            &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], b"\xff\xd8\xff\xe0\0\x10JFIF", b"GIF89a",
            b"BM", b"II*\0", b"RIFF\x40\0\0\0WEBPVP8 ", b"",
        ]),
        body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let _ = decode_bytes(&[magic, &body].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Valid files with a few damaged bytes reach deeper into a decoder than noise does.
    #[test]
    fn damaged_files_never_panic(
        extension in prop::sample::select(vec!["png", "jpg", "webp", "bmp", "tiff", "gif"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = encoded(extension);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(p) = decode_bytes(&bytes) {
            prop_assert_eq!(p.pixels().len(), p.width() * p.height() * p.channels());
        }
    }
}
