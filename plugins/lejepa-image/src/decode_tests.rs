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
    // What cannot be seen has no colour.
    assert!(decode(&Blob::file(&path)).unwrap().pixels().iter().all(|&v| v == 0));
    image::ImageBuffer::<image::Luma<u16>, _>::from_pixel(4, 4, image::Luma([0x8000u16]))
        .save(&path)
        .unwrap();
    let grey = decode(&Blob::file(&path)).unwrap();
    assert_eq!((grey.channels(), grey.pixels()[0], grey.is_deep()), (1, 0x80, true));
}

/// A picture of ink of one grey value: a bar of alpha on nothing.
fn ink(grey: u8) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    image::RgbaImage::from_fn(8, 8, |x, _| image::Rgba([grey, grey, grey, 255 * u8::from(x > 4)]))
        .write_to(&mut file, ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

#[test]
fn ink_on_transparency_is_seen() {
    let of = |bytes: &[u8], background| {
        let options = DecodeOptions { background, ..DecodeOptions::default() };
        decode_with(&Blob::bytes("x", bytes), options, Window::Centre).unwrap()
    };
    for (grey, behind) in [(0, 255), (40, 255), (255, 0), (200, 0)] {
        let decoded = of(&ink(grey), Background::Auto);
        let pixels = decoded.item.pixels();
        assert_eq!((pixels[0], pixels[7 * 3]), (behind, grey));
        assert!(decoded.facts.remarks()[0].starts_with("transparent"));
    }
    assert_eq!(of(&ink(0), Background::Black).item.pixels()[0], 0);
    assert_eq!(of(&ink(255), Background::White).item.pixels()[0], 255);
    // Alpha of 255 everywhere is no transparency.
    let mut file = std::io::Cursor::new(Vec::new());
    image::RgbaImage::from_pixel(4, 4, image::Rgba([9, 99, 199, 255]))
        .write_to(&mut file, ImageFormat::Png)
        .unwrap();
    let decoded = of(&file.into_inner(), Background::Auto);
    assert_eq!(
        (&decoded.item.pixels()[..3], decoded.facts.remarks().len()),
        (&[9, 99, 199][..], 0)
    );
}

/// A TIFF of two by one values.
fn tiff_of<C: ::tiff::encoder::colortype::ColorType>(values: &[C::Inner], big: bool) -> Vec<u8>
where
    [C::Inner]: ::tiff::encoder::TiffValue,
{
    let mut file = std::io::Cursor::new(Vec::new());
    if big {
        let mut encoder = ::tiff::encoder::TiffEncoder::new_big(&mut file).unwrap();
        encoder.write_image::<C>(2, 1, values).unwrap();
    } else {
        let mut encoder = ::tiff::encoder::TiffEncoder::new(&mut file).unwrap();
        encoder.write_image::<C>(2, 1, values).unwrap();
    }
    file.into_inner()
}

#[test]
fn tiffs_of_every_sample_format_are_read() {
    use ::tiff::encoder::colortype as c;
    let black_and_white = |bytes: &[u8]| {
        let decoded =
            decode_with(&Blob::bytes("x", bytes), DecodeOptions::default(), Window::Centre)
                .unwrap();
        let (p, remarks) = (decoded.item, decoded.facts.remarks().len());
        let last = p.pixels().len() - 1;
        assert_eq!((p.width(), p.pixels()[0], p.pixels()[last]), (2, 0, 255), "{remarks}");
        remarks
    };
    for big in [false, true] {
        assert_eq!(black_and_white(&tiff_of::<c::Gray8>(&[0, 255], big)), 0);
        assert_eq!(black_and_white(&tiff_of::<c::Gray16>(&[0, 65535], big)), 0);
        assert_eq!(black_and_white(&tiff_of::<c::Gray16>(&[0, 4095], big)), 1);
        assert_eq!(black_and_white(&tiff_of::<c::Gray32>(&[0, 3_000_000_000], big)), 1);
        assert_eq!(black_and_white(&tiff_of::<c::GrayI16>(&[-300, 2000], big)), 1);
        assert_eq!(black_and_white(&tiff_of::<c::Gray32Float>(&[0.0, 1.0], big)), 0);
        assert_eq!(
            black_and_white(&tiff_of::<c::RGB32Float>(&[0.0, 0.0, 0.0, 255.0, 255.0, 255.0], big)),
            1
        );
        assert_eq!(black_and_white(&tiff_of::<c::Gray64Float>(&[-5.0, 7e9], big)), 1);
    }
    let nan = tiff_of::<c::Gray32Float>(&[0.0, f32::NAN], false);
    assert!(decode_bytes(&nan).unwrap_err().contains("NaN"));
    // All levels of 12 bits are kept apart.
    let two = decode_bytes(&tiff_of::<c::Gray16>(&[2000, 2001], false)).unwrap();
    let planes = crate::crop::resize(
        &two,
        crate::crop::Area { left: 0.0, top: 0.0, width: 2.0, height: 1.0 },
        2,
        1,
    )
    .unwrap();
    assert!(planes[1] > planes[0], "{planes:?}");
}

/// A stack of flat grey pages.
fn stack(pages: &[(u32, u8)]) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let mut encoder = ::tiff::encoder::TiffEncoder::new(&mut file).unwrap();
    for &(width, grey) in pages {
        let values = vec![grey; width as usize];
        encoder.write_image::<::tiff::encoder::colortype::Gray8>(width, 1, &values).unwrap();
    }
    file.into_inner()
}

