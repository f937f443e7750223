//! The data set over listed sound files.

use std::sync::atomic::{AtomicBool, Ordering};

use lejepa_core::{Dataset, FileDataset, Labels, Listing, Result, Split, Window};

use crate::config::AudioConfig;
use crate::decode::{self, Limits};
use crate::waveform::Waveform;

pub(crate) struct AudioFiles {
    files: FileDataset<Waveform>,
    /// Whether an item was found to be read whole: known only once it has been decoded.
    whole: Vec<AtomicBool>,
}

impl AudioFiles {
    pub(crate) fn new(listing: Listing, config: &AudioConfig) -> Self {
        let whole = listing.paths.iter().map(|_| AtomicBool::new(false)).collect();
        let limits = Limits::of(config);
        let files = FileDataset::new(listing, Waveform::bytes, move |path, window| {
            decode::decode(path, limits, window)
        });
        Self { files, whole }
    }
}

impl Dataset for AudioFiles {
    type Item = Waveform;

    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        self.files.name(index)
    }

    fn item(&self, index: usize, window: Window<'_>) -> Result<Waveform> {
        let wave = self.files.item(index, window)?;
        if let Some(whole) = self.whole.get(index) {
            whole.store(!wave.is_part(), Ordering::Relaxed);
        }
        Ok(wave)
    }

    /// False until the item has been decoded and found to be short enough.
    fn is_whole(&self, index: usize) -> bool {
        self.whole.get(index).is_some_and(|whole| whole.load(Ordering::Relaxed))
    }

    fn bytes(&self, wave: &Waveform) -> usize {
        self.files.bytes(wave)
    }

    fn labels(&self) -> &[Labels] {
        self.files.labels()
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.files.split(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AudioModality;
    use crate::decode::tests::{sine, write_wav};
    use lejepa_core::{Modality, Source};

    #[test]
    fn class_folders_are_labels_and_only_short_items_are_whole() {
        let d = tempfile::tempdir().unwrap();
        for (name, seconds) in [("a/long.wav", 3), ("b/short.WAV", 2)] {
            let path = d.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_wav(&path, 16000, &sine(440.0, 16000, seconds * 16000));
        }
        std::fs::write(d.path().join("b/zero.mp3"), b"").unwrap();
        let source = Source::resolve(d.path().to_str().unwrap(), AudioModality::rule()).unwrap();
        let config = AudioConfig { whole_seconds: 2.0, ..AudioConfig::default() };
        let set = AudioModality::open(&config, source).unwrap();
        assert_eq!(set.len(), 3);
        assert_eq!(set.labels()[0].classes, ["a", "b"]);
        assert!(!set.is_whole(0) && !set.is_whole(1), "nothing is known before reading");
        for index in [0, 1] {
            let wave = set.item(index, Window::Centre).unwrap();
            assert_eq!(wave.samples().len(), 32000);
            assert_eq!(set.bytes(&wave), 128_000);
        }
        assert!(!set.is_whole(0) && set.is_whole(1) && !set.is_whole(9));
        let error = set.item(2, Window::Centre).unwrap_err().to_string();
        assert!(error.ends_with("zero.mp3: the file is empty (0 bytes)"), "{error}");
    }
}
