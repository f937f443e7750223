//! Episodes in folders: images in the order of their names, and a table of actions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use lejepa_core::{Blob, BlobStore, Dataset, Decoded, Error, Labels, Result, Split, Window};
use lejepa_image::crop::{Area, resize};
use lejepa_image::decode;

use crate::config::WorldConfig;
use crate::episode::{Episode, Moment};

/// Beside the frames: a header, then a row for each frame. Columns `value_NAME` are numbers that probes predict, all
/// others are the action that is taken at the frame, in order.
pub(crate) const ACTIONS: &str = "actions.csv";

/// Of episodes without a split, one of so many is held out.
const HELD_OUT: usize = 10;

/// Frames of all episodes, one after the other.
pub(crate) struct Episodes {
    store: Arc<dyn BlobStore>,
    tables: Vec<Actions>,
    /// The first frame of each episode, and the number of frames.
    starts: Vec<usize>,
    labels: Vec<Labels>,
    /// Whether the store says the split of some episode.
    has_splits: bool,
    config: WorldConfig,
    /// Episodes that some sample holds.
    alive: Mutex<HashMap<usize, Weak<Episode>>>,
}

/// A table of actions.
struct Actions {
    rows: usize,
    actions: Vec<f32>,
    values: Vec<(String, Vec<Option<f64>>)>,
}

fn refused(path: &Path, reason: String) -> Error {
    let hint = "an episode is a folder of images with actions.csv: a header, then a row of numbers for each image";
    Error::path(path, reason, hint)
}

impl Actions {
    fn read(file: &Path, width: usize) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(file);
        let reader = reader.as_mut().map_err(|e| refused(file, e.to_string()))?;
        let header = reader.headers().map_err(|e| refused(file, e.to_string()))?.clone();
        let named = |at: &usize| header[*at].strip_prefix("value_").filter(|n| !n.is_empty());
        let columns: Vec<usize> = (0..header.len()).filter(|at| named(at).is_none()).collect();
        if columns.len() != width {
            let reason =
                format!("has {} columns of actions, and world.actions is {width}", columns.len());
            return Err(refused(file, reason));
        }
        let mut values: Vec<(usize, String, Vec<Option<f64>>)> = (0..header.len())
            .filter_map(|at| Some((at, named(&at)?.to_string(), Vec::new())))
            .collect();
        let (mut rows, mut actions) = (0, Vec::new());
        for record in reader.records() {
            let record = record.map_err(|e| refused(file, e.to_string()))?;
            rows += 1;
            for &at in &columns {
                // The action at the last frame leads nowhere and may be left out.
                let word = record.get(at).filter(|word| !word.is_empty()).unwrap_or("0");
                let number = word.parse::<f32>().ok().filter(|v| v.is_finite());
                let line = record.position().map_or(0, csv::Position::line);
                actions.push(number.ok_or_else(|| {
                    refused(file, format!("line {line}: `{}` is no number", word.escape_debug()))
                })?);
            }
            for (at, _, column) in &mut values {
                column.push(record.get(*at).and_then(|word| word.parse().ok()));
            }
        }
        let values = values.into_iter().map(|(_, name, column)| (name, column)).collect();
        Ok(Self { rows, actions, values })
    }
}

impl Episodes {
    pub(crate) fn open(store: Arc<dyn BlobStore>, config: &WorldConfig) -> Result<Self> {
        config.validate()?;
        let folder = |index: usize| {
            let path = store.path(index).filter(|path| path.is_dir());
            path.ok_or_else(|| {
                let name = PathBuf::from(store.name(index));
                refused(&name, "is no folder".into())
            })
        };
        let (mut tables, mut starts) = (Vec::new(), vec![0]);
        for index in 0..store.len() {
            let table = Actions::read(&folder(index)?.join(ACTIONS), config.actions)?;
            starts.push(starts[index] + table.rows);
            tables.push(table);
        }
        let mut names: Vec<String> =
            tables.iter().flat_map(|table| &table.values).map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        let column = |name: &String| {
            let of = |table: &Actions| {
                let values = table.values.iter().find(|(n, _)| n == name);
                values.map_or_else(|| vec![None; table.rows], |(_, values)| values.clone())
            };
            Labels::numbers(name, tables.iter().flat_map(of).collect())
        };
        let mut labels: Vec<Labels> = names.iter().map(column).collect();
        // Labels of episodes are those of their frames.
        labels.extend(store.labels().iter().map(|column| {
            let of = |(episode, table): (usize, &Actions)| std::iter::repeat_n(episode, table.rows);
            column.select(tables.iter().enumerate().flat_map(of))
        }));
        let has_splits = (0..store.len()).any(|episode| store.split(episode).is_some());
        let (config, alive) = (config.clone(), Mutex::default());
        Ok(Self { store, tables, starts, labels, has_splits, config, alive })
    }

