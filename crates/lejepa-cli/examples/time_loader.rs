//! The work of `cargo xtask bench loader`: how many samples a second the loader reads, decodes and makes
//! views of, for files of each modality with its default settings, nothing kept in memory.
//!
//! Prints a JSON row for each modality and number of workers.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use image::codecs::gif::GifEncoder;
use image::{Delay, Frame, Rgb, RgbImage, RgbaImage};
use lejepa_audio as _;
use lejepa_core::{Registry, Seed};
use lejepa_image as _;
use lejepa_nn as _;
use lejepa_train::{Loader, Order, Request};
use lejepa_video as _;
use serde_json::json;

/// Files of each kind, and samples a batch.
const FILES: usize = 64;
const BATCH: usize = 32;
/// How long each case is timed.
const TIMED: Duration = Duration::from_secs(4);

/// Makes one file of a kind.
type Make = fn(&Path, usize) -> Result<(), Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let cases: [(&str, &str, &str, Make); 3] = [
        ("image", "JPEG, 500 × 375, quality 90", "jpg", picture),
        ("audio", "WAV, 5 s, 44.1 kHz, stereo, 16 bits", "wav", sound),
        ("video", "GIF, 128 × 96, 24 frames", "gif", clip),
    ];
    let registry = Registry::discover()?;
    for (modality, data, extension, make) in cases {
        let folder = tempfile::tempdir()?;
        for i in 0..FILES {
            make(&folder.path().join(format!("{i}.{extension}")), i)?;
        }
        let place = folder.path().to_string_lossy();
        let assignments = vec![
            format!("modality={modality}"),
            format!("data.source={place}"),
            "data.cache_mib=0".to_string(),
        ];
        let resolved = Request { assignments, ..Request::default() }.resolve(&registry)?;
        for workers in [1, 2] {
            let source = resolved.open_configured()?;
            let views = source.spec().views();
            let order = Order::new((0..source.len()).collect(), BATCH, Seed(0));
            let mut loader = Loader::start(source.into(), order, 0..u64::MAX, workers, 4)?;
            // What is ready when the clock starts is not counted.
            for _ in 0..6 {
                loader.next_batch()?;
            }
            let (start, mut batches, mut bytes) = (Instant::now(), 0, 0);
            while start.elapsed() < TIMED {
                let batch = loader.next_batch()?;
                let views = batch.groups().iter().flatten();
                bytes = views.map(|view| view.values().bytes()).sum::<usize>();
                batches += 1;
            }
            let rate = (batches * BATCH) as f64 / start.elapsed().as_secs_f64();
            let row = json!({
                "modality": modality,
                "data": data,
                "workers": workers,
                "samples_per_s": rate.round(),
                "views_per_s": (rate * views as f64).round(),
                "kib_per_sample": (bytes as f64 / BATCH as f64 / 1024.0 * 10.0).round() / 10.0,
            });
            println!("{row}");
        }
    }
    Ok(())
}

/// Something with edges and gradients, another one for each number.
fn pixel(x: u32, y: u32, i: usize) -> Rgb<u8> {
    let (x, y, i) = (x as f32, y as f32, i as f32);
    let wave = |a: f32| (127.0 + 100.0 * (a * 0.05 + i).sin()) as u8;
    let edge = if ((x / 24.0) as i32 + (y / 32.0) as i32) % 2 == 0 { 40 } else { 0 };
    Rgb([wave(x) / 2 + edge, wave(y + 0.5 * x), wave(x * y * 0.01)])
}

fn picture(path: &Path, i: usize) -> Result<(), Box<dyn Error>> {
    let picture = RgbImage::from_fn(500, 375, |x, y| pixel(x, y, i));
    let file = std::fs::File::create(path)?;
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(file, 90);
    Ok(encoder.encode_image(&picture)?)
}

fn sound(path: &Path, i: usize) -> Result<(), Box<dyn Error>> {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for t in 0..5 * 44_100 {
        let t = t as f32 / 44_100.0;
        let tone = (t * 440.0 * (1.0 + i as f32 * 0.1) * std::f32::consts::TAU).sin();
        for _ in 0..2 {
            writer.write_sample((tone * (1.0 - t / 5.0) * 20_000.0) as i16)?;
        }
    }
    Ok(writer.finalize()?)
}

fn clip(path: &Path, i: usize) -> Result<(), Box<dyn Error>> {
    let mut encoder = GifEncoder::new_with_speed(std::fs::File::create(path)?, 30);
    for t in 0..24 {
        let frame = RgbaImage::from_fn(128, 96, |x, y| {
            let [r, g, b] = pixel(x + t, y, i).0;
            image::Rgba([r, g, b, 255])
        });
        encoder.encode_frame(Frame::from_parts(frame, 0, 0, Delay::from_numer_denom_ms(40, 1)))?;
    }
    Ok(())
}
