//! What demuxers take on trust, and should not: the chunk sizes of WAVE and AIFF, the frame count of MP3, the
//! one stream of Ogg.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use lejepa_core::ReadSeek;

/// Whether a file that begins like this is a recording. Containers of videos are not, although they may hold sound.
pub(crate) fn is_known(start: &[u8]) -> bool {
    let at = |from: usize, magic: &[u8]| start.get(from..from + magic.len()) == Some(magic);
    let waves = at(8, b"WAVE") && [b"RIFF", b"RF64", b"BW64"].iter().any(|m| at(0, *m));
    let aiff = at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC"));
    let m4a = at(4, b"ftypM4A") || at(4, b"ftypM4B");
    // The sync word of an MPEG frame of layer III.
    let mp3 = matches!(start, [0xff, b, ..] if b & 0xe6 == 0xe2);
    let ogg = at(0, b"OggS") && !start.windows(7).any(|w| w == b"\x80theora");
    // FLAC, MP3 with a tag, CAF; WMA, AMR, WavPack, Monkey's Audio, True Audio, Sun audio by FFmpeg.
    let magics: [&[u8]; 9] = [
        b"fLaC",
        b"ID3",
        b"caff",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        b"#!AMR",
        b"wvpk",
        b"MAC ",
        b"TTA1",
        b".snd",
    ];
    waves || aiff || m4a || mp3 || ogg || magics.iter().any(|magic| at(0, magic))
}

/// A file as a demuxer should see it: a header of our own before a range of the file.
pub(crate) struct Spliced<'a> {
    head: Vec<u8>,
    reader: Box<dyn ReadSeek + 'a>,
    range: Range<u64>,
    at: u64,
}

impl<'a> Spliced<'a> {
    /// The whole file.
    fn whole(reader: Box<dyn ReadSeek + 'a>, length: u64) -> Self {
        Self { head: Vec::new(), reader, range: 0..length, at: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.head.len() as u64 + (self.range.end - self.range.start)
    }
}

impl Read for Spliced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = self.head.len() as u64;
        if self.at < head {
            let count = (&self.head[self.at as usize..]).read(buffer)?;
            self.at += count as u64;
            if self.at == head {
                self.reader.seek(SeekFrom::Start(self.range.start))?;
            }
            return Ok(count);
        }
        let left = usize::try_from(self.len().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let count = self.reader.read(&mut buffer[..most])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Spliced<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "seek before the start");
        self.at = at.ok_or_else(before)?;
        let inside = self.at.saturating_sub(self.head.len() as u64);
        self.reader.seek(SeekFrom::Start(self.range.start.saturating_add(inside)))?;
        Ok(self.at)
    }
}

/// The file with a header that agrees with what is there.
///
/// WAVE and AIFF whose chunk sizes are wrong (recorders that lost power, pipes, files above 4 GiB) are what
/// players play to the end, and so is MP3 in a WAVE file.
pub(crate) fn mended<'a>(
    mut reader: Box<dyn ReadSeek + 'a>,
    length: u64,
) -> io::Result<Spliced<'a>> {
    let mut start = Vec::new();
    (&mut reader).take(12).read_to_end(&mut start)?;
    let found = match (start.get(..4), start.get(8..12)) {
        (Some(b"RIFF" | b"RF64" | b"BW64"), Some(b"WAVE")) => wave(&mut reader, length)?,
        (Some(b"FORM"), Some(form @ (b"AIFF" | b"AIFC"))) => {
            let form = form.to_vec();
            aiff(&mut reader, length, &form)?
        }
        _ => None,
    };
    let Some((head, range)) = found else {
        reader.seek(SeekFrom::Start(0))?;
        return Ok(Spliced::whole(reader, length));
    };
    let mut spliced = Spliced { head, reader, range, at: 0 };
    spliced.seek(SeekFrom::Start(0))?;
    Ok(spliced)
}

/// Headers of chunks are this long: a name and a size.
const CHUNK_HEADER: u64 = 8;

/// Chunks that are read into memory are at most this long; no real `fmt ` or `COMM` comes near.
const MAX_CHUNK: u64 = 1024;

/// The next chunk's name and claimed size, and where its content starts.
fn chunk(reader: &mut dyn ReadSeek, big_endian: bool) -> io::Result<([u8; 4], u64, u64)> {
    let mut header = [0; 8];
    reader.read_exact(&mut header)?;
    let [a, b, c, d, size @ ..] = header;
    let size = if big_endian { u32::from_be_bytes(size) } else { u32::from_le_bytes(size) };
    Ok(([a, b, c, d], size.into(), reader.stream_position()?))
}

type Found = Option<(Vec<u8>, Range<u64>)>;

fn wave(reader: &mut Box<dyn ReadSeek + '_>, length: u64) -> io::Result<Found> {
    let (mut format, mut long_size) = (None, None);
    while let Ok((name, size, at)) = chunk(reader.as_mut(), false) {
        match &name {
            b"fmt " => format = Some(read_some(reader, size)?),
            b"ds64" => {
                let sizes = read_some(reader, size)?;
                long_size =
                    sizes.get(8..16).and_then(|s| s.try_into().ok()).map(u64::from_le_bytes);
            }
            b"data" => {
                let Some(format) = format else { return Ok(None) };
                let left = length.saturating_sub(at);
                let claimed = match (size, long_size) {
                    (0xffff_ffff, Some(long)) => long,
                    // A size that was never filled in.
                    (0 | 0xffff_ffff, _) => left,
                    (size, _) => size,
                };
                return Ok(wave_header(&format, at..at + claimed.min(left)));
            }
            _ => {}
        }
        reader.seek(SeekFrom::Start(at.saturating_add(size + size % 2)))?;
    }
    Ok(None)
}