    /// The episode of a frame, and the frame's place in it.
    fn place(&self, index: usize) -> Option<(usize, usize)> {
        let episode = self.starts.partition_point(|&start| start <= index).checked_sub(1)?;
        (episode < self.tables.len()).then(|| (episode, index - self.starts[episode]))
    }

    fn episode(&self, episode: usize) -> Result<Arc<Episode>> {
        let known = |alive: &HashMap<usize, Weak<Episode>>| alive.get(&episode)?.upgrade();
        if let Some(found) = known(&self.alive.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        let name = self.store.name(episode);
        let bad = |reason: String| Error::sample(name.clone(), reason);
        let folder = self.store.path(episode).ok_or_else(|| bad("is no folder".into()))?;
        let entries = std::fs::read_dir(&folder).map_err(|e| bad(e.to_string()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| lejepa_core::has_extension(file, IMAGES));
        files.sort();
        let table = &self.tables[episode];
        if files.len() != table.rows {
            let reason = format!("{} images, but {} rows of actions", files.len(), table.rows);
            return Err(bad(reason));
        }
        let frames = files.iter().map(|file| self.frame(file).map_err(&bad));
        let frames = frames.collect::<Result<Vec<_>>>()?;
        let WorldConfig { actions, size, channels, .. } = self.config;
        let made = Episode::new([channels, size, size], frames, table.actions.clone(), actions)
            .map_err(|e| bad(e.to_string()))?;
        let made = Arc::new(made);
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.retain(|_, episode| episode.strong_count() > 0);
        alive.insert(episode, Arc::downgrade(&made));
        Ok(made)
    }

    /// A frame at the size of views; of pictures that are not square the whole is squeezed.
    fn frame(&self, file: &Path) -> Result<Vec<u8>, String> {
        let picture = decode(&Blob::file(file)).map_err(|e| format!("{}: {e}", file.display()))?;
        let (width, height) = (picture.width() as f64, picture.height() as f64);
        let area = Area { left: 0.0, top: 0.0, width, height };
        let planes = resize(&picture, area, self.config.size, self.config.channels)?;
        Ok(planes.into_iter().map(|v| (255.0 * v).round() as u8).collect())
    }
}

const IMAGES: &[&str] = &["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff"];

impl Dataset for Episodes {
    type Item = Moment;

    fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn name(&self, index: usize) -> String {
        match self.place(index) {
            Some((episode, frame)) => format!("{}#{frame}", self.store.name(episode)),
            None => format!("#{index}"),
        }
    }

    fn item(&self, index: usize, _: Window<'_>) -> Result<Decoded<Moment>> {
        let place = self.place(index);
        let (episode, frame) =
            place.ok_or_else(|| Error::sample(format!("#{index}"), "no such item"))?;
        let episode = self.episode(episode)?;
        // Its frames share it.
        let bytes = episode.bytes() / episode.frames().max(1);
        Ok(Decoded::whole(Moment { episode, frame }, bytes))
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn split(&self, index: usize) -> Option<Split> {
        let (episode, _) = self.place(index)?;
        match self.has_splits {
            true => self.store.split(episode),
            // Frames of one episode are alike: it is held out as a whole.
            false if episode % HELD_OUT == HELD_OUT - 1 => Some(Split::Test),
            false => Some(Split::Train),
        }
    }
}
