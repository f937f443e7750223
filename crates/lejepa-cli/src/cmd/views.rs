//! `lejepa views`: what the sampler makes of files, to look at.

use std::path::{Path, PathBuf};

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame, RgbImage};
use lejepa_core::{Purpose, Registry, Sound, View, ViewSource};
use lejepa_train::{Fitted, TrainError};
use serde_json::{Value, json};

use crate::args::{Args, ViewsArgs};
use crate::error::CliError;
use crate::output::outln;
use crate::sheet;

/// Milliseconds that a frame of a film is shown.
const FRAME_MS: u32 = 120;
/// Milliseconds of silence after each sound.
const PAUSE_MS: usize = 400;

pub(super) fn run(args: &Args, words: &ViewsArgs, registry: &Registry) -> Result<Value, CliError> {
    let mut request = super::request(&words.config)?;
    // Files are a data set of their own.
    let listed = (!words.files.is_empty()).then(|| listing(&words.files)).transpose()?;
    if let Some(file) = &listed {
        let source = lejepa_core::Value::String(file.path().display().to_string());
        request.assignments.push(format!("data.source={source}"));
    }
    let Fitted { resolved, source, choices, .. } = request.fit(registry, || false)?;
    let source = resolved.open(source)?;
    let folder = &words.output;
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(TrainError::OutputExists(folder.clone()).into());
    }
    std::fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
    let is_upwards = resolved.modality().build().draws_upwards;
    let seed = lejepa_core::Seed(resolved.settings().seed);
    let count = source.len().min(words.samples.max(1));
    let (mut written, mut skipped) = (Vec::new(), Vec::new());
    for i in 0..count {
        // Evenly over the data set.
        let index = i * source.len() / count;
        match Made::new(source.as_ref(), index, seed) {
            Ok(made) => {
                let name = format!("{i:03}-{}", file_name(&source.name(index)));
                written.extend(write(folder, &name, &made.frames(is_upwards))?);
                let sounds = made.sounds(source.as_ref());
                written.extend(write_sound(folder, &name, &sounds)?);
            }
            Err(reason) => skipped.push(reason),
        }
    }
    if !args.json && !args.quiet {
        for choice in &choices {
            outln!("chosen    {} = {}: {}", choice.key, choice.value, choice.reason);
        }
        for reason in &skipped {
            outln!("skipped   {reason}");
        }
        let groups = resolved.spec().groups().iter();
        let groups: Vec<String> = groups.map(|g| format!("{} {}", g.count, g.name)).collect();
        outln!("rows      the evaluation view, then {}", groups.join(", "));
        if written.iter().any(|file| file.extension().is_some_and(|e| e == "wav")) {
            outln!("sounds    in the same order, with pauses; phases of spectrograms are guessed");
        }
        outln!("{} files in {}", written.len(), folder.display());
    }
    let names: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    Ok(json!({ "output": folder.display().to_string(), "files": names, "skipped": skipped }))
}

/// A manifest of the files, which lasts as long as the value.
pub(super) fn listing(files: &[PathBuf]) -> Result<tempfile::NamedTempFile, CliError> {
    let path = Path::new("a temporary file");
    let mut lines = String::new();
    for file in files {
        if !file.exists() {
            let hint = "check the spelling";
            return Err(lejepa_core::Error::path(file, "no such file or folder", hint).into());
        }
        let full = std::path::absolute(file).map_err(TrainError::io("find", file))?;
        lines.push_str(&format!("{}\n", json!({ "path": full.display().to_string() })));
    }
    let manifest = tempfile::Builder::new().suffix(".jsonl").tempfile();
    let manifest = manifest.map_err(TrainError::io("create", path))?;
    std::fs::write(manifest.path(), lines).map_err(TrainError::io("write", path))?;
    Ok(manifest)
}

/// The views of a sample: its evaluation views, then those of each group.
pub(super) struct Made(Vec<Vec<View>>);

impl Made {
    /// Makes the views of a sample.
    pub(super) fn new(
        source: &dyn ViewSource,
        index: usize,
        seed: lejepa_core::Seed,
    ) -> Result<Self, String> {
        let one_line = |e: lejepa_core::Error| e.to_string();
        let whole = source.checked_eval_views(index).map_err(one_line)?;
        let mut rng = seed.rng(Purpose::Views, &[0, index as u64, 0]);
        let others = (1..=source.companions()).map(|k| (index + k) % source.len().max(1));
        let companions: Vec<usize> = others.collect();
        let views = source.checked_views(index, &companions, &mut rng).map_err(one_line)?;
        let mut all = vec![whole];
        all.extend(views.groups().iter().cloned());
        Ok(Self(all))
    }

