//! Worlds that actions change, for LeJEPA: the modality `world`.
//!
//! An episode is a sequence of frames with the action that was taken at each: a folder of images
//! (`episode/0001.png`, `episode/0002.png`, ...) with `actions.csv`, or the arrays `frames` and `actions` of an `.npz`
//! file, which may hold many episodes of one length. A sample is a frame of an episode with
//! those around it; a view is one frame, and the views of a sample are consecutive frames, with their actions as
//! context. With the prediction term `rollout` what is trained is a world model, and `lejepa plan` acts by it.
//!
//! | Item | Purpose |
//! |---|---|
//! | [`WorldModality`] | the plugin |
//! | [`WorldConfig`] | the `[world]` section |
//! | [`Episode`], [`Moment`] | frames and actions |
//! | [`TwoRooms`] | the built-in world, which is also an [`Environment`](lejepa_core::Environment) to plan in |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod advise;
mod config;
mod demo;
mod episode;
mod files;
mod npz;
mod sampler;
mod table;
mod two_rooms;

use std::path::Path;

use lejepa_core::config::{Docs, field_docs, recipe};
use lejepa_core::{
    Advice, Component, Dataset, Error, Modality, Result, Source, SourceKind, Survey, Table,
    ViewSampler, kind, register,
};

pub use config::WorldConfig;
pub use episode::{Episode, Moment};
pub use two_rooms::{RoomsWorld, TwoRooms};

/// Worlds that actions change.
pub struct WorldModality;

register!(kind::Modality: WorldModality, kind::Environment: RoomsWorld);

impl Component for WorldModality {
    const NAME: &'static str = "world";
    const ABOUT: &'static str =
        "worlds that actions change: frames and actions, in folders or .npz files";
    type Config = WorldConfig;

    fn docs() -> Docs {
        field_docs(include_str!("config.rs"), "WorldConfig")
    }
}

impl Modality for WorldModality {
    /// Of episodes that are not folders.
    const EXTENSIONS: &'static [&'static str] = &["npz"];

    type Sample = Moment;

    fn open(config: &WorldConfig, source: Source) -> Result<Box<dyn Dataset<Item = Moment>>> {
        Ok(match source {
            Source::Demo => Box::new(demo::Demo::new()),
            Source::Blobs(store) => Box::new(files::Episodes::open(store, config)?),
            other => {
                return Err(Error::Data {
                    reason: format!("episodes cannot be read from {other:?}"),
                    hint: "use the built-in world, folders of frames with an actions.csv, or .npz files".into(),
                });
            }
        })
    }

    fn sampler(config: &WorldConfig) -> Result<Box<dyn ViewSampler<Sample = Moment>>> {
        Ok(Box::new(sampler::WorldSampler::new(config)?))
    }

    fn recipe(source: SourceKind) -> Table {
        let pixels = if source == SourceKind::Demo { DEMO } else { "" };
        let objective = format!("lambda = {LAMBDA}\nslices = 64\nreduction = 'pooled'");
        recipe(&format!("{pixels}{RECIPE}[objective]\n{objective}\n"))
    }

    fn advise(config: &WorldConfig, survey: &Survey<'_, Moment>) -> Result<Advice> {
        Ok(advise::advise(config, survey))
    }

    fn is_sample_dir(path: &Path) -> bool {
        path.join(files::ACTIONS).is_file()
    }
}

/// With which plans in the built-in world are best.
pub(crate) const LAMBDA: f64 = 0.1;

/// Of the pixels of the built-in world.
const DEMO: &str = "
[world]
mean = 0.887
std = 0.142
";

/// Chosen on the built-in world.
const RECIPE: &str = "
[encoder]
name = 'mlp'
width = 256
depth = 2
grid = [16, 16]

[projector]
hidden = 128
output = 24
layers = 3

[prediction]
name = 'rollout'

[train]
steps = 600
batch = 48
lr = 0.002
";
