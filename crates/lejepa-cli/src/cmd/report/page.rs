//! The page itself.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::Told;
use super::chart::{COLOURS, Series, bars, escape, lines};
use super::samples::Samples;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("map.js");

/// Curves by name, in the order of the page. Others follow.
const CURVES: [(&str, &str); 12] = [
    ("loss", "loss"),
    ("loss_held_out", "loss, held out"),
    ("prediction", "prediction"),
    ("sigreg", "SIGReg"),
    ("sigreg_held_out", "SIGReg, held out"),
    ("effective_rank", "effective rank of projections"),
    ("rankme", "RankMe of embeddings"),
    ("lidar", "LiDAR"),
    ("alpha_req", "α-ReQ"),
    ("neighbours_kept", "nearest neighbours kept"),
    ("probe_linear", "online linear probe"),
    ("probe_knn", "online k-NN probe"),
];

/// Largest number of classes that a confusion matrix is drawn of.
const MAX_CLASSES: usize = 40;

pub(super) fn page(runs: &[Told], samples: Option<&Samples>, missing: Option<&str>) -> String {
    let title = format!("lejepa: {}", runs.first().map_or("", |run| run.name.as_str()));
    let mut out = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width,initial-scale=1\"><title>{0}</title><style>{STYLE}</style></head><body>\
         <header><h1>{0}</h1></header><main>",
        escape(&title)
    );
    verdicts(&mut out, runs);
    probes(&mut out, runs);
    retrieval(&mut out, runs);
    curves(&mut out, runs);
    if let Some(samples) = samples.filter(|samples| samples.len() > 1) {
        map(&mut out, samples);
        features(&mut out, samples);
        neighbours(&mut out, samples);
        confusion(&mut out, samples);
        pictures(
            &mut out,
            "Views",
            "The evaluation view, then the views of each group.",
            &samples.sheets,
        );
        let text = "Dense features: each input beside the first three principal components of its patches, as red, \
                    green and blue.";
        pictures(&mut out, "Principal components", text, &samples.maps);
    }
    if let Some(reason) = missing {
        let reason = escape(reason);
        let _ = write!(
            out,
            "<section><h2>Data</h2><p>Nothing is shown of the data: {reason}.</section>"
        );
    }
    settings(&mut out, runs);
    let _ = write!(out, "</main><script>{SCRIPT}</script></body></html>");
    out
}

fn section(out: &mut String, title: &str, body: &str) {
    if !body.is_empty() {
        let _ = write!(out, "<section><h2>{}</h2>{body}</section>", escape(title));
    }
}

fn verdicts(out: &mut String, runs: &[Told]) {
    let mut body = String::new();
    for (i, run) in runs.iter().enumerate() {
        let key = if runs.len() > 1 { swatch(i) } else { String::new() };
        let status = run.info["status"].as_str().unwrap_or("unknown");
        let steps = run.metrics.last().map_or(0, |m| m.step);
        let _ = write!(body, "<h3>{key}{}</h3>", escape(&run.name));
        let Some(judged) = &run.judgement else {
            let _ = write!(body, "<p>{status}, {steps} steps; nothing to be judged by yet.");
            continue;
        };
        let _ =
            write!(body, "<p><strong>{}</strong>, {status}, {steps} steps.<ul>", judged.verdict);
        for reason in &judged.reasons {
            let _ = write!(body, "<li>{}", escape(reason));
        }
        body.push_str("</ul><p>What to change first:<ol>");
        for advice in &judged.advice {
            let _ = write!(body, "<li>{}", escape(advice));
        }
        body.push_str("</ol>");
    }
    section(out, "Verdict", &body);
}

fn swatch(index: usize) -> String {
    dot(COLOURS[index % COLOURS.len()])
}

fn dot(colour: &str) -> String {
    format!("<span class=swatch style=\"background:{colour}\"></span>")
}