#[test]
fn pages_are_read_as_asked() {
    let read = |bytes: &[u8], pages, window: Window<'_>| {
        let options = DecodeOptions { pages, ..DecodeOptions::default() };
        decode_with(&Blob::bytes("x", bytes), options, window)
    };
    let three = stack(&[(2, 10), (2, 20), (2, 30)]);
    let first = read(&three, Pages::First, Window::Centre).unwrap();
    assert_eq!((&first.item.pixels()[..], first.is_whole), (&[10, 10][..], true));
    assert!(first.facts.remarks()[0].contains("stack"));

    let channels = read(&three, Pages::Channels, Window::Centre).unwrap();
    assert_eq!((channels.item.channels(), channels.is_whole), (3, true));
    assert_eq!(channels.item.pixels()[..], [10, 20, 30, 10, 20, 30]);

    let middle = read(&three, Pages::Any, Window::Centre).unwrap();
    assert_eq!((&middle.item.pixels()[..], middle.is_whole), (&[20, 20][..], false));
    let mut rng = lejepa_core::Seed(0).rng(lejepa_core::Purpose::Views, &[]);
    let seen: std::collections::BTreeSet<u8> = (0..40)
        .map(|_| read(&three, Pages::Any, Window::Random(&mut rng)).unwrap().item.pixels()[0])
        .collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [10, 20, 30]);

    let one = stack(&[(2, 7)]);
    for pages in [Pages::Any, Pages::Channels] {
        let single = read(&one, pages, Window::Centre).unwrap();
        assert_eq!((single.item.channels(), single.is_whole), (1, true));
    }
    let odd = read(&stack(&[(2, 7), (3, 7)]), Pages::Channels, Window::Centre).unwrap_err();
    assert!(odd.contains("differ in size"), "{odd}");
    let many = read(&stack(&[(2, 7); 65]), Pages::Channels, Window::Centre).unwrap_err();
    assert!(many.contains("65 pages"), "{many}");
}

