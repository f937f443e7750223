//! A recording in any container: opening, measuring, reading.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::LazyLock;

use lejepa_core::Blob;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::common::Limit;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Time, TimeBase, Timestamp};

use crate::container::{self, MpegFrame, Spliced};
use crate::decode::Source;
use crate::opus::OpusDecoder;
use crate::segment::{Segment, SegmentBuilder};

/// Sample rates that are accepted. A header with another one is damaged, and a resampler for it could
/// take any amount of memory.
const RATES: std::ops::RangeInclusive<u32> = 1000..=768_000;

/// Seconds that decoding starts before a segment: decoders carry state from packet to packet and are
/// exact only after a few. MP3 needs the most: a frame may use the last 255 or 511 bytes of earlier ones,
/// which at the lowest bit rates is half a second.
const RUN_UP: f64 = 0.75;

/// Formats in which seeking gives exactly the samples that decoding from the start does. It does not in
/// MP4 and Matroska, nor with ADPCM in any format.
const SEEKABLE: &[&str] = &["wave", "aiff", "flac", "mp3", "ogg"];

/// Consecutive damaged packets after which the rest of a recording is given up.
pub(crate) const MAX_BROKEN: usize = 64;

static CODECS: LazyLock<CodecRegistry> = LazyLock::new(|| {
    let mut codecs = CodecRegistry::new();
    symphonia::default::register_enabled_codecs(&mut codecs);
    codecs.register_audio_decoder::<OpusDecoder>();
    codecs
});

/// A file as symphonia reads it.
struct FileSource<'a>(Spliced<'a>);

impl Read for FileSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for FileSource<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl MediaSource for FileSource<'_> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.0.len())
    }
}

/// An open recording.
pub(crate) struct Recording<'a> {
    reader: Box<dyn FormatReader + 'a>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    /// Sample rate that positions are counted in: that of the first part of a chained file.
    rate: u32,
    /// Sample rate of the part that is read.
    part_rate: u32,
    time_base: Option<TimeBase>,
    /// Length in samples per channel, as the header claims it.
    total: Option<usize>,
    /// Whether the header's length may cut the last packet: not where it is an estimate.
    is_exact: bool,
    is_ogg: bool,
    blob: &'a Blob<'a>,
    is_mpeg: bool,
    /// What the last frame of MPEG audio said of itself.
    frame: Option<MpegFrame>,
    /// Samples at the start that the decoder needs to settle, where neither demuxer nor decoder drops them.
    delay: Option<usize>,
}

/// What decodes a track.
struct Opened {
    decoder: Box<dyn AudioDecoder>,
    rate: u32,
    total: Option<usize>,
    delay: Option<usize>,
}

