//! What is known of an episode before its frames are decoded.

use std::path::Path;

use lejepa_core::Error;

/// The actions of an episode, and numbers that probes predict.
pub(crate) struct EpisodeTable {
    /// Why the episode cannot be used; it is one bad sample then.
    pub(crate) broken: Option<String>,
    /// Frames.
    pub(crate) rows: usize,
    /// Numbers of an action.
    pub(crate) width: usize,
    /// Whether an action is one integer that says which of several was taken.
    pub(crate) is_kind: bool,
    /// Row-major, at least `[rows − 1, width]`.
    pub(crate) actions: Vec<f32>,
    /// A name, and a number for each frame.
    pub(crate) values: Vec<(String, Vec<Option<f64>>)>,
}

/// Of columns and arrays with numbers that probes predict.
pub(crate) const VALUE: &str = "value_";

pub(crate) fn refused(path: &Path, reason: impl Into<String>) -> Error {
    let hint = "an episode is a folder of images with actions.csv (a header, then a row of numbers for each image), or an \
                .npz file with the arrays frames and actions";
    Error::path(path, reason.into(), hint)
}

impl EpisodeTable {
    pub(crate) fn broken(reason: String) -> Self {
        let (actions, values) = (Vec::new(), Vec::new());
        Self { broken: Some(reason), rows: 1, width: 0, is_kind: false, actions, values }
    }

    /// A header, then a row for each frame. Columns `value_NAME` are numbers that probes predict, all others are the
    /// action that is taken at the frame, in order.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub(crate) fn from_csv(file: &Path) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(file);
        let reader = reader.as_mut().map_err(|e| e.to_string())?;
        let header = reader.headers().map_err(|e| e.to_string())?.clone();
        let named = |at: &usize| header[*at].strip_prefix(VALUE).filter(|n| !n.is_empty());
        let columns: Vec<usize> = (0..header.len()).filter(|at| named(at).is_none()).collect();
        if columns.is_empty() {
            return Err("no columns of actions".into());
        }
        let mut values: Vec<(usize, String, Vec<Option<f64>>)> = (0..header.len())
            .filter_map(|at| Some((at, named(&at)?.to_string(), Vec::new())))
            .collect();
        let (mut rows, mut actions) = (0, Vec::new());
        for record in reader.records() {
            let record = record.map_err(|e| e.to_string())?;
            rows += 1;
            for &at in &columns {
                // The action at the last frame leads nowhere and may be left out.
                let word = record.get(at).filter(|word| !word.is_empty()).unwrap_or("0");
                let number = word.parse::<f32>().ok().filter(|v| v.is_finite());
                let line = record.position().map_or(0, csv::Position::line);
                actions.push(number.ok_or_else(|| {
                    format!("line {line}: `{}` is no number", word.escape_debug())
                })?);
            }
            for (at, _, column) in &mut values {
                column.push(record.get(*at).and_then(|word| word.parse().ok()));
            }
        }
        let values = values.into_iter().map(|(_, name, column)| (name, column)).collect();
        Ok(Self { broken: None, rows, width: columns.len(), is_kind: false, actions, values })
    }

    /// Makes of an action that is one of `kinds` a row of zeros with a one.
    pub(crate) fn spread(&mut self, kinds: usize) {
        if self.broken.is_some() {
            return;
        }
        let one_of = |v: &f32| {
            let taken = *v as usize;
            (0..kinds).map(move |kind| f32::from(u8::from(kind == taken)))
        };
        self.actions = self.actions.iter().flat_map(one_of).collect();
        (self.width, self.is_kind) = (kinds, false);
    }
}
