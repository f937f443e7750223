//! Tests of `decode.rs`.

use super::*;
use lejepa_core::{Purpose, Seed};
use proptest::prelude::*;
use std::f32::consts::TAU;
use std::path::Path;

const LIMITS: Limits = Limits { rate: 16000, channels: 1, seconds: 30.0, downmix: Downmix::Mean };

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
pub(crate) fn strength(samples: &[f32], hertz: f32, rate: f32) -> f32 {
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
fn a_part_of_a_recording_is_a_slice_of_the_whole() {
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("a.wav");
    let samples = glide(16000 * 5);
    write_wav(&path, 16000, &samples);
    let part = |from: f64, to: f64, limits| {
        let end = if to.is_finite() { Duration::from_secs_f64(to) } else { Duration::MAX };
        decode(
            &Blob::file(path.as_path()).with_span(Duration::from_secs_f64(from)..end),
            limits,
            Window::Centre,
        )
    };
    let second = part(1.5, 2.5, LIMITS).unwrap();
    assert!(second.is_whole);
    assert_eq!(second.item.samples(), &samples[24000..40000]);
    assert_eq!(second.facts.numbers()[0], ("seconds".into(), 1.0));
    // The middle second of a part of three that is longer than what is decoded at once.
    let short = Limits { seconds: 1.0, ..LIMITS };
    let middle = part(1.0, 4.0, short).unwrap();
    assert!(!middle.is_whole);
    assert_eq!(middle.item.samples(), &samples[32000..48000]);
    assert_eq!(part(4.5, f64::INFINITY, LIMITS).unwrap().item.samples(), &samples[72000..]);
    assert_eq!(part(4.5, 9.0, LIMITS).unwrap().item.samples().len(), 8000);
    assert!(part(7.0, 8.0, LIMITS).unwrap_err().contains("ends before this part"));
}

#[test]
fn bytes_and_parts_of_files_decode_like_files() {
    let d = tempfile::tempdir().unwrap();
    let mp3 = include_bytes!("../testdata/low_rate.mp3");
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
    assert_eq!(read(true).planes, read(false).planes);
    assert_eq!(read(true).len(), 9999);
    let mut file = Recording::open(&blob).unwrap();
    assert_eq!((file.length_above(0).unwrap(), file.measure()), (Some(100_000), 100_000));
}

#[test]
fn seeking_is_exact_where_mp3_frames_depend_on_many_earlier_ones() {
    // Eight seconds of a gliding tone at 8 kbit/s: frames of 36 bytes.
    let blob = Blob::bytes("low_rate.mp3", &include_bytes!("../testdata/low_rate.mp3")[..]);
    let whole = decode(&blob, LIMITS, Window::Centre).unwrap().item;
    for start in (20_000..120_000).step_by(3001) {
        let mut file = Recording::open(&blob).unwrap();
        let part = file.read(start, 4000, true).unwrap();
        assert_eq!(part.rate, 16000);
        assert!(part.planes[0] == whole.samples()[start..start + 4000], "from {start}");
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

const GLIDE_OPUS: &[u8] = include_bytes!("../testdata/glide.opus");
const GLIDE_OGG: &[u8] = include_bytes!("../testdata/glide.ogg");
const VARIABLE_MP3: &[u8] = include_bytes!("../testdata/variable.mp3");

fn samples_of(name: &str, bytes: &[u8]) -> Vec<f32> {
    decode_bytes(name, bytes).unwrap().item.samples().to_vec()
}

/// A glide from 200 Hz: 200 more with each second.
fn glide(samples: usize) -> Vec<f32> {
    let at = |i: usize| i as f64 / 16000.0;
    let phase = |t: f64| std::f64::consts::TAU * (200.0 * t + 100.0 * t * t);
    (0..samples).map(|i| (0.4 * phase(at(i)).sin()) as f32).collect()
}

#[test]
fn opus_and_vorbis_give_the_sound_they_encode() {
    let want = glide(64000);
    for (name, bytes) in [("a.opus", GLIDE_OPUS), ("a.ogg", GLIDE_OGG)] {
        let samples = samples_of(name, bytes);
        assert!(samples.len().abs_diff(64000) <= 2, "{name}: {}", samples.len());
        // In phase from the first second to the last: nothing is missing or added.
        for at in [4000, 30000, 58000] {
            let (got, want) = (&samples[at..at + 2000], &want[at..at + 2000]);
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let similar = product(got, want) / (product(got, got) * product(want, want)).sqrt();
            assert!(similar > 0.97, "{name} at {at}: {similar}");
        }
    }
}

#[test]
fn a_segment_of_opus_is_a_slice_of_the_whole_but_for_its_run_up() {
    let whole = samples_of("a.opus", GLIDE_OPUS);
    let limits = Limits { seconds: 1.0, ..LIMITS };
    let part = decode(&Blob::bytes("a.opus", GLIDE_OPUS), limits, Window::Centre).unwrap();
    let part = part.item.samples();
    // Both are resampled, so that edges differ.
    let off = whole[24000..40000].iter().zip(part).skip(400).take(15000);
    let off = off.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(part.len() == 16000 && off < 0.02, "{off}");
}

#[test]
fn what_is_joined_or_of_a_variable_rate_is_read_to_its_end() {
    let mp3 = include_bytes!("../testdata/low_rate.mp3");
    for (name, bytes) in [("a.mp3", &mp3[..]), ("a.ogg", GLIDE_OGG), ("a.opus", GLIDE_OPUS)] {
        let once = samples_of(name, bytes).len();
        let twice = [bytes, bytes].concat();
        let found = samples_of(name, &twice).len();
        // The frames of an MP3's start and end are trimmed by its tag, which counts only once.
        assert!(found.abs_diff(2 * once) < 3000, "{name}: {found} is not twice {once}");
        // A part of it, too: the window ranges over all of it.
        let limits = Limits { seconds: 1.0, ..LIMITS };
        let blob = Blob::bytes(name, &twice);
        let part = decode(&blob, limits, Window::Centre).expect(name);
        let seconds = part.facts.numbers()[0].1;
        assert!((seconds - found as f64 / 16000.0).abs() < 0.2, "{name}: {seconds} s");
    }
    // Quiet and small frames first: an estimate of the length from them is far off.
    let samples = samples_of("a.mp3", VARIABLE_MP3);
    assert!(samples.len().abs_diff(96000) < 2500, "{}", samples.len());
    let limits = Limits { seconds: 1.0, ..LIMITS };
    for n in 0..20 {
        let mut rng = Seed(3).rng(Purpose::Views, &[n]);
        let blob = Blob::bytes("a.mp3", VARIABLE_MP3);
        let start =
            Window::Random(&mut Seed(3).rng(Purpose::Views, &[n])).start(samples.len(), 16000);
        let part = decode(&blob, limits, Window::Random(&mut rng)).unwrap();
        assert_eq!(part.item.samples(), &samples[start..start + 16000], "from {start}");
    }
}

#[test]
fn a_joined_part_of_another_rate_is_resampled_to_the_first() {
    let stereo = include_bytes!("../testdata/stereo.mp3");
    let pairs = [
        ("a.ogg", GLIDE_OGG, GLIDE_OPUS),
        ("a.ogg", GLIDE_OPUS, GLIDE_OGG),
        ("a.mp3", stereo, VARIABLE_MP3),
        ("a.mp3", VARIABLE_MP3, stereo),
    ];
    for (name, first, second) in pairs {
        let (one, two) = (samples_of(name, first), samples_of(name, second));
        let both = [first, second].concat();
        let found = samples_of(name, &both);
        let length = one.len() + two.len();
        assert!(found.len().abs_diff(length) < 3000, "{name}: {} is not {length}", found.len());
        // A tone in the second part, wherever the trimmed ends put it.
        let want = &two[two.len() / 8..two.len() / 8 + 2000];
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let similar = |got: &[f32]| {
            product(got, want) / (product(got, got) * product(want, want)).sqrt().max(1e-9)
        };
        let at = one.len() + two.len() / 8;
        let best = (at - 3000..(at + 3000).min(found.len() - 2000))
            .map(|i| similar(&found[i..i + 2000]))
            .fold(0.0, f32::max);
        assert!(best > 0.97, "{name}: {best}");
        // The length that windows range over is that of both.
        let limits = Limits { seconds: 1.0, ..LIMITS };
        let part = decode(&Blob::bytes(name, &both), limits, Window::Centre).expect(name);
        let seconds = part.facts.numbers()[0].1;
        assert!((seconds - found.len() as f64 / 16000.0).abs() < 0.2, "{name}: {seconds} s");
    }
}

#[test]
fn a_cover_of_any_size_is_passed_over() {
    let cover = [b"APIC\0\x20\0\0\0\0".as_slice(), &vec![7; 0x20_0000]].concat();
    let size = cover.len();
    let synchsafe = [21, 14, 7, 0].map(|shift| (size >> shift & 0x7f) as u8);
    let mp3 = include_bytes!("../testdata/low_rate.mp3");
    let tagged = [b"ID3\x03\0\0".as_slice(), &synchsafe, &cover, mp3].concat();
    assert_eq!(samples_of("a.mp3", &tagged), samples_of("a.mp3", mp3));
}

#[test]
fn channels_are_kept_where_they_are_asked_for() {
    let (left, right) = (sine(440.0, 16000, 8000), sine(880.0, 16000, 8000));
    let wav = stereo(&left, &right, 32036, None);
    let decoded = |channels: usize| {
        let limits = Limits { channels, ..LIMITS };
        decode(&Blob::bytes("a.wav", &wav[..]), limits, Window::Centre)
    };
    let both = decoded(2).unwrap().item;
    assert_eq!((both.channels(), both.samples().len()), (2, 8000));
    for (channel, hertz) in [(0, 440.0), (1, 880.0)] {
        assert!(strength(both.channel(channel), hertz, 16000.0) > 0.4, "{channel}");
    }
    assert_eq!(decoded(1).unwrap().item.channels(), 1);
    assert!(decoded(3).unwrap_err().contains("has 2 channels, where audio.channels is 3"));
}

/// 16-bit stereo of two channels, with the sizes of its chunks as given.
fn stereo(left: &[f32], right: &[f32], riff: u32, data: Option<u32>) -> Vec<u8> {
    let size = data.unwrap_or(left.len() as u32 * 4);
    let mut wav =
        [b"RIFF".as_slice(), &riff.to_le_bytes(), b"WAVEfmt ", &20u32.to_le_bytes()].concat();
    for word in [1u16, 2, 16000, 0, 64000, 0, 4, 16, 0, 0] {
        wav.extend(word.to_le_bytes());
    }
    wav.extend(b"data");
    wav.extend(size.to_le_bytes());
    for (l, r) in left.iter().zip(right) {
        for v in [l, r] {
            wav.extend(((v * 32767.0) as i16).to_le_bytes());
        }
    }
    wav
}

#[test]
fn sizes_that_were_never_filled_in_do_not_matter() {
    let tone = sine(440.0, 16000, 16000);
    let good = samples_of("a.wav", &stereo(&tone, &tone, 64036, None));
    assert_eq!(good.len(), 16000);
    for (riff, data) in [(0, 0), (u32::MAX, u32::MAX), (36, 64000), (9, 1 << 30)] {
        let wav = stereo(&tone, &tone, riff, Some(data));
        assert_eq!(samples_of("a.wav", &wav), good, "{riff} {data}");
    }
    // RF64: the size is in a chunk of its own.
    let mut long = stereo(&tone, &tone, u32::MAX, Some(u32::MAX));
    long[..4].copy_from_slice(b"RF64");
    let sizes =
        [28u32.to_le_bytes().as_slice(), &[0; 8], &64000u64.to_le_bytes(), &[0; 12]].concat();
    long.splice(12..12, [b"ds64".as_slice(), &sizes].concat());
    assert_eq!(samples_of("a.wav", &long), good);
    // MP3 in a WAVE file.
    let mp3 = include_bytes!("../testdata/low_rate.mp3");
    let mut inside =
        [b"RIFF\0\0\0\0WAVEfmt ".as_slice(), &16u32.to_le_bytes(), &[0x55, 0], &[0; 14]].concat();
    inside.extend([b"data".as_slice(), &(mp3.len() as u32).to_le_bytes(), mp3].concat());
    assert_eq!(samples_of("a.wav", &inside), samples_of("a.mp3", mp3));
}

#[test]
fn sizes_of_aiff_do_not_matter_either() {
    let tone = sine(440.0, 16000, 16000);
    let aiff = |form: u32, sound: u32| {
        let mut bytes = [b"FORM".as_slice(), &form.to_be_bytes(), b"AIFFCOMM"].concat();
        bytes.extend(18u32.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0x3e, 0x80, 0, 16]);
        // 16,000 as an 80-bit float.
        bytes.extend([0x40, 0x0c, 0xfa, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([b"SSND".as_slice(), &sound.to_be_bytes(), &[0; 8]].concat());
        bytes.extend(tone.iter().flat_map(|v| ((v * 32767.0) as i16).to_be_bytes()));
        samples_of("a.aiff", &bytes)
    };
    let good = aiff(46 + 32000, 8 + 32000);
    assert_eq!(good.len(), 16000);
    assert!(strength(&good, 440.0, 16000.0) > 0.45);
    for (form, sound) in [(0, 0), (u32::MAX, u32::MAX), (12, 8 + 64000)] {
        assert_eq!(aiff(form, sound), good, "{form} {sound}");
    }
}

#[test]
fn channels_that_cancel_and_samples_beyond_full_scale_are_told() {
    let tone = sine(440.0, 16000, 16000);
    let inverted: Vec<f32> = tone.iter().map(|v| -v).collect();
    let wav = stereo(&tone, &inverted, 0, None);
    let decoded = decode_bytes("a.wav", &wav).unwrap();
    assert!(decoded.facts.remarks()[0].contains("inverted stereo"), "{:?}", decoded.facts);
    for downmix in [Downmix::First, Downmix::Loudest] {
        let limits = Limits { downmix, ..LIMITS };
        let decoded = decode(&Blob::bytes("a.wav", &wav), limits, Window::Centre).unwrap();
        assert!(strength(decoded.item.samples(), 440.0, 16000.0) > 0.45);
        assert!(decoded.facts.remarks().is_empty());
    }
    let d = tempfile::tempdir().unwrap();
    let path = d.path().join("a.wav");
    write_wav(&path, 16000, &tone.iter().map(|v| v * 32768.0).collect::<Vec<_>>());
    let decoded = decode_file(&path, LIMITS, Window::Centre).unwrap();
    assert!(decoded.facts.remarks()[0].contains("full scale"), "{:?}", decoded.facts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 1..2000), kind in 0usize..8,
    ) {
        let kinds: [(&str, &[u8]); 8] = [
            ("a.wav", b"RIFF\xff\xff\0\0WAVEfmt "),
            ("a.flac", b"fLaC"),
            ("a.ogg", b"OggS\0\x02"),
            ("a.mp3", b"\xff\xfb\x90\x64"),
            ("a.m4a", b"\0\0\0\x18ftypM4A "),
            ("a.aiff", b"FORM\0\0\x10\0AIFF"),
            ("a.opus", &GLIDE_OPUS[..400]),
            ("a.ogg", &GLIDE_OGG[..3000]),
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