impl<'a> Source<'a> for Recording<'a> {
    fn open(blob: &'a Blob<'a>) -> Result<Self, String> {
        let say = |e: io::Error| e.to_string();
        let length = blob.len().map_err(say)?;
        let spliced = container::mended(blob.open().map_err(say)?, length).map_err(say)?;
        let length = spliced.len();
        let stream = MediaSourceStream::new(Box::new(FileSource(spliced)), Default::default());
        let mut hint = Hint::new();
        let extension = blob.extension();
        if !extension.is_empty() {
            hint.with_extension(&extension);
        }
        // Covers are not decoded, so that none is too large.
        let metadata = MetadataOptions::default().limit_visual_bytes(Limit::Maximum(0));
        let reader = symphonia::default::get_probe()
            .probe(&hint, stream, FormatOptions::default(), metadata)
            .map_err(|e| format!("is not audio in a known format ({e})"))?;
        let track = audio_track(reader.as_ref())?;
        let is_ogg = reader.format_info().short_name == "ogg";
        let Opened { decoder, rate, total, delay } = open_track(track, is_ogg)?;
        let (track, time_base) = (track.id, track.time_base);
        let is_mpeg = matches!(reader.format_info().short_name, "mp1" | "mp2" | "mp3");
        let is_exact = !is_mpeg || {
            let mut file = container::mended(blob.open().map_err(say)?, blob.len().map_err(say)?);
            container::mpeg_length_is_exact(file.as_mut().map_err(|e| e.to_string())?, length)
                .map_err(say)?
        };
        Ok(Self {
            reader,
            decoder,
            track,
            rate,
            part_rate: rate,
            time_base,
            total,
            is_exact,
            is_ogg,
            blob,
            is_mpeg,
            frame: None,
            delay,
        })
    }

    fn rate(&self) -> u32 {
        self.rate
    }

    fn length_above(&self, least: usize) -> Result<Option<usize>, String> {
        // A shorter one is found by reading, without a walk over the pages of an Ogg file.
        let Some(total) = self.total.filter(|&total| total > least && self.is_exact) else {
            return Ok(None);
        };
        let is_chained = || container::ogg_is_chained(self.blob.open()?);
        let is_chained = self.is_ogg && is_chained().map_err(|e| e.to_string())?;
        Ok((!is_chained).then_some(total))
    }

    /// From the time stamps of all packets: nothing is decoded.
    fn measure(&mut self) -> usize {
        let (mut total, mut last) = (0usize, 0);
        while let Ok(Some(packet)) = self.next_packet() {
            let length = i64::try_from(packet.dur.get()).unwrap_or(0);
            let frames =
                |stamp| self.frames_at(stamp).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            total = total.saturating_add(frames(Timestamp::new(length)));
            last = last.max(frames(packet.pts));
        }
        // Matroska may give the start of a packet without its duration.
        if total == 0 { last } else { total }
    }

    fn read(&mut self, start: usize, keep: usize, seek: bool) -> Result<Segment, String> {
        let mut segment = SegmentBuilder::new(start, keep);
        let mut planes: Vec<Vec<f32>> = Vec::new();
        // After a seek only the time stamp of a packet gives its position.
        let mut sought = false;
        let exact = SEEKABLE.contains(&self.reader.format_info().short_name)
            && !self.decoder.codec_info().short_name.starts_with("adpcm");
        if seek && exact && start > 0 {
            let delay = self.delay.unwrap_or(0);
            let early = ((start + delay) as f64 / f64::from(self.rate) - RUN_UP).max(0.0);
            let to = Time::try_from_secs_f64(early)
                .map(|time| SeekTo::Time { time, track_id: Some(self.track) });
            let found = to.map(|to| self.reader.seek(SeekMode::Accurate, to));
            if !matches!(found, Some(Ok(_))) {
                return segment.build(self.rate);
            }
            self.decoder.reset();
            sought = true;
        }
        let mut trouble = None;
        let mut broken = 0;
        while !segment.is_complete() && broken < MAX_BROKEN {
            let packet = match self.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(error) => {
                    trouble = Some(error);
                    break;
                }
            };
            let stamp = self.frames_at(packet.pts);
            let decoded = match self.decoder.decode(&packet) {
                Ok(decoded) => decoded,
                // A damaged packet is lost; those after it may be fine.
                Err(error @ Error::DecodeError(_)) => {
                    trouble = Some(error);
                    broken += 1;
                    continue;
                }
                Err(error) => {
                    trouble = Some(error);
                    break;
                }
            };
            if decoded.frames() == 0 {
                continue;
            }
            broken = 0;
            let rate = decoded.spec().rate();
            decoded.copy_to_vecs_planar(&mut planes);
            if planes.is_empty() {
                break;
            }
            if std::mem::take(&mut sought) {
                let stamp = stamp.unwrap_or(0) - self.delay.unwrap_or(0) as i64;
                segment.jump(usize::try_from(stamp).unwrap_or(0));
            }
            segment.take(rate, planes.len(), planes[0].len(), |plane, channel, range| {
                plane.extend(planes[channel].get(range).unwrap_or_default());
                Ok(())
            })?;
        }
        let out = segment.build(self.rate)?;
        match trouble {
            Some(error) if out.len() == 0 && start == 0 => {
                Err(format!("its audio cannot be decoded ({error})"))
            }
            _ => Ok(out),
        }
    }
}

