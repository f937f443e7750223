//! A segment of a recording as it is gathered from decoded packets.

use std::cell::RefCell;
use std::ops::Range;

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler};

use crate::recording::check_rate;

/// Samples of the resampler's block at the lower of the two rates. Its filter is as long, so that fewer would
/// cut the highest bands.
const BLOCK: usize = 2048;

/// Changes of the sample rate after which a recording counts as damaged.
const MAX_CHANGES: usize = 64;

/// Consecutive samples of one rate, not mixed down yet.
pub(crate) struct Segment {
    /// Samples of each channel.
    pub(crate) planes: Vec<Vec<f32>>,
    pub(crate) rate: u32,
}

impl Segment {
    pub(crate) fn len(&self) -> usize {
        self.planes.first().map_or(0, Vec::len)
    }
}

/// Gathers the segment from what is decoded in turn. Rate and channels may change on the way, as in chained
/// Ogg files and in streams that were joined: positions are in samples of the first rate, and all becomes that.
pub(crate) struct SegmentBuilder {
    start: f64,
    end: f64,
    at: f64,
    stretches: Vec<Segment>,
}

impl SegmentBuilder {
    /// Of `keep` samples from `start` on.
    pub(crate) fn new(start: usize, keep: usize) -> Self {
        let end = start.saturating_add(keep);
        Self { start: start as f64, end: end as f64, at: 0.0, stretches: Vec::new() }
    }

    /// What is decoded next is at this position.
    pub(crate) fn jump(&mut self, position: usize) {
        self.at = position as f64;
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.at >= self.end
    }

    /// Takes what belongs to the segment of the next `count` samples of `channels` channels. `append` gets a
    /// plane, the channel that goes into it and the range of samples.
    pub(crate) fn take(
        &mut self,
        rate: u32,
        channels: usize,
        count: usize,
        append: impl Fn(&mut Vec<f32>, usize, Range<usize>) -> Result<(), String>,
    ) -> Result<(), String> {
        let valid = check_rate(rate);
        if self.stretches.is_empty() {
            valid?;
        } else if valid.is_err() || self.stretches.len() > MAX_CHANGES {
            // Damage: what comes before is the recording.
            self.end = self.at;
            return Ok(());
        }
        let first = self.stretches.first();
        let planes = first.map_or(channels, |first| first.planes.len());
        let ratio = f64::from(first.map_or(rate, |first| first.rate)) / f64::from(rate);
        if self.stretches.last().is_none_or(|last| last.rate != rate) {
            self.stretches.push(Segment { planes: vec![Vec::new(); planes], rate });
        }
        let from = self.at;
        self.at += count as f64 * ratio;
        let within =
            |position: f64| (((position - from) / ratio).round().max(0.0) as usize).min(count);
        let range = within(self.start)..within(self.end);
        if range.is_empty() {
            return Ok(());
        }
        let Some(stretch) = self.stretches.last_mut() else { return Ok(()) };
        for (channel, plane) in stretch.planes.iter_mut().enumerate() {
            append(plane, if channel < channels { channel } else { 0 }, range.clone())?;
        }
        Ok(())
    }

    /// The segment; without any samples it has the rate `rate`.
    pub(crate) fn build(self, rate: u32) -> Result<Segment, String> {
        let mut stretches = self.stretches.into_iter();
        let Some(mut all) = stretches.next() else {
            return Ok(Segment { planes: Vec::new(), rate });
        };
        for stretch in stretches {
            for (plane, more) in all.planes.iter_mut().zip(stretch.planes) {
                plane.extend(resample(more, stretch.rate, all.rate as usize)?);
            }
        }
        Ok(all)
    }
}

/// Samples at another rate.
pub(crate) fn resample(samples: Vec<f32>, from: u32, to: usize) -> Result<Vec<f32>, String> {
    let from = from as usize;
    if from == to || samples.is_empty() {
        return Ok(samples);
    }
    let reason = |error: &dyn std::fmt::Display| {
        format!("cannot be resampled from {from} to {to} Hz ({error})")
    };
    let count = samples.len();
    let input = SequentialSlice::new(samples.as_slice(), 1, count).map_err(|e| reason(&e))?;
    // Its filter and the plans of its transforms take as long as some seconds of sound, and most corpora have one rate.
    thread_local!(static LAST: RefCell<Option<(usize, usize, Fft<f32>)>> = const { RefCell::new(None) });
    let mut fft = match LAST.take() {
        Some((last_from, last_to, mut fft)) if (last_from, last_to) == (from, to) => {
            fft.reset();
            fft
        }
        _ => Fft::new(from, to, block(from, to), 1, FixedSync::Both).map_err(|e| reason(&e))?,
    };
    let output = fft.process_all(&input, count, None).map_err(|e| reason(&e))?;
    LAST.set(Some((from, to, fft)));
    Ok(output.take_data())
}

/// Input samples of a block: at least [`BLOCK`] at the lower rate, and a power of two of the shortest stretch that
/// has whole samples at both rates, as the factors of those lengths (441 = 3²·7²) are slow enough already.
fn block(from: usize, to: usize) -> usize {
    let periods = gcd(from, to);
    BLOCK.div_ceil(from.min(to) / periods).next_power_of_two() * (from / periods)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::resample;
    use crate::decode::tests::{sine, strength};

    #[test]
    fn resampling_is_flat_from_any_rate() {
        for from in [11_025, 22_050, 24_000, 44_100, 48_000, 88_200, 96_000, 192_000u32] {
            for to in [8_000, 16_000, 32_000usize] {
                let nyquist = from.min(to as u32) as f32 / 2.0;
                for share in [0.02, 0.5, 0.8, 0.9] {
                    let hertz = nyquist * share;
                    let tone = sine(hertz, from, 2 * from as usize);
                    let out = resample(tone, from, to).unwrap();
                    assert!(out.len().abs_diff(2 * to) <= 1);
                    let middle = &out[to / 2..to * 3 / 2];
                    let gain = strength(middle, hertz, to as f32) / 0.5;
                    let decibels = 20.0 * gain.log10();
                    assert!(decibels.abs() < 0.1, "{from} to {to} at {hertz}: {decibels} dB");
                }
            }
        }
    }

    #[test]
    fn what_was_resampled_before_changes_nothing() {
        let tone = |hertz: f32| sine(hertz, 44_100, 30_000);
        let first = resample(tone(440.0), 44_100, 16_000).unwrap();
        for (hertz, from, to) in [(1_000.0, 44_100, 16_000), (50.0, 48_000, 16_000)] {
            resample(tone(hertz), from, to).unwrap();
            assert_eq!(resample(tone(440.0), 44_100, 16_000).unwrap(), first, "{from} to {to}");
        }
    }
}
