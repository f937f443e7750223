//! The data set over listed video files and folders of frames.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use lejepa_core::{Dataset, FileDataset, Labels, Listing, Result, Split, Window};

use crate::clip::Clip;
use crate::config::VideoConfig;
use crate::decode::{self, Limits};

pub(crate) struct VideoFiles {
    files: FileDataset<Clip>,
    /// Whether an item was found to be read whole: known only once it has been decoded.
    whole: Vec<AtomicBool>,
}

impl VideoFiles {
    /// # Errors
    /// [`lejepa_core::Error::Data`] where this build can read none of the files.
    pub(crate) fn new(listing: Listing, config: &VideoConfig) -> Result<Self> {
        check_readable(&listing.paths)?;
        let whole = listing.paths.iter().map(|_| AtomicBool::new(false)).collect();
        let limits = Limits::of(config);
        let files = FileDataset::new(listing, Clip::bytes, move |path, window| {
            decode::decode(path, limits, window)
        });
        Ok(Self { files, whole })
    }
}

#[cfg(feature = "ffmpeg")]
fn check_readable(_: &[PathBuf]) -> Result<()> {
    Ok(())
}

/// A data set of which every file would be skipped is an error at once, with what to do.
#[cfg(not(feature = "ffmpeg"))]
fn check_readable(paths: &[PathBuf]) -> Result<()> {
    let needs_ffmpeg = |p: &PathBuf| {
        !lejepa_core::has_extension(p, &["gif"])
            && lejepa_core::has_extension(p, decode::VIDEO)
            && !p.is_dir()
    };
    if paths.is_empty() || !paths.iter().all(needs_ffmpeg) {
        return Ok(());
    }
    Err(lejepa_core::Error::Data {
        reason: format!(
            "none of the {} files can be read: this program is built without FFmpeg",
            paths.len()
        ),
        hint: "rebuild with --features ffmpeg, or turn each video into a folder of frames".into(),
    })
}

impl Dataset for VideoFiles {
    type Item = Clip;

    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        self.files.name(index)
    }

    fn item(&self, index: usize, window: Window<'_>) -> Result<Clip> {
        let clip = self.files.item(index, window)?;
        if let Some(whole) = self.whole.get(index) {
            whole.store(!clip.is_part(), Ordering::Relaxed);
        }
        Ok(clip)
    }

    /// False until the item has been decoded and found to be short enough.
    fn is_whole(&self, index: usize) -> bool {
        self.whole.get(index).is_some_and(|whole| whole.load(Ordering::Relaxed))
    }

    fn bytes(&self, clip: &Clip) -> usize {
        self.files.bytes(clip)
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
    use crate::VideoModality;
    use crate::decode::tests::{gif_of, ramp_gif, write_frames};
    use lejepa_core::{Modality, Source};

    fn open(root: &std::path::Path, config: &VideoConfig) -> Box<dyn Dataset<Item = Clip>> {
        let source = Source::resolve(root.to_str().unwrap(), VideoModality::rule()).unwrap();
        VideoModality::open(config, source).unwrap()
    }

    #[test]
    fn class_folders_hold_gifs_and_folders_of_frames() {
        let d = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(d.path().join("up")).unwrap();
        std::fs::write(d.path().join("up/a.gif"), ramp_gif(5)).unwrap();
        std::fs::write(d.path().join("up/b.GIF"), gif_of(&[7])).unwrap();
        write_frames(&d.path().join("down/clip"), &[("1.png", 10), ("2.png", 20)]);
        let set = open(d.path(), &VideoConfig::default());
        assert_eq!(set.len(), 3);
        assert_eq!(set.labels()[0].classes, ["down", "up"]);
        assert!(set.name(0).ends_with("clip"));
        assert_eq!(set.item(0, Window::Centre).unwrap().frames().len(), 2);
        assert_eq!(set.item(1, Window::Centre).unwrap().frames().len(), 5);
        let error = set.item(2, Window::Centre).unwrap_err().to_string();
        assert!(error.ends_with("b.GIF: has 1 frame; at least 2 are needed"), "{error}");
    }

    #[test]
    fn only_short_items_are_whole() {
        let d = tempfile::tempdir().unwrap();
        std::fs::write(d.path().join("long.gif"), ramp_gif(12)).unwrap();
        std::fs::write(d.path().join("short.gif"), ramp_gif(8)).unwrap();
        let config = VideoConfig { max_frames: 8, ..VideoConfig::default() };
        let set = open(d.path(), &config);
        assert!(!set.is_whole(0) && !set.is_whole(1), "nothing is known before reading");
        for index in [0, 1] {
            assert_eq!(set.item(index, Window::Centre).unwrap().frames().len(), 8);
        }
        assert!(!set.is_whole(0) && set.is_whole(1));
        assert!(!set.is_whole(9));
    }

    #[cfg(not(feature = "ffmpeg"))]
    #[test]
    fn video_files_are_listed_and_say_what_they_need() {
        let d = tempfile::tempdir().unwrap();
        std::fs::write(d.path().join("a.mp4"), b"anything").unwrap();
        let source = || Source::resolve(d.path().to_str().unwrap(), VideoModality::rule()).unwrap();
        let Err(error) = VideoModality::open(&VideoConfig::default(), source()) else {
            panic!("nothing can be read")
        };
        assert!(error.hint().unwrap().contains("--features ffmpeg"), "{error}");
        std::fs::write(d.path().join("b.gif"), ramp_gif(3)).unwrap();
        let set = VideoModality::open(&VideoConfig::default(), source()).unwrap();
        assert_eq!(set.len(), 2);
        let error = set.item(0, Window::Centre).unwrap_err().to_string();
        assert!(error.contains("built without FFmpeg"), "{error}");
        assert!(set.item(1, Window::Centre).is_ok());
    }
}
