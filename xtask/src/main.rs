//! Project chores: what a fresh machine needs, and the commands that CI runs too.

mod bench;
mod commands;
mod cuda;
mod fusion;
mod setup;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "Usage: ./x COMMAND

  setup   install the system packages that are missing (Debian, Ubuntu)
  demo    set up, build, and train on the built-in sounds; further words go to `lejepa train`
  test    set up, and run all tests
  wheel   a Python wheel in target/wheels, by maturin, with FFmpeg's libraries where they are
  lint    formatting, clippy, documentation, licences, advisories
  miri    the kernels' own tests on the scalar path, interpreted; needs the nightly toolchain's miri
  bench sigreg [--json]
          time SIGReg against PyTorch, which is installed into target/pytorch; write docs/results/
  bench step [--json]
          the same for whole training steps
  bench views [--json]
          views of pictures, sounds and clips beside torchvision, torchaudio, decord and torchcodec, on one core
  bench loader [--json]
          time how fast files of each modality become views
  bench scale [--json]
          start, step and memory of a run on ten thousand and on ten million samples
  bench learn [--json] [--corpus NAME]... [--minutes 5] [--seeds 3] [--fresh] [--no-supervised]
          train on each corpus as a new user would, and score it; a bench that was stopped goes on
  data NAME...
          make or fetch corpora into .data; `data --list` names them
  gpu-check [--json] [--bundle FILE | --from PROGRAM] [DEVICE]...
          build with CUDA and wgpu, and compare graphics cards with the CPU (lejepa doctor --check); with --bundle
          pack the binary for a machine without a compiler
  fusion-check [DEVICE]
          build with burn's fusion and without, and compare trainings of 50 steps on a graphics card
  cuda-link
          build the same, with an LLVM from PyPI where the backend's own is missing, and start it
  commands
          run what docs/commands.md shows, and put what it prints into the page
  fuzz [--minutes 10] [FORMAT]...
          damaged files against the decoders: no panic, no read above 5 s, no more than 1 GiB; needs ffmpeg
  help    this text
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str) {
        Some("setup") => setup::setup().map(|_| ()),
        Some("demo") => demo(&words[1..]),
        Some("test") => test(&words[1..]),
        Some("wheel") => wheel(),
        Some("lint") => lint(),
        Some("miri") => miri(&words[1..]),
        Some("bench") => bench::bench(&words[1..]),
        Some("data") => data(&words[1..]),
        Some("gpu-check") => cuda::check(&words[1..]),
        Some("fusion-check") => fusion::check(&words[1..]),
        Some("cuda-link") => cuda::link(),
        Some("commands") => commands(),
        Some("fuzz") => fuzz(&words[1..]),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => {
            eprint!("error: unknown command `{other}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Trains on the built-in sounds with the default features: no system library is needed.
fn demo(more: &[String]) -> Result<(), String> {
    let mut command =
        cargo(&["run", "--release", "--package", "lejepa-cli", "--bin", "lejepa", "--"]);
    command.args(["train", "--modality", "audio"]).args(more);
    run(&mut command)
}

/// All tests of the workspace, with FFmpeg and a software Vulkan device where they can be had.
fn test(more: &[String]) -> Result<(), String> {
    let found = setup::setup()?;
    if !found.ffmpeg {
        eprintln!("note: without FFmpeg's libraries the tests of video files are left out");
    }
    if !found.vulkan {
        eprintln!("note: without a Vulkan device the test of the wgpu backend is left out");
    }
    if !found.mpi {
        eprintln!("note: without MPI the tests of several processes are left out");
    }
    let features = setup::features(&found);
    let python = setup::python("tensorboard", "tensorboard", &[&[]]);
    if let Err(reason) = &python {
        eprintln!("note: TensorBoard's own reader is not tried on the event files: {reason}");
    }
    // All at once, so that nothing is compiled a second time for other features; the Python module and
    // the programs of the examples are no dependency of a test.
    let targets = ["--lib", "--bins", "--tests", "--examples"];
    let mut build = cargo(&["build", "--release", "--workspace", "--features", &features]);
    run(build.args(targets))?;
    let nextest = succeeds(&mut cargo(&["nextest", "--version"]));
    let mut command =
        if nextest { cargo(&["nextest", "run"]) } else { cargo(&["test", "--all-targets"]) };
    command.args(["--release", "--workspace", "--features", &features]).args(more);
    if let Ok(python) = python {
        command.env("LEJEPA_PYTHON", python);
    }
    run(&mut command)?;
    // Examples in the documentation, which nextest does not run.
    run(cargo(&["test", "--release", "--workspace", "--doc"]).args(["--features", &features]))?;
    for example in example_names()? {
        run_program(&mut Command::new(target().join("release/examples").join(example)))?;
    }
    let output = target().join("custom-modality-run");
    let mut train = Command::new(target().join("release/accelerometer"));
    train.args(["train", "--modality", "accelerometer", "--device", "cpu", "--overwrite"]);
    run_program(train.arg("--output").arg(output))
}

/// The Python package. Of the features only FFmpeg, so that it runs wherever those libraries are.
fn wheel() -> Result<(), String> {
    let python = setup::python("maturin", "maturin", &[&[]])?;
    let folder = target().join("wheels");
    let mut command = Command::new(&python);
    command.current_dir(root()).args(["-m", "maturin", "build", "--release", "--strip"]);
    command.args(["--manifest-path", "crates/lejepa-python/Cargo.toml", "--out"]).arg(&folder);
    if setup::found().ffmpeg {
        command.args(["--features", "ffmpeg"]);
    }
    // Built with what an installed package needs, for this machine's C library.
    run_program(command.args(["--compatibility", "linux"]).arg("--interpreter").arg(&python))?;
    eprintln!("pip install {}/*.whl", folder.display());
    Ok(())
}

/// The page of commands, with what they print today. They use sounds that `data` makes.
fn commands() -> Result<(), String> {
    let page = root().join("docs/commands.md");
    let folder = target().join("commands");
    if !corpus("environment")? {
        return Err("the page needs the corpus `environment`".into());
    }
    let features = setup::features(&setup::found());
    let words = ["build", "--release", "--workspace", "--bin", "lejepa", "--features", &features];
    run(&mut cargo(&words))?;
    let at = |what: &Path| {
        let what = what.display().to_string();
        move |e: std::io::Error| format!("{what}: {e}")
    };
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(at(&folder))?;
    }
    std::fs::create_dir_all(&folder).map_err(at(&folder))?;
    let sounds = root().join(".data/environment");
    std::os::unix::fs::symlink(&sounds, folder.join("sounds")).map_err(at(&sounds))?;
    let shown = std::fs::read_to_string(&page).map_err(at(&page))?;
    let programs = target().join("release");
    let (now, failed) = commands::replay(&shown, &folder, &programs)?;
    std::fs::write(&page, now).map_err(at(&page))?;
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join("; "))) }
}