/// The colour of a class: from the palette, or from all hues where it has too few.
fn of_class(class: usize, classes: usize) -> String {
    if classes <= COLOURS.len() {
        return COLOURS[class % COLOURS.len()].to_string();
    }
    // Neighbours in the list differ in lightness as well.
    let (hue, light) = (360 * class / classes, [42, 60][class % 2]);
    format!("hsl({hue},70%,{light}%)")
}

fn probes(out: &mut String, runs: &[Told]) {
    let mut body = String::new();
    for run in runs {
        for probe in run.info["probes"].as_array().into_iter().flatten() {
            if body.is_empty() {
                body.push_str(
                    "<div class=scroll><table><thead><tr><th>run<th>label<th>features<th>linear %<th>95 % interval\
                     <th>k-NN %<th>95 % interval<tbody>",
                );
            }
            let label = escape(probe["name"].as_str().unwrap_or("class"));
            for (name, scores) in [
                ("trained", &probe["scores"]),
                ("initial", &probe["initial"]),
                ("untrained", &probe["untrained"]),
                ("raw features", &probe["raw"]),
            ] {
                if scores.is_null() {
                    continue;
                }
                let percent =
                    |v: &Value| v.as_f64().map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
                let interval = |v: &Value| format!("{} to {}", percent(&v[0]), percent(&v[1]));
                let _ = write!(
                    body,
                    "<tr><td>{}<td>{label}<td>{name}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}",
                    escape(&run.name),
                    percent(&scores["linear"]),
                    interval(&scores["linear_interval"]),
                    percent(&scores["knn"]),
                    interval(&scores["knn_interval"]),
                );
            }
        }
    }
    if !body.is_empty() {
        body.push_str("</table></div>");
    }
    section(out, "Probes", &body);
}

/// How well streams find each other.
fn retrieval(out: &mut String, runs: &[Told]) {
    let mut body = String::new();
    for run in runs {
        for found in run.info["retrieval"].as_array().into_iter().flatten() {
            if body.is_empty() {
                body.push_str(
                    "<div class=scroll><table><thead><tr><th>run<th>of<th>by<th>features<th>samples<th>R@1 %<th>R@5 %\
                     <th>R@10 %<th>median rank<tbody>",
                );
            }
            let word = |key: &str| escape(found[key].as_str().unwrap_or_default());
            for name in ["trained", "untrained"] {
                let ranks = &found[name];
                let percent = |at: usize| 100.0 * ranks["recall"][at].as_f64().unwrap_or(f64::NAN);
                let _ = write!(
                    body,
                    "<tr><td>{}<td>{}<td>{}<td>{name}<td class=n>{}<td class=n>{:.1}<td class=n>{:.1}<td class=n>{:.1}\
                     <td class=n>{}",
                    escape(&run.name),
                    word("of"),
                    word("by"),
                    found["samples"],
                    percent(0),
                    percent(1),
                    percent(2),
                    ranks["median"],
                );
            }
        }
    }
    if !body.is_empty() {
        body.push_str("</table></div>");
    }
    section(out, "Retrieval", &body);
}

fn curves(out: &mut String, runs: &[Told]) {
    let mut names: Vec<(String, String)> =
        CURVES.iter().map(|(name, title)| ((*name).into(), (*title).into())).collect();
    let known: BTreeSet<&str> = CURVES.iter().map(|(name, _)| *name).collect();
    let logged = runs.iter().flat_map(|run| &run.metrics).flat_map(|m| m.scalars.keys());
    let others: BTreeSet<&String> = logged.filter(|name| !known.contains(name.as_str())).collect();
    names.extend(others.into_iter().map(|name| (name.clone(), name.clone())));
    let mut body = String::new();
    for (name, title) in &names {
        let series: Vec<Series<'_>> = runs
            .iter()
            .map(|run| Series {
                name: &run.name,
                points: run
                    .metrics
                    .iter()
                    .filter_map(|m| Some((m.step as f64, *m.scalars.get(name)?)))
                    .filter(|(_, value)| value.is_finite())
                    .collect(),
            })
            .collect();
        body.push_str(&lines(title, "step", &series));
    }
    if runs.len() > 1 && !body.is_empty() {
        let key = |(i, run): (usize, &Told)| {
            format!("<span class=key>{}{}</span>", swatch(i), escape(&run.name))
        };
        let keys: String = runs.iter().enumerate().map(key).collect();
        body = format!("<p>{keys}<div class=charts>{body}</div>");
    } else if !body.is_empty() {
        body = format!("<div class=charts>{body}</div>");
    }
    section(out, "Curves", &body);
}

