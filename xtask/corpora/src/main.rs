//! Labelled corpora for the bench of learning.
//!
//! Each becomes a folder of files and a `manifest.csv`. Generated corpora are the same on every
//! machine, up to what `ffmpeg` and `espeak-ng` make of the same input.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod corpus;
mod digits28;
mod emoji;
mod environment;
mod film;
mod motion;
mod npm;
mod parallel;
mod picture;
mod program;
mod prompts;
mod random;
mod reversed;
mod shapes;
mod sound;
mod spoken;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use corpus::{Corpus, Failure};

const HELP: &str = "Usage: corpora NAME... [--out DIR]

Makes each corpus in DIR/NAME; one that is there is left alone. `all` stands for every name.

  --out DIR  where corpora go; .data at the root of the repository unless given
  --list     name the corpora and what each needs
  --help     this text

Status: 0, or 3 where a corpus was skipped for want of a program or a package, 1 where one failed,
2 for a mistake in the command.
";

/// A corpus by name.
struct Entry {
    name: &'static str,
    about: &'static str,
    make: fn(&mut Corpus) -> Result<(), Failure>,
}

const ENTRIES: &[Entry] = &[
    Entry { name: "shapes", about: shapes::ABOUT, make: shapes::make },
    Entry { name: "digits28", about: digits28::ABOUT, make: digits28::make },
    Entry { name: "motion", about: motion::ABOUT, make: motion::make },
    Entry { name: "reversed", about: reversed::ABOUT, make: reversed::make },
    Entry { name: "spoken", about: spoken::ABOUT, make: spoken::make },
    Entry { name: "environment", about: environment::ABOUT, make: environment::make },
    Entry { name: "emoji", about: emoji::ABOUT, make: emoji::make },
    Entry { name: "prompts", about: prompts::ABOUT, make: prompts::make },
];

/// Something was skipped: neither success nor an error.
const SKIPPED: u8 = 3;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (names, out) = match parse(&words) {
        Ok(Request::Make { names, out }) => (names, out),
        Ok(Request::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprint!("error: {message}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let (mut skipped, mut failed) = (false, false);
    for entry in names {
        let start = Instant::now();
        match build(entry, &out) {
            Ok(None) => println!("present {}", entry.name),
            Ok(Some(counts)) => {
                println!("made {}: {counts}, {:.0} s", entry.name, start.elapsed().as_secs_f64());
            }
            Err(Failure::Skipped(reason)) => {
                skipped = true;
                println!("skipped {}: {reason}", entry.name);
            }
            Err(Failure::Failed(message)) => {
                failed = true;
                eprintln!("error: {}: {message}", entry.name);
            }
        }
    }
    match (failed, skipped) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(SKIPPED),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// What the command line asks for.
enum Request {
    Make { names: Vec<&'static Entry>, out: PathBuf },
    Print(String),
}

fn parse(words: &[String]) -> Result<Request, String> {
    let mut names: Vec<&'static Entry> = Vec::new();
    let mut out = root().join(".data");
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--help" | "-h" => return Ok(Request::Print(HELP.to_string())),
            "--list" => {
                let lines = ENTRIES.iter().map(|e| format!("{:13}{}\n", e.name, e.about));
                return Ok(Request::Print(lines.collect()));
            }
            "--out" => out = words.next().ok_or("--out needs a folder")?.into(),
            "all" => names.extend(ENTRIES),
            name => {
                let entry = ENTRIES.iter().find(|e| e.name == name);
                names.push(entry.ok_or_else(|| format!("unknown corpus `{name}`, see --list"))?);
            }
        }
    }
    if names.is_empty() {
        return Err("no corpus is named".into());
    }
    Ok(Request::Make { names, out })
}

/// Makes one corpus, or `None` where it is there. It appears under its name once it is whole.
fn build(entry: &Entry, out: &Path) -> Result<Option<String>, Failure> {
    let folder = out.join(entry.name);
    if folder.exists() {
        return Ok(None);
    }
    let partial = out.join(format!("{}.partial", entry.name));
    let mut corpus = Corpus::create(entry.name, &partial)?;
    let made = (entry.make)(&mut corpus).and_then(|()| corpus.finish(&folder));
    if made.is_err() {
        // The reason is what counts; a folder that stays is removed at the next try.
        let _ = std::fs::remove_dir_all(&partial);
    }
    made.map(Some)
}

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
