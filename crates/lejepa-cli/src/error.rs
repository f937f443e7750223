//! Errors as a person reads them: what, where, what to do next.

use crate::output::{errln, outln};
use lejepa_core::Error as Core;
use lejepa_train::TrainError;

/// What ends a command.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Anything below the command line.
    Train(TrainError),
    /// Words that the command line cannot follow: the message and a hint.
    Usage(String, String),
    /// A device that does not compute here: the reason and a hint.
    Device(String, &'static str),
    /// What rank 0 of several workers reports.
    Elsewhere,
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
                | TrainError::Mismatch { .. }
                | TrainError::OtherData { .. },
            ) => 2,
            Self::Train(TrainError::Core(e)) => match e {
                Core::Unknown { .. } | Core::UnknownKey { .. } | Core::BadValue { .. } => 2,
                _ => 1,
            },
            Self::Train(_) | Self::Device(..) | Self::Elsewhere => 1,
        }
    }

    /// What went wrong, in a line.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Usage(message, _) | Self::Device(message, _) => message.clone(),
            Self::Train(error) => error.to_string(),
            Self::Elsewhere => "another worker failed".into(),
        }
    }

    /// Prints the error on stderr and, for programs, as JSON on stdout.
    pub(crate) fn report(&self, json: bool) {
        let message = self.message();
        let hint = match self {
            Self::Usage(_, hint) => Some(hint.clone()),
            Self::Device(_, hint) => Some((*hint).into()),
            Self::Train(e) => hint(e),
            Self::Elsewhere => None,
        };
        match &hint {
            Some(hint) => errln!("error: {message}\n  hint: {hint}"),
            None => errln!("error: {message}"),
        }
        if json {
            outln!("{}", serde_json::json!({ "error": message, "hint": hint }));
        }
    }
}

/// What to do next, in the words of the command line: libraries name keys of the configuration.
fn hint(error: &TrainError) -> Option<String> {
    match error {
        TrainError::OutputExists(_) => {
            Some("runs are never overwritten: choose another --output, or say --overwrite".into())
        }
        TrainError::NotARun { .. } => {
            Some("give the folder that `lejepa train` named at its end, e.g. runs/image-001".into())
        }
        TrainError::Locked { .. } => {
            Some("wait until it is done, or choose another --output".into())
        }
        TrainError::Interrupted { run, .. } => Some(format!("lejepa resume {}", run.display())),
        TrainError::Io { source, .. } if is_read_only(source) => {
            Some("choose a writable folder with --output".into())
        }
        error => error.hint().map(|hint| with_flags(&hint)),
    }
}

fn is_read_only(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

/// Keys that have their own flag.
const FLAGS: [(&str, &str); 6] = [
    ("data.source = \"demo\"", "--data demo"),
    ("device = \"cpu\"", "--device cpu"),
    ("data.source", "--data"),
    ("data.workers", "--workers"),
    ("objective.lambda", "--lambda"),
    ("train.init", "--init"),
];

/// A text with the flags of the command line in place of the keys that have one.
pub(crate) fn with_flags(text: &str) -> String {
    let modality = text.replace(" and modality;", " and --modality;");
    FLAGS.iter().fold(modality, |text, (key, flag)| text.replace(key, flag))
}
