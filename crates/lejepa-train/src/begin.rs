//! Where a run begins and how long it is: checkpoints to resume from, initial weights, steps, loader threads.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use lejepa_core::{Arrays, Error};

use crate::model::Model;
use crate::observe::{Event, Observer};
use crate::order::Order;
use crate::resolved::Resolved;
use crate::rundir::RunDir;
use crate::{Result, checkpoint, compare, foreign};

/// The newest checkpoint that is whole; warns of newer ones that are damaged.
pub(crate) fn whole_checkpoint(run: &RunDir, observer: &mut dyn Observer) -> Result<PathBuf> {
    let (saved, damaged) = checkpoint::newest_whole(run)?;
    for error in damaged {
        observer.event(Event::Warning(&format!(
            "{error}; this checkpoint is damaged, so the one before it is used"
        )));
    }
    Ok(saved)
}

/// Weights of another run, of one of its checkpoints, or of a file.
pub(crate) fn initial_weights(
    from: &str,
    resolved: &Resolved,
    model: Model,
    observer: &mut dyn Observer,
) -> Result<Model> {
    let path = Path::new(from);
    let (weights, step) = if path.join("config.toml").is_file() {
        let saved = whole_checkpoint(&RunDir::open(path)?, observer)?;
        let state = checkpoint::load_state(&saved)?;
        compare::same_model(&state.config, resolved.table())?;
        (saved, Some(state.step))
    } else if path.is_dir() {
        checkpoint::verify(path)?;
        let state = checkpoint::load_state(path)?;
        compare::same_model(&state.config, resolved.table())?;
        (path.to_path_buf(), Some(state.step))
    } else {
        (path.to_path_buf(), None)
    };
    if !weights.is_dir()
        && let Some(arrays) = foreign::read_arrays(&weights)?
    {
        return foreign_weights(&weights, arrays, model, observer);
    }
    let step = step.map_or(String::new(), |s| format!(" at step {s}"));
    observer.event(Event::Note(&format!("weights   from {}{step}", weights.display())));
    if weights.is_dir() {
        checkpoint::load_model(&weights, model)
    } else {
        checkpoint::load_weights(&weights, model)
    }
}

impl Resolved {
    /// The model with the weights that `train.init` names; with random ones where it names none.
    ///
    /// # Errors
    /// Weights that cannot be read, or are those of another model.
    pub fn initial_model(&self, device: &Device, observer: &mut dyn Observer) -> Result<Model> {
        let (from, model) = (&self.settings().train.init, self.model(device)?);
        if from.is_empty() { Ok(model) } else { initial_weights(from, self, model, observer) }
    }
}

/// Weights of an encoder alone: of an export, or of another library.
fn foreign_weights(
    file: &Path,
    arrays: Arrays,
    mut model: Model,
    observer: &mut dyn Observer,
) -> Result<Model> {
    let [encoder] = &mut model.encoders[..] else {
        let reason = "a file of one encoder's weights cannot start several";
        return Err(Error::bad_value("train.init", reason).into());
    };
    let notes = foreign::load_arrays(file, arrays, encoder)?;
    observer.event(Event::Note(&format!("weights   of the encoder from {}", file.display())));
    for note in notes {
        observer.event(Event::Note(&format!("weights   {note}")));
    }
    Ok(model)
}

pub(crate) fn steps(resolved: &Resolved, order: &Order) -> u64 {
    let train = &resolved.settings().train;
    let per_epoch = order.steps_per_epoch();
    match (train.steps, train.epochs) {
        (0, 0.0) => (30 * per_epoch).max(300),
        (0, epochs) => ((epochs * per_epoch as f64).round() as u64).max(1),
        (steps, _) => steps,
    }
}

/// Loader threads where the user leaves the choice: half the processors, since on a CPU the step
/// itself wants them all.
pub(crate) fn workers(wanted: usize) -> usize {
    match wanted {
        0 => (std::thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 8),
        n => n,
    }
}
