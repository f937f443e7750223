//! Settings that follow from a look at the recordings.

use lejepa_core::{AUTO, Advice, Preset, Result, Survey, Value, median};

use crate::config::AudioConfig;
use crate::mel::{LogMel, MelSettings};
use crate::waveform::Waveform;

/// Most recordings that are looked at.
const SAMPLES: usize = 256;

/// Presets; `auto` takes `words` or `environment`.
pub(crate) const PRESETS: &[Preset] = &[
    Preset {
        name: "words",
        about: "what is said or called, within about a second; loses the speaker and the microphone in part, level, background",
    },
    Preset {
        name: "speaker",
        about: "who speaks, and how; loses level and what is said in part; keeps pitch",
    },
    Preset {
        name: "environment",
        about: "machines, places, events; loses level, exact pitch and speed, background, the microphone in part",
    },
    Preset {
        name: "music",
        about: "timbre, harmony, tempo; keeps pitch; loses level and order in part",
    },
    Preset {
        name: "birds",
        about: "calls above 150 Hz up to 16 kHz, chosen by energy; loses background",
    },
    Preset {
        name: "ultrasound",
        about: "calls up to half of audio.sample_rate, which is set by hand; chosen by energy",
    },
];

/// What was seen of a set of recordings.
#[derive(Debug)]
struct Seen {
    /// Median length in seconds.
    seconds: f64,
    /// Median share of a recording's frames that are 30 dB or more below its loudest one.
    silence: f64,
}

/// Levels of frames of 20 ms in dB.
fn levels(wave: &Waveform, rate: usize) -> Vec<f64> {
    let power =
        |frame: &[f32]| frame.iter().map(|v| f64::from(v * v)).sum::<f64>() / frame.len() as f64;
    let frames = wave.samples().chunks((rate / 50).max(1));
    frames.map(|frame| 10.0 * (power(frame) + 1e-12).log10()).collect()
}

pub(crate) fn advise(config: &AudioConfig, survey: &Survey<'_, Waveform>) -> Result<Advice> {
    let waves: Vec<Waveform> = survey.samples(SAMPLES).collect();
    if waves.is_empty() {
        // The scan names what cannot be read.
        return Ok(Advice::default());
    }
    let rate = config.sample_rate;
    let seen = Seen {
        seconds: median(waves.iter().map(|w| w.samples().len() as f64 / rate as f64).collect()),
        silence: median(
            waves
                .iter()
                .map(|wave| {
                    let levels = levels(wave, rate);
                    let most = levels.iter().copied().fold(f64::MIN, f64::max);
                    levels.iter().filter(|l| **l < most - 30.0).count() as f64 / levels.len() as f64
                })
                .collect(),
        ),
    };
    let at = survey.context();
    let preset = match at.preset {
        AUTO if seen.seconds < 1.5 => "words",
        AUTO => "environment",
        named => named,
    };
    let length = format!("recordings last {:.2} s", seen.seconds);
    let why = format!("preset {preset}: {length}");
    let mut advice = Advice::default();
    let rate = match preset {
        "birds" => 32_000,
        _ => rate,
    };
    if rate != config.sample_rate {
        advice.set("audio.sample_rate", rate as i64, &*why);
    }
    // The longest view that is worth its time, in seconds.
    let (shortest, longest) = match (preset, at.is_gpu) {
        ("words", _) => (0.5, 1.2),
        ("speaker", true) => (1.0, 4.0),
        ("speaker", false) => (1.0, 2.0),
        ("ultrasound", _) => (0.02, 0.5),
        (_, true) => (1.0, 6.0),
        (_, false) => (1.0, 2.0),
    };
    let seconds = seen.seconds.clamp(shortest, longest);
    // About 100 frames a view on a CPU: 10 ms apart, or 20 ms where views are long.
    let hop_seconds = match (preset, at.is_gpu) {
        ("ultrasound", _) => seconds / 96.0,
        (_, false) if seconds > 1.3 => 0.02,
        _ => 0.01,
    };
    let hop = ((hop_seconds * rate as f64).round() as usize).max(1);
    let n_fft = (2 * hop).next_power_of_two().clamp(512, 16_384);
    let frames = ((seconds * rate as f64 / hop as f64 / 8.0).round() as usize * 8).max(16);
    advice.set("audio.n_fft", n_fft as i64, format!("at least twice the hop of {hop}"));
    advice.set(
        "audio.hop",
        hop as i64,
        format!("{:.0} ms, {frames} frames a view", 1e3 * hop_seconds),
    );
    advice.set("audio.global_frames", frames as i64, &*why);
    let (local, part) =
        if preset == "words" { (frames * 3 / 4, "three quarters") } else { (frames / 2, "half") };
    advice.set("audio.local_frames", local as i64, format!("{part} of a global view"));
    if seen.seconds < 1.5 {
        let why = format!("{length}: words and calls have a beginning and an end");
        advice.set("audio.short", "pad", why);
    }
    if seen.silence > 0.4 && seen.seconds > seconds * 1.2 {
        let why =
            format!("{:.0} % of a recording is 30 dB below its loudest", 100.0 * seen.silence);
        advice.set("audio.positions", 3, why);
    }
    match preset {
        "speaker" => {
            // A voice is a frequency response, too.
            advice.set("audio.filter_db", 0.0, &*why);
            advice.set("audio.mix", 0.1, &*why);
            advice.set_numbers("audio.band_scale", [1.0, 1.0], &*why);
        }
        "music" => {
            advice.set_numbers("audio.band_scale", [1.0, 1.0], &*why);
            advice.set("audio.mels", 96, &*why);
        }
        "birds" | "ultrasound" => {
            advice.set("audio.mix", 0.4, &*why);
            advice.set_numbers("audio.band_scale", [0.9, 1.1], &*why);
            advice.set_numbers("audio.time_scale", [0.8, 1.25], &*why);
            advice.set("audio.positions", 4, &*why);
            if preset == "ultrasound" {
                let why = "calls last milliseconds, and echoes are short";
                advice.set("audio.reverb", seconds / 10.0, why);
            }
            advice.set(
                "audio.f_min",
                if preset == "birds" { 150.0 } else { rate as f64 * 0.05 },
                &*why,
            );
        }
        _ => {}
    }
    let integer = |key: &str, default: usize| {
        advice.get(key).and_then(Value::as_integer).map_or(default, |v| v as usize)
    };
    let mels = integer("audio.mels", config.mels);
    let mel = LogMel::new(MelSettings { n_fft, hop, mels, ..MelSettings::of(config) });
    if let Ok(mel) = mel {
        let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for wave in &waves {
            let spectrogram = mel.power(wave.samples());
            for power in spectrogram.into_power() {
                let log = f64::from(config.log.of(power));
                (n, sum, squares) = (n + 1.0, sum + log, squares + log * log);
            }
        }
        if n > 0.0 {
            let mean = sum / n;
            let std = (squares / n - mean * mean).max(0.0).sqrt().max(0.1);
            advice.set("audio.mean", (mean * 1e3).round() / 1e3, "measured");
            advice.set("audio.std", (std * 1e3).round() / 1e3, "measured");
        }
    }
    let encoder = "keeps the frequency axis, and learns fast from few recordings";
    advice.set("encoder.name", "convnet", encoder);
    advice.set("encoder.head", "frequency", encoder);
    Ok(advice)
}

