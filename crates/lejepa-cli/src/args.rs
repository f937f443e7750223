//! The words of the command line.

mod apply;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use apply::{DoctorArgs, EmbedArgs, PlanArgs, ProbeArgs};

/// Self-supervised pretraining for any kind of data: one objective, one trainer, one
/// hyperparameter.
#[derive(Debug, Parser)]
#[command(name = "lejepa", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Examples:
  lejepa train --modality audio                  train on the built-in sounds and probe the result
  lejepa train --modality image --data photos/   train on a folder; sub-folders are labels
  lejepa train --modality video --data clips/ --minutes 30
  lejepa data photos/ --modality image           what is there, and what is wrong with it
  lejepa resume runs/image-001                   go on after Ctrl-C or a crash
  lejepa resume runs/image-001 --steps 2000      go on after its end
  lejepa runs                                    what came of all runs, and how they differ
  lejepa export runs/image-001                   the encoder, for applications
  lejepa embed runs/image-001 --data photos/ --output photos.npy
  lejepa probe runs/image-001                    score a finished run again
  lejepa config show --modality video            every setting with its default

Exit status: 0 success, 1 failure, 2 wrong use or configuration, 130 interrupted.")]
pub(crate) struct Args {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print the result as one JSON object on the last line of stdout; all else goes to stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but the result and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pretrain an encoder, then probe it and its untrained self
    Train(TrainArgs),
    /// Report what a data set holds, what was taken for what, and what is left out and why
    Data(DataArgs),
    /// Write pictures of the views that the sampler makes: contact sheets, spectrograms, films
    Views(ViewsArgs),
    /// Write pictures of the principal components of an encoder's dense features, beside the views
    Pca(PcaArgs),
    /// Go on with a run that was interrupted, from its newest checkpoint
    Resume(ResumeArgs),
    /// List runs with what came of them, and the settings in which they differ
    Runs(RunsArgs),
    /// Say how runs went, why, and what to change first
    Judge(JudgeArgs),
    /// Write a page about runs: curves, probes, views, a map of embeddings, what differs
    Report(ReportArgs),
    /// Train with several settings, one run after the other, and rank them without labels and with
    Sweep(SweepArgs),
    /// Score a run's encoder with linear and nearest-neighbour probes
    Probe(ProbeArgs),
    /// Act in an environment by plans with a run's world model
    Plan(PlanArgs),
    /// Write a run's encoder as safetensors, config.json and README.md
    Export(ExportArgs),
    /// Embed files with a run or an export, into .npy, .csv or .parquet
    Embed(EmbedArgs),
    /// Find what lies nearest to files among embeddings
    Neighbours(NeighboursArgs),
    /// Say what a file or folder is, and what is in it
    Inspect(InspectArgs),
    /// List the kinds of data this binary can train on
    Modalities,
    /// List the encoders this binary can train
    Encoders {
        /// Every published size, with parameters and multiply-adds for a view of 3×224×224
        #[arg(long)]
        all: bool,
    },
    /// List the statistics that SIGReg can use: `--set statistic.name=NAME`
    Statistics,
    /// List the components of any kind that this binary has
    List {
        /// Which kind
        kind: ListKind,
    },
    /// Say what this binary can do on this machine, and how to get what it cannot
    Doctor(DoctorArgs),
    /// Write a crate with a new modality in it: it compiles, passes its tests and trains
    NewPlugin(PluginArgs),
    /// Look at settings
    Config {
        /// What to look at
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Write manual pages, one for each command
    Man {
        /// The folder to write to; it is made where it is missing
        folder: PathBuf,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Kinds of components.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ListKind {
    /// Kinds of data
    Modality,
    /// Ways to make views of a modality's samples: `--views NAME`
    Views,
    /// Backbones: `--encoder NAME`
    Encoder,
    /// Statistics that SIGReg can use: `--set statistic.name=NAME`
    Statistic,
    /// Prediction terms: `--set prediction.name=NAME`
    Prediction,
    /// Optimizers: `--set optimizer.name=NAME`
    Optimizer,
    /// Learning-rate schedules: `--set schedule.name=NAME`
    Schedule,
    /// What happens after each step: `--set callbacks.NAME.enabled=true`
    Callback,
    /// Worlds to plan in: `lejepa plan RUN --environment NAME`
    Environment,
    /// Settings for kinds of content: `--preset NAME`
    Preset,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the configuration that `train` would use, as TOML that --config accepts
    Show(ConfigArgs),
}

/// Everything that decides a configuration.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Kind of data: see `lejepa modalities`
    #[arg(long, short, value_name = "NAME")]
    pub(crate) modality: Option<String>,
    /// A folder, a manifest (.csv or .jsonl with path, label, split), or `demo`
    #[arg(long, short, value_name = "SOURCE")]
    pub(crate) data: Option<String>,
    /// Backbone: see `lejepa encoders`
    #[arg(long, short, value_name = "NAME")]
    pub(crate) encoder: Option<String>,
    /// Ways to make views other than the modality's own: see `lejepa list views`
    #[arg(long, value_name = "NAME")]
    pub(crate) views: Option<String>,
    /// Settings in TOML, such as the config.toml of a run
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, e.g. train.epochs=20; may be given again
    #[arg(long = "set", short, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// auto, cpu, wgpu[:n], vulkan[:n], metal[:n] or cuda[:n]; cuda:0,1 divides each step among both
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Where all randomness comes from; the same seed gives the same run on a CPU
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Settings for a kind of content instead of `auto`, which looks at the data: see `lejepa list
    /// preset`; `none` for the bare defaults
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// Minutes that the whole run may take: the first steps tell how many fit
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["epochs", "steps"])]
    pub(crate) minutes: Option<f64>,
    /// Passes over the data
    #[arg(long, value_name = "NUMBER")]
    pub(crate) epochs: Option<f64>,
    /// Steps, instead of epochs
    #[arg(long, value_name = "NUMBER")]
    pub(crate) steps: Option<u64>,
    /// Samples per step
    #[arg(long, value_name = "NUMBER")]
    pub(crate) batch: Option<usize>,
    /// Weight of SIGReg, the one hyperparameter
    #[arg(long, value_name = "NUMBER")]
    pub(crate) lambda: Option<f64>,
    /// Loader threads; 0 chooses
    #[arg(long, value_name = "NUMBER")]
    pub(crate) workers: Option<usize>,
    /// f32, or bf16: faster matrix products on processors that have it
    #[arg(long, value_name = "PRECISION", value_parser = ["f32", "bf16"])]
    pub(crate) precision: Option<String>,
    /// full, or checkpoint: less memory for more time
    #[arg(long, value_name = "HOW", value_parser = ["full", "checkpoint"])]
    pub(crate) memory: Option<String>,
    /// Microbatches in which the encoder works through a batch; the loss stays that of the whole
    #[arg(long, value_name = "NUMBER")]
    pub(crate) microbatches: Option<usize>,
    /// Start a new run from the weights of a run, a checkpoint folder or a file of weights
    #[arg(long, value_name = "RUN|FILE")]
    pub(crate) init: Option<String>,
}