/// A TIFF of 2×1 pixels with any number of 16-bit channels, pixel by pixel or plane by plane.
fn tiff_of_channels(channels: u16, photometric: u16, extra: &[u16], planar: bool) -> Vec<u8> {
    let value = |pixel: u16, channel: u16| 60_000 * pixel + 100 * channel;
    let pixels: Vec<u16> = match planar {
        false => (0..2).flat_map(|p| (0..channels).map(move |c| value(p, c))).collect(),
        true => (0..channels).flat_map(|c| (0..2).map(move |p| value(p, c))).collect(),
    };
    let planes = if planar { u32::from(channels) } else { 1 };
    let data = 2 * pixels.len() as u32;
    // Arrays that do not fit into their entry stand behind the pixels.
    let mut tail: Vec<u8> = Vec::new();
    let mut entries: Vec<(u16, u16, u32, [u8; 4])> = Vec::new();
    let mut entry = |tag: u16, kind: u16, values: &[u32]| {
        let bytes: Vec<u8> = match kind {
            3 => values.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let mut field = [0; 4];
        if bytes.len() <= 4 {
            field[..bytes.len()].copy_from_slice(&bytes);
        } else {
            field = (8 + data + tail.len() as u32).to_le_bytes();
            tail.extend(bytes);
        }
        entries.push((tag, kind, values.len() as u32, field));
    };
    entry(256, 4, &[2]);
    entry(257, 4, &[1]);
    entry(258, 3, &vec![16; channels.into()]);
    entry(259, 3, &[1]);
    entry(262, 3, &[photometric.into()]);
    let plane = data / planes;
    entry(273, 4, &(0..planes).map(|p| 8 + p * plane).collect::<Vec<_>>());
    entry(277, 3, &[channels.into()]);
    entry(278, 4, &[1]);
    entry(279, 4, &vec![plane; planes as usize]);
    entry(284, 3, &[1 + u32::from(planar)]);
    if !extra.is_empty() {
        entry(338, 3, &extra.iter().map(|e| (*e).into()).collect::<Vec<_>>());
    }
    let mut file =
        [b"II*\0".to_vec(), (8 + data + tail.len() as u32).to_le_bytes().to_vec()].concat();
    file.extend(pixels.iter().flat_map(|v| v.to_le_bytes()));
    file.extend(tail);
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, field) in entries {
        file.extend(
            [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &field].concat(),
        );
    }
    file.extend([0; 4]);
    file
}

#[test]
fn any_number_of_channels_is_read() {
    for planar in [false, true] {
        for channels in [2, 4, 5, 12, 64] {
            let bytes = tiff_of_channels(channels, 1, &vec![0; channels as usize - 1], planar);
            let picture = decode_bytes(&bytes).unwrap();
            assert_eq!((picture.channels(), picture.is_deep()), (channels as usize, true));
            let high: Vec<u8> = (0..2u16)
                .flat_map(|p| (0..channels).map(move |c| ((60_000 * p + 100 * c) >> 8) as u8))
                .collect();
            assert_eq!(picture.pixels()[..], high, "{channels} {planar}");
        }
        let rgb = decode_bytes(&tiff_of_channels(3, 2, &[], planar)).unwrap();
        assert_eq!((rgb.channels(), rgb.pixels()[3]), (3, (60_000u32 >> 8) as u8), "{planar}");
        // Grey with alpha: transparent black and opaque white on black.
        let alpha = decode_bytes(&tiff_of_channels(2, 1, &[2], planar)).unwrap();
        assert_eq!(alpha.channels(), 1);
    }
    let bytes = tiff_of_channels(65, 1, &[0; 64], false);
    assert!(decode_bytes(&bytes).unwrap_err().contains("65 channels"));
    // Beside RGB they are dropped, and told.
    let blob = Blob::bytes("x", tiff_of_channels(5, 2, &[0, 0], false));
    let decoded = decode_with(&blob, DecodeOptions::default(), Window::Centre).unwrap();
    assert_eq!((decoded.item.channels(), decoded.facts.remarks().len()), (3, 1));
}

/// A JPEG of a flat half and a rough one, by quality and rows of MCUs between restart markers.
fn large_jpeg() -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(200, 160, |x, y| {
        let v = if y < 80 { 200 } else { (x * x + y * 7 + (x * y) % 31) as u8 };
        image::Rgb([v, v / 2, v.wrapping_mul(3)])
    });
    picture.write_to(&mut file, ImageFormat::Jpeg).unwrap();
    file.into_inner()
}