/// Damaged files of each format in a process of its own, so that an abort is found too.
fn fuzz(words: &[String]) -> Result<(), String> {
    let (mut minutes, mut formats) = ("10".to_string(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--minutes" {
            minutes = words.next().ok_or("--minutes needs a number")?.clone();
        } else {
            formats.push(word.clone());
        }
    }
    let example = ["build", "--release", "--package", "lejepa-cli", "--example", "fuzz_decoders"];
    run(cargo(&example).args(["--features", "ffmpeg"]))?;
    let program = target().join("release/examples/fuzz_decoders");
    if formats.is_empty() {
        let listed = Command::new(&program).arg("--list").output();
        let listed = listed.map_err(|e| format!("{}: {e}", program.display()))?;
        formats
            .extend(String::from_utf8_lossy(&listed.stdout).split_whitespace().map(String::from));
    }
    let failed: Vec<String> = formats
        .into_iter()
        .filter(|format| run(Command::new(&program).args([format, &minutes])).is_err())
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// The examples of the facade: each file of `examples`, by the name that its manifest gives it.
fn example_names() -> Result<Vec<String>, String> {
    let folder = root().join("examples");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let file = entry.ok()?.file_name().into_string().ok()?;
        Some(file.strip_suffix(".rs")?.replace('_', "-"))
    };
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    Ok(names)
}