impl Recording<'_> {
    /// A time stamp in samples of the recording.
    fn frames_at(&self, stamp: Timestamp) -> Option<i64> {
        let seconds = self.time_base?.calc_time(stamp)?.as_secs_f64();
        Some((seconds * f64::from(self.rate)).round() as i64)
    }

    /// The next packet of the track. In a chained file the next part has a track of its own.
    fn next_packet(&mut self) -> Result<Option<Packet>, Error> {
        loop {
            match self.reader.next_packet() {
                Ok(Some(mut packet)) if packet.track_id == self.track => {
                    // symphonia 0.6.1 leaves what it trims of MPEG in the duration.
                    if self.is_mpeg {
                        if !self.is_exact {
                            packet.trim_end = Duration::ZERO;
                        }
                        let trimmed = packet.trim_start.saturating_add(packet.trim_end);
                        packet.dur = packet.dur.saturating_sub(trimmed);
                        self.follow(&mut packet);
                    }
                    self.drop_delay(&mut packet);
                    return Ok(Some(packet));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(Error::ResetRequired) => {
                    let Ok(track) = audio_track(self.reader.as_ref()) else { return Ok(None) };
                    // Only Ogg has such parts.
                    let Ok(opened) = open_track(track, true) else { return Ok(None) };
                    (self.track, self.time_base) = (track.id, track.time_base);
                    (self.decoder, self.part_rate) = (opened.decoder, opened.rate);
                    self.delay = opened.delay;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a decoder of its own for each part of joined MPEG streams: that of symphonia 0.6.1 refuses other rates
    /// and channels than the first.
    fn follow(&mut self, packet: &mut Packet) {
        let Some(frame) = MpegFrame::of(&packet.data) else { return };
        if self.frame.is_some_and(|before| before != frame) {
            let params = self.decoder.codec_params();
            if let Ok(decoder) = CODECS.make_audio_decoder(params, &AudioDecoderOptions::default())
            {
                self.decoder = decoder;
            }
        }
        self.frame = Some(frame);
        // The demuxer counts samples of any rate as if they were of the first.
        let length = packet.dur.get() as f64 * f64::from(self.rate) / f64::from(frame.rate);
        packet.dur = Duration::from(length.round() as u64);
    }

    /// Marks what comes before the first sample of the recording to be dropped.
    fn drop_delay(&self, packet: &mut Packet) {
        let (Some(delay), Some(base)) = (self.delay, self.time_base) else { return };
        let rate = f64::from(self.part_rate);
        let at = base.calc_time(packet.pts).map_or(0.0, |time| time.as_secs_f64());
        let early = delay as i64 - (at * rate).round() as i64;
        if early <= 0 {
            return;
        }
        // The time base of Matroska is coarser than samples.
        let ticks = |frames: i64| {
            let seconds = frames as f64 / rate;
            let time = Time::try_from_secs_f64(seconds)?;
            base.calc_timestamp(time)
        };
        let ticks = ticks(early).map_or(0, |t| t.get().max(0) as u64);
        packet.dur = packet.dur.saturating_sub(Duration::from(ticks));
        packet.trim_start = packet.trim_start.saturating_add(Duration::from(early as u64));
    }
}

fn audio_track<'t>(reader: &'t (dyn FormatReader + '_)) -> Result<&'t Track, String> {
    Ok(reader
        .first_track_known_codec(TrackType::Audio)
        .or_else(|| reader.default_track(TrackType::Audio))
        .ok_or("has no audio track")?)
}

fn open_track(track: &Track, is_ogg: bool) -> Result<Opened, String> {
    let params = track
        .codec_params
        .as_ref()
        .and_then(|params| params.audio())
        .ok_or("has audio of an unknown codec")?;
    let decoder = CODECS
        .make_audio_decoder(params, &AudioDecoderOptions::default())
        .map_err(|e| format!("its audio cannot be decoded ({e})"))?;
    let rate = params.sample_rate.ok_or("has no sample rate")?;
    check_rate(rate)?;
    let seconds = track
        .time_base
        .zip(track.duration)
        .and_then(|(base, length)| base.calc_duration(length))
        .map(|time| time.as_secs_f64());
    let frames = match (seconds, track.num_frames) {
        (Some(seconds), _) => Some((seconds * f64::from(rate)).round() as usize),
        (None, frames) => frames.and_then(|n| usize::try_from(n).ok()),
    };
    // The identification header of Opus. Ogg counts the delay in time stamps, Matroska before them.
    let opus = params.extra_data.as_deref().filter(|data| data.starts_with(b"OpusHead"));
    let delay = match opus.and_then(|head| head.get(10..12)) {
        Some(&[low, high]) if is_ogg => Some(usize::from(u16::from_le_bytes([low, high]))),
        Some(_) => Some(0),
        None => None,
    };
    // A missing length and one of 0 both mean that the header does not know it.
    let total = frames.map(|n| n.saturating_sub(delay.unwrap_or(0))).filter(|&n| n > 0);
    Ok(Opened { decoder, rate, total, delay })
}

pub(crate) fn check_rate(rate: u32) -> Result<(), String> {
    if RATES.contains(&rate) {
        return Ok(());
    }
    let (low, high) = (RATES.start(), RATES.end());
    Err(format!("its sample rate is {rate} Hz; {low} to {high} are supported"))
}
