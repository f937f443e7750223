//! Tests of `ffmpeg.rs`, on files that it encodes itself.

use super::*;
use crate::AudioConfig;
use crate::decode::{Limits, decode};
use crate::waveform::Waveform;
use ffmpeg_next::{ChannelLayout, Rational, encoder};
use lejepa_core::{Decoded, Purpose, Seed, Window};
use std::path::{Path, PathBuf};

const RATE: i32 = 16_000;

/// A recording whose channels are tones of 200 Hz, 300 Hz and so on, as loud as each other.
fn recording(
    folder: &Path,
    name: &str,
    codec: codec::Id,
    format: Sample,
    layout: ChannelLayout,
    seconds: i32,
) -> PathBuf {
    start_library().unwrap();
    let path = folder.join(name);
    let mut output = format::output(&path).unwrap();
    let global = output.format().flags().contains(format::Flags::GLOBAL_HEADER);
    let found = encoder::find(codec).unwrap();
    let mut audio = codec::context::Context::new_with_codec(found).encoder().audio().unwrap();
    audio.set_rate(RATE);
    audio.set_format(format);
    audio.set_channel_layout(layout);
    audio.set_bit_rate(128_000);
    audio.set_time_base(Rational(1, RATE));
    if global {
        audio.set_flags(codec::Flags::GLOBAL_HEADER);
    }
    let mut encoder = audio.open_as(found).unwrap();
    let mut stream = output.add_stream(found).unwrap();
    stream.set_parameters(&encoder);
    stream.set_time_base(Rational(1, RATE));
    output.write_header().unwrap();
    let base = output.stream(0).unwrap().time_base();
    let block = match encoder.frame_size() {
        0 => 1024,
        size => size as i32,
    };
    let mut drain = |encoder: &mut encoder::Audio| {
        let mut packet = Packet::empty();
        while encoder.receive_packet(&mut packet).is_ok() {
            packet.set_stream(0);
            packet.rescale_ts(Rational(1, RATE), base);
            packet.write_interleaved(&mut output).unwrap();
        }
    };
    for start in (0..seconds * RATE).step_by(block as usize) {
        let count = block.min(seconds * RATE - start) as usize;
        let mut frame = frame::Audio::new(format, count, layout);
        frame.set_rate(RATE as u32);
        frame.set_pts(Some(start.into()));
        let channels = frame.channels() as usize;
        for channel in 0..channels {
            for i in 0..count {
                let time = (start as usize + i) as f32 / RATE as f32;
                let tone = 200.0 + 100.0 * channel as f32;
                let value = 0.25 * (std::f32::consts::TAU * tone * time).sin();
                match format {
                    Sample::F32(_) => {
                        let at = 4 * i;
                        frame.data_mut(channel)[at..at + 4].copy_from_slice(&value.to_ne_bytes());
                    }
                    _ => {
                        let at = 2 * (i * channels + channel);
                        let value = (value * 32_768.0) as i16;
                        frame.data_mut(0)[at..at + 2].copy_from_slice(&value.to_ne_bytes());
                    }
                }
            }
        }
        encoder.send_frame(&frame).unwrap();
        drain(&mut encoder);
    }
    encoder.send_eof().unwrap();
    drain(&mut encoder);
    output.write_trailer().unwrap();
    path
}

fn read(path: &Path, whole_seconds: f64, window: Window<'_>) -> Result<Decoded<Waveform>, String> {
    let config = AudioConfig { whole_seconds, ..AudioConfig::default() };
    decode(&Blob::file(path), Limits::of(&config), window)
}

/// The power of a tone relative to that of all.
fn share(samples: &[f32], tone: f32) -> f32 {
    let (mut re, mut im, mut all) = (0f64, 0f64, 0f64);
    for (i, &value) in samples.iter().enumerate() {
        let phase = f64::from(std::f32::consts::TAU * tone) * i as f64 / f64::from(RATE);
        re += f64::from(value) * phase.cos();
        im += f64::from(value) * phase.sin();
        all += f64::from(value).powi(2);
    }
    ((re * re + im * im) * 2.0 / (samples.len() as f64 * all)) as f32
}

