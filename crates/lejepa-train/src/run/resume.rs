//! Going on with a run, as it was or longer.

use lejepa_core::{Table, Value};

use super::{Event, Observer, Run, Skipped, checkpoint, compare, whole_checkpoint};
use crate::dotted::at;
use crate::{Result, TrainError};

fn source_of(config: &Table) -> Option<&Value> {
    at(config, "data.source")
}

impl Run<'_> {
    /// Takes up the newest checkpoint that is whole.
    pub(super) fn resume(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let saved = whole_checkpoint(self.dir, observer)?;
        let state = checkpoint::load_state(&saved)?;
        compare::same_run(&state.config, &self.state.config)?;
        let moved = source_of(&state.config) != source_of(&self.state.config);
        if state.data != self.state.data && moved {
            return Err(TrainError::OtherData {
                theirs: state.data.samples,
                ours: self.state.data.samples,
            });
        }
        if state.data != self.state.data {
            observer.event(Event::Warning(&format!(
                "the data has changed since the run began: {} samples to train on then, {} now; the run goes \
                 on with what is there, and will differ from one that was not interrupted",
                state.data.samples, self.state.data.samples
            )));
        }
        let mut learner = self.take_learner()?;
        learner.model = checkpoint::load_model(&saved, learner.model)?;
        learner.optimizer = checkpoint::load_optimizer(&saved, learner.optimizer)?;
        self.learner = Some(learner);
        let mut unclaimed = checkpoint::callbacks(&saved)?;
        for callback in &mut self.callbacks {
            let name = callback.name();
            unclaimed.retain(|other| other != name);
            if let Some(state) = checkpoint::load_callback(&saved, name)? {
                callback.load(&state)?;
            }
        }
        // The other ranks have no callbacks.
        let unclaimed = if self.group.rank() == 0 { unclaimed } else { Vec::new() };
        for name in unclaimed {
            let text = format!(
                "the checkpoint has the state of a callback `{name}` that this run does not have"
            );
            self.warn(text, observer);
        }
        self.state.step = state.step;
        // Where the data changed, an index may mean another sample.
        let source = self.prepared.source.as_ref();
        let is_same =
            |s: &Skipped| s.index < source.len() && (moved || source.name(s.index) == s.name);
        self.state.turned_bad = state.turned_bad.into_iter().filter(is_same).collect();
        self.state.ended = state.ended;
        let (then, now) = (state.total, self.state.total);
        if now < then {
            let differences = vec![format!("the run has {then} steps there and {now} here")];
            return Err(TrainError::Mismatch {
                what: "a run can be made longer, not shorter",
                differences,
            });
        }
        if now > then {
            self.state.ended = false;
            let factor = |total| self.schedule.factor(state.step.min(total), total);
            observer.event(Event::Note(&format!(
                "longer    {now} steps instead of {then}: the learning rate follows the schedule of the new \
                 length, at {:.2} of its peak here, where it was at {:.2}; the result is not that of a run \
                 that had this length from the start",
                factor(now),
                factor(then)
            )));
        }
        // Steps after the checkpoint are done again, so their lines must not be there twice.
        if self.group.rank() == 0 {
            self.dir.truncate_metrics(self.state.step)?;
        }
        let (step, from) = (self.state.step, saved.display());
        observer.event(Event::Note(&format!("resuming  at step {step} from {from}")));
        Ok(())
    }

    /// Saves what was done, where a run ends early for a reason outside of it.
    pub(crate) fn keep(&mut self, observer: &mut dyn Observer) {
        let step = self.state.step;
        let is_new = step > 0 && checkpoint::steps(self.dir).is_ok_and(|s| !s.contains(&step));
        // The reason that the run ends for matters more than that this fails.
        if is_new && let Err(error) = self.save(step, observer) {
            observer.event(Event::Warning(&format!("step {step} could not be saved: {error}")));
        }
    }
}
