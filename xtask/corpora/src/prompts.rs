//! `prompts`: the recorded announcements of a telephone exchange, in five languages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hound::WavReader;

use crate::corpus::{Corpus, Failure, Split, said};
use crate::program::run;
use crate::random::hash;

pub(crate) const ABOUT: &str =
    "recorded prompts by language; needs Debian's packages and a network";

const LANGUAGES: [&str; 5] = ["en", "fr", "es", "it", "ru"];
/// A stem in fewer languages is not a class of its own.
const ENOUGH: usize = 3;

pub(crate) fn make(corpus: &mut Corpus) -> Result<(), Failure> {
    corpus.columns(&["language", "word"]);
    // The main split keeps the recordings of a stem together, so the words need a split of their
    // own: one language of each is for testing.
    corpus.resplit("word", |row| {
        let language = row.labels.first().map(String::as_str);
        let word = row.labels.get(1).filter(|word| !word.is_empty());
        Split::test_if(word.is_some_and(|word| language == Some(held_out(word))))
    });
    let folder = tempfile::tempdir().map_err(|e| format!("a temporary folder: {e}"))?;
    let mut found: Vec<(&str, Vec<Prompt>)> = Vec::new();
    for language in LANGUAGES {
        match unpack(&folder.path().join(language), language) {
            Ok(prompts) => found.push((language, prompts)),
            Err(Failure::Skipped(reason)) => eprintln!("note: no prompts in {language}: {reason}"),
            Err(failed) => return Err(failed),
        }
    }
    if found.len() < 2 {
        return Err(Failure::Skipped("fewer than two languages can be had".into()));
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for prompt in found.iter().flat_map(|(_, prompts)| prompts) {
        *counts.entry(prompt.stem.clone()).or_default() += 1;
    }
    for (language, prompts) in found {
        for Prompt { stem, file } in prompts {
            let path = format!("{language}/{stem}.wav");
            let place = corpus.place(&path)?;
            fs::copy(&file, &place).map_err(|e| said(&place, e))?;
            let common = counts.get(&stem).is_some_and(|&n| n >= ENOUGH);
            let word = if common { stem.as_str() } else { "" };
            corpus.add(path, &[language, word], Split::test_if(hash(&stem).is_multiple_of(5)));
        }
    }
    Ok(())
}

/// The language in which a word is for testing.
fn held_out(word: &str) -> &'static str {
    // Another remainder than that of the main split, which must not decide this too.
    LANGUAGES[(hash(word) / 5 % LANGUAGES.len() as u64) as usize]
}

/// A recording in an unpacked package.
struct Prompt {
    /// Its name below the folder of the speaker, without the extension: `digits/1`.
    stem: String,
    file: PathBuf,
}

/// Fetches the package of a language into `folder` and lists its recordings.
fn unpack(folder: &Path, language: &str) -> Result<Vec<Prompt>, Failure> {
    fs::create_dir_all(folder).map_err(|e| said(folder, e))?;
    let package = format!("asterisk-core-sounds-{language}-wav");
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", &package]).current_dir(folder);
    run(&mut download, &[]).map_err(|failure| match failure {
        Failure::Failed(message) => {
            Failure::Skipped(format!("the Debian package {package} cannot be had ({message})"))
        }
        skipped @ Failure::Skipped(_) => skipped,
    })?;
    let archive = children(folder)?.pop().ok_or_else(|| format!("{package}: no file came"))?;
    let inside = folder.join("inside");
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&inside), &[])?;
    let mut prompts = Vec::new();
    for speaker in children(&inside.join("usr/share/asterisk/sounds"))? {
        collect(&speaker, "", &mut prompts)?;
    }
    Ok(prompts)
}

/// The recordings below `folder`, but for the pure silences, which are the same in every language.
fn collect(folder: &Path, above: &str, prompts: &mut Vec<Prompt>) -> Result<(), String> {
    for file in children(folder)? {
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let stem = format!("{above}{}", stem.unwrap_or_default());
        if file.is_dir() && stem != "silence" {
            collect(&file, &format!("{stem}/"), prompts)?;
        } else if file.is_file() && file.extension().is_some_and(|e| e == "wav") && sounds(&file)? {
            prompts.push(Prompt { stem, file });
        }
    }
    Ok(())
}

/// Whether a file has any sample: one in these packages has none.
fn sounds(file: &Path) -> Result<bool, String> {
    Ok(WavReader::open(file).map_err(|e| said(file, e))?.duration() > 0)
}

/// What is in a folder, by name. Links, such as one language under two names, are left out.
fn children(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|e| said(folder, e))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|e| e.path()).filter(|p| !p.is_symlink()).collect();
    paths.sort();
    Ok(paths)
}
