//! What differs between two configurations, and whether it matters.

use lejepa_core::{Table, Value};

use crate::{Result, TrainError};

/// Settings that may change when a run goes on: they do not change what it computes, but for its length, which
/// is told, and the place of its data, whose fingerprint is compared.
const FREE: [&str; 14] = [
    "data.source",
    "train.epochs",
    "train.minutes",
    "train.steps",
    "device",
    "checkpoint",
    "probe",
    "data.workers",
    "data.prefetch",
    "data.cache_mib",
    "data.disk_cache",
    "data.disk_cache_gib",
    "data.max_bad",
    "train.log_every",
];

/// Refuses to go on with a checkpoint that was trained with other settings.
///
/// # Errors
/// [`TrainError::Mismatch`] listing the differences.
pub(crate) fn same_run(theirs: &Table, ours: &Table) -> Result<()> {
    let (theirs, ours) = (&without_idle_callbacks(theirs), &without_idle_callbacks(ours));
    refuse("the run's checkpoint was made with another configuration", theirs, ours, |key| {
        !FREE.iter().any(|free| within(key, free))
    })
}

/// Refuses to start from the weights of a model of another shape.
///
/// # Errors
/// [`TrainError::Mismatch`] listing the differences.
pub(crate) fn same_model(theirs: &Table, ours: &Table) -> Result<()> {
    let modality = ours.get("modality").and_then(Value::as_str).unwrap_or_default().to_string();
    refuse("the weights are those of another model", theirs, ours, move |key| {
        ["modality", "encoder", "projector", "prediction", "views", modality.as_str()]
            .iter()
            .any(|s| within(key, s))
    })
}

/// A configuration without the callbacks that are off: which of them there are depends on what is linked.
fn without_idle_callbacks(table: &Table) -> Table {
    let mut table = table.clone();
    if let Some(Value::Table(callbacks)) = table.get_mut("callbacks") {
        callbacks
            .retain(|_, section| section.get("enabled").and_then(Value::as_bool) == Some(true));
    }
    table
}

fn within(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn refuse(
    what: &'static str,
    theirs: &Table,
    ours: &Table,
    matters: impl Fn(&str) -> bool,
) -> Result<()> {
    let mut found = Vec::new();
    differences("", theirs, ours, &mut found);
    let list: Vec<String> =
        found.into_iter().filter(|(key, _)| matters(key)).map(|(_, text)| text).collect();
    if list.is_empty() { Ok(()) } else { Err(TrainError::Mismatch { what, differences: list }) }
}

fn differences(prefix: &str, theirs: &Table, ours: &Table, found: &mut Vec<(String, String)>) {
    let keys: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    for key in keys {
        let dotted = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (theirs.get(key), ours.get(key)) {
            (Some(Value::Table(a)), Some(Value::Table(b))) => differences(&dotted, a, b, found),
            (a, b) if a == b => {}
            (a, b) => {
                let say = |v: Option<&Value>| v.map_or("absent".to_string(), Value::to_string);
                let text = format!("{dotted} is {} there and {} here", say(a), say(b));
                found.push((dotted, text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_that_are_off_do_not_matter() {
        let of = |text: &str| text.parse::<Table>().unwrap();
        let on = of("[callbacks.ema]\nenabled = true\ndecay = 0.9");
        let off = of("[callbacks.ema]\nenabled = false\ndecay = 0.5");
        same_run(&off, &of("[callbacks]")).unwrap();
        assert!(same_run(&on, &off).is_err());
        assert!(same_run(&on, &of("[callbacks.ema]\nenabled = true\ndecay = 0.5")).is_err());
    }

    #[test]
    fn what_matters_is_listed_and_what_does_not_is_not() {
        let a: Table = "modality = 'image'\n[encoder]\nwidth = 96\n[data]\nworkers = 1\n\
                        [train]\nlr = 0.1\n[image]\nsize = 16"
            .parse()
            .unwrap();
        let mut b = a.clone();
        same_run(&a, &b).unwrap();
        b["data"]["workers"] = Value::Integer(7);
        same_run(&a, &b).unwrap();
        b["encoder"]["width"] = Value::Integer(64);
        b["train"]["lr"] = Value::Float(0.2);
        let text = same_run(&a, &b).unwrap_err().to_string();
        assert!(text.contains("encoder.width is 96 there and 64 here"), "{text}");
        assert!(text.contains("train.lr is 0.1 there and 0.2 here"), "{text}");
        let text = same_model(&a, &b).unwrap_err().to_string();
        assert!(text.contains("encoder.width") && !text.contains("train.lr"), "{text}");
        b["encoder"]["width"] = Value::Integer(96);
        same_model(&a, &b).unwrap();
        b["image"]["size"] = Value::Integer(8);
        assert!(same_model(&a, &b).is_err());
    }
}
