//! Embeddings of windows of long recordings and films.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lejepa_core::{Error, Facts, Source, ViewSource, Windows};

use crate::embed_files::EmbeddedFile;
use crate::export::Embedder;
use crate::guard::guarded;
use crate::named::{NamedEmbeddings, NamedNumbers};
use crate::observe::{Event, Observer};
use crate::{Result, TrainError};

impl Embedder {
    /// The same for windows of so many seconds, one every `hop`, of recordings and films. A sample that is shorter is
    /// one window. Each is embedded as a sample of that length would be: by the view in its middle.
    ///
    /// # Errors
    /// As [`Embedder::embed_to`]; [`TrainError::Core`] for lengths that are not above 0, and samples without a length
    /// in time.
    pub fn embed_windows_to(
        &self,
        source: &str,
        [length, hop]: [f64; 2],
        file: &Path,
        observer: &mut dyn Observer,
    ) -> Result<EmbeddedFile> {
        NamedEmbeddings::check(file)?;
        let refused = |reason: String, hint: &str| {
            TrainError::Core(Error::Data { reason, hint: hint.into() })
        };
        let time = |seconds: f64| {
            let time = Duration::try_from_secs_f64(seconds).ok();
            let time = time.filter(|time| *time >= Duration::from_millis(1));
            time.ok_or_else(|| refused(format!("a window of {seconds} s"), "seconds above 0.001"))
        };
        let (length, hop) = (time(length)?, time(hop)?);
        let rule = (self.resolved().modality().build().rule)();
        let Source::Blobs(store) = Source::resolve(source, rule)? else {
            return Err(refused("the built-in data has no windows".into(), "give files"));
        };
        let whole = self.resolved().open(Source::Blobs(store.clone()))?;
        let mut parts = Vec::new();
        for index in 0..whole.len() {
            // A sample that cannot be read becomes one that cannot be embedded, and is listed as such.
            let seconds = match guarded(|| whole.checked_examine(index), || whole.name(index)) {
                Ok(facts) => seconds_of(&facts).ok_or_else(|| {
                    refused(
                        format!("{} has no length in time", whole.name(index)),
                        "windows are of sounds and videos",
                    )
                })?,
                Err(_) => length.as_secs_f64(),
            };
            let seconds = Duration::try_from_secs_f64(seconds).unwrap_or(length);
            parts.extend(Windows::cut(seconds, length, hop).into_iter().map(|part| (index, part)));
            observer.event(Event::Scan { done: index + 1, total: whole.len() });
        }
        let windows = Arc::new(Windows::new(store, parts));
        let opened = self.resolved().open(Source::Blobs(windows.clone()))?;
        self.embed_parts_to(opened.as_ref(), Some((&windows, whole.as_ref())), file, observer)
    }
}

fn seconds_of(facts: &Facts) -> Option<f64> {
    let number = |name: &str| facts.numbers().iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let frames =
        || Some(number("frames")? / number("frames per second").filter(|rate| *rate > 0.0)?);
    number("seconds").or_else(frames)
}

/// Names of windows without their times, which have columns of their own.
pub(crate) fn name_windows(
    made: &mut NamedEmbeddings,
    indices: &[usize],
    source: &dyn ViewSource,
    windows: &Windows,
    whole: &dyn ViewSource,
) {
    let known: HashMap<String, usize> =
        indices.iter().map(|&index| (source.name(index), index)).collect();
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for name in &mut made.names {
        let part = known.get(name).and_then(|&index| windows.parts().get(index));
        let Some((of, part)) = part else { continue };
        starts.push(part.start.as_secs_f64());
        ends.push(part.end.as_secs_f64());
        *name = whole.name(*of);
    }
    let column = |name: &str, values| NamedNumbers { name: name.into(), values };
    made.places.splice(0..0, [column("start", starts), column("end", ends)]);
}
