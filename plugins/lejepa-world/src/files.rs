//! Episodes in files: folders of images in the order of their names with a table of actions, or NumPy's archives.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use lejepa_core::{Blob, BlobStore, Dataset, Decoded, Error, Labels, Result, Split, Window};
use lejepa_image::decode;

use crate::config::WorldConfig;
use crate::episode::{Episode, Moment, squeezed};
use crate::npz;
use crate::table::{EpisodeTable, refused};

/// Beside the frames.
pub(crate) const ACTIONS: &str = "actions.csv";

/// Of episodes without a split, one of so many is held out.
const HELD_OUT: usize = 10;

/// Frames of all episodes, one after the other.
pub(crate) struct Episodes {
    store: Arc<dyn BlobStore>,
    tables: Vec<EpisodeTable>,
    /// Where each episode is.
    places: Vec<Place>,
    /// The first frame of each episode, and the number of frames.
    starts: Vec<usize>,
    labels: Vec<Labels>,
    /// Whether the store says the split of some episode.
    has_splits: bool,
    config: WorldConfig,
    /// Episodes that some sample holds.
    alive: Mutex<HashMap<usize, Weak<Episode>>>,
    /// Of each file of the store that holds several episodes: all of them, at the size of views.
    kept: Vec<OnceLock<Vec<Arc<Episode>>>>,
}

/// An episode in the store.
struct Place {
    /// Index of the folder or file.
    file: usize,
    /// Which of how many in it.
    part: usize,
    of: usize,
}

impl Episodes {
    pub(crate) fn open(store: Arc<dyn BlobStore>, config: &WorldConfig) -> Result<Self> {
        config.validate()?;
        let (mut tables, mut places) = (Vec::<EpisodeTable>::new(), Vec::new());
        let mut first_error = None;
        for file in 0..store.len() {
            let more = read(&*store, file).unwrap_or_else(|reason| {
                first_error.get_or_insert_with(|| (file, reason.clone()));
                vec![EpisodeTable::broken(reason)]
            });
            places.extend((0..more.len()).map(|part| Place { file, part, of: more.len() }));
            tables.extend(more);
        }
        match (tables.iter().find(|table| table.broken.is_none()), first_error) {
            (None, Some((file, reason))) => {
                return Err(refused(Path::new(&store.name(file)), reason));
            }
            (None, None) => {}
            (Some(good), _) => {
                let (width, is_kind) = (good.width, good.is_kind);
                for table in tables.iter_mut().filter(|table| table.broken.is_none()) {
                    if (table.width, table.is_kind) != (width, is_kind) {
                        let of = |is_kind: bool| if is_kind { "kinds" } else { "numbers" };
                        *table = EpisodeTable::broken(format!(
                            "has actions of {} {}, where those before it have {width} {}",
                            table.width,
                            of(table.is_kind),
                            of(is_kind)
                        ));
                    }
                }
                if is_kind {
                    let taken = tables.iter().flat_map(|table| &table.actions);
                    let most = taken.copied().fold(0.0, f32::max);
                    let kinds = (most as usize + 1).max(config.actions);
                    tables.iter_mut().for_each(|table| table.spread(kinds));
                }
            }
        }
        let starts: Vec<usize> = std::iter::once(0)
            .chain(tables.iter().scan(0, |all, table| {
                *all += table.rows;
                Some(*all)
            }))
            .collect();
        let mut names: Vec<String> =
            tables.iter().flat_map(|table| &table.values).map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        let column = |name: &String| {
            let of = |table: &EpisodeTable| {
                let values = table.values.iter().find(|(n, _)| n == name);
                values.map_or_else(|| vec![None; table.rows], |(_, values)| values.clone())
            };
            Labels::numbers(name, tables.iter().flat_map(of).collect())
        };
        let mut labels: Vec<Labels> = names.iter().map(column).collect();
        // Labels of episodes are those of their frames.
        labels.extend(store.labels().iter().map(|column| {
            let of = |(place, table): (&Place, &EpisodeTable)| {
                std::iter::repeat_n(place.file, table.rows)
            };
            column.select(places.iter().zip(&tables).flat_map(of))
        }));
        let has_splits = (0..store.len()).any(|file| store.split(file).is_some());
        let (config, alive) = (config.clone(), Mutex::default());
        let kept = (0..store.len()).map(|_| OnceLock::new()).collect();
        Ok(Self { store, tables, places, starts, labels, has_splits, config, alive, kept })
    }

