//! A film, and how one is read.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lejepa_audio::Waveform;
use lejepa_core::{Blob, Decoded, Facts, Window};
use lejepa_video::Clip;

use crate::config::FilmConfig;

/// A part of a film: what is seen and what is heard in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Film {
    /// What is seen.
    pub picture: Arc<Clip>,
    /// What is heard.
    pub sound: Arc<Waveform>,
}

impl Film {
    /// A film of these pictures with this sound.
    pub fn new(picture: Clip, sound: Waveform) -> Self {
        Self { picture: Arc::new(picture), sound: Arc::new(sound) }
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.picture.bytes() + self.sound.bytes()
    }
}

/// Decodes the part of a film that `window` chooses: its pictures and its sound of the same time.
pub(crate) fn decode(
    blob: &Blob<'_>,
    config: &FilmConfig,
    window: Window<'_>,
) -> Result<Decoded<Film>, String> {
    // One file for both, and for its length.
    lejepa_video::with_file(blob, |file| decode_file(file, blob.span(), config, window))
}

fn decode_file(
    file: &Path,
    span: Option<Range<Duration>>,
    config: &FilmConfig,
    mut window: Window<'_>,
) -> Result<Decoded<Film>, String> {
    let length = lejepa_video::length(file)?;
    let whole = span.unwrap_or(Duration::ZERO..length);
    let end = whole.end.min(length.max(whole.start));
    let milliseconds = |time: Duration| usize::try_from(time.as_millis()).unwrap_or(usize::MAX);
    let total = milliseconds(end.saturating_sub(whole.start));
    let wanted = ((1000.0 * config.seconds) as usize).min(total);
    let start = window.start(total, wanted);
    let at = |start: usize| {
        let from = whole.start + Duration::from_millis(start as u64);
        let part = Blob::file(file).with_span(from..from + Duration::from_millis(wanted as u64));
        let picture = lejepa_video::decode(&part, &config.picture, Window::Centre)?;
        let sound = lejepa_audio::decode(&part, &config.sound, Window::Centre)
            .map_err(|reason| format!("its sound: {reason}"))?;
        Ok((picture.item, sound.item))
    };
    // A header may claim more than there is.
    let found: Result<_, String> = at(start);
    let (picture, sound) = if start > 0 { found.or_else(|_| at(0)) } else { found }?;
    let film = Film::new(picture, sound);
    let bytes = film.bytes();
    let facts = Facts::new()
        .number("seconds", total as f64 / 1000.0)
        .number("width", film.picture.width() as f64)
        .number("height", film.picture.height() as f64);
    let decoded =
        if wanted == total { Decoded::whole(film, bytes) } else { Decoded::part(film, bytes) };
    Ok(decoded.with_facts(facts))
}
