//! Views of films: those of their pictures and those of their sound.

use std::sync::Arc;

use lejepa_audio::{AudioSampler, Waveform};
use lejepa_core::{Group, Result, Sound, View, ViewRng, ViewSampler, ViewSpec, Views};
use lejepa_video::{Clip, VideoSampler};

use crate::config::{FilmConfig, within};
use crate::sample::Film;

/// The streams.
pub(crate) const STREAMS: [&str; 2] = ["picture", "sound"];

/// Makes the views of [`VideoSampler`] of a film's pictures for the stream `picture` and those of [`AudioSampler`] of its
/// sound for the stream `sound`.
pub struct FilmSampler {
    picture: VideoSampler,
    sound: AudioSampler,
}

impl FilmSampler {
    /// A sampler with these settings.
    ///
    /// # Errors
    /// [`lejepa_core::Error::BadValue`] for settings out of range.
    pub fn new(config: &FilmConfig) -> Result<Self> {
        config.validate()?;
        let picture = within("video.", "film.picture.", VideoSampler::new(&config.picture))?;
        let sound = within("audio.", "film.sound.", AudioSampler::new(&config.sound))?;
        Ok(Self { picture, sound })
    }

    /// Those of both, where either may want other films to mix with.
    fn both(&self, film: &Film, others: &[Arc<Film>], rng: &mut ViewRng) -> Result<Views> {
        let clips: Vec<Arc<Clip>> = others.iter().map(|film| film.picture.clone()).collect();
        let waves: Vec<Arc<Waveform>> = others.iter().map(|film| film.sound.clone()).collect();
        let picture = drawn(&self.picture, &film.picture, &clips, rng)?;
        let sound = drawn(&self.sound, &film.sound, &waves, rng)?;
        Ok(Views::new([picture.groups(), sound.groups()].concat()))
    }
}

fn drawn<S: ViewSampler>(
    sampler: &S,
    sample: &S::Sample,
    others: &[Arc<S::Sample>],
    rng: &mut ViewRng,
) -> Result<Views> {
    match sampler.companions().min(others.len()) {
        0 => sampler.views(sample, rng),
        count => sampler.views_with(sample, &others[..count], rng),
    }
}

/// A sampler's groups, for a stream and with its name before theirs.
fn groups_of(spec: &ViewSpec, stream: &str) -> Vec<Group> {
    let named = |group: &Group| {
        let mut group = group.clone().stream(stream);
        group.name = format!("{stream}_{}", group.name);
        group
    };
    spec.groups().iter().map(named).collect()
}

impl ViewSampler for FilmSampler {
    type Sample = Film;

    fn spec(&self) -> ViewSpec {
        let [picture, sound] = STREAMS;
        let groups =
            [groups_of(&self.picture.spec(), picture), groups_of(&self.sound.spec(), sound)];
        ViewSpec::new(groups.concat())
    }

    fn views(&self, film: &Film, rng: &mut ViewRng) -> Result<Views> {
        self.both(film, &[], rng)
    }

    fn companions(&self) -> usize {
        self.picture.companions().max(self.sound.companions())
    }

    fn views_with(&self, film: &Film, others: &[Arc<Film>], rng: &mut ViewRng) -> Result<Views> {
        self.both(film, others, rng)
    }

    fn eval_view(&self, film: &Film) -> Result<View> {
        self.picture.eval_view(&film.picture)
    }

    fn eval_views(&self, film: &Film) -> Result<Vec<View>> {
        Ok(vec![self.picture.eval_view(&film.picture)?, self.sound.eval_view(&film.sound)?])
    }

    fn raw_features(&self, view: &View) -> Vec<f32> {
        // Clips have a time, a height and a width.
        match view.shape().len() {
            4 => self.picture.raw_features(view),
            _ => self.sound.raw_features(view),
        }
    }

    fn sound(&self, view: &View) -> Option<Sound> {
        if view.shape().len() == 4 { None } else { self.sound.sound(view) }
    }
}
