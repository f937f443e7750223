//! A film, and how one is read.

use std::borrow::Cow;
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
    mut window: Window<'_>,
) -> Result<Decoded<Film>, String> {
    // Members of archives are read thrice.
    let copy;
    let (blob, file) = match blob.path() {
        Some(path) => (blob, Cow::Borrowed(path)),
        None => {
            copy = copied(blob).map_err(|e| e.to_string())?;
            (&Blob::file(copy.path().to_path_buf()), Cow::Borrowed(copy.path()))
        }
    };
    let length = lejepa_video::length(&file)?;
    let whole = blob.span().unwrap_or(Duration::ZERO..length);
    let end = whole.end.min(length.max(whole.start));
    let milliseconds = |time: Duration| usize::try_from(time.as_millis()).unwrap_or(usize::MAX);
    let total = milliseconds(end.saturating_sub(whole.start));
    let wanted = ((1000.0 * config.seconds) as usize).min(total);
    let start = window.start(total, wanted);
    let at = |start: usize| {
        let from = whole.start + Duration::from_millis(start as u64);
        let part =
            Blob::file(file.clone()).with_span(from..from + Duration::from_millis(wanted as u64));
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

fn copied(blob: &Blob<'_>) -> std::io::Result<tempfile::NamedTempFile> {
    let suffix = format!(".{}", blob.extension());
    let mut copy = tempfile::Builder::new().suffix(&suffix).tempfile()?;
    std::io::copy(&mut blob.open()?, &mut copy)?;
    Ok(copy)
}
