//! Other programs, run to their end.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use crate::corpus::Failure;

/// Runs `command` with `input`. A program that is not installed is a reason to skip.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<Output, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let wrong = |e: std::io::Error| Failure::Failed(format!("{name}: {e}"));
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| match e.kind() {
        ErrorKind::NotFound => Failure::Skipped(format!("the program `{name}` is not installed")),
        _ => wrong(e),
    })?;
    // A program that ends early closes the pipe; its own message says more than that.
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input));
    let output = child.wait_with_output().map_err(wrong)?;
    if !output.status.success() {
        return Err(Failure::Failed(format!("{name} {}: {}", output.status, last_line(&output))));
    }
    written.map_err(wrong)?;
    Ok(output)
}

/// What a program said last: most name the cause there.
fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_string()
}