/// MPEG and AAC in a WAVE file are streams with headers of their own.
const STREAMS: [u16; 4] = [0x50, 0x55, 0xff, 0x1600];

fn wave_header(format: &[u8], mut range: Range<u64>) -> Found {
    let word =
        |at: usize| format.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
    let tag = word(0)?;
    if STREAMS.contains(&tag) {
        return Some((Vec::new(), range));
    }
    // Plain samples need no more than the first 16 bytes, whatever follows.
    let format = match tag {
        1 | 3 => format.get(..16)?,
        0xfffe => format.get(..40)?,
        _ => format,
    };
    let block = u64::from(word(12)?.max(1));
    range.end -= (range.end - range.start) % block;
    let size = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let data = range.end - range.start;
    let body = 4 + 2 * CHUNK_HEADER + format.len() as u64 + data;
    let mut head = [&b"RIFF"[..], &size(body), b"WAVEfmt "].concat();
    head.extend(size(format.len() as u64));
    head.extend(format);
    head.extend(b"data");
    head.extend(size(data));
    Some((head, range))
}

fn aiff(reader: &mut Box<dyn ReadSeek + '_>, length: u64, form: &[u8]) -> io::Result<Found> {
    let (mut common, mut sound) = (None, None);
    while let Ok((name, size, at)) = chunk(reader.as_mut(), true) {
        match &name {
            b"COMM" => common = Some(read_some(reader, size)?),
            b"SSND" => {
                let left = length.saturating_sub(at);
                let size = if size <= CHUNK_HEADER { left } else { size.min(left) };
                sound = Some(at..at + size);
            }
            _ => {}
        }
        if let (Some(common), Some(sound)) = (&common, &sound) {
            let size = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
            let data = sound.end - sound.start;
            let body = 4 + 2 * CHUNK_HEADER + common.len() as u64 + data;
            let mut head = [&b"FORM"[..], &size(body), form, b"COMM"].concat();
            head.extend(size(common.len() as u64));
            head.extend(common);
            head.extend(b"SSND");
            head.extend(size(data));
            return Ok(Some((head, sound.clone())));
        }
        reader.seek(SeekFrom::Start(at.saturating_add(size + size % 2)))?;
    }
    Ok(None)
}

fn read_some(reader: &mut Box<dyn ReadSeek + '_>, size: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    reader.take(size.min(MAX_CHUNK)).read_to_end(&mut content)?;
    Ok(content)
}

/// Whether the length that a demuxer gives for an MPEG stream can be trusted: where a tag in its first frame
/// counts frames and bytes, and the bytes are those of the file. Otherwise it is an estimate from the first
/// frames, or that of the first of several files that were joined.
pub(crate) fn mpeg_length_is_exact(reader: &mut dyn ReadSeek, length: u64) -> io::Result<bool> {
    let mut at = 0;
    let mut header = [0; 10];
    loop {
        reader.seek(SeekFrom::Start(at))?;
        if reader.read_exact(&mut header).is_err() {
            return Ok(false);
        }
        if !header.starts_with(b"ID3") {
            break;
        }
        let size = header[6..].iter().fold(0, |size, &byte| size << 7 | u64::from(byte & 0x7f));
        let footer = if header[5] & 0x10 == 0 { 0 } else { 10 };
        at += 10 + size + footer;
    }
    reader.seek(SeekFrom::Start(at))?;
    let mut frame = Vec::new();
    reader.take(256).read_to_end(&mut frame)?;
    let tag = frame.windows(4).position(|w| w == b"Xing" || w == b"Info");
    let number =
        |at: usize| frame.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let bytes = tag.and_then(|tag| match number(tag + 4)? & 3 {
        3 => number(tag + 12),
        _ => None,
    });
    let Some(bytes) = bytes else { return Ok(false) };
    // Tags at the end, and encoders that do not count the frame of the tag.
    let rest = (length - at).abs_diff(bytes.into());
    Ok(rest <= 2048)
}

/// What the header of a frame of MPEG audio says that a decoder is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MpegFrame {
    pub(crate) rate: u32,
    is_mono: bool,
}

impl MpegFrame {
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let &[0xff, version, rate, mode, ..] = frame else { return None };
        let rate = *[44_100, 48_000, 32_000u32].get(usize::from(rate >> 2 & 3))?;
        // MPEG 1 has the full rates, MPEG 2 halves, MPEG 2.5 quarters.
        let shift = match version >> 3 & 3 {
            3 => 0,
            2 => 1,
            0 => 2,
            _ => return None,
        };
        Some(Self { rate: rate >> shift, is_mono: mode >> 6 == 3 })
    }
}

/// Whether an Ogg file is several, one after the other: radio recordings, and files that were joined.
pub(crate) fn ogg_is_chained(reader: impl Read + Seek) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let mut began = false;
    loop {
        let mut header = [0; 27];
        if reader.fill_buf()?.is_empty() || reader.read_exact(&mut header).is_err() {
            return Ok(false);
        }
        if !header.starts_with(b"OggS") {
            return Ok(false);
        }
        let is_first = header[5] & 2 != 0;
        if is_first && began {
            return Ok(true);
        }
        began |= !is_first;
        let mut table = vec![0; header[26].into()];
        if reader.read_exact(&mut table).is_err() {
            return Ok(false);
        }
        reader.seek_relative(table.iter().map(|&n| i64::from(n)).sum())?;
    }
}