impl ConfigArgs {
    /// The options as assignments, which the last layer of the configuration is made of.
    pub(crate) fn assignments(&self) -> Vec<String> {
        fn word(key: &str, value: Option<&impl ToString>) -> Option<String> {
            value.map(|v| format!("{key}={}", v.to_string()))
        }
        // Quoted as TOML, so that every text comes through as it is.
        fn text(key: &str, value: Option<&String>) -> Option<String> {
            value.map(|v| format!("{key}={}", lejepa_core::Value::String(v.clone())))
        }
        [
            text("modality", self.modality.as_ref()),
            text("data.source", self.data.as_ref()),
            text("encoder.name", self.encoder.as_ref()),
            text("views.name", self.views.as_ref()),
            text("device", self.device.as_ref()),
            word("seed", self.seed.as_ref()),
            text("preset", self.preset.as_ref()),
            word("train.minutes", self.minutes.as_ref()),
            word("train.epochs", self.epochs.as_ref()),
            word("train.steps", self.steps.as_ref()),
            word("train.batch", self.batch.as_ref()),
            word("objective.lambda", self.lambda.as_ref()),
            word("data.workers", self.workers.as_ref()),
            text("train.precision", self.precision.as_ref()),
            text("train.memory", self.memory.as_ref()),
            word("train.microbatches", self.microbatches.as_ref()),
            text("train.init", self.init.as_ref()),
        ]
        .into_iter()
        .flatten()
        .chain(self.set.iter().cloned())
        .collect()
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The run folder to make; without it the next free runs/NAME-001, -002, ...
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Remove the run that is in the output folder
    #[arg(long, requires = "output")]
    pub(crate) overwrite: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// A folder, a manifest (.csv or .jsonl), or `demo`
    pub(crate) source: String,
    /// Kind of data: see `lejepa modalities`
    #[arg(long, short, value_name = "NAME")]
    pub(crate) modality: Option<String>,
    /// One setting, e.g. data.test_share=0.1; may be given again
    #[arg(long = "set", short, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    /// The run folder
    pub(crate) run: PathBuf,
    /// Where the run's data are now; they have to be the same
    #[arg(long, short, value_name = "SOURCE")]
    pub(crate) data: Option<String>,
    /// Steps beyond the run's length
    #[arg(long, value_name = "NUMBER")]
    pub(crate) steps: Option<u64>,
    /// Minutes beyond the run's length, at the speed that it had
    #[arg(long, value_name = "NUMBER", conflicts_with = "steps")]
    pub(crate) minutes: Option<f64>,
    /// One setting that may change when a run goes on, e.g. data.max_bad=0.5; may be given again
    #[arg(long = "set", short, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Loader threads instead of the run's own; the result does not depend on them
    #[arg(long, value_name = "NUMBER")]
    pub(crate) workers: Option<usize>,
    /// auto, cpu, wgpu[:n], vulkan[:n], metal[:n], cuda[:n] or a list such as cuda:0,1, instead of the run's own
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The run folder
    pub(crate) run: PathBuf,
    /// Which checkpoint: latest, best, or the number of its step
    #[arg(long, value_name = "WHICH", default_value = "latest")]
    pub(crate) checkpoint: String,
    /// The folder to make; without it RUN/export
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// For whom: lejepa, timm (vit, resnet and convnext, for PyTorch), or onnx (convnet, vit, resnet and convnext)
    #[arg(long, value_enum, default_value = "lejepa")]
    pub(crate) format: ExportFormat,
    /// With --format onnx, begin the graph with the samples of a sound instead of its spectrogram
    #[arg(long)]
    pub(crate) front_end: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ViewsArgs {
    /// Files to make views of; without any, samples of --data
    pub(crate) files: Vec<PathBuf>,
    /// The folder to make
    #[arg(long, short, value_name = "DIR", default_value = "views")]
    pub(crate) output: PathBuf,
    /// Most samples to show, evenly over the data
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    pub(crate) samples: usize,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunsArgs {
    /// Run folders, or folders that hold them
    #[arg(default_value = "runs")]
    pub(crate) folders: Vec<PathBuf>,
    /// What comes first: by name, or the highest accuracy or the lowest loss
    #[arg(long, value_enum, default_value = "name")]
    pub(crate) sort: RunOrder,
}

#[derive(Debug, clap::Args)]
pub(crate) struct JudgeArgs {
    /// Run folders, or folders that hold them
    #[arg(default_value = "runs", value_name = "RUN")]
    pub(crate) folders: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Run folders; the first one is told in full, the others beside it
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// The page to write; without it RUN/report.html
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Samples of the map and of the neighbours, evenly over the data; 0 leaves out all that needs data
    #[arg(long, value_name = "NUMBER", default_value_t = 300)]
    pub(crate) samples: usize,
    /// Data to take samples from; without it, the data of the run
    #[arg(long, short, value_name = "SOURCE")]
    pub(crate) data: Option<String>,
    /// auto, cpu, wgpu[:n], vulkan[:n], metal[:n] or cuda[:n]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SweepArgs {
    /// Values of a setting, e.g. objective.lambda=0.02,0.05,0.1; may be given again: all combinations
    #[arg(long, value_name = "KEY=A,B,..", required = true)]
    pub(crate) grid: Vec<String>,
    /// Take so many of the combinations, at random by --seed
    #[arg(long, value_name = "NUMBER")]
    pub(crate) random: Option<usize>,
    /// End runs that are in the worse half, by the label-free score, after a quarter and a half of their steps
    #[arg(long, requires = "steps")]
    pub(crate) halve: bool,
    /// The folder of the sweep; one that exists is gone on with
    #[arg(long, short, value_name = "DIR", default_value = "sweep")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NeighboursArgs {
    /// Files to look for neighbours of
    #[arg(required = true, value_name = "FILE")]
    pub(crate) queries: Vec<PathBuf>,
    /// Embeddings to look among: a .npy, .csv, .parquet or folder of `lejepa embed`
    #[arg(long, value_name = "FILE")]
    pub(crate) index: PathBuf,
    /// The run or export that made the index; needed for files that are not in it
    #[arg(long, value_name = "RUN|EXPORT")]
    pub(crate) model: Option<PathBuf>,
    /// Neighbours of each file
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub(crate) top: usize,
    /// auto, cpu, wgpu[:n], vulkan[:n], metal[:n] or cuda[:n]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Samples, runs, exports, checkpoints, weights or embeddings
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Kind of data that samples are read as, where their names fit several
    #[arg(long, short, value_name = "NAME")]
    pub(crate) modality: Option<String>,
}

/// Orders of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RunOrder {
    Name,
    Linear,
    Knn,
    Loss,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PcaArgs {
    /// A run folder or an export
    pub(crate) model: PathBuf,
    /// Files to look at; without any, samples of --data
    pub(crate) files: Vec<PathBuf>,
    /// Data to take samples from; without it, the data of the run
    #[arg(long, value_name = "SOURCE")]
    pub(crate) data: Option<String>,
    /// The folder to make
    #[arg(long, short, value_name = "DIR", default_value = "pca")]
    pub(crate) output: PathBuf,
    /// Most samples to show, evenly over the data; components are those of all of them
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    pub(crate) samples: usize,
    /// cpu, cuda, wgpu or auto
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
}

/// Layouts of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// Names and layouts of this program, for `lejepa embed`
    Lejepa,
    /// Names and layouts of timm
    Timm,
    /// A graph for other runtimes
    Onnx,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PluginArgs {
    /// The name of the crate and of the modality, e.g. `my-sensor`
    pub(crate) name: String,
    /// The folder to make; without it the name
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// A checkout of lejepa to depend on; without it the one this program lies in, or else the
    /// published version
    #[arg(long, value_name = "DIR")]
    pub(crate) lejepa: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
