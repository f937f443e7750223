//! `lejepa sweep`: runs with several settings, ranked without labels and with.

mod rank;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use lejepa_core::{Purpose, Registry, Seed};
use lejepa_train::{Event, Fitted, Observer, RunDir, Start, TrainError, Trainer, checkpoint};
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use self::rank::{Row, correlations};
use crate::args::{Args, SweepArgs};
use crate::console::Console;
use crate::error::CliError;
use crate::output::outln;

/// Shares of the steps after which `--halve` ends the worse half.
const RUNGS: [f64; 2] = [0.25, 0.5];

/// One combination of settings.
struct Member {
    assignments: Vec<String>,
    folder: PathBuf,
}

pub(super) fn run(args: &Args, words: &SweepArgs, registry: &Registry) -> Result<Value, CliError> {
    let members = members(words)?;
    std::fs::create_dir_all(&words.output).map_err(TrainError::io("create", &words.output))?;
    let stop = super::train::stop_on_signals()?;
    let mut going: Vec<&Member> = members.iter().collect();
    if let Some(steps) = words.config.steps.filter(|_| words.halve) {
        for rung in RUNGS {
            let limit = ((rung * steps as f64) as u64).max(1);
            for (i, member) in going.iter().enumerate() {
                announce(args, member, i, going.len(), Some(limit));
                advance(args, words, member, registry, Some(limit), &stop)?;
            }
            let mut rows: Vec<(f64, &Member)> = Vec::new();
            for member in going {
                rows.push((Row::of(&member.folder, registry)?.score(), member));
            }
            rows.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows.truncate(rows.len().div_ceil(2));
            going = rows.into_iter().map(|(_, member)| member).collect();
        }
    }
    for (i, member) in going.iter().enumerate() {
        announce(args, member, i, going.len(), None);
        advance(args, words, member, registry, None, &stop)?;
    }
    let mut rows = Vec::new();
    for member in &members {
        let mut row = Row::of(&member.folder, registry)?;
        row.settings.clone_from(&member.assignments);
        rows.push(row);
    }
    rows.sort_by(|a, b| {
        (a.ended, a.score()).partial_cmp(&(b.ended, b.score())).unwrap_or(std::cmp::Ordering::Equal)
    });
    let correlations = correlations(&rows);
    if !args.json {
        rank::print(&rows, &correlations);
    }
    let result = json!({
        "sweep": words.output.display().to_string(),
        "runs": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "correlations": correlations,
    });
    let file = words.output.join("sweep.json");
    std::fs::write(&file, format!("{result:#}\n")).map_err(TrainError::io("write", &file))?;
    Ok(result)
}

fn announce(args: &Args, member: &Member, index: usize, of: usize, limit: Option<u64>) {
    if !args.json && !args.quiet {
        let to = limit.map_or(String::new(), |steps| format!(" to step {steps}"));
        outln!("sweep     {} of {of}{to}: {}", index + 1, member.assignments.join(" "));
    }
}

/// All combinations, or some of them, each with its folder.
fn members(words: &SweepArgs) -> Result<Vec<Member>, CliError> {
    let mut combinations: Vec<Vec<String>> = vec![Vec::new()];
    for axis in &words.grid {
        let (key, values) =
            axis.split_once('=').filter(|(_, values)| !values.is_empty()).ok_or_else(|| {
                let hint = "e.g. --grid objective.lambda=0.02,0.05,0.1";
                CliError::Usage(format!("`{axis}` is not KEY=A,B,.."), hint.into())
            })?;
        let mut longer = Vec::new();
        for combination in &combinations {
            for value in split_values(values) {
                let mut combination = combination.clone();
                combination.push(format!("{key}={value}"));
                longer.push(combination);
            }
        }
        combinations = longer;
    }
    if let Some(count) = words.random {
        let seed = Seed(words.config.seed.unwrap_or(0));
        combinations.shuffle(&mut seed.rng(Purpose::Shuffle, &[]));
        combinations.truncate(count.max(1));
    }
    let member = |assignments: Vec<String>| {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "=.-_".contains(c) { c } else { '_' };
        // The last part of each key and its value.
        // The last part of each key and its value.
        let last = |assignment: &String| {
            let (key, value) = assignment.split_once('=').unwrap_or((assignment, ""));
            format!("{}={value}", key.rsplit('.').next().unwrap_or(key))
        };
        let names: Vec<String> = assignments.iter().map(last).collect();
        let folder = names
            .join(",")
            .chars()
            .map(|c| if c == ',' { '+' } else { plain(c) })
            .collect::<String>();
        Member { folder: words.output.join(folder), assignments }
    };
    Ok(combinations.into_iter().map(member).collect())
}