#[cfg(test)]
mod tests {
    use lejepa_core::{Dataset, Decoded, SurveyContext, Window};

    use super::*;

    struct Tones(f64);

    impl Dataset for Tones {
        type Item = Waveform;
        fn len(&self) -> usize {
            20
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Waveform>> {
            let sample = |i: usize| (i as f32 * (0.05 + 0.01 * index as f32)).sin();
            let count = (self.0 * 16000.0) as usize;
            Ok(Decoded::whole(Waveform::new((0..count).map(sample).collect())?, 4 * count))
        }
    }

    fn advised(seconds: f64, preset: &str) -> Advice {
        let tones = Tones(seconds);
        advise(&AudioConfig::default(), &Survey::new(&tones, SurveyContext::new(preset))).unwrap()
    }

    #[test]
    fn views_are_as_long_as_the_recordings_up_to_a_limit() {
        let frames = |a: &Advice| a.get("audio.global_frames").and_then(Value::as_integer).unwrap();
        let word = advised(0.7, "auto");
        assert_eq!((frames(&word), word.get("audio.short")), (72, Some(&Value::from("pad"))));
        let place = advised(5.0, "auto");
        assert_eq!((frames(&place), place.get("audio.short")), (104, None));
        assert_eq!(place.get("audio.hop"), Some(&Value::Integer(320)));
    }

    #[test]
    fn every_preset_makes_valid_settings() {
        for preset in PRESETS {
            let advice = advised(2.0, preset.name);
            let mut table = lejepa_core::config::defaults::<AudioConfig>("audio").unwrap();
            for choice in advice.choices() {
                if let Some(key) = choice.key.strip_prefix("audio.") {
                    let value = format!("{key}={}", choice.value);
                    lejepa_core::config::assign(&mut table, &value).unwrap();
                }
            }
            let config: AudioConfig = lejepa_core::config::parse("audio", &table).unwrap();
            crate::AudioSampler::new(&config).unwrap();
        }
    }
}