#[test]
fn jpegs_with_a_hole_are_refused() {
    let whole = large_jpeg();
    assert!(decode_bytes(&whole).is_ok() && crate::scan::is_consistent(&whole));
    for (from, length) in [(5, 600), (3, 150), (2, 1000)] {
        let mut bytes = whole.clone();
        let at = bytes.len() / from;
        bytes[at..at + length].fill(0);
        assert!(crate::scan::is_suspect(&bytes));
        let error = decode_bytes(&bytes).err().unwrap_or_default();
        assert!(error.contains("damaged"), "{from} {length}: {error}");
    }
    // Without restart markers nothing tells where a hole that happens to fit its blocks is; hardly any does.
    let holes = (800..13_000).step_by(100).filter(|&at| {
        let mut bytes = whole.clone();
        bytes[at..at + 300].fill(0);
        decode_bytes(&bytes).is_ok()
    });
    assert!(holes.count() <= 1);
    // Grey pictures have scans of one component.
    let mut file = std::io::Cursor::new(Vec::new());
    let grey = image::GrayImage::from_fn(77, 53, |x, y| image::Luma([(x * y) as u8]));
    grey.write_to(&mut file, ImageFormat::Jpeg).unwrap();
    assert!(crate::scan::is_consistent(&file.into_inner()));
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

/// A smooth picture with fine texture, as photographs are.
fn photograph(width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        let wave =
            |a: f32, b: f32| 127.0 + 60.0 * (a * x as f32).sin() + 50.0 * (b * y as f32).cos();
        let texture = ((x * 7 + y * 13 + (x * y) % 29) % 11) as f32;
        image::Rgb(
            [wave(0.011, 0.017), wave(0.023, 0.007), wave(0.005, 0.029)]
                .map(|v| (v + texture) as u8),
        )
    })
}

fn width_of(facts: &Facts) -> f64 {
    facts.numbers().iter().find(|(name, _)| name == "width").map_or(0.0, |(_, width)| *width)
}

#[test]
fn large_jpegs_are_decoded_at_a_fraction_of_their_size() {
    let encoded = |image: DynamicImage| {
        let mut file = std::io::Cursor::new(Vec::new());
        image.write_to(&mut file, ImageFormat::Jpeg).unwrap();
        file.into_inner()
    };
    let read = |bytes: &[u8], max_side| {
        let options = DecodeOptions { max_side, ..DecodeOptions::default() };
        decode_with(&Blob::bytes("x", bytes), options, Window::Centre).unwrap()
    };
    let photograph = DynamicImage::ImageRgb8(photograph(1203, 901));
    for (image, channels) in
        [(photograph.clone(), 3), (DynamicImage::ImageLuma8(photograph.to_luma8()), 1)]
    {
        let bytes = encoded(image);
        // At an eighth, a quarter, a half, and as a whole.
        for side in [150, 160, 300, 512, 601, 700] {
            let ours = read(&bytes, side);
            assert_eq!(width_of(&ours.facts), 1203.0);
            assert_eq!(ours.item.channels(), channels);
            let exact = read(&bytes, 0).item.at_most(side);
            let full = exact.pixels();
            assert_eq!((ours.item.width(), ours.item.height()), (exact.width(), exact.height()));
            let low = ours.item.pixels();
            let pairs = low.iter().zip(&*full);
            let apart =
                pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / full.len() as f64;
            assert!(apart < 1.5, "{channels} channels to {side}: {apart}");
            assert_eq!(apart == 0.0, side == 700);
        }
        let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let turned = read(&with_exif(&bytes, tiff), 200);
        assert_eq!((turned.item.width(), turned.item.height()), (150, 200));
        assert_eq!(width_of(&turned.facts), 901.0);
    }
}

#[test]
fn damage_is_found_at_any_size() {
    let mut file = std::io::Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(photograph(640, 480)).write_to(&mut file, ImageFormat::Jpeg).unwrap();
    let whole = file.into_inner();
    let mut random = 1u64;
    let mut next = move || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize
    };
    let (mut full, mut low) = (0, 0);
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = 700 + next() % (bytes.len() - 2000);
        match next() % 3 {
            0 => bytes[at] ^= 1 << (next() % 8),
            1 => bytes[at..at + 300].fill(0),
            _ => drop(bytes.drain(at..at + 40)),
        }
        let refused = |max_side| {
            let options = DecodeOptions { max_side, ..DecodeOptions::default() };
            decode_with(&Blob::bytes("x", &bytes[..]), options, Window::Centre).is_err()
        };
        full += usize::from(refused(0));
        low += usize::from(refused(100));
    }
    assert!(full > 50 && low + 5 >= full, "refused whole {full}, at a fraction {low}");
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