/// The class of a sample in words.
fn class(samples: &Samples, class: Option<u32>) -> &str {
    let classes = samples.labels.as_ref().map(|labels| labels.names());
    class.and_then(|class| classes?.get(class as usize)).map_or("", String::as_str)
}

fn map(out: &mut String, samples: &Samples) {
    let classes = samples.labels.as_ref().map_or(1, |labels| labels.names().len());
    let mut points = String::new();
    for i in 0..samples.len() {
        let colour =
            samples.classes[i].map_or(COLOURS[0].into(), |c| of_class(c as usize, classes));
        let [x, y] = samples.pca[i];
        let tsne = samples
            .tsne
            .get(i)
            .map_or(String::new(), |[x, y]| format!(" data-t=\"{x:.3},{y:.3}\""));
        let _ = write!(
            points,
            "<circle r=5 fill={colour} cx={:.1} cy={:.1} data-p=\"{x:.3},{y:.3}\"{tsne} data-i={i}></circle>",
            10.0 + 480.0 * x,
            10.0 + 380.0 * y
        );
    }
    let mut list = String::from("[");
    for i in 0..samples.len() {
        let comma = if i > 0 { "," } else { "" };
        let item = serde_json::json!([
            last_part(&samples.names[i]),
            class(samples, samples.classes[i]),
            samples.thumbs[i]
        ]);
        let _ = write!(list, "{comma}{item}");
    }
    list.push(']');
    // `</script>` in a name would end the script.
    let list = list.replace("</", "<\\/");
    let toggle = if samples.tsne.is_empty() {
        ""
    } else {
        "<button data-to=p aria-pressed=true>PCA</button> <button data-to=t aria-pressed=false>t-SNE</button>"
    };
    let mut legend = String::new();
    if let Some(labels) = &samples.labels {
        for (i, name) in labels.names().iter().enumerate().take(MAX_CLASSES) {
            let key = dot(&of_class(i, classes));
            let _ = write!(legend, "<span class=key>{key}{}</span>", escape(name));
        }
        if classes > MAX_CLASSES {
            let _ = write!(legend, "<span class=key>and {} more</span>", classes - MAX_CLASSES);
        }
    }
    let body = format!(
        "<p>{} samples by their embeddings; {toggle}<p>{legend}\
         <div id=map tabindex=0 role=application aria-label=\"Map of embeddings; arrow keys go from sample to sample\">\
         <svg viewBox=\"0 0 500 400\">{points}</svg><div id=tip role=status hidden></div></div>\
         <script>const samples={list};</script>",
        samples.len()
    );
    section(out, "Map of embeddings", &body);
}