fn run_program(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    eprintln!("$ {program}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} ended with {status}")),
        Err(e) => Err(format!("{program} could not be started: {e}")),
    }
}

fn lint() -> Result<(), String> {
    let found = setup::setup()?;
    // The features and the profile of the tests: build scripts and macros are there already.
    let features = format!("{},lejepa-cli/wgpu,lejepa-cli/cuda", setup::features(&found));
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    let mut clippy = cargo(&["clippy", "--release", "--workspace", "--all-targets"]);
    clippy.args(["--features", &features, "--", "-D", "warnings"]);
    let mut doc = cargo(&["doc", "--release", "--workspace", "--no-deps", "--features", &features]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    // To build, the CUDA backend downloads the LLVM that it compiles kernels with. To be checked it
    // needs none, and this variable, made for docs.rs, says so.
    run(clippy.env("DOCS_RS", "1"))?;
    run(doc.env("DOCS_RS", "1"))?;
    deny()
}

/// Undefined behaviour in the kernels. Miri knows few vector instructions, so it takes the scalar path; it is
/// some hundred times slower than the processor, which is too slow for CI. Words choose tests.
fn miri(more: &[String]) -> Result<(), String> {
    let rustup = |words: &[&str]| {
        let mut command = Command::new("rustup");
        command.args(words);
        command
    };
    if !succeeds(&mut rustup(&["run", "nightly", "cargo", "miri", "--version"])) {
        return Err(
            "Miri is not installed\n  hint: rustup toolchain install nightly --component miri"
                .into(),
        );
    }
    let words = ["run", "nightly", "cargo", "miri", "test", "--package", "lejepa-kernels", "--lib"];
    let mut command = rustup(&words);
    // The choice of instructions is read from the environment, which Miri hides by default.
    command.args(more).env("MIRIFLAGS", "-Zmiri-disable-isolation").env("LEJEPA_SIMD", "scalar");
    run_program(&mut command)
}

/// Licences, sources and, where the database can be had, advisories.
fn deny() -> Result<(), String> {
    if !succeeds(&mut cargo(&["deny", "--version"]))
        && let Err(reason) = run(&mut cargo(&["install", "cargo-deny", "--locked", "--debug"]))
    {
        eprintln!("note: licences are not checked: {reason}");
        return Ok(());
    }
    run(&mut cargo(&["deny", "check", "licenses", "bans", "sources"]))?;
    if succeeds(&mut cargo(&["deny", "fetch", "db"])) {
        run(&mut cargo(&["deny", "check", "advisories"]))
    } else {
        eprintln!("note: the database of advisories cannot be reached, so it is not consulted");
        Ok(())
    }
}

fn corpora(words: &[&str]) -> Command {
    let mut command = cargo(&["run", "--release", "--quiet", "--package", "corpora", "--"]);
    command.args(words);
    command
}

/// Makes or fetches corpora.
fn data(words: &[String]) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(&mut corpora(if words.is_empty() { &["--help"] } else { &words }))
}

/// Makes or fetches one corpus; whether it is there. One that cannot be had is named by the program that tried.
fn corpus(name: &str) -> Result<bool, String> {
    match corpora(&[name]).status() {
        Ok(status) if status.code() == Some(3) => Ok(false),
        Ok(status) if status.success() => Ok(true),
        Ok(status) => Err(format!("corpus {name}: ended with {status}")),
        Err(e) => Err(format!("corpus {name}: {e}")),
    }
}

/// The folder of this workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn cargo(words: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(words);
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    eprintln!("$ cargo {}", words.join(" "));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`cargo {}` ended with {status}", words.join(" "))),
        Err(e) => Err(format!("`cargo {}` could not be started: {e}", words.join(" "))),
    }
}

fn succeeds(command: &mut Command) -> bool {
    use std::process::Stdio;
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
