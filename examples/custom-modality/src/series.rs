//! One sample, and how it is read from a file.

use std::path::Path;

/// Numbers over time: `values[t * channels + channel]`, each channel scaled to mean 0 and standard
/// deviation 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Number of channels, at least 1.
    pub channels: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

impl Series {
    /// Moments.
    pub fn len(&self) -> usize {
        self.values.len() / self.channels.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Scales every channel; one that never changes becomes 0.
    pub fn standardised(mut self) -> Self {
        let n = self.len().max(1) as f32;
        for channel in 0..self.channels {
            let column = || self.values.iter().skip(channel).step_by(self.channels);
            let mean = column().sum::<f32>() / n;
            let std = (column().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt();
            let scale = if std > 1e-6 { 1.0 / std } else { 0.0 };
            for x in self.values.iter_mut().skip(channel).step_by(self.channels) {
                *x = (*x - mean) * scale;
            }
        }
        self
    }
}

/// Reads rows of numbers separated by commas; a first line of words is taken for a header. An error
/// is one line that says what is wrong with the file.
pub(crate) fn read(path: &Path, channels: usize, window: usize) -> Result<Series, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let mut values = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Result<Vec<f32>, _> = line.split(',').map(|w| w.trim().parse()).collect();
        match row {
            Ok(row) if row.len() == channels && row.iter().all(|x: &f32| x.is_finite()) => {
                values.extend(row);
            }
            Ok(row) => {
                return Err(format!("line {}: {} finite numbers expected, got {row:?}", i + 1, channels));
            }
            Err(_) if i == 0 => {}
            Err(e) => return Err(format!("line {}: {e}", i + 1)),
        }
    }
    let series = Series { channels, values };
    if series.len() < window {
        return Err(format!("{} rows are fewer than a view has ({window})", series.len()));
    }
    Ok(series.standardised())
}
