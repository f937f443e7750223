//! `lejepa neighbours`: what lies nearest to a file among embeddings.

use std::path::Path;

use lejepa_core::Registry;
use lejepa_train::label_free::unit;
use lejepa_train::{Embedder, NamedEmbeddings, Silent};
use serde_json::{Value, json};

use crate::args::{Args, NeighboursArgs};
use crate::error::CliError;
use crate::output::outln;

pub(super) fn run(
    args: &Args,
    words: &NeighboursArgs,
    registry: &Registry,
) -> Result<Value, CliError> {
    let index = NamedEmbeddings::read(&words.index)?;
    let queries = queries(words, &index, registry)?;
    let dim = index.dim.max(1);
    let rows: Vec<Vec<f32>> = index.values.chunks_exact(dim).map(unit).collect();
    let mut found = Vec::new();
    for (name, query) in queries {
        let query = unit(&query);
        let cosine = |row: &Vec<f32>| row.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
        let mut all: Vec<(f32, usize)> =
            rows.iter().enumerate().map(|(i, row)| (cosine(row), i)).collect();
        // A query that is in the index is not its own neighbour.
        all.retain(|(_, i)| !same_file(&index.names[*i], &name));
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.truncate(words.top);
        let label = |i: usize| -> Vec<(&str, &str)> {
            let word = |column: &'_ lejepa_train::NamedLabels| column.words[i].is_some();
            let with = index.labels.iter().filter(|column| word(column));
            with.filter_map(|c| Some((c.name.as_str(), c.words[i].as_deref()?))).collect()
        };
        if !args.json {
            outln!("{name}");
            for (cosine, i) in &all {
                let labels = label(*i).into_iter().map(|(name, word)| format!("  {name} {word}"));
                outln!("  {cosine:.3}  {}{}", index.names[*i], labels.collect::<String>());
            }
        }
        let rows = all.iter().map(|(cosine, i)| {
            let labels: serde_json::Map<String, Value> =
                label(*i).into_iter().map(|(name, word)| (name.into(), word.into())).collect();
            json!({ "name": index.names[*i], "cosine": cosine, "labels": labels })
        });
        found.push(json!({ "query": name, "neighbours": rows.collect::<Vec<_>>() }));
    }
    Ok(json!({ "queries": found }))
}

fn same_file(a: &str, b: &str) -> bool {
    let absolute = |name: &str| std::path::absolute(name).ok();
    a == b || absolute(a).is_some_and(|a| Some(a) == absolute(b))
}

/// Names and embeddings of what is asked about: rows of the index, or files that are embedded now.
fn queries(
    words: &NeighboursArgs,
    index: &NamedEmbeddings,
    registry: &Registry,
) -> Result<Vec<(String, Vec<f32>)>, CliError> {
    let row = |query: &Path| {
        let query = query.display().to_string();
        let at = index.names.iter().position(|name| same_file(name, &query))?;
        Some((query, index.values[at * index.dim..(at + 1) * index.dim].to_vec()))
    };
    let known: Vec<_> = words.queries.iter().map(|query| row(query)).collect();
    let Some(missing) = known.iter().position(Option::is_none) else {
        return Ok(known.into_iter().flatten().collect());
    };
    let Some(model) = &words.model else {
        return Err(CliError::Usage(
            format!("{} is not in {}", words.queries[missing].display(), words.index.display()),
            "name the run or export that the index was made with: --model RUN".into(),
        ));
    };
    let device = words.device.as_deref().unwrap_or("auto");
    let (device, _) = crate::device::open(crate::device::choose(device)?)?;
    let embedder = Embedder::open(model, registry, &device)?;
    if embedder.dim() != index.dim {
        return Err(CliError::Usage(
            format!(
                "the index has embeddings of {} dimensions, {} makes {}",
                index.dim,
                model.display(),
                embedder.dim()
            ),
            "take the model that the index was made with, or make the index again: lejepa embed"
                .into(),
        ));
    }
    let listed = super::views::listing(&words.queries)?;
    let made = embedder.embed(&listed.path().display().to_string(), &mut Silent)?;
    if let Some(skipped) = made.skipped.first() {
        return Err(lejepa_core::Error::sample(&skipped.name, &skipped.reason).into());
    }
    let rows = made.values.chunks_exact(made.dim.max(1)).map(<[f32]>::to_vec);
    Ok(made.names.into_iter().zip(rows).collect())
}
