//! Items that are the same bytes.

use std::collections::HashMap;
use std::io::{self, Read};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::blob::{Blob, BlobStore};

/// Groups of at least two blobs of the same content, each in ascending order. Only blobs of equal length are
/// read; those that cannot be are in no group.
pub(crate) fn of(store: &dyn BlobStore) -> Vec<Vec<usize>> {
    let lengths: Vec<Option<u64>> = (0..store.len())
        .into_par_iter()
        .map(|index| store.length(index).filter(|&length| length > 0))
        .collect();
    let mut by_length: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, length) in lengths.iter().enumerate() {
        if let Some(length) = length {
            by_length.entry(*length).or_default().push(index);
        }
    }
    let candidates: Vec<usize> =
        by_length.into_values().filter(|group| group.len() > 1).flatten().collect();
    let hashes: Vec<(usize, Option<[u8; 32]>)> = candidates
        .into_par_iter()
        .map(|index| (index, store.blob(index).ok().and_then(|blob| hash(&blob).ok())))
        .collect();
    let mut by_hash: HashMap<[u8; 32], Vec<usize>> = HashMap::new();
    for (index, hash) in hashes {
        if let Some(hash) = hash {
            by_hash.entry(hash).or_default().push(index);
        }
    }
    let mut groups: Vec<Vec<usize>> =
        by_hash.into_values().filter(|group| group.len() > 1).collect();
    groups.iter_mut().for_each(|group| group.sort_unstable());
    groups.sort_unstable();
    groups
}

fn hash(blob: &Blob<'_>) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut reader = blob.open()?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Listing;

    #[test]
    fn copies_are_found_by_content_whatever_their_names() {
        let d = tempfile::tempdir().unwrap();
        let files = [("a", "same"), ("b", "sane"), ("c", "same"), ("d", "longer"), ("e", "sane")];
        let mut paths = Vec::new();
        for (name, text) in files {
            paths.push(d.path().join(name));
            std::fs::write(paths.last().unwrap(), text).unwrap();
        }
        paths.push(d.path().join("missing"));
        let store = Listing { paths, ..Listing::default() };
        assert_eq!(of(&store), [vec![0, 2], vec![1, 4]]);
    }
}