    /// The episode of a frame, and the frame's place in it.
    fn place(&self, index: usize) -> Option<(usize, usize)> {
        let episode = self.starts.partition_point(|&start| start <= index).checked_sub(1)?;
        (episode < self.tables.len()).then(|| (episode, index - self.starts[episode]))
    }

    fn episode(&self, index: usize) -> Result<Arc<Episode>> {
        let place = &self.places[index];
        if let Some(reason) = &self.tables[index].broken {
            return Err(Error::sample(self.store.name(place.file), reason.clone()));
        }
        if place.of > 1 {
            let slot = &self.kept[place.file];
            let all = match slot.get() {
                Some(all) => all,
                None => {
                    let all = self.all_of(index - place.part)?;
                    slot.get_or_init(|| all)
                }
            };
            return Ok(all[place.part].clone());
        }
        let known = |alive: &HashMap<usize, Weak<Episode>>| alive.get(&index)?.upgrade();
        if let Some(found) = known(&self.alive.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        let folder = self.store.path(place.file).filter(|path| path.is_dir());
        let made = match folder {
            Some(folder) => self.of_folder(index, &folder)?,
            None => self.all_of(index)?.swap_remove(0),
        };
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.retain(|_, episode| episode.strong_count() > 0);
        alive.insert(index, Arc::downgrade(&made));
        Ok(made)
    }

    fn of_folder(&self, index: usize, folder: &Path) -> Result<Arc<Episode>> {
        let bad = |reason: String| Error::sample(self.store.name(self.places[index].file), reason);
        let entries = std::fs::read_dir(folder).map_err(|e| bad(e.to_string()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| lejepa_core::has_extension(file, IMAGES));
        files.sort();
        let rows = self.tables[index].rows;
        if files.len() != rows {
            return Err(bad(format!("{} images, but {rows} rows of actions", files.len())));
        }
        let frame = |file: &PathBuf| {
            let picture = decode(&Blob::file(file));
            let planes = picture.and_then(|picture| squeezed(&picture, &self.config));
            planes.map_err(|e| bad(format!("{}: {e}", file.display())))
        };
        self.made(index, files.iter().map(frame).collect::<Result<_>>()?)
    }

    /// The episodes of the NumPy archive whose first one is `first`.
    fn all_of(&self, first: usize) -> Result<Vec<Arc<Episode>>> {
        let Place { file, of, .. } = self.places[first];
        let mut left = self.tables[first..first + of].iter().map(|table| table.rows);
        let (mut episodes, mut frames) = (Vec::new(), Vec::new());
        let mut wanted = left.next().unwrap_or_default();
        let read = npz::frames(&self.store.blob(file)?, |picture| {
            frames.push(squeezed(&picture, &self.config)?);
            if frames.len() == wanted {
                episodes.push(std::mem::take(&mut frames));
                wanted = left.next().unwrap_or(usize::MAX);
            }
            Ok(())
        });
        read.map_err(|reason| Error::sample(self.store.name(file), reason))?;
        if episodes.len() != of {
            let reason = "has other sizes than when it was listed";
            return Err(Error::sample(self.store.name(file), reason));
        }
        episodes.into_iter().zip(first..).map(|(frames, index)| self.made(index, frames)).collect()
    }

    fn made(&self, index: usize, frames: Vec<Vec<u8>>) -> Result<Arc<Episode>> {
        let WorldConfig { size, channels, .. } = self.config;
        let EpisodeTable { width, actions, .. } = &self.tables[index];
        Episode::new([channels, size, size], frames, actions.clone(), *width)
            .map(Arc::new)
            .map_err(|e| Error::sample(self.store.name(self.places[index].file), e.to_string()))
    }
}

/// The episodes of a folder or file of the store.
fn read(store: &dyn BlobStore, file: usize) -> Result<Vec<EpisodeTable>, String> {
    match store.path(file).filter(|path| path.is_dir()) {
        Some(folder) => EpisodeTable::from_csv(&folder.join(ACTIONS))
            .map(|table| vec![table])
            .map_err(|reason| format!("{ACTIONS}: {reason}")),
        None => npz::tables(&store.blob(file).map_err(|e| e.to_string())?),
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
            Some((episode, frame)) => {
                let Place { file, part, of } = self.places[episode];
                let name = self.store.name(file);
                if of > 1 { format!("{name}[{part}]#{frame}") } else { format!("{name}#{frame}") }
            }
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
            true => self.store.split(self.places[episode].file),
            // Frames of one episode are alike: it is held out as a whole.
            false if episode % HELD_OUT == HELD_OUT - 1 => Some(Split::Test),
            false => Some(Split::Train),
        }
    }
}
