//! Damaged files against the decoders of all modalities: `cargo xtask fuzz`.
//!
//! `fuzz_decoders FORMAT MINUTES [SEED]` encodes a few files of a format, damages them at random (bytes, ranges,
//! lengths, cuts, copies of other parts), and reads each as the trainer does, in this one process. It prints a
//! line of figures and exits with 1 where a panic reaches the trainer's guard, a read takes longer than five seconds,
//! or memory passes 1 GiB; the file is then kept. An abort is seen by the exit code.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lejepa_audio as _;
use lejepa_core::{
    Listing, OpenOptions, Purpose, Registry, Seed, Source, Table, ViewRng, ViewSource, kind,
};
use lejepa_image as _;
use lejepa_video as _;
use rand::RngExt;

/// The allocator of the `lejepa` binary.
#[cfg(target_os = "linux")]
#[path = "../src/allocator.rs"]
mod allocator;

type Failure = Box<dyn std::error::Error>;

/// Formats with their modality.
const FORMATS: [(&str, &str); 16] = [
    ("jpg", "image"),
    ("png", "image"),
    ("tif", "image"),
    ("webp", "image"),
    ("gif", "image"),
    ("wav", "audio"),
    ("flac", "audio"),
    ("mp3", "audio"),
    ("ogg", "audio"),
    ("opus", "audio"),
    ("m4a", "audio"),
    ("aac", "audio"),
    ("wma", "audio"),
    ("mp4", "video"),
    ("mkv", "video"),
    ("webm", "video"),
];

/// A read that takes longer is a hang.
const SLOW: Duration = Duration::from_secs(5);
/// Most memory that reading may take.
const MEMORY: u64 = 1 << 30;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let format = words.first().map_or("", String::as_str);
    let known = || FORMATS.map(|(name, _)| name).join(" ");
    if format == "--list" {
        println!("{}", known());
        return Ok(());
    }
    let Some((_, modality)) = FORMATS.into_iter().find(|(name, _)| *name == format) else {
        return Err(
            format!("usage: fuzz_decoders FORMAT MINUTES [SEED]; formats: {}", known()).into()
        );
    };
    let minutes: f64 = words.get(1).map_or(Ok(0.1), |m| m.parse())?;
    let seed: u64 = words.get(2).map_or(Ok(0), |s| s.parse())?;
    let folder = tempfile::tempdir()?;
    let seeds = encode(format, folder.path())?;
    let file = folder.path().join(format!("damaged.{format}"));
    std::fs::write(&file, &seeds[0])?;
    let source = open(modality, &file)?;
    for (i, bytes) in seeds.iter().enumerate() {
        std::fs::write(&file, bytes)?;
        source.eval_views(0).map_err(|e| format!("undamaged file {i}: {e}"))?;
    }
    let idle = peak();
    let kept = std::env::temp_dir().join(format!("fuzz-{format}-{seed}.{format}"));
    let watch = Arc::new(Watch::default());
    watch.clone().start(file.clone(), kept.clone());
    std::panic::set_hook(Box::new(|_| {}));
    let (began, total) = (Instant::now(), Duration::from_secs_f64(60.0 * minutes));
    let (mut tried, mut read, mut panics, mut slowest) = (0u64, 0u64, 0u64, Duration::ZERO);
    let mut heaviest = 0;
    while began.elapsed() < total {
        let mut rng = Seed(seed).rng(Purpose::Demo, &[tried]);
        let bytes = damage(&seeds, &mut rng);
        std::fs::write(&file, bytes)?;
        let from = Instant::now();
        watch.reading.store(tried + 1, Ordering::Relaxed);
        let companions = vec![0; source.companions()];
        let result =
            catch_unwind(AssertUnwindSafe(|| source.checked_views(0, &companions, &mut rng)));
        watch.reading.store(0, Ordering::Relaxed);
        let took = from.elapsed();
        slowest = slowest.max(took);
        tried += 1;
        if took > SLOW || peak() > MEMORY.max(heaviest) {
            heaviest = peak();
            std::fs::copy(&file, &kept)?;
        }
        match result {
            Ok(Ok(_)) => read += 1,
            Ok(Err(_)) => {}
            Err(_) => {
                panics += 1;
                std::fs::copy(&file, &kept)?;
            }
        }
    }
    let (memory, slow) = (peak(), slowest.as_secs_f64());
    println!(
        "{format}: {tried} damaged files in {minutes} min, {read} still read, {panics} panics, slowest \
         {slow:.2} s, peak memory {} MiB ({} MiB before)",
        memory >> 20,
        idle >> 20
    );
    if panics > 0 || slowest > SLOW || memory > MEMORY {
        return Err(format!("the last of them is kept as {}", kept.display()).into());
    }
    Ok(())
}

/// Ends the process where a read hangs, since nothing else can.
#[derive(Default)]
struct Watch {
    /// The number of the read that goes on; 0 between reads.
    reading: AtomicU64,
}

impl Watch {
    fn start(self: Arc<Self>, file: PathBuf, kept: PathBuf) {
        std::thread::spawn(move || {
            let (mut ticks, mut before) = (0, 0);
            loop {
                std::thread::sleep(Duration::from_millis(100));
                let now = self.reading.load(Ordering::Relaxed);
                ticks = if now != 0 && now == before { ticks + 1 } else { 0 };
                before = now;
                // Well beyond what is slow, so that the figures of a slow read are printed.
                if ticks > 600 {
                    let _ = std::fs::copy(&file, &kept);
                    eprintln!("error: a read hangs; the file is kept as {}", kept.display());
                    std::process::exit(3);
                }
            }
        });
    }
}

