//! One side of `cargo xtask bench sigreg`: times SIGReg, forward and backward, on request.
//!
//! `time_sigreg VIEWS SAMPLES DIM SLICES` prepares a problem, then for every line on stdin prints
//! the milliseconds of one call. At the end of stdin it prints the MiB that its memory grew by.

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use lejepa_core::Seed;
use lejepa_objective::{ObjectiveConfig, Slicing, directions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sizes: Vec<usize> =
        std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let &[views, samples, dim, slices] = sizes.as_slice() else {
        return Err("usage: time_sigreg VIEWS SAMPLES DIM SLICES".into());
    };
    let device = Device::flex().autodiff();
    device.seed(0);
    let z = Tensor::<3>::random([views, samples, dim], Distribution::Normal(0.0, 1.0), &device);
    let axes = directions(Slicing::Gaussian, dim, slices, Seed(0), 0, &device);
    let objective = ObjectiveConfig { slices, ..Default::default() }.init()?;
    let before = memory("VmRSS");
    for line in std::io::stdin().lock().lines() {
        line?;
        let z = z.clone().require_grad();
        let start = Instant::now();
        let value = objective.sigreg(z.clone(), axes.clone())?;
        let gradient = z.grad(&value.backward()).ok_or("no gradient")?;
        let elapsed = start.elapsed();
        // Looked at outside the clock; flex computes at once.
        let check: f32 = gradient.sum().try_into_scalar()?;
        if !check.is_finite() {
            return Err("the gradient is not finite".into());
        }
        println!("{}", elapsed.as_secs_f64() * 1e3);
        std::io::stdout().flush()?;
    }
    println!("{}", (memory("VmHWM") - before).max(0.0));
    Ok(())
}

/// MiB of this process; 0 where the system does not tell.
fn memory(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
