//! Tests of `decode.rs`.

use super::*;
use lejepa_core::{Purpose, Seed};
use proptest::prelude::*;
use std::f32::consts::TAU;
use std::path::Path;

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

fn decode_bytes(name: &str, bytes: &[u8]) -> Result<Decoded<Waveform>, String> {
    decode(&Blob::bytes(name, bytes), LIMITS, Window::Centre)
}

fn decode_file(
    path: &Path,
    limits: Limits,
    window: Window<'_>,
) -> Result<Decoded<Waveform>, String> {
    decode(&Blob::file(path), limits, window)
}

fn wav_bytes(seconds: usize) -> Vec<u8> {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("a.wav");
    write_wav(&path, 16000, &sine(440.0, 16000, seconds * 16000));
    std::fs::read(path).unwrap()
}

/// Amplitude of one frequency.
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
            let Decoded { item: wave, is_whole, .. } =
                decode_file(&path, LIMITS, Window::Centre).expect(&what);
            assert!(wave.samples().len().abs_diff(16000) <= 1, "{what}: {}", wave.samples().len());
            let (tone, other) = (
                strength(wave.samples(), 500.0, 16000.0),
                strength(wave.samples(), 1000.0, 16000.0),
            );
            assert!((tone - 0.5).abs() < 0.02 && other < 0.02, "{what}: {tone} {other}");
            assert!(is_whole);
        }
    }
}

#[test]
fn a_segment_is_a_slice_of_the_whole() {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("long.wav");
    let samples: Vec<f32> = (0..80000).map(|i| ((i * 7919) % 10007) as f32 / 10007.0).collect();
    write_wav(&path, 16000, &samples);
    let whole = decode_file(&path, LIMITS, Window::Centre).unwrap();
    assert_eq!(whole.item.samples(), samples);
    let limits = Limits { seconds: 1.5, ..LIMITS };
    let centre = decode_file(&path, limits, Window::Centre).unwrap();
    assert!(!centre.is_whole);
    assert_eq!(centre.item.samples(), &samples[28000..52000]);
    for n in 0..10 {
        let rng = || Seed(1).rng(Purpose::Views, &[n]);
        let start = Window::Random(&mut rng()).start(80000, 24000);
        let part = decode_file(&path, limits, Window::Random(&mut rng())).unwrap();
        assert_eq!(part.item.samples(), &samples[start..start + 24000], "from {start}");
    }
}

#[test]
fn bytes_and_parts_of_files_decode_like_files() {
    let d = tempfile::tempdir().unwrap();
    let mp3 = include_bytes!("low_rate.mp3");
    let wav = wav_bytes(4);
    for (name, bytes) in [("a.mp3", &mp3[..]), ("a.wav", &wav)] {
        let (file, archive) = (d.path().join(name), d.path().join("archive"));
        std::fs::write(&file, bytes).unwrap();
        std::fs::write(&archive, [&b"before"[..], bytes, b"after"].concat()).unwrap();
        let member = Blob::part(name, &archive, 6..6 + bytes.len() as u64);
        for limits in [LIMITS, Limits { seconds: 1.0, ..LIMITS }] {
            let want = decode_file(&file, limits, Window::Centre).unwrap();
            for blob in [&Blob::bytes(name, bytes), &member] {
                assert_eq!(decode(blob, limits, Window::Centre).unwrap(), want, "{blob:?}");
            }
        }
    }
}

#[test]
fn decoding_from_the_start_gives_what_seeking_does() {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("long.wav");
    write_wav(&path, 44100, &sine(300.0, 44100, 100_000));
    let blob = Blob::file(&path);
    let read = |seek| {
        let mut file = Recording::open(&blob).unwrap();
        file.read(60_001, 9999, seek).unwrap()
    };
    assert_eq!(read(true), read(false));
    assert_eq!(read(true).0.len(), 9999);
    let mut file = Recording::open(&blob).unwrap();
    assert_eq!((file.total, file.measure()), (Some(100_000), 100_000));
}

#[test]
fn seeking_is_exact_where_mp3_frames_depend_on_many_earlier_ones() {
    // Eight seconds of a gliding tone at 8 kbit/s: frames of 36 bytes.
    let blob = Blob::bytes("low_rate.mp3", &include_bytes!("low_rate.mp3")[..]);
    let whole = decode(&blob, LIMITS, Window::Centre).unwrap().item;
    for start in (20_000..120_000).step_by(3001) {
        let mut file = Recording::open(&blob).unwrap();
        let (part, rate) = file.read(start, 4000, true).unwrap();
        assert_eq!(rate, 16000);
        assert!(part == whole.samples()[start..start + 4000], "from {start}");
    }
}

#[test]
fn other_files_are_refused_with_one_line() {
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
    assert!(decode_file(Path::new("no such.wav"), LIMITS, Window::Centre).is_err());
}

#[test]
fn a_truncated_file_gives_what_is_left() {
    let bytes = wav_bytes(4);
    let wave = decode_bytes("cut.wav", &bytes[..bytes.len() / 2]).unwrap();
    let length = wave.item.samples().len();
    assert!((30000..=32000).contains(&length), "{length}");
    assert!(wave.is_whole);
}

#[test]
fn a_header_that_claims_too_much_does_not_mislead() {
    // The header claims 100 seconds of which 4 are left: most windows would lie past the end.
    let mut bytes = wav_bytes(100);
    bytes.truncate(bytes.len() / 25);
    let blob = Blob::bytes("cut.wav", bytes);
    let whole = decode(&blob, LIMITS, Window::Centre).unwrap();
    let length = whole.item.samples().len();
    assert!((60000..=64000).contains(&length), "{length}");
    assert!(whole.is_whole);
    for n in 0..60 {
        let mut rng = Seed(1).rng(Purpose::Views, &[n]);
        assert_eq!(decode(&blob, LIMITS, Window::Random(&mut rng)).unwrap(), whole);
    }
    let part = decode(&blob, Limits { seconds: 2.0, ..LIMITS }, Window::Centre).unwrap();
    assert!(!part.is_whole && part.item.samples().len() == 32000);
}

#[test]
fn nan_and_absurd_rates_are_refused() {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("a.wav");
    write_wav(&path, 16000, &[0.0, f32::NAN, 0.0]);
    let error = decode_file(&path, LIMITS, Window::Centre).unwrap_err();
    assert!(error.contains("sample 1 is NaN"), "{error}");
    write_wav(&path, 4_000_000_000, &[0.0; 64]);
    let error = decode_file(&path, LIMITS, Window::Centre).unwrap_err();
    assert!(error.contains("sample rate"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_bytes_never_panic(
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
    fn flipped_bytes_never_panic(
        flips in proptest::collection::vec((0usize..200, any::<u8>()), 1..6),
    ) {
        let mut bytes = wav_bytes(1);
        for (at, value) in flips {
            bytes[at] = value;
        }
        let _ = decode_bytes("a.wav", &bytes);
    }
}
