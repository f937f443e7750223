//! `emoji`: little pictures of eight categories, trained on one artist's set and tested on another's.

use std::collections::BTreeMap;

use image::ImageFormat;
use serde_json::Value;

use crate::corpus::{Corpus, Failure, Split};
use crate::npm;
use crate::picture::write_rgb;

pub(crate) const ABOUT: &str = "emoji by category, two sets of drawings; needs npm and a network";

/// Package, folder of its pictures, and what it is for.
const SETS: [(&str, &str, Split); 2] = [
    ("emoji-datasource-google@16.0.0", "img/google/64/", Split::Train),
    ("emoji-datasource-twitter@16.0.0", "img/twitter/64/", Split::Test),
];
const SIDE: u32 = 64;
/// Smaller categories are left out.
const ENOUGH: usize = 100;

pub(crate) fn make(corpus: &mut Corpus) -> Result<(), Failure> {
    for (package, folder, split) in SETS {
        let mut pictures = BTreeMap::new();
        let mut categories = BTreeMap::new();
        let wanted = |path: &str| path == "emoji.json" || path.starts_with(folder);
        npm::each_file(package, wanted, |path, bytes| {
            if path == "emoji.json" {
                categories = read(&bytes).map_err(|e| format!("{package}: emoji.json: {e}"))?;
            } else {
                pictures.insert(path.trim_start_matches(folder).to_string(), bytes);
            }
            Ok(())
        })?;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for category in categories.values() {
            *counts.entry(category).or_default() += 1;
        }
        for (name, bytes) in &pictures {
            let Some(category) = categories.get(name) else { continue };
            if counts.get(category.as_str()).is_none_or(|&n| n < ENOUGH) {
                continue;
            }
            let set = folder.split('/').nth(1).unwrap_or("set");
            let path = format!("{set}/{name}");
            let pixels = on_white(bytes).map_err(|e| format!("{package}: {name}: {e}"))?;
            write_rgb(&corpus.place(&path)?, SIDE, &pixels)?;
            corpus.add(path, &[category], split);
        }
    }
    Ok(())
}

/// The category of each picture, by its file name. Variants by skin tone are not listed: they would
/// be many copies of some.
fn read(json: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let value: Value = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let entries = value.as_array().ok_or("not a list")?;
    let word = |entry: &Value, key: &str| entry.get(key)?.as_str().map(str::to_string);
    let pair = |entry| Some((word(entry, "image")?, word(entry, "category")?));
    Ok(entries.iter().filter_map(pair).collect())
}

/// RGB bytes of a PNG picture, laid on white paper.
fn on_white(png: &[u8]) -> Result<Vec<u8>, String> {
    let picture = image::load_from_memory_with_format(png, ImageFormat::Png);
    let picture = picture.map_err(|e| e.to_string())?.into_rgba8();
    if picture.dimensions() != (SIDE, SIDE) {
        return Err(format!("not {SIDE}×{SIDE} pixels"));
    }
    let over = |level: u8, alpha: u8| {
        let (level, alpha) = (u32::from(level), u32::from(alpha));
        ((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    Ok(picture.pixels().flat_map(|p| [0, 1, 2].map(|c| over(p.0[c], p.0[3]))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_read_by_file_name() {
        let json = br#"[{"image":"1f600.png","category":"Smileys","x":1},{"image":null}]"#;
        let read = read(json).unwrap();
        assert_eq!(read.into_iter().collect::<Vec<_>>(), [("1f600.png".into(), "Smileys".into())]);
    }
}
