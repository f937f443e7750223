//! The work of `cargo xtask bench views`: views of files, on one core.
//!
//! `time_views make FOLDER` writes pictures. `time_views pictures|sounds|spectrograms|clips FOLDER`, or `films FOLDER FRAMES` for random parts of clips, answers each line on stdin by the milliseconds of one
//! pass over all of them; at its end come the peak memory in MiB and the share of decoding.

use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use lejepa_audio::{AudioConfig, AudioModality, Waveform};
use lejepa_core::{Modality, Purpose, Seed, Source, ViewRng, Window};
use lejepa_image::{ImageConfig, ImageModality};
use lejepa_video::{VideoConfig, VideoModality};

/// The allocator of the `lejepa` binary.
#[cfg(target_os = "linux")]
#[path = "../src/allocator.rs"]
mod allocator;

const FILES: u32 = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder] => make(Path::new(folder)),
        ["pictures", folder] => serve::<ImageModality>(&pictures(), folder, centre),
        ["sounds", folder] => serve::<AudioModality>(&AudioConfig::default(), folder, centre),
        ["spectrograms", folder] => spectrograms(folder),
        ["clips", folder] => serve::<VideoModality>(&clips(), folder, centre),
        ["films", folder, frames] => {
            let config = VideoConfig { max_frames: frames.parse()?, ..clips() };
            serve::<VideoModality>(&config, folder, random)
        }
        _ => {
            Err("usage: time_views make|pictures|sounds|spectrograms|clips FOLDER, or films FOLDER FRAMES"
                .into())
        }
    }
}

/// The log-mel spectrograms of recordings of ten seconds that are in memory.
fn spectrograms(folder: &str) -> Result<(), Box<dyn Error>> {
    let config = AudioConfig { global_frames: 997, ..AudioConfig::default() };
    let sampler = AudioModality::sampler(&config)?;
    let items = AudioModality::open(&config, Source::resolve(folder, AudioModality::rule())?)?;
    let waves = (0..items.len()).map(|i| Ok(items.item(i, Window::Centre)?.item));
    let waves = waves.collect::<lejepa_core::Result<Vec<Waveform>>>()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        // A recording keeps its spectrogram, so that each pass has recordings of its own.
        let fresh: Result<Vec<_>, _> =
            waves.iter().map(|wave| Waveform::new(wave.samples().to_vec())).collect();
        let fresh = fresh?;
        let start = Instant::now();
        for wave in &fresh {
            assert_eq!(sampler.eval_view(wave)?.shape(), [1, 64, 997]);
        }
        println!("{}", start.elapsed().as_secs_f64() * 1e3);
    }
    println!("{}", peak_mib());
    println!("{}", serde_json::json!({ "decoding": 0.0 }));
    Ok(())
}

/// The published crops.
fn pictures() -> ImageConfig {
    ImageConfig {
        globals: 2,
        locals: 6,
        global_size: 224,
        local_size: 98,
        global_scale: [0.3, 1.0],
        local_scale: [0.05, 0.3],
        ..ImageConfig::default()
    }
}

/// Which part of a long file.
type Part = fn(&mut ViewRng) -> Window<'_>;

fn centre(_: &mut ViewRng) -> Window<'_> {
    Window::Centre
}

fn random(rng: &mut ViewRng) -> Window<'_> {
    Window::Random(rng)
}

/// Eight frames of 112 pixels, cut from frames of 128, as is usual for clips of people in action.
fn clips() -> VideoConfig {
    VideoConfig { global_size: 112, local_size: 56, size: 128, ..VideoConfig::default() }
}

/// Pictures with gradients, edges and grain, as photographs have them: about 60 kB each.
fn make(folder: &Path) -> Result<(), Box<dyn Error>> {
    for i in 0..FILES {
        let mut state = i + 1;
        let picture = RgbImage::from_fn(500, 375, |x, y| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = (state >> 28) as f32;
            let wave = |n: f32, phase: f32| 110.0 + 90.0 * (n * 0.021 + phase + i as f32).sin();
            let edge = if (x / 61 + y / 47 + i) % 2 == 0 { 30.0 } else { 0.0 };
            let (x, y) = (x as f32, y as f32);
            Rgb([wave(x, 0.0) + edge, wave(y + 0.5 * x, 1.0), wave(x - y, 2.0) + edge]
                .map(|v| (v + grain).clamp(0.0, 255.0) as u8))
        });
        let file = std::fs::File::create(folder.join(format!("{i:03}.jpg")))?;
        image::codecs::jpeg::JpegEncoder::new_with_quality(file, 90).encode_image(&picture)?;
    }
    Ok(())
}

fn serve<M: Modality>(config: &M::Config, folder: &str, part: Part) -> Result<(), Box<dyn Error>> {
    let sampler = M::sampler(config)?;
    let items = M::open(config, Source::resolve(folder, M::rule())?)?;
    let expected = sampler.spec().views();
    let (mut decoding, mut total, mut pass) = (Duration::ZERO, Duration::ZERO, 0);
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        for index in 0..items.len() {
            let mut rng = Seed(0).rng(Purpose::Views, &[pass, index as u64]);
            let began = Instant::now();
            let item = items.item(index, part(&mut rng))?.item;
            decoding += began.elapsed();
            let views = sampler.views(&item, &mut rng)?;
            assert_eq!(views.iter().count(), expected);
        }
        total += start.elapsed();
        pass += 1;
        println!("{}", start.elapsed().as_secs_f64() * 1e3);
    }
    println!("{}", peak_mib());
    let share = decoding.as_secs_f64() / total.as_secs_f64().max(1e-9);
    println!("{}", serde_json::json!({ "decoding": share }));
    Ok(())
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
