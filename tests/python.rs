//! The Python package gives the numbers of the command line.

mod common;

use std::path::Path;
use std::process::Command;

use common::{json_on_cpu as json, small};

/// `./x test` builds the module and names a Python with NumPy; without it there is nothing to test with.
#[test]
fn python_has_the_numbers_of_the_command_line() {
    let Ok(python) = std::env::var("LEJEPA_PYTHON") else {
        eprintln!("LEJEPA_PYTHON names no Python: its package is not tried");
        return;
    };
    let d = tempfile::tempdir().unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_lejepa")).with_file_name("liblejepa_python.so");
    let package = d.path().join("site/lejepa");
    std::fs::create_dir_all(&package).unwrap();
    std::fs::copy(&built, package.join("_lejepa.abi3.so"))
        .unwrap_or_else(|e| panic!("{}: {e}; `./x test` builds it", built.display()));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lejepa-python/python/lejepa");
    std::fs::copy(sources.join("__init__.py"), package.join("__init__.py")).unwrap();
    for modality in ["image", "audio", "video"] {
        let words = ["train", "--modality", modality, "--steps", "6", "--output", modality];
        json(d.path(), &small(&[&words[..], &["--batch", "16"]].concat()));
    }
    pictures(&d.path().join("pictures"));
    sounds(&d.path().join("sounds"));
    for (run, data) in [("image", "pictures"), ("audio", "sounds"), ("video", "demo")] {
        let file = format!("{run}.npy");
        json(d.path(), &["embed", run, "--data", data, "--output", &file]);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python_check.py");
    let out = Command::new(python)
        .arg(script)
        .current_dir(d.path())
        .env("PYTHONPATH", d.path().join("site"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", common::stderr(&out));
    assert!(text.ends_with("all as expected\n"), "{text}");
}

fn pictures(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for i in 0..5u8 {
        let pixel = |x: u32, y: u32| image::Luma([(x * 9 + y * 5) as u8 ^ (i * 31)]);
        let picture = image::GrayImage::from_fn(20 + u32::from(i), 17, pixel);
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
}

fn sounds(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for i in 0..3 {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut file = hound::WavWriter::create(folder.join(format!("{i}.wav")), spec).unwrap();
        for n in 0..24_000 {
            file.write_sample((n as f32 * 0.02 * (i + 1) as f32).sin() * 0.3).unwrap();
        }
        file.finalize().unwrap();
    }
}
