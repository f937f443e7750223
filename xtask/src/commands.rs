//! Runs the commands that a page shows, and puts what they print below them.

use std::path::Path;
use std::process::Command;

/// Runs what follows each `$ ` in the blocks ` ```console ` of a page, in order and in one folder, with `programs` first
/// on the path. Lines below a command, up to the next one or to the block's end, become its output; a command's first
/// words stay as they are. The page as it should be, and the commands that failed.
pub(crate) fn replay(
    page: &str,
    folder: &Path,
    programs: &Path,
) -> Result<(String, Vec<String>), String> {
    let (mut out, mut failed) = (String::new(), Vec::new());
    for piece in pieces(page) {
        match piece {
            Piece::Text(line) => out.push_str(line),
            Piece::Command(line, command) => {
                out.push_str(line);
                let (said, is_success) = shell(command, folder, programs)?;
                if !is_success {
                    failed.push(command.to_string());
                }
                out.push_str(&said);
                if !said.is_empty() && !said.ends_with('\n') {
                    out.push('\n');
                }
            }
        }
    }
    Ok((out, failed))
}

/// What a page consists of, without the outputs of its commands.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    /// Its lines with the prompt, and the command.
    Command(&'a str, &'a str),
}

fn pieces(page: &str) -> Vec<Piece<'_>> {
    let (mut out, mut in_block) = (Vec::new(), false);
    for line in page.split_inclusive('\n') {
        match line.trim_end() {
            "```console" => {
                in_block = true;
                out.push(Piece::Text(line));
            }
            "```" => {
                in_block = false;
                out.push(Piece::Text(line));
            }
            command if in_block => {
                if let Some(command) = command.strip_prefix("$ ") {
                    out.push(Piece::Command(line, command));
                }
            }
            _ => out.push(Piece::Text(line)),
        }
    }
    out
}

/// Output and errors as a terminal shows them, and whether the command succeeded.
fn shell(command: &str, folder: &Path, programs: &Path) -> Result<(String, bool), String> {
    eprintln!("$ {command}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(programs.to_path_buf()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(paths).map_err(|e| format!("{}: {e}", programs.display()))?;
    let out = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(folder)
        .env("PATH", path)
        // Without it a Vulkan loader complains where nobody has logged in.
        .env("XDG_RUNTIME_DIR", folder)
        .output()
        .map_err(|e| format!("{command}: {e}"))?;
    // Nobody else has this folder.
    let said = String::from_utf8_lossy(&out.stdout).replace(&format!("{}/", folder.display()), "");
    Ok((said, out.status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_replaced_and_the_rest_stays() {
        let page = "# A\n\n```console\n$ echo one\nold\n$ true\n$ echo two >&2\n```\n\nText.\n\n```toml\n$ x\n```\n";
        let folder = std::env::temp_dir();
        let (new, failed) = replay(page, &folder, &folder).unwrap();
        assert!(failed.is_empty());
        assert_eq!(new, page.replace("old", "one").replace(">&2\n", ">&2\ntwo\n"));
        // And again the same.
        assert_eq!(replay(&new, &folder, &folder).unwrap().0, new);
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let folder = std::env::temp_dir();
        let page = "```console\n$ echo why; exit 3\n```\n";
        let (new, failed) = replay(page, &folder, &folder).unwrap();
        assert!(new.contains("\nwhy\n"), "{new}");
        assert_eq!(failed, ["echo why; exit 3"]);
    }
}
