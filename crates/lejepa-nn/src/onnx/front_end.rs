//! Spectrograms within a graph.

use std::f64::consts::TAU;

use lejepa_core::{Array, LogSpectrogram, Result};
use prost::Message;

use super::{Attr, Graph, INPUT, proto, value_info};
use crate::published_vit::refused;

/// The name of a graph's input that begins with samples.
const WAVEFORM: &str = "waveform";

/// A graph of an encoder of spectrograms as one of samples: its input is `waveform`, `[batch, samples]`.
///
/// # Errors
/// [`Error::BadValue`](lejepa_core::Error::BadValue) for bytes that are no graph of this crate.
pub fn with_front_end(model: &[u8], front: &LogSpectrogram) -> Result<Vec<u8>> {
    let misshapen = || refused("the front end does not fit the graph");
    let mut model = proto::Model::decode(model).map_err(|_| misshapen())?;
    let graph = model.graph.as_mut().ok_or_else(misshapen)?;
    // Names that the graph does not have.
    let mut g = Graph { prefix: "front_", ..Graph::default() };
    let (length, samples) = (front.window.len(), front.samples());
    let bins = length / 2 + 1;
    let shape = g.ints(&[0, 1, samples as i64]);
    let signal = g.node("Reshape", &[WAVEFORM, &shape], &[]);
    let filters = g.constant(&fourier(&front.window).ok_or_else(misshapen)?);
    let stride = [front.hop as i64];
    let spectrum = g.node("Conv", &[&signal, &filters], &[("strides", Attr::Ints(&stride))]);
    let squares = g.node("Mul", &[&spectrum, &spectrum], &[]);
    let parts = g.split(&squares, 2, 1);
    let power = g.node("Add", &[&parts[0], &parts[1]], &[]);
    if front.bands.shape().get(1) != Some(&bins) {
        return Err(misshapen());
    }
    let bands = g.constant(&front.bands);
    let power = g.node("MatMul", &[&bands, &power], &[]);
    let floor = g.number(front.floor);
    let power = g.node("Add", &[&power, &floor], &[]);
    let log = g.node("Log", &[&power], &[]);
    let view = [0, 1, front.bands.shape()[0] as i64, front.frames as i64];
    let shape = g.ints(&view);
    g.push("Reshape", &[&log, &shape], vec![INPUT.into()], &[]);
    g.nodes.append(&mut graph.node);
    graph.node = g.nodes;
    graph.initializer.extend(g.constants);
    graph.input = vec![value_info(WAVEFORM, &[samples])];
    Ok(model.encode_to_vec())
}

/// Cosines and sines times the window, `[2·frequencies, 1, n]`.
fn fourier(window: &[f32]) -> Option<Array> {
    let length = window.len();
    let bins = length / 2 + 1;
    let mut values = Vec::with_capacity(2 * bins * length);
    for of in [f64::cos, f64::sin] {
        for bin in 0..bins {
            // The product modulo the length: sines of large angles lose digits.
            let angle = |i: usize| TAU * (bin * i % length) as f64 / length as f64;
            let row = window.iter().enumerate().map(|(i, w)| (f64::from(*w) * of(angle(i))) as f32);
            values.extend(row);
        }
    }
    Array::new([2 * bins, 1, length], values)
}