fn open(modality: &str, file: &Path) -> Result<Box<dyn ViewSource>, Failure> {
    let registry = Registry::discover()?;
    let views = registry.find::<kind::Views>("default", Some(modality))?;
    let section = registry.find::<kind::Modality>(modality, None)?.meta().defaults()?;
    let pipeline = (views.build().build)(&section, &Table::new())?;
    let listing = Listing { paths: vec![file.into()], splits: vec![None], ..Listing::default() };
    let options = OpenOptions::default().cache_bytes(0);
    Ok(pipeline.open(Source::Blobs(Arc::new(listing)), &options)?)
}

/// Whole files of a format, of different kinds.
fn encode(format: &str, folder: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let picture = image::RgbaImage::from_fn(90, 70, |x, y| {
        image::Rgba([(x * 3) as u8, (y * 3) as u8, (x * y) as u8, 255 - (x % 7) as u8])
    });
    let picture = image::DynamicImage::ImageRgba8(picture);
    let save = |name: &str, picture: image::DynamicImage| -> Result<Vec<u8>, Failure> {
        let file = folder.join(format!("{name}.{format}"));
        picture.save(&file)?;
        Ok(std::fs::read(file)?)
    };
    let command = |name: &str, words: &str| -> Result<Vec<u8>, Failure> {
        let file = folder.join(format!("{name}.{format}"));
        let input = match format {
            "mp4" | "mkv" | "webm" => "testsrc=s=64x48:r=25:d=4",
            _ => "aevalsrc='0.4*sin(2*PI*(200*t+100*t*t))|0.1*random(0)':s=16000:d=3",
        };
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg
            .args(["-loglevel", "error", "-y", "-f", "lavfi", "-i", input])
            .args(words.split(' '));
        let status =
            ffmpeg.arg(&file).status().map_err(|e| format!("ffmpeg encodes {format}: {e}"))?;
        if !status.success() {
            return Err(format!("ffmpeg cannot encode {format} with {words}").into());
        }
        Ok(std::fs::read(file)?)
    };
    Ok(match format {
        "png" | "tif" => vec![
            save("a", picture.clone())?,
            save("b", picture.to_luma8().into())?,
            save("c", picture.to_rgb16().into())?,
        ],
        "webp" => vec![save("a", picture.clone())?, save("b", picture.to_rgb8().into())?],
        "jpg" | "gif" => vec![save("a", picture.to_rgb8().into())?],
        "wav" => vec![command("a", "-c:a pcm_s16le")?, command("b", "-c:a adpcm_ima_wav")?],
        "mp3" => {
            vec![command("a", "-c:a libmp3lame -q:a 6")?, command("b", "-b:a 32k -write_xing 0")?]
        }
        "flac" => vec![command("a", "-c:a flac")?],
        "ogg" => vec![command("a", "-c:a libvorbis")?, command("b", "-c:a flac")?],
        "opus" => vec![command("a", "-c:a libopus")?],
        "m4a" => vec![
            command("a", "-c:a aac")?,
            command("b", "-c:a alac")?,
            command("c", "-ac 6 -c:a aac")?,
        ],
        "aac" => vec![command("a", "-c:a aac")?, command("b", "-ac 6 -c:a aac")?],
        "wma" => vec![command("a", "-c:a wmav2")?, command("b", "-c:a wmav1")?],
        "webm" => vec![command("a", "-c:v libvpx -g 20")?],
        "mp4" => {
            vec![command("a", "-c:v libx264 -pix_fmt yuv420p -g 20")?, command("b", "-c:v mpeg4")?]
        }
        _ => vec![command("a", "-c:v libx264 -pix_fmt yuv420p -g 20")?],
    })
}

/// A file with one to eight kinds of damage.
fn damage(seeds: &[Vec<u8>], rng: &mut ViewRng) -> Vec<u8> {
    let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
    for _ in 0..rng.random_range(1..=8) {
        let length = bytes.len();
        if length < 16 {
            break;
        }
        // Headers are where most decisions are made.
        let most = if rng.random_bool(0.5) { length.min(512) } else { length };
        let at = rng.random_range(0..most);
        let end = (at + rng.random_range(1..200)).min(length);
        match rng.random_range(0..8) {
            0 | 1 => bytes[at] = rng.random(),
            2 => bytes[at] ^= 1 << rng.random_range(0..8),
            3 => bytes[at..end].fill([0, 0xff, 0x7f, 0x80][rng.random_range(0..4)]),
            4 => bytes.truncate(at.max(1)),
            5 => {
                let other = &seeds[rng.random_range(0..seeds.len())];
                let from = rng.random_range(0..other.len());
                let part = other[from..(from + end - at).min(other.len())].to_vec();
                bytes.splice(at..at, part);
            }
            6 => drop(bytes.drain(at..end)),
            _ => {
                let value: u32 =
                    [0, 1, 0x7fff_ffff, 0xffff_ffff, 0xffff, 0x0100_0000][rng.random_range(0..6)];
                let value = if rng.random() { value.to_be_bytes() } else { value.to_le_bytes() };
                let end = (at + 4).min(length);
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
        }
    }
    bytes
}

/// The most memory that this process has taken, in bytes; 0 where it is not known.
fn peak() -> u64 {
    let _ = std::io::stdout().flush();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}