fn last_part(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

fn features(out: &mut String, samples: &Samples) {
    let spectrum: Vec<f64> = samples.spectrum.iter().copied().take(256).collect();
    let mut body = bars("Standard deviation of embeddings", "principal component", &spectrum, None);
    let mark = samples.gaussian.is_finite().then_some((samples.gaussian, "Gaussian"));
    body += &bars("SIGReg of projections", "slice, ascending", &samples.slices, mark);
    if !body.is_empty() {
        body = format!("<div class=charts>{body}</div>");
    }
    section(out, "Distribution", &body);
}

fn neighbours(out: &mut String, samples: &Samples) {
    let mut body = String::new();
    let shown = samples.len().min(6);
    for s in 0..shown {
        let i = s * samples.len() / shown;
        let figure = |i: usize, class_of: &str| {
            format!(
                "<figure class=thumb><img src=\"{}\" alt=\"{1}\" title=\"{1}\"><figcaption>{2}</figcaption></figure>",
                samples.thumbs[i],
                escape(last_part(&samples.names[i])),
                escape(class_of)
            )
        };
        let row: String = samples.neighbours[i]
            .iter()
            .take(6)
            .map(|j| figure(*j as usize, class(samples, samples.classes[*j as usize])))
            .collect();
        let _ = write!(
            body,
            "<div class=row>{}<span class=arrow>→</span>{row}</div>",
            figure(i, class(samples, samples.classes[i]))
        );
    }
    section(out, "Nearest neighbours", &body);
}

fn confusion(out: &mut String, samples: &Samples) {
    let Some(labels) = samples.labels.as_ref().filter(|l| l.names().len() <= MAX_CLASSES) else {
        return;
    };
    let count = labels.names().len();
    let mut table = vec![vec![0usize; count]; count];
    let (mut right, mut all) = (0, 0);
    for (i, truth) in samples.classes.iter().enumerate() {
        let (Some(truth), Some(vote)) = (truth, samples.vote(i)) else { continue };
        let Some(cell) = table.get_mut(*truth as usize).and_then(|row| row.get_mut(vote as usize))
        else {
            continue;
        };
        *cell += 1;
        all += 1;
        right += usize::from(*truth == vote);
    }
    if all == 0 {
        return;
    }
    let mut body = format!(
        "<p>What the ten nearest of the other samples vote for: {right} of {all} right ({:.1} %). Rows are classes, \
         columns votes.<div class=scroll><table class=confusion><thead><tr><th>",
        100.0 * right as f64 / all as f64
    );
    for name in labels.names() {
        let _ = write!(body, "<th>{}", escape(name));
    }
    body.push_str("<tbody>");
    for (name, row) in labels.names().iter().zip(&table) {
        let sum = row.iter().sum::<usize>().max(1);
        let _ = write!(body, "<tr><th>{}", escape(name));
        for cell in row {
            let share = *cell as f64 / sum as f64;
            let text = if *cell > 0 { cell.to_string() } else { String::new() };
            let _ = write!(body, "<td style=\"--s:{share:.2}\">{text}");
        }
    }
    body.push_str("</table></div>");
    section(out, "Confusion", &body);
}

fn pictures(out: &mut String, title: &str, text: &str, all: &[String]) {
    if all.is_empty() {
        return;
    }
    let mut body = format!("<p>{}<div class=sheets>", escape(text));
    for (i, picture) in all.iter().enumerate() {
        let _ =
            write!(body, "<img src=\"{picture}\" alt=\"{} of sample {}\">", escape(title), i + 1);
    }
    body.push_str("</div>");
    section(out, title, &body);
}

fn settings(out: &mut String, runs: &[Told]) {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let value =
        |run: &Told, key: &str| run.settings.get(key).cloned().unwrap_or_else(|| "-".into());
    let table = |keys: &[&String]| {
        let mut body = String::from("<div class=scroll><table><thead><tr><th>key");
        for run in runs {
            let _ = write!(body, "<th>{}", escape(last_part(&run.name)));
        }
        body.push_str("<tbody>");
        for key in keys {
            let _ = write!(body, "<tr><td>{}", escape(key));
            for run in runs {
                let _ = write!(body, "<td>{}", escape(&value(run, key)));
            }
        }
        body + "</table></div>"
    };
    if runs.len() > 1 {
        let differ =
            |key: &&&String| runs.iter().any(|run| value(run, key) != value(&runs[0], key));
        let differing: Vec<&String> = keys.iter().filter(differ).copied().collect();
        section(out, "Settings that differ", &table(&differing));
    }
    let all: Vec<&String> = keys.into_iter().collect();
    section(
        out,
        "Settings",
        &format!("<details><summary>All {}</summary>{}</details>", all.len(), table(&all)),
    );
}
