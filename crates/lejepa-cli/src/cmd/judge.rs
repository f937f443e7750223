//! `lejepa judge`: a verdict on runs, and what to change first.

use lejepa_core::Registry;
use lejepa_train::RunDir;
use lejepa_train::judge::{Judgement, judge};
use serde_json::{Value, json};

use crate::args::{Args, JudgeArgs};
use crate::error::CliError;
use crate::output::outln;

pub(super) fn run(args: &Args, words: &JudgeArgs, registry: &Registry) -> Result<Value, CliError> {
    let mut all = Vec::new();
    for run in super::runs::found(&words.folders)? {
        // A run that has just begun has nothing to be judged by.
        let judged = judge(&run, registry);
        let judged = match judged {
            Ok(judged) => judged,
            Err(error) if words.folders.len() == 1 && words.folders[0] == run.path() => {
                return Err(error.into());
            }
            Err(error) => {
                if !args.json {
                    outln!("{}: {error}", run.path().display());
                }
                continue;
            }
        };
        if !args.json {
            print(&run, &judged);
        }
        all.push(json!({ "run": run.path().display().to_string(), "judgement": judged }));
    }
    Ok(json!({ "runs": all }))
}

fn print(run: &RunDir, judged: &Judgement) {
    outln!("{}: {}", run.path().display(), judged.verdict);
    for reason in &judged.reasons {
        outln!("  {reason}");
    }
    for (i, advice) in judged.advice.iter().enumerate() {
        outln!("  {} {advice}", if i == 0 { "first:" } else { "then: " });
    }
}
