//! Words of the commands that apply an encoder to data.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct ProbeArgs {
    /// The run folder
    pub(crate) run: PathBuf,
    /// Which checkpoint: latest, best, or the number of its step
    #[arg(long, value_name = "WHICH", default_value = "latest")]
    pub(crate) checkpoint: String,
    /// Labelled data to score on instead of the run's own; several times for several tables
    #[arg(long, short, value_name = "SOURCE")]
    pub(crate) data: Vec<String>,
    /// Score every fold of the data by probes that are fitted on the others
    #[arg(long)]
    pub(crate) folds: bool,
    /// Fit on so many samples of each class, e.g. 1,10: means over five draws
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with = "folds",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) shots: Vec<u32>,
    /// A row for another run or export, or for published weights (.safetensors), on the same samples
    #[arg(long, value_name = "RUN|EXPORT|WEIGHTS", conflicts_with_all = ["folds", "shots"])]
    pub(crate) against: Vec<String>,
    /// A row for the last N layers, each with a layer norm, side by side (vit)
    #[arg(long, value_name = "N", conflicts_with_all = ["folds", "shots"],
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) layers: Option<u32>,
    /// Also fit an attentive probe: cross attention over dense features
    #[arg(long, conflicts_with_all = ["folds", "shots"])]
    pub(crate) attentive: bool,
    /// A table of each class, and what it is taken for; with --json the confusion matrices
    #[arg(long, conflicts_with_all = ["folds", "shots"])]
    pub(crate) classes: bool,
    /// auto, cpu, wgpu[:n], vulkan[:n], metal[:n] or cuda[:n]
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
    /// The file to make: .npy (with the paths in a .paths.txt), .csv or .parquet (with the labels); a name
    /// without an ending is a folder as data sets of the Hugging Face hub are
    #[arg(long, short, value_name = "FILE|DIR")]
    pub(crate) output: PathBuf,
    /// Embed windows of so many seconds of recordings and films, with their start and end
    #[arg(long, value_name = "SECONDS")]
    pub(crate) window: Option<f64>,
    /// Embed each cell of the encoder's grid: a row for each patch or time step, with its place
    #[arg(long)]
    pub(crate) dense: bool,
    /// Seconds between the starts of windows [default: the window]
    #[arg(long, value_name = "SECONDS", requires = "window")]
    pub(crate) hop: Option<f64>,
    /// auto, cpu, wgpu[:n], vulkan[:n], metal[:n] or cuda[:n]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Compute and train on these devices, or on every graphics card, and compare with the CPU: SIGReg and its gradient,
    /// losses of each modality, bf16, a run that is killed and resumed, and the speed of all of it
    #[arg(long, value_name = "DEVICE", num_args = 0..)]
    pub(crate) check: Option<Vec<String>>,
    /// Steps of each training of --check
    #[arg(long, value_name = "N", default_value_t = 40, requires = "check",
          value_parser = clap::value_parser!(u64).range(4..=100_000))]
    pub(crate) steps: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// The run folder
    pub(crate) run: PathBuf,
    /// Which checkpoint: latest, best, or the number of its step
    #[arg(long, value_name = "WHICH", default_value = "latest")]
    pub(crate) checkpoint: String,
    /// The environment [default: the first for the run's modality; `lejepa list environment`]
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// Episodes to act in
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) episodes: u32,
    /// Seed of the episodes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Actions that are imagined ahead
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) horizon: u32,
    /// Sequences of actions in a round, of which the best tenth gives the next
    #[arg(long, value_name = "N", default_value_t = 300,
          value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(crate) samples: u32,
    /// Rounds for each action
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,
    /// auto, cpu, wgpu[:n], vulkan[:n], metal[:n] or cuda[:n]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}
