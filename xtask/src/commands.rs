//! Runs the commands that a page shows, and puts what they print below them.

use std::path::Path;
use std::process::Command;

/// Runs what follows each `$ ` in the blocks ` ```console ` of a page, in order and in one folder, with `programs` first
/// on the path. Lines below a command, up to the next one or to the block's end, become its output; a command's first
/// words stay as they are. The page as it should be.
pub(crate) fn replay(page: &str, folder: &Path, programs: &Path) -> Result<String, String> {
    let mut out = String::new();
    for piece in pieces(page) {
        match piece {
            Piece::Text(line) => out.push_str(line),
            Piece::Command(line, command) => {
                out.push_str(line);
                let said = shell(command, folder, programs)?;
                out.push_str(&said);
                if !said.is_empty() && !said.ends_with('\n') {
                    out.push('\n');
                }
            }
        }
    }
    Ok(out)
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

/// Output and errors as a terminal shows them.
fn shell(command: &str, folder: &Path, programs: &Path) -> Result<String, String> {
    eprintln!("$ {command}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(programs.to_path_buf()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(paths).map_err(|e| format!("{}: {e}", programs.display()))?;
    let out = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(folder)
        .env("PATH", path)
        .output()
        .map_err(|e| format!("{command}: {e}"))?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        Ok(said)
    } else {
        Err(format!("`{command}` ended with {}\n{said}", out.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_replaced_and_the_rest_stays() {
        let page = "# A\n\n```console\n$ echo one\nold\n$ true\n$ echo two >&2\n```\n\nText.\n\n```toml\n$ x\n```\n";
        let folder = std::env::temp_dir();
        let new = replay(page, &folder, &folder).unwrap();
        assert_eq!(new, page.replace("old", "one").replace(">&2\n", ">&2\ntwo\n"));
        // And again the same.
        assert_eq!(replay(&new, &folder, &folder).unwrap(), new);
    }

    #[test]
    fn a_command_that_fails_is_an_error_with_its_words() {
        let folder = std::env::temp_dir();
        let page = "```console\n$ echo why; exit 3\n```\n";
        let reason = replay(page, &folder, &folder).unwrap_err();
        assert!(reason.contains("echo why") && reason.ends_with("why\n"), "{reason}");
    }
}
