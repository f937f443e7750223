//! `spoken`: the digits as words, by a speech synthesiser in many voices.

use std::process::Command;

use crate::corpus::{Corpus, Failure, Row, Split, said};
use crate::parallel;
use crate::program::run;
use crate::random::{Random, hash};
use crate::sound;

pub(crate) const ABOUT: &str =
    "2400 spoken digits in 40 voices, of which 9 only test; needs espeak-ng";

const WORDS: [&str; 10] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const ACCENTS: [&str; 8] = [
    "en-us",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
];
const TRAIN_VOICES: [&str; 31] = [
    "m1", "m2", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f5", "croak", "whisper", "klatt",
    "klatt2", "klatt4", "adam", "Alex", "Alicia", "Andrea", "aunty", "belinda", "boris", "victor",
    "david", "edward", "Gene", "grandpa", "john", "max", "quincy", "steph",
];
const TEST_VOICES: [&str; 9] =
    ["m3", "m8", "f4", "klatt3", "Annie", "benjamin", "linda", "robert", "travis"];
/// Clips of each word in each voice.
const OF_EACH: usize = 6;

pub(crate) fn make(corpus: &mut Corpus) -> Result<(), Failure> {
    corpus.columns(&["digit", "voice"]);
    // No voice is in both splits, so the voices need a split of their own.
    corpus.resplit("voice", |row| Split::test_if(hash(&row.path).is_multiple_of(5)));
    let voices: Vec<(&str, Split)> = (TRAIN_VOICES.iter().map(|v| (*v, Split::Train)))
        .chain(TEST_VOICES.iter().map(|v| (*v, Split::Test)))
        .collect();
    let place: &Corpus = corpus;
    let rows = parallel::map(voices.len() * WORDS.len() * OF_EACH, |index| {
        let digit = index % WORDS.len();
        let (voice, split) = voices[index / WORDS.len() % voices.len()];
        let mut random = Random::new(place.name(), index as u64);
        let said = say(&mut random, WORDS[digit], voice)?;
        let path = format!("clips/{index:04}.wav");
        sound::write(&place.place(&path)?, &said)?;
        Ok(Row { path, labels: vec![digit.to_string(), voice.to_string()], split })
    })?;
    rows.into_iter().for_each(|row| corpus.push(row));
    Ok(())
}

/// A word in a voice, at a random speed, pitch, accent and level, between random silences.
fn say(random: &mut Random, word: &str, voice: &str) -> Result<Vec<f64>, Failure> {
    let folder = tempfile::tempdir().map_err(|e| format!("a temporary folder: {e}"))?;
    let file = folder.path().join("word.wav");
    let mut speak = Command::new("espeak-ng");
    speak.arg("-v").arg(format!("{}+{voice}", random.pick(&ACCENTS)));
    speak.arg("-s").arg(random.range(120.0, 220.0).round().to_string());
    speak.arg("-p").arg(random.range(20.0, 80.0).round().to_string());
    // `-z`: no pause after the word.
    speak.arg("-z").arg("-w").arg(&file).arg(word);
    run(&mut speak, &[])?;
    let mut clip = sound::read(&file)?;
    if sound::rms(&clip) < 1e-3 {
        return Err(said(&file, format!("the voice `{voice}` says nothing")).into());
    }
    let level = sound::gain(random.range(-9.0, 0.0));
    clip.iter_mut().for_each(|x| *x *= level);
    let before = sound::samples(random.range(0.0, 0.2));
    let after = sound::samples(random.range(0.0, 0.2));
    let silence = |length| std::iter::repeat_n(0.0, length);
    Ok(silence(before).chain(clip).chain(silence(after)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_voice_is_in_both_splits() {
        assert!(TEST_VOICES.iter().all(|voice| !TRAIN_VOICES.contains(voice)));
    }
}
