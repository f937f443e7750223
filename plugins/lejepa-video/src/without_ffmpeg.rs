//! What there is instead of `ffmpeg.rs` without the cargo feature `ffmpeg`: the reason why a file is not read.

use std::path::Path;
use std::time::Duration;

use lejepa_core::{Blob, Decoded, Window};

use crate::clip::Clip;
use crate::limits::Limits;

const REASON: &str = "this program reads only GIFs and folders of frames: it is built without FFmpeg; rebuild with \
                      --features ffmpeg, or turn the video into a folder of frames";

pub(crate) fn decode(_: &Blob<'_>, _: Limits, _: Window<'_>) -> Result<Decoded<Clip>, String> {
    Err(REASON.into())
}

pub(crate) fn with_file<T>(
    _: &Blob<'_>,
    _: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<T, String> {
    Err(REASON.into())
}

pub(crate) fn length(_: &Path) -> Result<Duration, String> {
    Err(REASON.into())
}
