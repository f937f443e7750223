//! A sample, and how it is decoded.

use lejepa_core::{Blob, Decoded};

/// A time series; each channel has mean 0 and standard deviation 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    channels: Vec<Vec<f32>>,
}

impl Series {
    /// Standardises channels of equal length. A constant channel becomes 0.
    pub fn new(mut channels: Vec<Vec<f32>>) -> Self {
        for channel in &mut channels {
            let n = channel.len().max(1) as f32;
            let mean = channel.iter().sum::<f32>() / n;
            let std = (channel.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt();
            let scale = if std > 1e-6 { 1.0 / std } else { 0.0 };
            channel.iter_mut().for_each(|x| *x = (*x - mean) * scale);
        }
        Self { channels }
    }

    /// The channels.
    pub fn channels(&self) -> &[Vec<f32>] {
        &self.channels
    }

    /// Number of time steps.
    pub fn steps(&self) -> usize {
        self.channels.first().map_or(0, Vec::len)
    }

    pub(crate) fn decoded(self) -> Decoded<Self> {
        let bytes = 4 * self.channels.len() * self.steps();
        Decoded::whole(self, bytes)
    }
}

/// Reads rows of comma-separated numbers; the first line may be a header. An error is one line that says
/// what is wrong: the loader reports and replaces the sample.
pub(crate) fn read(
    blob: &Blob<'_>,
    channels: usize,
    steps: usize,
) -> Result<Decoded<Series>, String> {
    let bytes = blob.read().map_err(|e| e.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|e| e.to_string())?;
    let mut columns = vec![Vec::new(); channels];
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Result<Vec<f32>, _> = line.split(',').map(|x| x.trim().parse()).collect();
        match row {
            Ok(row) if row.len() == channels && row.iter().all(|x| x.is_finite()) => {
                columns.iter_mut().zip(row).for_each(|(column, x)| column.push(x));
            }
            Err(_) if i == 0 => {}
            _ => return Err(format!("line {}: expected {channels} finite numbers", i + 1)),
        }
    }
    let series = Series::new(columns);
    if series.steps() < steps {
        return Err(format!("has {} time steps; a view needs {steps}", series.steps()));
    }
    Ok(series.decoded())
}

#[test]
fn rows_are_read_and_bad_files_are_refused() {
    let read = |text: &str| read(&Blob::bytes("a.csv", text.as_bytes()), 2, 2);
    let series = read("x,y\n1,2\n3,6\n").expect("two rows of two numbers").item;
    assert_eq!(series.channels(), [[-1.0f32, 1.0], [-1.0, 1.0]]);
    for (text, says) in [("1,2\n3\n", "line 2"), ("1,2\n3,nan\n", "line 2"), ("1,2\n", "1 time")] {
        let error = read(text).expect_err(text);
        assert!(error.contains(says), "{error}");
    }
}
