//! `cargo xtask bench sigreg|step|views|loader|scale|learn`: ours and PyTorch, alternating in one run; the loader;
//! runs on few and on many samples; and what is learnt.

mod learn;
mod plot;
mod step;
mod views;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{cargo, run};

/// Views, samples, dimensions, slices.
type Case = [usize; 4];

const CASES: [Case; 4] =
    [[4, 256, 16, 256], [8, 128, 64, 1024], [2, 1024, 512, 1024], [8, 512, 128, 4096]];

/// Rounds in which every side is timed once; the median counts. Fewer, but at least five, where
/// they take longer than this many seconds.
const ROUNDS: usize = 15;
const PATIENCE: u64 = 20;

pub(crate) fn bench(words: &[String]) -> Result<(), String> {
    if words.first().is_some_and(|word| word == "learn") {
        return learn::learn(&words[1..]);
    }
    let mut json = false;
    let mut what = None;
    for word in words {
        match word.as_str() {
            "--json" => json = true,
            "sigreg" | "step" | "views" | "loader" | "scale" if what.is_none() => {
                what = Some(word.as_str())
            }
            other => return Err(format!("unknown word `{other}`\n\n{}", crate::HELP)),
        }
    }
    match what {
        Some("sigreg") => sigreg(json),
        Some("loader") => loader(json),
        Some("views") => views::views(json),
        Some("scale") => scale(json),
        Some(_) => step::step(json),
        None => Err(format!("what is to be timed?\n\n{}", crate::HELP)),
    }
}

fn sigreg(json: bool) -> Result<(), String> {
    let worker = ["build", "--release", "--workspace", "--example", "time_sigreg"];
    run(&mut cargo(&worker))?;
    let ours = crate::target().join("release/examples/time_sigreg");
    let python = pytorch();
    let mut rows = Vec::new();
    for case in CASES {
        let row = compare(&ours, python.as_deref(), case)?;
        eprintln!("{row}");
        rows.push(row);
    }
    let scaling = scaling(&ours)?;
    write("sigreg.csv", table_of(&KEYS, &rows))?;
    write("sigreg-scaling.csv", plot::csv(&scaling))?;
    write("sigreg-scaling.svg", plot::svg(&scaling)?)?;
    let exponents: Vec<Value> = scaling
        .iter()
        .map(|c| json!({ "axis": c.axis, "fixed": c.fixed, "exponent": round(c.exponent()) }))
        .collect();
    print(json, &json!({ "processor": processor(), "rows": rows, "scaling": exponents }))
}

