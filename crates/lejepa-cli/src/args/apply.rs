//! Words of the commands that apply an encoder to data.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct ProbeArgs {
    /// The run folder
    pub(crate) run: PathBuf,
    /// Which checkpoint: latest, best, or the number of its step
    #[arg(long, value_name = "WHICH", default_value = "latest")]
    pub(crate) checkpoint: String,
    /// Labelled data to score on instead of the run's own
    #[arg(long, short, value_name = "SOURCE")]
    pub(crate) data: Option<String>,
    /// Score every fold of the data by probes that are fitted on the others
    #[arg(long)]
    pub(crate) folds: bool,
    /// Fit on so many samples of each class, e.g. 1,10: means over five draws
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with = "folds",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) shots: Vec<u32>,
    /// auto, cpu, wgpu[:n] or cuda[:n]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EmbedArgs {
    /// A run folder or an exported one
    #[arg(value_name = "RUN|EXPORT")]
    pub(crate) model: PathBuf,
    /// A folder, a manifest, or `demo`
    #[arg(long, short, value_name = "SOURCE")]
    pub(crate) data: String,
    /// The file to make: .npy (with the paths in a .paths.txt), .csv or .parquet (with the labels)
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Embed windows of so many seconds of recordings and films, with their start and end
    #[arg(long, value_name = "SECONDS")]
    pub(crate) window: Option<f64>,
    /// Seconds between the starts of windows [default: the window]
    #[arg(long, value_name = "SECONDS", requires = "window")]
    pub(crate) hop: Option<f64>,
    /// auto, cpu, wgpu[:n] or cuda[:n]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}
