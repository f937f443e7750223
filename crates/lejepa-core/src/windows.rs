//! Parts of samples as samples.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::blob::{Blob, BlobStore};
use crate::error::Result;
use crate::labels::{Labels, Split};

/// Parts in time of the samples of another store, such as windows of long recordings: a sample each, with the labels of
/// the whole.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use lejepa_core::{BlobStore, Listing, SampleRule, Windows};
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("day.wav"), b"RIFF")?;
/// let store: Arc<dyn BlobStore> = Arc::new(Listing::from_folder(folder.path(), SampleRule::new(&["wav"]))?);
/// // Ten seconds in windows of four, every three.
/// let parts = Windows::cut(Duration::from_secs(10), Duration::from_secs(4), Duration::from_secs(3));
/// let windows = Windows::new(store, parts.into_iter().map(|part| (0, part)).collect());
/// assert_eq!(windows.len(), 3);
/// assert!(windows.name(2).ends_with("day.wav[6-10 s]"));
/// assert_eq!(windows.blob(1)?.span(), Some(Duration::from_secs(3)..Duration::from_secs(7)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Windows {
    store: Arc<dyn BlobStore>,
    parts: Vec<(usize, Range<Duration>)>,
    labels: Vec<Labels>,
}

impl Windows {
    /// These parts: the index of a sample of `store`, and the time within that sample.
    pub fn new(store: Arc<dyn BlobStore>, parts: Vec<(usize, Range<Duration>)>) -> Self {
        let of = |column: &Labels| column.select(parts.iter().map(|(index, _)| *index));
        let labels = store.labels().iter().map(of);
        let labels = labels.collect();
        Self { store, parts, labels }
    }

    /// Windows of a length, one every `hop`, that lie within `whole`; all of it where it is shorter than one.
    pub fn cut(whole: Duration, length: Duration, hop: Duration) -> Vec<Range<Duration>> {
        let hop = hop.max(Duration::from_millis(1));
        let mut starts =
            std::iter::successors(Some(Duration::ZERO), |start| start.checked_add(hop));
        let mut all = Vec::new();
        while let Some(start) = starts.next().filter(|start| *start + length <= whole) {
            all.push(start..start + length);
        }
        if all.is_empty() { vec![Duration::ZERO..whole] } else { all }
    }

    /// Which sample a part is of, and its time within that sample.
    pub fn parts(&self) -> &[(usize, Range<Duration>)] {
        &self.parts
    }

    fn part(&self, index: usize) -> (usize, Range<Duration>) {
        self.parts.get(index).cloned().unwrap_or((usize::MAX, Duration::ZERO..Duration::ZERO))
    }
}

impl BlobStore for Windows {
    fn len(&self) -> usize {
        self.parts.len()
    }

    fn name(&self, index: usize) -> String {
        let (of, part) = self.part(index);
        let [start, end] = [part.start, part.end].map(|time| time.as_secs_f64());
        format!("{}[{start}-{end} s]", self.store.name(of))
    }

    fn blob(&self, index: usize) -> Result<Blob<'_>> {
        let (of, part) = self.part(index);
        let blob = self.store.blob(of)?;
        // The sample may be a part itself.
        let from = blob.span().map_or(Duration::ZERO, |span| span.start);
        Ok(blob.with_span(from + part.start..from + part.end))
    }

    fn length(&self, _: usize) -> Option<u64> {
        None
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.store.split(self.part(index).0)
    }

    fn fold(&self, index: usize) -> Option<&str> {
        self.store.fold(self.part(index).0)
    }

    fn stamp(&self, index: usize) -> Option<String> {
        let (of, part) = self.part(index);
        Some(format!("{} {part:?}", self.store.stamp(of)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_within_the_whole() {
        let cut = |whole: f64, length: f64, hop: f64| -> Vec<[f64; 2]> {
            let [whole, length, hop] = [whole, length, hop].map(Duration::from_secs_f64);
            let windows = Windows::cut(whole, length, hop).into_iter();
            windows.map(|w| [w.start.as_secs_f64(), w.end.as_secs_f64()]).collect()
        };
        assert_eq!(cut(10.0, 5.0, 5.0), [[0.0, 5.0], [5.0, 10.0]]);
        assert_eq!(cut(9.9, 5.0, 2.5), [[0.0, 5.0], [2.5, 7.5]]);
        assert_eq!(cut(3.0, 5.0, 5.0), [[0.0, 3.0]]);
        assert_eq!(cut(0.01, 0.004, 0.0).len(), 7);
    }
}
