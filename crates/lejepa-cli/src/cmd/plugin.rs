//! `lejepa new-plugin NAME`: creates a crate with a modality that compiles, passes its tests and trains.

use std::path::{Path, PathBuf};

use lejepa_core::Error;
use lejepa_train::TrainError;
use serde_json::{Value, json};

use crate::args::{Args, PluginArgs};
use crate::error::CliError;
use crate::output::outln;

/// The template files; placeholders are written `{{...}}`.
const FILES: [(&str, &str); 10] = [
    ("Cargo.toml", include_str!("../../template/Cargo.toml.txt")),
    (".gitignore", include_str!("../../template/gitignore.txt")),
    ("README.md", include_str!("../../template/README.md.txt")),
    ("src/lib.rs", include_str!("../../template/src/lib.rs.txt")),
    ("src/series.rs", include_str!("../../template/src/series.rs.txt")),
    ("src/demo.rs", include_str!("../../template/src/demo.rs.txt")),
    ("src/encoder.rs", include_str!("../../template/src/encoder.rs.txt")),
    ("src/main.rs", include_str!("../../template/src/main.rs.txt")),
    ("tests/conformance.rs", include_str!("../../template/tests/conformance.rs.txt")),
    ("Cargo.lock", ""),
];

/// Sections of a manifest that is no member of a workspace; a member takes the profiles of its workspace.
const WORKSPACE: &str = "\n[workspace]\n";
const PROFILE: &str = "
# Debug information takes most of the build time.
[profile.release]
debug = false
codegen-units = 16
incremental = false
";

/// Crates that the template depends on, and their folders in a checkout.
const CRATES: [(&str, &str); 5] = [
    ("lejepa-cli", "crates"),
    ("lejepa-core", "crates"),
    ("lejepa-nn", "crates"),
    ("lejepa-train", "crates"),
    ("lejepa-image", "plugins"),
];

/// Names that are taken by the official plugins, by Rust, or by keys and sections of the configuration.
const RESERVED: [&str; 26] = [
    "film",
    "image",
    "audio",
    "video",
    "world",
    "test",
    "self",
    "crate",
    "core",
    "std",
    "callbacks",
    "checkpoint",
    "data",
    "device",
    "encoder",
    "modality",
    "objective",
    "optimizer",
    "prediction",
    "probe",
    "projector",
    "schedule",
    "seed",
    "statistic",
    "train",
    "views",
];

pub(super) fn run(args: &Args, options: &PluginArgs) -> Result<Value, CliError> {
    let name = &options.name;
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(letters)
        && !name.ends_with('-')
        && !name.contains("--")
        && !RESERVED.contains(&name.as_str());
    if !fits {
        return Err(CliError::Usage(
            format!("`{name}` is no name for a plugin"),
            "use lower case letters, digits and single dashes, such as `my-sensor`".into(),
        ));
    }
    let folder = options.output.clone().unwrap_or_else(|| PathBuf::from(name));
    if folder.exists() {
        return Err(TrainError::OutputExists(folder).into());
    }
    let checkout = match &options.lejepa {
        // Kept as given: a relative path is relative to the new crate.
        Some(path) if is_checkout(&resolve(&folder, path)) => Some(path.clone()),
        Some(path) => {
            let hint = "--lejepa takes a folder that contains crates/lejepa-core, absolute or relative to the new crate";
            return Err(Error::path(path, "is no checkout of lejepa", hint).into());
        }
        // A binary inside a checkout was built from it.
        None => std::env::current_exe()
            .ok()
            .and_then(|exe| exe.ancestors().find(|p| is_checkout(p)).map(Path::to_path_buf)),
    };
    let is_member = is_member(&folder);
    for (file, text) in FILES {
        let text = match (file, &checkout) {
            ("Cargo.lock", _) if is_member => continue,
            // Versions that are known to work together.
            ("Cargo.lock", Some(root)) => {
                match std::fs::read_to_string(resolve(&folder, root).join("Cargo.lock")) {
                    Ok(text) => text,
                    Err(_) => continue,
                }
            }
            ("Cargo.lock", None) => continue,
            _ => fill(text, name, checkout.as_deref(), is_member),
        };
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent).map_err(TrainError::io("create", parent))?;
        std::fs::write(&path, text).map_err(TrainError::io("write", &path))?;
    }
    if !args.json && !args.quiet {
        outln!(
            "made {}\n  cd {0}\n  cargo test --release\n  cargo run --release -- train --modality {name}",
            folder.display()
        );
    }
    Ok(json!({ "plugin": name, "folder": folder.display().to_string() }))
}

/// `path` relative to `folder`, which need not exist yet: `..` is resolved lexically.
fn resolve(folder: &Path, path: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let mut out = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// Whether the nearest workspace further up lists `folder` under `members`. Cargo refuses a crate that says otherwise
/// than its workspace, and takes one that is not listed only as the root of its own.
fn is_member(folder: &Path) -> bool {
    let folder = resolve(folder, Path::new(""));
    let workspace = folder.ancestors().skip(1).find_map(|root| {
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).ok()?;
        let manifest: toml::Table = manifest.parse().ok()?;
        let members = manifest.get("workspace")?.get("members").and_then(|m| m.as_array());
        Some((root, members.cloned().unwrap_or_default()))
    });
    let Some((root, members)) = workspace else { return false };
    let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    members.iter().filter_map(|member| member.as_str()).any(|member| {
        let pattern = glob::Pattern::escape(&root.to_string_lossy()) + "/" + member;
        glob::Pattern::new(&pattern)
            .is_ok_and(|pattern| pattern.matches_path_with(&folder, options))
    })
}

fn is_checkout(path: &Path) -> bool {
    path.join("crates/lejepa-core/Cargo.toml").is_file()
}

fn fill(text: &str, name: &str, checkout: Option<&Path>, is_member: bool) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or(String::new(), |c| c.to_ascii_uppercase().to_string() + letters.as_str())
    };
    let title = capital(&name.replace('-', " "));
    let mut text = text
        .replace("{{name}}", name)
        .replace("{{ident}}", &name.replace('-', "_"))
        .replace("{{type}}", &name.split('-').map(capital).collect::<String>())
        .replace("{{title}}", &title)
        .replace("{{workspace}}", if is_member { "" } else { WORKSPACE })
        .replace("{{profile}}", if is_member { "" } else { PROFILE });
    for (krate, folder) in CRATES {
        let version = env!("CARGO_PKG_VERSION");
        let dependency = match checkout {
            Some(root) => {
                let path = root.join(folder).join(krate).display().to_string();
                format!("{{ version = \"{version}\", path = {} }}", toml_string(&path))
            }
            None => format!("\"{version}\""),
        };
        text = text.replace(&format!("{{{{{krate}}}}}"), &dependency);
    }
    text
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_placeholder_is_left() {
        for (file, text) in FILES {
            for (checkout, is_member) in [(None, false), (Some(Path::new("/some/where")), true)] {
                let filled = fill(text, "my-sensor", checkout, is_member);
                assert!(!filled.contains("{{") && !filled.contains("}}}"), "{file}: {filled}");
            }
        }
        assert!(fill("{{type}} {{ident}}", "my-sensor", None, false) == "MySensor my_sensor");
    }
}
