//! What is printed, where a reader that went away (`lejepa … | head`) or a full disk never ends a command:
//! `println!` would panic, and with it a training.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something could not be written to stdout although its reader is there.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints to stdout. A reader that has closed the pipe wants no more.
pub(crate) fn out(text: Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_fmt(text).and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
        && !LOST.swap(true, Ordering::Relaxed)
    {
        err(format_args!("warning: cannot write to stdout: {error}\n"));
    }
}

/// Prints to stderr; there is nowhere to say that it failed. It is one write, which what other processes print
/// to the same place (`mpirun`) cannot come into the middle of.
pub(crate) fn err(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_all(text.to_string().as_bytes());
}

/// Whether all that [`out`] was given has gone where it should.
pub(crate) fn is_complete() -> bool {
    !LOST.load(Ordering::Relaxed)
}

/// `println!` that never panics.
macro_rules! outln {
    ($($arg:tt)*) => {
        $crate::output::out(format_args!("{}\n", format_args!($($arg)*)))
    };
}

/// `eprintln!` that never panics.
macro_rules! errln {
    ($($arg:tt)*) => {
        $crate::output::err(format_args!("{}\n", format_args!($($arg)*)))
    };
}

pub(crate) use {errln, outln};
