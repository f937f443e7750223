//! Where and with what a view was recorded, as far as powers of mel bands show it.

use lejepa_core::ViewRng;
use rand::RngExt;

use crate::config::AudioConfig;
use crate::sampler::between;

/// Bands between which a frequency response is linear in dB, its ends included.
const KNOTS: std::ops::RangeInclusive<usize> = 3..=6;

/// A microphone, a room and its noise.
pub(crate) struct Place {
    /// Factor of each band's power.
    pub(crate) response: Vec<f32>,
    /// Power that is left of a band after a frame.
    decay: f32,
    /// Power of the noise relative to that of the recording.
    noise: f32,
    /// Share of each band in the noise; their mean is about 1.
    spectrum: Vec<f32>,
}

impl Place {
    pub(crate) fn draw(c: &AudioConfig, rng: &mut ViewRng) -> Self {
        let response = response(c.mels, c.filter_db, rng);
        let seconds = c.reverb * rng.random::<f64>();
        let frame = c.hop as f64 / c.sample_rate as f64;
        let decay = if seconds > 0.0 { 10f64.powf(-6.0 * frame / seconds) as f32 } else { 0.0 };
        let noise = (c.hiss * 10f64.powf(between([-3.0, 0.0], rng))) as f32;
        Self { response, decay, noise, spectrum: response_of_noise(c, rng) }
    }

    /// Power that is left of a band after a frame.
    pub(crate) fn decay(&self) -> f32 {
        self.decay
    }

    /// Power of the noise relative to that of the recording.
    pub(crate) fn noise(&self) -> f32 {
        self.noise
    }

    /// Share of each band in the noise.
    pub(crate) fn spectrum(&self) -> &[f32] {
        &self.spectrum
    }

    /// Adds to `[frames, bands]` what is left of earlier frames: of a steady sound as much as the sound itself.
    pub(crate) fn reverberate(&self, power: &mut [f32], bands: usize) {
        if self.decay == 0.0 {
            return;
        }
        let mut tail = vec![0f32; bands];
        for frame in power.chunks_exact_mut(bands) {
            for (x, tail) in frame.iter_mut().zip(&mut tail) {
                let dry = *x;
                *x += *tail;
                *tail = self.decay * *tail + (1.0 - self.decay) * dry;
            }
        }
    }

    /// Power of the noise in each band.
    pub(crate) fn hiss(&self, power: &[f32]) -> Vec<f32> {
        let mean = power.iter().sum::<f32>() / power.len().max(1) as f32;
        self.spectrum.iter().map(|share| self.noise * mean * share).collect()
    }
}

fn response_of_noise(c: &AudioConfig, rng: &mut ViewRng) -> Vec<f32> {
    let mut spectrum = response(c.mels, 10.0, rng);
    let mean = spectrum.iter().sum::<f32>() / c.mels as f32;
    spectrum.iter_mut().for_each(|share| *share /= mean);
    spectrum
}

/// Factors of bands between −`most` and `most` dB.
fn response(bands: usize, most: f64, rng: &mut ViewRng) -> Vec<f32> {
    let knots = rng.random_range(KNOTS);
    let mut at: Vec<f64> = (2..knots).map(|_| rng.random::<f64>() * bands as f64).collect();
    at.extend([0.0, bands as f64]);
    at.sort_by(f64::total_cmp);
    let levels: Vec<f64> = at.iter().map(|_| most * rng.random_range(-1.0..=1.0)).collect();
    (0..bands)
        .map(|band| {
            let place = band as f64 + 0.5;
            let right = at.iter().position(|knot| *knot > place).unwrap_or(knots - 1).max(1);
            let part = (place - at[right - 1]) / (at[right] - at[right - 1]).max(1e-9);
            let level = levels[right - 1] + part * (levels[right] - levels[right - 1]);
            10f64.powf(level / 10.0) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use lejepa_core::{Purpose, Seed};

    use super::*;

    fn places(config: &AudioConfig) -> Vec<Place> {
        (0..50).map(|n| Place::draw(config, &mut Seed(1).rng(Purpose::Views, &[n]))).collect()
    }

    #[test]
    fn a_response_is_smooth_and_within_its_limits() {
        let config = AudioConfig { filter_db: 12.0, ..AudioConfig::default() };
        let all = places(&config);
        let decibels = |v: &f32| 10.0 * v.log10();
        for place in &all {
            assert_eq!(place.response.len(), 64);
            assert!(place.response.iter().all(|v| decibels(v).abs() <= 12.001));
        }
        let far = all.iter().flat_map(|p| &p.response).filter(|v| decibels(v).abs() > 6.0).count();
        assert!(far > 50 * 64 / 5, "{far}");
        let none = places(&AudioConfig { filter_db: 0.0, ..config });
        assert!(none.iter().all(|place| place.response.iter().all(|v| *v == 1.0)));
    }

    #[test]
    fn reverberation_fades_by_60_decibels_in_its_time() {
        let place = Place {
            response: vec![],
            decay: 10f32.powf(-6.0 / 50.0),
            noise: 0.0,
            spectrum: vec![],
        };
        // A click in the first of two bands.
        let mut power = vec![0f32; 2 * 60];
        power[0] = 1.0;
        place.reverberate(&mut power, 2);
        let band: Vec<f32> = power.iter().copied().step_by(2).collect();
        assert_eq!(band[0], 1.0);
        assert!((band[51] / band[1] / 1e-6 - 1.0).abs() < 1e-3);
        assert!(power.iter().skip(1).step_by(2).all(|v| *v == 0.0));
        // Of a steady sound as much again.
        let mut steady = vec![1f32; 500];
        place.reverberate(&mut steady, 1);
        assert!((steady[499] - 2.0).abs() < 1e-3);
    }

    #[test]
    fn hiss_has_the_power_that_is_asked_for() {
        let config = AudioConfig { hiss: 0.5, ..AudioConfig::default() };
        for place in places(&config) {
            let hiss = place.hiss(&[2.0; 640]);
            let mean = hiss.iter().sum::<f32>() / 64.0;
            assert!((0.9e-3..1.001).contains(&mean), "{mean}");
        }
        let none = places(&AudioConfig { hiss: 0.0, ..config });
        assert!(none[0].hiss(&[2.0; 640]).iter().all(|v| *v == 0.0));
    }
}
