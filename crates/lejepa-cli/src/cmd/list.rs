//! `lejepa modalities`, `encoders`, `samplers` and `statistics`: what is linked into this binary.

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

pub(super) fn samplers(args: &Args, registry: &Registry) -> Value {
    // Every modality has its own, which needs no registration.
    let own = registry.modalities().map(|m| {
        (m.name, lejepa_core::DEFAULT_SAMPLER, "the modality's own: see its section", m.origin)
    });
    let others = registry.samplers().map(|s| (s.modality, s.name, s.about, s.origin));
    let mut all: Vec<_> = own.chain(others).collect();
    all.sort_by_key(|(modality, name, ..)| (*modality, *name));
    if !args.json {
        for (modality, name, about, origin) in &all {
            println!("{modality:<10} {name:<14} {about}\n{:<25} from {origin}", "");
        }
    }
    let rows: Vec<Value> = all
        .iter()
        .map(|(modality, name, about, origin)| {
            json!({
                "modality": modality, "name": name, "about": about,
                "crate": origin.krate, "version": origin.version,
            })
        })
        .collect();
    json!({ "samplers": rows })
}