    /// Row by row, each view as the frames of a film.
    pub(super) fn frames(&self, is_upwards: bool) -> Vec<Vec<Vec<RgbImage>>> {
        let row = |views: &Vec<View>| views.iter().map(|v| sheet::frames(v, is_upwards)).collect();
        self.0.iter().map(row).collect()
    }

    /// What views sound like, those that do.
    fn sounds(&self, source: &dyn ViewSource) -> Vec<Sound> {
        self.0.iter().flatten().filter_map(|view| source.sound(view)).collect()
    }
}

/// Views to hear, one after the other, with pauses; nothing where there are none.
fn write_sound(folder: &Path, name: &str, sounds: &[Sound]) -> Result<Option<PathBuf>, CliError> {
    let Some(first) = sounds.first() else { return Ok(None) };
    let file = folder.join(format!("{name}.wav"));
    let failed = |e: hound::Error| TrainError::Io {
        action: "write",
        path: file.clone(),
        source: std::io::Error::other(e),
    };
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: first.sample_rate as u32,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&file, spec).map_err(failed)?;
    let pause = vec![0.0; first.sample_rate * PAUSE_MS / 1000];
    for sample in sounds.iter().flat_map(|sound| sound.samples.iter().chain(&pause)) {
        let value = (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16;
        writer.write_sample(value).map_err(failed)?;
    }
    writer.finalize().map_err(failed)?;
    Ok(Some(file))
}

/// A sheet of views. One that moves is a row of its own, frame by frame.
pub(super) fn still(rows: &[Vec<Vec<RgbImage>>]) -> RgbImage {
    let longest = rows.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let all: Vec<&RgbImage> = rows.iter().flatten().flatten().collect();
    let rows: Vec<Vec<RgbImage>> = match longest > 1 {
        true => rows.iter().flatten().cloned().collect(),
        false => rows.iter().map(|row| row.iter().flatten().cloned().collect()).collect(),
    };
    sheet::sheet(&rows, sheet::zoom(&all))
}

/// A sheet, and a film where views have several frames: there each view is a strip of its own on the sheet.
pub(super) fn write(
    folder: &Path,
    name: &str,
    rows: &[Vec<Vec<RgbImage>>],
) -> Result<Vec<PathBuf>, CliError> {
    let longest = rows.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let all: Vec<&RgbImage> = rows.iter().flatten().flatten().collect();
    let zoom = sheet::zoom(&all);
    let file = folder.join(format!("{name}.png"));
    let failed = |file: &Path| {
        let file = file.to_path_buf();
        move |e: image::ImageError| TrainError::Io {
            action: "write",
            path: file,
            source: std::io::Error::other(e),
        }
    };
    still(rows).save(&file).map_err(failed(&file))?;
    let mut written = vec![file];
    if longest > 1 {
        let file = folder.join(format!("{name}.gif"));
        let out = std::fs::File::create(&file).map_err(TrainError::io("create", &file))?;
        let mut encoder = GifEncoder::new(std::io::BufWriter::new(out));
        encoder.set_repeat(Repeat::Infinite).map_err(failed(&file))?;
        for t in 0..longest {
            let at = |film: &Vec<RgbImage>| film.get(t.min(film.len().max(1) - 1)).cloned();
            let row = |row: &Vec<Vec<RgbImage>>| row.iter().filter_map(at).collect::<Vec<_>>();
            let still = sheet::sheet(&rows.iter().map(row).collect::<Vec<_>>(), zoom);
            let still = image::DynamicImage::ImageRgb8(still).into_rgba8();
            let delay = Delay::from_numer_denom_ms(FRAME_MS, 1);
            let frame = Frame::from_parts(still, 0, 0, delay);
            encoder.encode_frame(frame).map_err(failed(&file))?;
        }
        written.push(file);
    }
    Ok(written)
}

/// The last part of a name without its extension, of characters that every file system takes.
pub(super) fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let last = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
    let kept = last.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' });
    kept.take(80).collect()
}