/// How many samples a second the loader makes views of.
fn loader(json: bool) -> Result<(), String> {
    run(&mut cargo(&["build", "--release", "--workspace", "--example", "time_loader"]))?;
    let worker = crate::target().join("release/examples/time_loader");
    let output =
        Command::new(&worker).output().map_err(|e| format!("{}: {e}", worker.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    // A description of the data may hold commas.
    let keys = ["modality", "workers", "samples_per_s", "views_per_s", "kib_per_sample"];
    write("loader.csv", table_of(&keys, &rows))?;
    print(json, &json!({ "processor": processor(), "rows": rows }))
}

/// Samples of the two runs that [`scale`] compares, rounds, and steps a run.
const SAMPLES: [&str; 2] = ["10000", "10000000"];
const SCALE_ROUNDS: usize = 5;
const SCALE_STEPS: &str = "1000";

/// What a run costs on few and on many samples, in turn: medians over the rounds.
fn scale(json: bool) -> Result<(), String> {
    run(&mut cargo(&["build", "--release", "--workspace", "--example", "time_scale"]))?;
    let worker = crate::target().join("release/examples/time_scale");
    let mut rows: [Vec<Value>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..SCALE_ROUNDS {
        for (samples, rows) in SAMPLES.iter().zip(&mut rows) {
            let output = Command::new(&worker).args([samples, SCALE_STEPS]).output();
            let output = output.map_err(|e| format!("{}: {e}", worker.display()))?;
            let row = serde_json::from_slice(&output.stdout);
            rows.push(row.map_err(|e| format!("{}: {e}", worker.display()))?);
        }
    }
    let keys = ["samples", "start_s", "step_ms", "mean_step_ms", "peak_mib"];
    let medians = rows.map(|rows| {
        let median = |key: &str| {
            let mut values: Vec<f64> = rows.iter().filter_map(|row| row[key].as_f64()).collect();
            values.sort_by(f64::total_cmp);
            let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
            (key.to_string(), json!((median * 1e3).round() / 1e3))
        };
        Value::Object(keys.iter().map(|key| median(key)).collect())
    });
    write("scale.csv", table_of(&keys, &medians))?;
    print(json, &json!({ "processor": processor(), "rounds": SCALE_ROUNDS, "rows": medians }))
}

/// On one line, or for people.
fn print(json: bool, result: &Value) -> Result<(), String> {
    if json {
        println!("{result}");
    } else {
        println!("{}", serde_json::to_string_pretty(result).map_err(|e| e.to_string())?);
    }
    Ok(())
}

/// A Python with PyTorch, if there is one or can be.
fn pytorch() -> Option<std::path::PathBuf> {
    let cpu = ["--index-url", "https://download.pytorch.org/whl/cpu"];
    match crate::setup::python("pytorch", "torch", &[&cpu, &[]]) {
        Ok(python) => Some(python),
        Err(reason) => {
            eprintln!("note: without PyTorch, so ours alone is timed: {reason}");
            None
        }
    }
}

/// Writes a file of docs/results.
fn write(name: &str, text: String) -> Result<(), String> {
    let folder = crate::root().join("docs/results");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// What a process reports at its end.
#[derive(Debug, Clone, Default)]
struct Report {
    ms: f64,
    peak: f64,
    more: Value,
}

/// A process that times one call a line.
struct Side {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    times: Vec<f64>,
}

impl Side {
    fn start(command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{command:?}: {e}"))?;
        let (ask, answers) = (child.stdin.take(), child.stdout.take());
        match (ask, answers) {
            (Some(ask), Some(answers)) => {
                Ok(Self { child, ask, answers: BufReader::new(answers), times: Vec::new() })
            }
            _ => Err("a worker without pipes".into()),
        }
    }

    fn answer(&mut self) -> Result<f64, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|e| e.to_string())?;
        line.trim().parse().map_err(|_| format!("a worker ended or said {line:?}"))
    }

    fn time(&mut self) -> Result<f64, String> {
        writeln!(self.ask).and_then(|()| self.ask.flush()).map_err(|e| e.to_string())?;
        self.answer()
    }

    /// The median of the times in ms, the peak in MiB, and what more it tells, if it does.
    fn finish(self) -> Result<Report, String> {
        let Self { mut child, ask, answers, times } = self;
        drop(ask);
        let mut lines = answers.lines();
        let peak = lines.next().and_then(Result::ok).and_then(|l| l.trim().parse().ok());
        let more = lines.next().and_then(Result::ok).and_then(|l| serde_json::from_str(&l).ok());
        child.wait().map_err(|e| e.to_string())?;
        let peak = peak.ok_or("a worker reported no peak memory")?;
        Ok(Report { ms: median(times), peak, more: more.unwrap_or_default() })
    }
}

/// Times all sides in turn, and what each tells at its end: see [`Side::finish`]. Ends after at least
/// five rounds where they take longer than `patience` seconds.
fn in_turn(mut sides: Vec<Side>, patience: u64) -> Result<Vec<Report>, String> {
    let began = Instant::now();
    for round in 0..ROUNDS {
        if round >= 5 && began.elapsed() > Duration::from_secs(patience) {
            break;
        }
        for side in &mut sides {
            // OpenMP's threads spin for a while after their last work; let them go to sleep first.
            std::thread::sleep(Duration::from_millis(50));
            let time = side.time()?;
            side.times.push(time);
        }
    }
    sides.into_iter().map(Side::finish).collect()
}

fn side(program: &Path, words: &[&str], case: Case) -> Result<Side, String> {
    let mut command = Command::new(program);
    command.args(words).args(case.map(|n| n.to_string()));
    let mut side = Side::start(&mut command)?;
    // The first calls touch memory and compile; they do not count.
    for _ in 0..3 {
        side.time()?;
    }
    Ok(side)
}

fn compare(ours: &Path, python: Option<&Path>, case: Case) -> Result<Value, String> {
    let script = crate::root().join("xtask/bench/sigreg.py");
    let script = script.to_string_lossy();
    let mut sides = vec![side(ours, &[], case)?];
    if let Some(python) = python {
        sides.push(side(python, &[&script, "eager"], case)?);
        sides.push(side(python, &[&script, "compiled"], case)?);
    }
    let results = in_turn(sides, PATIENCE)?;
    let of = |i: usize| results.get(i);
    let ours = &results[0];
    let ratio = |i: usize| of(i).map(|report| round(report.ms / ours.ms));
    let [v, n, k, m] = case;
    Ok(json!({
        "case": format!("V={v} N={n} K={k} M={m}"),
        "ours_ms": round(ours.ms),
        "eager_ms": of(1).map(|r| round(r.ms)),
        "compiled_ms": of(2).map(|r| round(r.ms)),
        "ratio": ratio(2),
        "ratio_eager": ratio(1),
        "ours_peak_mib": round(ours.peak),
        "pytorch_peak_mib": of(2).map(|r| round(r.peak)),
        "eager_peak_mib": of(1).map(|r| round(r.peak)),
    }))
}

/// Times along one axis of the problem.
pub(crate) struct Curve {
    pub(crate) axis: &'static str,
    pub(crate) fixed: String,
    pub(crate) points: Vec<(usize, f64)>,
}

impl Curve {
    /// The slope of log time over log size, by least squares.
    pub(crate) fn exponent(&self) -> f64 {
        let logs: Vec<(f64, f64)> =
            self.points.iter().map(|&(x, y)| ((x as f64).ln(), y.ln())).collect();
        let n = logs.len() as f64;
        let (mx, my) =
            (logs.iter().map(|p| p.0).sum::<f64>() / n, logs.iter().map(|p| p.1).sum::<f64>() / n);
        let cov: f64 = logs.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
        cov / logs.iter().map(|p| (p.0 - mx).powi(2)).sum::<f64>()
    }
}

/// A decade in each of samples, slices and dimensions. Dimensions enter the two matrix products
/// alone, so they are taken where those are most of the time.
fn scaling(ours: &Path) -> Result<Vec<Curve>, String> {
    let factors = [1, 2, 4, 7, 10];
    let curve = |axis, fixed: &str, at: &dyn Fn(usize) -> (usize, Case)| {
        let mut sides = Vec::new();
        for factor in factors {
            let (x, case) = at(factor);
            sides.push((x, side(ours, &[], case)?));
        }
        for _ in 0..ROUNDS {
            for (_, side) in &mut sides {
                let time = side.time()?;
                side.times.push(time);
            }
        }
        let points = sides
            .into_iter()
            .map(|(x, side)| Ok((x, side.finish()?.ms)))
            .collect::<Result<_, String>>()?;
        let curve = Curve { axis, fixed: fixed.to_string(), points };
        eprintln!("time over {axis} ({fixed}): exponent {:.3}", curve.exponent());
        Ok::<_, String>(curve)
    };
    Ok(vec![
        curve("N", "V=2 K=64 M=1024", &|f| (1024 * f, [2, 1024 * f, 64, 1024]))?,
        curve("M", "V=2 N=1024 K=64", &|f| (1024 * f, [2, 1024, 64, 1024 * f]))?,
        curve("K", "V=2 N=256 M=512", &|f| (2048 * f, [2, 256, 2048 * f, 512]))?,
    ])
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} ({cores} threads)", name.map_or("unknown", |(_, n)| n))
}

/// Columns of docs/results/sigreg.csv.
const KEYS: [&str; 9] = [
    "case",
    "ours_ms",
    "eager_ms",
    "compiled_ms",
    "ratio",
    "ratio_eager",
    "ours_peak_mib",
    "pytorch_peak_mib",
    "eager_peak_mib",
];

fn table_of(keys: &[&str], rows: &[Value]) -> String {
    let mut text = keys.join(",") + "\n";
    for row in rows {
        let cells: Vec<String> = keys
            .iter()
            .map(|k| row[*k].as_str().map_or_else(|| row[*k].to_string(), str::to_string))
            .collect();
        text.push_str(&(cells.join(",") + "\n"));
    }
    text
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x.get(x.len() / 2).copied().unwrap_or(f64::NAN)
}

fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}
