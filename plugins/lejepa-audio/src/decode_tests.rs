//! Tests of `decode.rs`.

use super::*;
use lejepa_core::{Purpose, Seed};
use proptest::prelude::*;
use std::f32::consts::TAU;
use std::path::PathBuf;

const LIMITS: Limits = Limits { rate: 16000, seconds: 30.0 };

pub(crate) fn sine(hertz: f32, rate: u32, length: usize) -> Vec<f32> {
    (0..length).map(|i| 0.5 * (TAU * hertz * i as f32 / rate as f32).sin()).collect()
}

pub(crate) fn write_wav(path: &Path, rate: u32, samples: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|&v| writer.write_sample(v).unwrap());
    writer.finalize().unwrap();
}

fn decode_bytes(name: &str, bytes: &[u8]) -> Result<Waveform, String> {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    decode(&path, LIMITS, Window::Centre)
}

fn wav_bytes(seconds: usize) -> Vec<u8> {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("a.wav");
    write_wav(&path, 16000, &sine(440.0, 16000, seconds * 16000));
    std::fs::read(path).unwrap()
}

/// Strength of one frequency, from 0 to the amplitude of the tone.
fn strength(samples: &[f32], hertz: f32, rate: f32) -> f32 {
    let (mut re, mut im) = (0.0, 0.0);
    for (i, v) in samples.iter().enumerate() {
        let (sin, cos) = (TAU * hertz * i as f32 / rate).sin_cos();
        re += v * cos;
        im += v * sin;
    }
    2.0 * f32::hypot(re, im) / samples.len() as f32
}

#[test]
fn wav_of_every_kind_becomes_the_same_tone() {
    let d = tempfile::tempdir().unwrap();
    let formats = [(8, false), (16, false), (24, false), (32, false), (32, true)];
    for (rate, channels) in [(8000, 1), (16000, 2), (22050, 1), (44100, 2), (48000, 6), (11127, 1)]
    {
        for (bits, float) in formats {
            let path = d.path().join("a.wav");
            let sample_format =
                if float { hound::SampleFormat::Float } else { hound::SampleFormat::Int };
            let spec = hound::WavSpec {
                channels,
                sample_rate: rate,
                bits_per_sample: bits,
                sample_format,
            };
            let mut writer = hound::WavWriter::create(&path, spec).unwrap();
            for v in sine(500.0, rate, rate as usize) {
                for _ in 0..channels {
                    if float {
                        writer.write_sample(v).unwrap();
                    } else {
                        let full = ((1i64 << (bits - 1)) - 1) as f64;
                        writer.write_sample((f64::from(v) * full) as i32).unwrap();
                    }
                }
            }
            writer.finalize().unwrap();
            let what = format!("{rate} Hz, {channels} channels, {bits} bits, float {float}");
            let wave = decode(&path, LIMITS, Window::Centre).expect(&what);
            assert!(wave.samples().len().abs_diff(16000) <= 1, "{what}: {}", wave.samples().len());
            let (tone, other) = (
                strength(wave.samples(), 500.0, 16000.0),
                strength(wave.samples(), 1000.0, 16000.0),
            );
            assert!((tone - 0.5).abs() < 0.02 && other < 0.02, "{what}: {tone} {other}");
            assert!(!wave.is_part());
        }
    }
}

#[test]
fn a_stretch_is_a_slice_of_the_whole() {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("long.wav");
    let samples: Vec<f32> = (0..80000).map(|i| ((i * 7919) % 10007) as f32 / 10007.0).collect();
    write_wav(&path, 16000, &samples);
    let whole = decode(&path, LIMITS, Window::Centre).unwrap();
    assert_eq!(whole.samples(), samples);
    let limits = Limits { seconds: 1.5, ..LIMITS };
    let centre = decode(&path, limits, Window::Centre).unwrap();
    assert!(centre.is_part());
    assert_eq!(centre.samples(), &samples[28000..52000]);
    for n in 0..10 {
        let rng = || Seed(1).rng(Purpose::Views, &[n]);
        let start = Window::Random(&mut rng()).start(80000, 24000);
        let part = decode(&path, limits, Window::Random(&mut rng())).unwrap();
        assert_eq!(part.samples(), &samples[start..start + 24000], "from {start}");
    }
}

#[test]
fn dropping_what_comes_before_gives_what_seeking_does() {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("long.wav");
    write_wav(&path, 44100, &sine(300.0, 44100, 100_000));
    let read = |seek| Recording::open(&path).unwrap().read(60_001, 9999, seek).unwrap();
    assert_eq!(read(true), read(false));
    assert_eq!(read(true).0.len(), 9999);
    let mut file = Recording::open(&path).unwrap();
    assert_eq!((file.total, file.measure()), (Some(100_000), 100_000));
}

