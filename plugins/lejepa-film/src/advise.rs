//! Settings that follow from a look at films: those of their pictures and those of their sound.

use std::sync::Arc;

use lejepa_audio::{AudioModality, Waveform};
use lejepa_core::{
    Advice, Dataset, Decoded, Error, Modality, Result, Survey, SurveyContext, Window,
};
use lejepa_video::{Clip, VideoModality};

use crate::config::FilmConfig;
use crate::sample::Film;

/// Most films that are looked at.
const SAMPLES: usize = 64;

/// What picture and sound have in common is not taken away: settings that stay as they are whatever the films are.
const KEPT: [&str; 8] = [
    "video.globals",
    "video.locals",
    "audio.globals",
    "audio.locals",
    "audio.time_scale",
    "audio.band_scale",
    "audio.speed",
    "audio.whole_seconds",
];

/// The pictures or the sounds of the films that were looked at.
struct Seen<T>(Vec<Arc<T>>);

impl<T: Clone + Send + Sync + 'static> Dataset for Seen<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn name(&self, index: usize) -> String {
        format!("film {index}")
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<T>> {
        let item =
            self.0.get(index).ok_or_else(|| Error::sample(self.name(index), "no such film"))?;
        Ok(Decoded::whole(item.as_ref().clone(), 0))
    }
}

pub(crate) fn advise(config: &FilmConfig, survey: &Survey<'_, Film>) -> Result<Advice> {
    let films: Vec<Film> = survey.samples(SAMPLES).collect();
    let pictures: Seen<Clip> = Seen(films.iter().map(|film| film.picture.clone()).collect());
    let sounds: Seen<Waveform> = Seen(films.iter().map(|film| film.sound.clone()).collect());
    let at = survey.context();
    // Of pictures all is kept, and not their motion alone.
    let scene = SurveyContext::new("scene").on_gpu(at.is_gpu).multiple_of(at.multiple);
    let of_pictures = VideoModality::advise(&config.picture, &Survey::new(&pictures, scene))?;
    let of_sounds = AudioModality::advise(&config.sound, &Survey::new(&sounds, at))?;
    let mut advice = Advice::default();
    for (section, stream, found) in
        [("video", "picture", of_pictures), ("audio", "sound", of_sounds)]
    {
        for choice in found.choices().iter().filter(|c| !KEPT.contains(&c.key.as_str())) {
            // What concerns the training as a whole is not for one of them to say.
            if let Some(key) = here(&choice.key, section, stream) {
                advice.set(&key, choice.value.clone(), &*choice.reason);
            }
        }
    }
    Ok(advice)
}

/// The name that a key of a section or of an encoder has for a stream.
fn here(key: &str, section: &str, stream: &str) -> Option<String> {
    let (first, rest) = key.split_once('.')?;
    match first {
        "encoder" => Some(format!("encoder.{stream}.{rest}")),
        first if first == section => Some(format!("film.{stream}.{rest}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lejepa_core::{AUTO, Source, Value};

    use super::*;
    use crate::FilmModality;

    #[test]
    fn settings_are_those_of_both_by_their_names_here() {
        let config = FilmConfig::default();
        let films = FilmModality::open(&config, Source::Demo).unwrap();
        let survey = Survey::new(films.as_ref(), SurveyContext::new(AUTO));
        let advice = advise(&config, &survey).unwrap();
        assert_eq!(advice.get("film.picture.channels"), Some(&Value::Integer(1)));
        assert!(advice.get("film.sound.mean").is_some());
        assert!(advice.get("encoder.picture.name").is_some());
        for choice in advice.choices() {
            let is_here = ["film.picture.", "film.sound.", "encoder.picture.", "encoder.sound."]
                .iter()
                .any(|prefix| choice.key.starts_with(prefix));
            assert!(is_here, "{}", choice.key);
        }
        assert!(advice.get("film.sound.time_scale").is_none());
    }
}