/// The values between commas that are in no brackets.
fn split_values(values: &str) -> Vec<String> {
    let (mut all, mut depth) = (vec![String::new()], 0usize);
    for c in values.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (c, all.last_mut()) {
            (',', _) if depth == 0 => all.push(String::new()),
            (c, Some(last)) => last.push(c),
            _ => {}
        }
    }
    all.into_iter()
        .map(|value| value.trim().to_string())
        .filter(|value| !value.is_empty())
        .collect()
}

/// Asks for an end at a step, and shows what happens.
struct Until<'a> {
    console: Console,
    limit: Option<u64>,
    reached: &'a AtomicBool,
    stop: &'a AtomicBool,
}

impl Observer for Until<'_> {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Step(step) = event
            && (self.limit.is_some_and(|limit| step + 1 >= limit)
                || self.stop.load(Ordering::Relaxed))
        {
            self.reached.store(true, Ordering::Relaxed);
        }
        self.console.event(event);
    }
}

/// Trains a member to a step, or to its end; what is done already is not done again.
fn advance(
    args: &Args,
    words: &SweepArgs,
    member: &Member,
    registry: &Registry,
    limit: Option<u64>,
    stop: &AtomicBool,
) -> Result<(), CliError> {
    let reached = AtomicBool::new(false);
    let console = Console::new(args.quiet || args.json);
    let mut until = Until { console, limit, reached: &reached, stop };
    let begun = RunDir::open(&member.folder).ok().filter(|run| checkpoint::latest(run).is_ok());
    let ended = match begun {
        Some(run) => {
            let info = run.info();
            let done = checkpoint::load_state(&checkpoint::latest(&run)?)?.step;
            if info["status"] == "finished" || limit.is_some_and(|limit| done >= limit) {
                return Ok(());
            }
            let resolved = run.config(registry)?;
            let (device, _) =
                crate::device::open(crate::device::choose(&resolved.settings().device)?)?;
            let source = resolved.open_configured()?;
            let trainer = Trainer::new(&resolved, &device).opened(source);
            trainer.stop(&reached).observer(&mut until).run(&run, Start::Resume)
        }
        None => {
            let mut config = words.config.clone();
            config.set.extend(member.assignments.iter().cloned());
            let request = super::request(&config)?;
            let choice = crate::device::choose(&request.preliminary(registry)?.settings().device)?;
            let device = crate::device::Opening::new(choice);
            let Fitted { resolved, source, .. } = request.fit(registry, || device.is_gpu())?;
            let resolved = super::train::with_absolute_paths(resolved)?;
            let source = resolved.open(source)?;
            let (device, _) = device.device()?;
            // A folder without a checkpoint is what a kill before the first one left.
            let run = RunDir::overwrite(&member.folder)?;
            let trainer = Trainer::new(&resolved, device).opened(source);
            trainer.stop(&reached).observer(&mut until).run(&run, Start::New)
        }
    };
    match ended {
        Ok(_) => Ok(()),
        Err(TrainError::Interrupted { .. }) if !stop.load(Ordering::Relaxed) => Ok(()),
        Err(TrainError::Interrupted { step, .. }) => {
            // The sweep is what is gone on with.
            Err(TrainError::Interrupted { step, run: words.output.clone() }.into())
        }
        // A combination that diverges is a result.
        Err(error @ (TrainError::NotFinite { .. } | TrainError::Objective(_))) => {
            failed(&member.folder, &error)
        }
        Err(error) => Err(error.into()),
    }
}

fn failed(folder: &Path, error: &TrainError) -> Result<(), CliError> {
    outln!("failed    {}: {error}", folder.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_commas() {
        assert_eq!(split_values("[1, 2],[3,4], 5"), ["[1, 2]", "[3,4]", "5"]);
    }
}
