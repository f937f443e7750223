//! Errors as a person reads them: what, where, what to do next.

use lejepa_core::Error as Core;
use lejepa_train::TrainError;

/// What ends a command.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Anything below the command line.
    Train(TrainError),
    /// Words that the command line cannot follow: the message and a hint.
    Usage(String, String),
}

impl<E: Into<TrainError>> From<E> for CliError {
    fn from(e: E) -> Self {
        Self::Train(e.into())
    }
}

impl CliError {
    /// 2 for wrong use, 130 for an interruption, 1 for everything else.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(..) => 2,
            Self::Train(TrainError::Interrupted { .. }) => 130,
            Self::Train(
                TrainError::Objective(_)
                | TrainError::OutputExists(_)
                | TrainError::Mismatch { .. },
            ) => 2,
            Self::Train(TrainError::Core(e)) => match e {
                Core::Unknown { .. } | Core::UnknownKey { .. } | Core::BadValue { .. } => 2,
                _ => 1,
            },
            Self::Train(_) => 1,
        }
    }

    /// Prints the error on stderr and, for programs, as JSON on stdout.
    pub(crate) fn report(&self, json: bool) {
        let (message, hint) = match self {
            Self::Usage(message, hint) => (message.clone(), Some(hint.clone())),
            Self::Train(e) => (e.to_string(), e.hint()),
        };
        eprintln!("error: {message}");
        if let Some(hint) = &hint {
            eprintln!("  hint: {hint}");
        }
        if json {
            println!("{}", serde_json::json!({ "error": message, "hint": hint }));
        }
    }
}
