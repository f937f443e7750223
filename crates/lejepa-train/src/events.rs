//! TensorBoard's event files: length-prefixed, checksummed records of a small protocol buffer.
//!
//! Written from the format's description (TFRecord framing; `Event` and `Summary` messages), so that
//! no protocol buffer compiler is needed. Field numbers: Event.wall_time 1, .step 2, .file_version 3,
//! .summary 5, .session_log 7; Summary.value 1; Value.tag 1, .simple_value 2; SessionLog.status 1.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Result, TrainError};

/// One event file of a run, open for appending. A resumed run opens another: TensorBoard reads all
/// of a folder and drops what an earlier file said of steps that were done again.
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in `folder` that says that the run goes on after `step`.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub(crate) fn create(folder: &Path, step: u64) -> Result<Self> {
        let now = now();
        let process = std::process::id();
        let path =
            folder.join(format!("events.out.tfevents.{:010}.lejepa.{process}.{step}", now as u64));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(TrainError::io("write", &path))?;
        let mut events = Self { path, file };
        let mut version = event(now, 0);
        field(&mut version, 3, b"brain.Event:2");
        events.write(&version)?;
        // TensorBoard drops what it has seen of this step and later ones.
        let mut start = event(now, step + 1);
        field(&mut start, 7, &[0x08, 1]);
        events.write(&start)?;
        Ok(events)
    }

    /// Appends values of one step.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub(crate) fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut one = Vec::new();
            field(&mut one, 1, tag.as_bytes());
            one.push(2 << 3 | 5);
            one.extend((*value as f32).to_le_bytes());
            field(&mut summary, 1, &one);
        }
        let mut message = event(now(), step);
        field(&mut message, 5, &summary);
        self.write(&message)
    }

    fn write(&mut self, message: &[u8]) -> Result<()> {
        let length = (message.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(message.len() + 16);
        record.extend(length);
        record.extend(masked(&length).to_le_bytes());
        record.extend(message);
        record.extend(masked(message).to_le_bytes());
        // In one call, so that a crash leaves whole records or one cut short at the end.
        self.file.write_all(&record).map_err(TrainError::io("write", &self.path))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

fn event(time: f64, step: u64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(time.to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    out
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// TFRecord's checksum: CRC-32C, rotated and offset.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_and_checksummed() {
        let d = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(d.path(), 300).unwrap();
        events.scalars(301, &[("loss", 0.5), ("sigreg", 1.25)]).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        let mut at = 0;
        let mut messages = Vec::new();
        while at < bytes.len() {
            let length = &bytes[at..at + 8];
            let size = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            assert_eq!(bytes[at + 8..at + 12], masked(length).to_le_bytes());
            let message = &bytes[at + 12..at + 12 + size];
            assert_eq!(bytes[at + 12 + size..at + 16 + size], masked(message).to_le_bytes());
            messages.push(message.to_vec());
            at += 16 + size;
        }
        assert_eq!(messages.len(), 3);
        let has = |m: &[u8], part: &[u8]| m.windows(part.len()).any(|w| w == part);
        assert!(has(&messages[0], b"brain.Event:2"));
        // Step 301 as a varint, a tag, and the value in 32 bits.
        assert!(has(&messages[2], &[0x10, 0xad, 0x02]) && has(&messages[2], b"sigreg"));
        assert!(has(&messages[2], &1.25f32.to_le_bytes()));
    }

    /// The value that the format's description gives for CRC-32C of nine digits.
    #[test]
    fn the_checksum_is_the_right_one() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }
}