#[test]
fn seeking_is_exact_where_mp3_frames_lean_on_many_before_them() {
    // Eight seconds of a gliding tone at 8 kbit/s: frames of 36 bytes.
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("low_rate.mp3");
    std::fs::write(&path, include_bytes!("low_rate.mp3")).unwrap();
    let whole = decode(&path, LIMITS, Window::Centre).unwrap();
    for start in (20_000..120_000).step_by(3001) {
        let (part, rate) = Recording::open(&path).unwrap().read(start, 4000, true).unwrap();
        assert_eq!(rate, 16000);
        assert!(part == whole.samples()[start..start + 4000], "from {start}");
    }
}

#[test]
fn what_is_no_sound_is_refused_in_words() {
    let text = "Dear diary, today I renamed a letter to letter.mp3.\n".repeat(40);
    for (name, bytes) in [
        ("zero.wav", Vec::new()),
        ("text.mp3", text.into_bytes()),
        ("cut.wav", wav_bytes(1)[..30].to_vec()),
        ("none.wav", wav_bytes(0)),
    ] {
        let error = decode_bytes(name, &bytes).unwrap_err();
        assert!(!error.is_empty() && !error.contains('\n'), "{name}: {error}");
    }
    assert!(decode(&PathBuf::from("no such.wav"), LIMITS, Window::Centre).is_err());
}

#[test]
fn a_cut_file_gives_what_came() {
    let bytes = wav_bytes(4);
    let cut = &bytes[..bytes.len() / 2];
    let wave = decode_bytes("cut.wav", cut).unwrap();
    assert!((30000..=32000).contains(&wave.samples().len()), "{}", wave.samples().len());
    assert!(!wave.is_part());
}

#[test]
fn a_header_that_promises_too_much_is_found_out() {
    // 100 seconds are promised and 4 are there: most windows would lie past the end.
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("cut.wav");
    let mut bytes = wav_bytes(100);
    bytes.truncate(bytes.len() / 25);
    std::fs::write(&path, bytes).unwrap();
    let whole = decode(&path, LIMITS, Window::Centre).unwrap();
    assert!((60000..=64000).contains(&whole.samples().len()), "{}", whole.samples().len());
    assert!(!whole.is_part());
    for n in 0..60 {
        let mut rng = Seed(1).rng(Purpose::Views, &[n]);
        assert_eq!(decode(&path, LIMITS, Window::Random(&mut rng)).unwrap(), whole);
    }
    let part = decode(&path, Limits { seconds: 2.0, ..LIMITS }, Window::Centre).unwrap();
    assert!(part.is_part() && part.samples().len() == 32000);
}

#[test]
fn not_a_number_and_absurd_rates_are_refused() {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("a.wav");
    write_wav(&path, 16000, &[0.0, f32::NAN, 0.0]);
    let error = decode(&path, LIMITS, Window::Centre).unwrap_err();
    assert!(error.contains("sample 1 is NaN"), "{error}");
    write_wav(&path, 4_000_000_000, &[0.0; 64]);
    let error = decode(&path, LIMITS, Window::Centre).unwrap_err();
    assert!(error.contains("sample rate"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_bytes_are_never_fatal(
        bytes in proptest::collection::vec(any::<u8>(), 1..2000), kind in 0usize..6,
    ) {
        let kinds: [(&str, &[u8]); 6] = [
            ("a.wav", b"RIFF\xff\xff\0\0WAVEfmt "),
            ("a.flac", b"fLaC"),
            ("a.ogg", b"OggS\0\x02"),
            ("a.mp3", b"\xff\xfb\x90\x64"),
            ("a.m4a", b"\0\0\0\x18ftypM4A "),
            ("a.aiff", b"FORM\0\0\x10\0AIFF"),
        ];
        let (name, head) = kinds[kind];
        let _ = decode_bytes(name, &[head, &bytes].concat());
        let _ = decode_bytes(name, &bytes);
    }

    #[test]
    fn flipped_bytes_are_never_fatal(
        flips in proptest::collection::vec((0usize..200, any::<u8>()), 1..6),
    ) {
        let mut bytes = wav_bytes(1);
        for (at, value) in flips {
            bytes[at] = value;
        }
        let _ = decode_bytes("a.wav", &bytes);
    }
}
