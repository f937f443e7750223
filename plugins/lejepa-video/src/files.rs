//! The data set of encoded videos and folders of frames.

use std::sync::Arc;

use lejepa_core::{BlobDataset, BlobStore, Result};

use crate::clip::Clip;
use crate::config::VideoConfig;
use crate::decode;
use crate::limits::Limits;

/// The data set of the videos in `store`.
///
/// # Errors
/// [`lejepa_core::Error::Data`] where this build can read none of them.
pub(crate) fn open(store: Arc<dyn BlobStore>, config: &VideoConfig) -> Result<BlobDataset<Clip>> {
    check_readable(store.as_ref())?;
    let limits = Limits::of(config);
    Ok(BlobDataset::new(store, move |blob, window| decode::decode(blob, limits, window)))
}

#[cfg(feature = "ffmpeg")]
fn check_readable(_: &dyn BlobStore) -> Result<()> {
    Ok(())
}

/// If every single video would be skipped, says at once what to do about it.
#[cfg(not(feature = "ffmpeg"))]
fn check_readable(store: &dyn BlobStore) -> Result<()> {
    let needs_ffmpeg = |index| {
        store.blob(index).is_ok_and(|blob| {
            let extension = blob.extension();
            extension != "gif"
                && decode::VIDEO.contains(&extension.as_str())
                && !blob.path().is_some_and(std::path::Path::is_dir)
        })
    };
    if store.is_empty() || !(0..store.len()).all(needs_ffmpeg) {
        return Ok(());
    }
    Err(lejepa_core::Error::Data {
        reason: format!(
            "none of the {} videos can be read: this program is built without FFmpeg",
            store.len()
        ),
        hint: "rebuild with --features ffmpeg, or turn each video into a folder of frames".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VideoModality;
    use crate::decode::tests::{gif_of, ramp_gif, write_frames};
    use lejepa_core::{Dataset, Modality, Source, Window};

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
        assert_eq!(set.labels()[0].names(), ["down", "up"]);
        assert!(set.name(0).ends_with("clip"));
        assert_eq!(set.item(0, Window::Centre).unwrap().item.frames().len(), 2);
        assert_eq!(set.item(1, Window::Centre).unwrap().item.frames().len(), 5);
        let error = set.item(2, Window::Centre).unwrap_err().to_string();
        assert!(error.ends_with("b.GIF: has 1 frame; at least 2 are needed"), "{error}");
    }

    #[test]
    fn only_short_videos_are_whole() {
        let d = tempfile::tempdir().unwrap();
        std::fs::write(d.path().join("long.gif"), ramp_gif(12)).unwrap();
        std::fs::write(d.path().join("short.gif"), ramp_gif(8)).unwrap();
        let config = VideoConfig { max_frames: 8, ..VideoConfig::default() };
        let set = open(d.path(), &config);
        for (index, is_whole) in [(0, false), (1, true)] {
            let decoded = set.item(index, Window::Centre).unwrap();
            assert_eq!(decoded.item.frames().len(), 8);
            assert_eq!((decoded.bytes, decoded.is_whole), (decoded.item.bytes(), is_whole));
        }
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
        let set = open(d.path(), &VideoConfig::default());
        assert_eq!(set.len(), 2);
        let error = set.item(0, Window::Centre).unwrap_err().to_string();
        assert!(error.contains("built without FFmpeg"), "{error}");
        assert!(set.item(1, Window::Centre).is_ok());
    }
}
