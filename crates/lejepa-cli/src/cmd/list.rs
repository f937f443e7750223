//! `lejepa modalities`, `lejepa encoders` and `lejepa statistics`: what is linked into this binary.

use lejepa_core::Registry;
use serde_json::{Value, json};

use crate::args::Args;

pub(super) fn modalities(args: &Args, registry: &Registry) -> Value {
    let rows: Vec<Value> = registry
        .modalities()
        .map(|m| {
            let rule = (m.rule)();
            json!({
                "name": m.name, "about": m.about, "extensions": rule.extensions,
                "crate": m.origin.krate, "version": m.origin.version,
            })
        })
        .collect();
    if !args.json {
        for m in registry.modalities() {
            let extensions = (m.rule)().extensions.join(" ");
            println!(
                "{:<10} {}\n{:<10} reads: {extensions}\n{:<10} from {}",
                m.name, m.about, "", "", m.origin
            );
        }
    }
    json!({ "modalities": rows })
}

pub(super) fn encoders(args: &Args, registry: &Registry) -> Value {
    let rows: Vec<Value> = registry
        .encoders()
        .map(|e| {
            json!({
                "name": e.name, "about": e.about, "modality": e.modality,
                "crate": e.origin.krate, "version": e.origin.version,
            })
        })
        .collect();
    if !args.json {
        for e in registry.encoders() {
            let modality = e.modality.unwrap_or("any modality");
            println!("{:<10} {}\n{:<10} for {modality}, from {}", e.name, e.about, "", e.origin);
        }
    }
    json!({ "encoders": rows })
}

pub(super) fn statistics(args: &Args, registry: &Registry) -> Value {
    let rows: Vec<Value> = registry
        .statistics()
        .map(|s| {
            let crate_ = (s.origin.krate, s.origin.version);
            json!({ "name": s.name, "about": s.about, "crate": crate_.0, "version": crate_.1 })
        })
        .collect();
    if !args.json {
        for s in registry.statistics() {
            println!("{:<22} {}\n{:<22} from {}", s.name, s.about, "", s.origin);
        }
    }
    json!({ "statistics": rows })
}
