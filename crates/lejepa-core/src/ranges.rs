//! Files that are read by ranges, wherever they are.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

/// Bytes read by several threads, each at its own place: a file, or an object of a store.
pub trait RangeRead: Debug + Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// What the system or the store says.
    fn length(&self) -> io::Result<u64>;

    /// Reads some bytes at `at`, at most as many as fit; 0 at the end. A request to a store should fill the buffer.
    ///
    /// # Errors
    /// What the system or the store says.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Bytes that are read at once where little is wanted: about as many as arrive in the time of a request.
    fn block(&self) -> usize {
        4 << 10
    }
}

impl RangeRead for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(self, buffer, at);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(self, buffer, at);
    }
}

/// Most that a [`RangeReader`] reads ahead.
const MAX_AHEAD: usize = 4 << 20;

/// A range of a [`RangeRead`] as if it were a file. It reads ahead, the more the longer it is read in order.
pub(crate) struct RangeReader {
    source: Arc<dyn RangeRead>,
    range: Range<u64>,
    at: u64,
    block: Vec<u8>,
    /// Where the block begins, counted from the start of the range.
    block_at: u64,
    ahead: usize,
}

impl RangeReader {
    pub(crate) fn new(source: Arc<dyn RangeRead>, range: Range<u64>) -> Self {
        Self { ahead: source.block(), source, range, at: 0, block: Vec::new(), block_at: 0 }
    }

    fn length(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// What the block holds from the current place on.
    fn buffered(&self) -> &[u8] {
        let within = self.at.checked_sub(self.block_at).and_then(|n| usize::try_from(n).ok());
        within.and_then(|n| self.block.get(n..)).unwrap_or_default()
    }

    fn fetch(&mut self) -> io::Result<()> {
        let in_order = self.at == self.block_at + self.block.len() as u64;
        self.ahead = match in_order && !self.block.is_empty() {
            true => (2 * self.ahead).min(MAX_AHEAD),
            false => self.source.block(),
        };
        let left = usize::try_from(self.length().saturating_sub(self.at)).unwrap_or(usize::MAX);
        self.block.resize(self.ahead.min(left), 0);
        self.block_at = self.at;
        let read = self.source.read_at(self.range.start + self.at, &mut self.block);
        self.block.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }
}

impl Read for RangeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffered().is_empty() && self.at < self.length() && !into.is_empty() {
            self.fetch()?;
        }
        let count = self.buffered().len().min(into.len());
        into[..count].copy_from_slice(&self.buffered()[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for RangeReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(offset) => (self.at, offset),
            SeekFrom::End(offset) => (self.length(), offset),
        };
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the start");
        self.at = base.checked_add_signed(offset).ok_or_else(outside)?;
        Ok(self.at)
    }
}

/// All bytes of a range, in as few reads as the source allows.
pub(crate) fn read_all(source: &dyn RangeRead, range: Range<u64>) -> io::Result<Vec<u8>> {
    let length = usize::try_from(range.end.saturating_sub(range.start))
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut all = Vec::new();
    all.try_reserve_exact(length).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    all.resize(length, 0);
    let mut done = 0;
    while done < length {
        match source.read_at(range.start + done as u64, &mut all[done..])? {
            0 => break,
            count => done += count,
        }
    }
    all.truncate(done);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Bytes that count up, and the reads of them.
    #[derive(Debug, Default)]
    struct Counted(Mutex<Vec<(u64, usize)>>);

    const LENGTH: u64 = 1 << 20;

    impl RangeRead for Counted {
        fn length(&self) -> io::Result<u64> {
            Ok(LENGTH)
        }
        fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(usize::try_from(LENGTH.saturating_sub(at)).unwrap());
            self.0.lock().unwrap().push((at, count));
            for (i, byte) in buffer[..count].iter_mut().enumerate() {
                *byte = ((at + i as u64) % 251) as u8;
            }
            Ok(count)
        }
        fn block(&self) -> usize {
            64 << 10
        }
    }

    #[test]
    fn a_reader_reads_ahead_in_order_and_keeps_its_block_over_short_seeks() {
        let source = Arc::new(Counted::default());
        let mut reader = RangeReader::new(source.clone(), 100..LENGTH);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all.len() as u64, LENGTH - 100);
        assert!(all.iter().enumerate().all(|(i, &v)| v == ((i + 100) % 251) as u8));
        // Each read is twice as long as the one before: 64, 128, 256, 512 KiB and the rest.
        assert_eq!(source.0.lock().unwrap().len(), 5);

        source.0.lock().unwrap().clear();
        let mut reader = RangeReader::new(source.clone(), 0..LENGTH);
        let mut byte = [0];
        for at in [5000u64, 5512, 6024, 200_000] {
            reader.seek(SeekFrom::Start(at)).unwrap();
            reader.read_exact(&mut byte).unwrap();
            assert_eq!(u64::from(byte[0]), at % 251);
        }
        assert_eq!(source.0.lock().unwrap().len(), 2);
        assert!(reader.seek(SeekFrom::Current(-300_000)).is_err());
        reader.seek(SeekFrom::End(5)).unwrap();
        assert_eq!(reader.read(&mut byte).unwrap(), 0);
        assert_eq!(read_all(source.as_ref(), 3..6).unwrap(), [3, 4, 5]);
        assert_eq!(read_all(source.as_ref(), LENGTH - 1..LENGTH + 9).unwrap().len(), 1);
    }
}
