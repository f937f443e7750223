//! `lejepa modalities`, `encoders`, `statistics` and `list`: what is linked into this binary.

use burn::module::Module;
use burn::tensor::Device;
use lejepa_core::{BuildContext, Entry, Kind, Registration, Registry, ViewSpec, config, kind};
use lejepa_train::Callbacks;
use serde_json::{Map, Value, json};

use crate::args::{Args, ListKind};
use crate::error::CliError;
use crate::output::outln;

/// Prints the components of a kind; as JSON an array under the kind's plural.
pub(super) fn list(args: &Args, kind: ListKind, registry: &Registry) -> Value {
    if kind == ListKind::Preset {
        return presets(args, registry);
    }
    let rows: Vec<&Registration> = match kind {
        ListKind::Modality => registry.all::<kind::Modality>().collect(),
        ListKind::Views => registry.all::<kind::Views>().collect(),
        ListKind::Encoder => registry.all::<kind::Encoder>().collect(),
        ListKind::Statistic => registry.all::<kind::Statistic>().collect(),
        ListKind::Prediction => registry.all::<kind::Prediction>().collect(),
        ListKind::Optimizer => registry.all::<kind::Optimizer>().collect(),
        ListKind::Schedule => registry.all::<kind::Schedule>().collect(),
        ListKind::Callback => registry.all::<Callbacks>().collect(),
        ListKind::Environment => registry.all::<kind::Environment>().collect(),
        ListKind::Preset => Vec::new(),
    };
    let scoped = matches!(kind, ListKind::Views | ListKind::Encoder | ListKind::Environment);
    let mut all = Vec::new();
    for row in rows {
        let (meta, origin) = (row.meta(), row.origin());
        let mut out = json!({
            "name": meta.name, "about": meta.about, "crate": origin.krate, "version": origin.version,
        });
        let mut details = Vec::new();
        if let Some(extensions) = extensions(row) {
            out["extensions"] = json!(extensions);
            details.push(format!("reads: {}", extensions.join(" ")));
        }
        let scope = if scoped {
            format!("for {}{}, ", meta.scope.unwrap_or("any modality"), views_of(row))
        } else {
            String::new()
        };
        if scoped {
            out["modality"] = json!(meta.scope);
        }
        details.push(format!("{scope}from {origin}"));
        if !args.json {
            outln!("{:<22} {}", meta.name, meta.about);
            details.iter().for_each(|line| outln!("{:<22} {line}", ""));
        }
        all.push(out);
    }
    let mut out = Map::new();
    out.insert(plural(kind).into(), all.into());
    Value::Object(out)
}

/// Presets of all modalities.
fn presets(args: &Args, registry: &Registry) -> Value {
    let mut all = Vec::new();
    for row in registry.all::<kind::Modality>() {
        let Some(entry) = row.entry::<kind::Modality>() else { continue };
        for preset in entry.build().presets {
            if !args.json {
                outln!("{:<14} {}", preset.name, preset.about);
                outln!("{:<14} for {}", "", row.meta().name);
            }
            all.push(json!({
                "name": preset.name, "about": preset.about, "modality": row.meta().name,
            }));
        }
    }
    json!({ "presets": all })
}

/// The published sizes of all encoders.
pub(super) fn sizes(args: &Args, registry: &Registry) -> Result<Value, CliError> {
    const VIEW: [usize; 3] = [3, 224, 224];
    let (views, device) = (ViewSpec::multi_crop(1, VIEW, 0, VIEW), Device::flex());
    if !args.json {
        outln!("{:<20} {:>10} {:>9}  --encoder and --set", "name", "parameters", "GMACs");
    }
    let mut all = Vec::new();
    for row in registry.all::<kind::Encoder>() {
        let Some(entry) = row.entry::<kind::Encoder>() else { continue };
        for (name, words) in entry.build().sizes {
            let mut settings = row.meta().defaults()?;
            for word in words.split(' ') {
                config::assign(&mut settings, word)?;
            }
            let context = BuildContext::new(&views, &device);
            let encoder = (entry.build().build)(&settings, &context)?;
            let parameters = encoder.num_params();
            let macs = encoder.published().and_then(|published| published.multiply_adds(&VIEW));
            if !args.json {
                let millions = format!("{:.1} M", parameters as f64 / 1e6);
                let macs = macs.map_or("?".into(), |n| format!("{:.2}", n as f64 / 1e9));
                let keys: Vec<String> =
                    words.split(' ').map(|word| format!("encoder.{word}")).collect();
                outln!(
                    "{name:<20} {millions:>10} {macs:>9}  {} {}",
                    row.meta().name,
                    keys.join(" ")
                );
            }
            all.push(json!({
                "name": name, "encoder": row.meta().name, "settings": words,
                "parameters": parameters, "multiply_adds": macs,
            }));
        }
    }
    Ok(json!({ "sizes": all }))
}

/// The views that an encoder is limited to.
fn views_of(row: &Registration) -> String {
    let axes = row.entry::<kind::Encoder>().map_or(&[][..], |entry| entry.build().axes);
    match axes {
        [1] => " of signals".into(),
        [2] => " of pictures".into(),
        [3] => " of clips".into(),
        _ => String::new(),
    }
}

fn extensions(row: &Registration) -> Option<&'static [&'static str]> {
    let entry: &Entry<kind::Modality> = row.entry()?;
    debug_assert_eq!(row.kind(), kind::Modality::WORD);
    Some((entry.build().rule)().extensions)
}

fn plural(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Modality => "modalities",
        ListKind::Views => "views",
        ListKind::Encoder => "encoders",
        ListKind::Statistic => "statistics",
        ListKind::Prediction => "predictions",
        ListKind::Optimizer => "optimizers",
        ListKind::Schedule => "schedules",
        ListKind::Callback => "callbacks",
        ListKind::Environment => "environments",
        ListKind::Preset => "presets",
    }
}