#[test]
fn what_symphonia_does_not_decode_is_read() {
    let d = tempfile::tempdir().unwrap();
    let planar = Sample::F32(sample::Type::Planar);
    let packed = Sample::I16(sample::Type::Packed);
    for (name, codec, format, layout, channels) in [
        ("surround.m4a", codec::Id::AAC, planar, ChannelLayout::_5POINT1, 6),
        ("surround.aac", codec::Id::AAC, planar, ChannelLayout::_5POINT1, 6),
        ("old.wma", codec::Id::WMAV2, planar, ChannelLayout::STEREO, 2),
        ("sun.au", codec::Id::PCM_S16BE, packed, ChannelLayout::STEREO, 2),
    ] {
        let path = recording(d.path(), name, codec, format, layout, 4);
        let bytes = std::fs::read(&path).unwrap();
        assert!(name.ends_with("aac") || crate::container::is_known(&bytes), "{name}");
        let decoded = read(&path, 10.0, Window::Centre).unwrap();
        assert!(decoded.is_whole, "{name}");
        let samples = decoded.item.samples();
        // Encoders pad; only some formats say by how much.
        assert!(samples.len().abs_diff(4 * RATE as usize) <= 4096, "{name}: {}", samples.len());
        let middle = &samples[RATE as usize..3 * RATE as usize];
        // The low-frequency channel of 5.1 may lose its tone.
        for tone in [200.0, 300.0].into_iter().take(channels) {
            let share = share(middle, tone);
            assert!(share > 0.6 / channels as f32, "{name}: {tone} Hz has {share} of the power");
        }
        // Within another file it is the same.
        let inside = Blob::bytes(format!("archive/{name}"), bytes);
        let config = AudioConfig { whole_seconds: 10.0, ..AudioConfig::default() };
        assert_eq!(decode(&inside, Limits::of(&config), Window::Centre).unwrap(), decoded);
    }
}

#[test]
fn a_segment_is_what_decoding_from_the_start_gives() {
    let d = tempfile::tempdir().unwrap();
    let planar = Sample::F32(sample::Type::Planar);
    let path = recording(d.path(), "a.wma", codec::Id::WMAV2, planar, ChannelLayout::MONO, 6);
    let all = read(&path, 100.0, Window::Centre).unwrap();
    let all = all.item.samples();
    let position = |window: Window<'_>| {
        let part = read(&path, 1.0, window).unwrap();
        assert!(!part.is_whole);
        let part = part.item.samples().to_vec();
        assert_eq!(part.len(), RATE as usize);
        all.windows(part.len()).position(|w| w == part).unwrap()
    };
    let stream = || Seed(5).rng(Purpose::Views, &[1]);
    let expected = Window::Random(&mut stream()).start(all.len(), RATE as usize);
    assert_eq!(position(Window::Random(&mut stream())), expected);
    assert_eq!(position(Window::Centre), Window::Centre.start(all.len(), RATE as usize));
}

#[test]
fn bad_files_are_errors_of_one_line() {
    let d = tempfile::tempdir().unwrap();
    // A playlist that names a recording beside it must not be followed.
    let planar = Sample::F32(sample::Type::Planar);
    let secret = recording(d.path(), "secret.aac", codec::Id::AAC, planar, ChannelLayout::MONO, 1);
    let list = format!("#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", secret.display());
    for (name, content) in [
        ("text.wma", b"this is text and not a recording\n".repeat(50)),
        ("empty.amr", Vec::new()),
        ("list.wma", list.into_bytes()),
        ("list.aac", b"ffconcat version 1.0\nfile secret.aac\n".to_vec()),
    ] {
        let path = d.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = read(&path, 10.0, Window::Centre).unwrap_err();
        assert!(error.contains("FFmpeg: ") && !error.contains('\n'), "{name}: {error}");
    }
}
