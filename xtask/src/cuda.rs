//! The binary with CUDA: built without a GPU, checked on one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{cargo, run, run_program, setup, target};

/// The version that `tracel-llvm-bundler` looks for, and the folder in which it does.
const BUNDLE: &str = "tracel/tracel-llvm-23.1.0-4";
/// Static archives of LLVM 23.1.1 on PyPI, for X86 and for other targets, NVPTX among them.
const WHEELS: [&str; 2] = ["mlc-llvm-static", "mlc-llvm-static-extra-targets"];
const VERSION: &str = "23.1.1.post0";

/// Of LLVM, what the backend's compiler links.
const COMPONENTS: &str = "nvptx x86 native core support analysis bitreader bitwriter irreader linker passes ipo target \
                          transformutils scalaropts vectorize instcombine orcjit orcdebugging executionengine mcjit \
                          interpreter debuginfodwarf mcdisassembler object objcopy symbolize lto";

/// A file of LLVM's that lists targets, the macro that takes each, and the targets.
type List = (&'static str, &'static str, &'static [&'static str]);

const LISTS: [List; 6] = [
    ("Targets.def", "LLVM_TARGET", &["X86", "NVPTX"]),
    ("AsmPrinters.def", "LLVM_ASM_PRINTER", &["X86", "NVPTX"]),
    ("AsmParsers.def", "LLVM_ASM_PARSER", &["X86"]),
    ("Disassemblers.def", "LLVM_DISASSEMBLER", &["X86"]),
    ("TargetMCAs.def", "LLVM_TARGETMCA", &["X86"]),
    ("TargetExegesis.def", "LLVM_EXEGESIS", &["X86"]),
];

/// Builds the binary with CUDA and wgpu, with an LLVM from PyPI where that is not there yet, and starts it.
pub(crate) fn link() -> Result<(), String> {
    let program = build()?;
    run_program(Command::new(&program).arg("doctor"))?;
    // Where there is no card that is one line, before anything is made.
    let folder = target().join("cuda/no-run");
    let mut train = Command::new(&program);
    train.args(["train", "--modality", "image", "--device", "cuda", "--steps", "2", "--output"]);
    let out = train.arg(&folder).output().map_err(|e| format!("{}: {e}", program.display()))?;
    let errors = String::from_utf8_lossy(&out.stderr);
    let is_refused = errors.contains("device cuda:0 cannot be used") && !folder.exists();
    if out.status.success() || is_refused && !errors.contains("panicked") {
        eprintln!("{}", errors.lines().next().unwrap_or("it trains"));
        return Ok(());
    }
    Err(format!("--device cuda: {}\n{errors}", out.status))
}

/// Builds the binary, or takes one that was built elsewhere, and compares its devices with the CPU. With
/// `--bundle FILE` it is packed instead, for a machine without a compiler.
pub(crate) fn check(words: &[String]) -> Result<(), String> {
    let (mut bundle, mut from, mut more) = (None, None, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bundle" => bundle = Some(words.next().ok_or("--bundle takes a file")?),
            "--from" => from = Some(words.next().ok_or("--from takes a program")?),
            _ => more.push(word),
        }
    }
    let program = match from {
        Some(program) => PathBuf::from(program),
        None => build()?,
    };
    match bundle {
        Some(file) => pack(&program, Path::new(file)),
        None => {
            let json = more.iter().any(|word| *word == "--json");
            more.retain(|word| *word != "--json");
            let mut check = Command::new(&program);
            check.args(["doctor", "--check"]).args(more);
            run_program(if json { check.arg("--json") } else { &mut check })
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let has = |folder: &PathBuf| folder.join(BUNDLE).join("bin/llvm-config").exists();
    let ours = target().join("cuda");
    let mut command = cargo(&["build", "--release", "--package", "lejepa-cli", "--bin", "lejepa"]);
    command.args(["--features", "lejepa-cli/cuda,lejepa-cli/wgpu"]);
    // Else the bundler would download its own from GitHub.
    if !data.or_else(home).is_some_and(|folder| has(&folder)) {
        if !has(&ours) {
            assemble(&ours)?;
        }
        command.env("XDG_DATA_HOME", &ours);
    }
    run(&mut command)?;
    Ok(target().join("release/lejepa"))
}

/// Puts an LLVM into `folder` as the bundler would: headers, archives, and an `llvm-config`.
fn assemble(folder: &Path) -> Result<(), String> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{path}: {e}")
    };
    let (wheels, sdk) = (folder.join("wheels"), folder.join("sdk"));
    fs::create_dir_all(&wheels).map_err(at(&wheels))?;
    // Any package: what is needed is pip.
    let python = setup::python("pytorch", "numpy", &[&[]])?;
    let mut download = Command::new(&python);
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]);
    download.args(["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--dest"]);
    download.arg(&wheels).args(WHEELS.map(|name| format!("{name}=={VERSION}")));
    run_program(&mut download)?;
    let files = fs::read_dir(&wheels).map_err(at(&wheels))?;
    for wheel in files.flatten().map(|entry| entry.path()) {
        let mut unpack = Command::new(&python);
        run_program(unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&sdk))?;
    }
    let sdk = sdk.join("mlc_llvm_static/static");
    let mut config = Command::new(&python);
    config.arg(sdk.join("bin/llvm-config")).args(["--profile=all", "--libs"]);
    let out = config.args(COMPONENTS.split_whitespace()).output();
    let out = out.map_err(|e| format!("llvm-config: {e}"))?;
    // In the order in which they depend on each other.
    let libs = String::from_utf8_lossy(&out.stdout).trim().to_string();
    if !out.status.success() || libs.is_empty() {
        return Err(format!("llvm-config: {}", String::from_utf8_lossy(&out.stderr)));
    }
    let prefix = folder.join(BUNDLE);
    let (bin, lib) = (prefix.join("bin"), prefix.join("lib"));
    for folder in [&bin, &lib] {
        fs::create_dir_all(folder).map_err(at(folder))?;
    }
    run_program(Command::new("cp").arg("-r").arg(sdk.join("include")).arg(&prefix))?;
    let names = libs.split_whitespace().filter_map(|word| word.strip_prefix("-l"));
    for name in names.chain(["z", "zstd"]) {
        let file = format!("lib{name}.a");
        fs::copy(sdk.join("lib").join(&file), lib.join(&file)).map_err(at(&lib.join(&file)))?;
    }
    targets(&prefix.join("include/llvm/Config"), &sdk)?;
    write_config(&bin.join("llvm-config"), &prefix, &libs)?;
    let mark = prefix.join(".tracel-llvm-installed");
    fs::write(&mark, "").map_err(at(&mark))
}

/// Leaves only the targets that are linked in the headers that name all of them.
fn targets(config: &Path, sdk: &Path) -> Result<(), String> {
    let at = |e: std::io::Error| format!("{}: {e}", config.display());
    for (file, takes, names) in LISTS {
        let lines: String = names.iter().map(|name| format!("{takes}({name})\n")).collect();
        fs::write(config.join(file), format!("{lines}#undef {takes}\n")).map_err(at)?;
    }
    let native = sdk.join("include/llvm/Config/mlc-native/Targets.h");
    let text = fs::read_to_string(&native).map_err(|e| format!("{}: {e}", native.display()))?;
    let text = text.replace("LLVM_HAS_NVPTX_TARGET 0", "LLVM_HAS_NVPTX_TARGET 1");
    fs::write(config.join("Targets.h"), text).map_err(at)
}

/// The program that build scripts ask for flags.
fn write_config(file: &Path, prefix: &Path, libs: &str) -> Result<(), String> {
    let here = prefix.display();
    let names: Vec<String> = libs
        .split_whitespace()
        .filter_map(|word| Some(format!("lib{}.a", word.strip_prefix("-l")?)))
        .collect();
    let names = names.join(" ");
    let defines =
        "-D_GNU_SOURCE -D__STDC_CONSTANT_MACROS -D__STDC_FORMAT_MACROS -D__STDC_LIMIT_MACROS";
    let answers = [
        ("--version", "23.1.1".to_string()),
        ("--prefix", here.to_string()),
        ("--libdir", format!("{here}/lib")),
        ("--includedir", format!("{here}/include")),
        ("--cflags", format!("-I{here}/include {defines}")),
        (
            "--cxxflags",
            format!(
                "-I{here}/include -std=c++17 -fno-exceptions -fno-rtti -D_GLIBCXX_USE_CXX11_ABI=1 {defines}"
            ),
        ),
        ("--libs", libs.to_string()),
        ("--libnames", names),
        ("--system-libs", "-lz -lzstd -lrt -ldl -lpthread -lm".to_string()),
    ];
    let cases: String =
        answers.iter().map(|(word, answer)| format!("  {word}) echo \"{answer}\" ;;\n")).collect();
    let script = format!(
        "#!/bin/sh\nfor word; do case \"$word\" in\n  --link-static) ;;\n{cases}  *) exit 1 ;;\nesac; done\n"
    );
    fs::write(file, script).map_err(|e| format!("{}: {e}", file.display()))?;
    run_program(Command::new("chmod").arg("+x").arg(file))
}

/// A stripped copy of the program as `.tar.xz`.
fn pack(program: &Path, file: &Path) -> Result<(), String> {
    let folder = target().join("cuda/bundle");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let copy = folder.join("lejepa");
    run_program(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
    let mut tar = Command::new("tar");
    tar.env("XZ_OPT", "-9e -T0").arg("-C").arg(&folder).arg("-cJf").arg(file).arg("lejepa");
    run_program(&mut tar)?;
    let size = fs::metadata(file).map_err(|e| format!("{}: {e}", file.display()))?.len();
    eprintln!(
        "{}: {:.1} MiB; there: ./lejepa doctor --check",
        file.display(),
        size as f64 / 1048576.0
    );
    Ok(())
}
