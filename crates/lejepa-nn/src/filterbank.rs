//! A learned filter bank before an encoder of spectrograms.

use std::f64::consts::TAU;

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor, TensorData};
use lejepa_core::config::check::{ensure, within};
use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{
    BoxedEncoder, BuildContext, Component, Encoder, EncoderKind, Error, Extent, Features,
    FlatInput, Input, Result, ViewSpec, Wants,
};
use lejepa_kernels::linear;
use serde::{Deserialize, Serialize};

use crate::inner::inner;

/// `[encoder]` of [`Filterbank`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterbankConfig {
    /// The encoder of the spectrogram: a name of `lejepa encoders` with its settings.
    pub spectrogram: String,
    /// Filters: the height of the spectrogram, 1 to 1024.
    pub filters: usize,
    /// Samples that a filter sees, 4 to 16384, at most those of the shortest view. 0 chooses: 400, or a tenth of the
    /// shortest view.
    pub window: usize,
    /// Samples between the frames of the spectrogram, 1 to `window`. 0 chooses two fifths of it.
    pub hop: usize,
    /// Centre of the lowest filter before training over half of the sample rate, from 0 up to 1. The others follow on the
    /// mel scale of recordings of 16 kHz.
    pub lowest: f64,
}

impl Default for FilterbankConfig {
    fn default() -> Self {
        Self {
            spectrogram: "convnet head=frequency".into(),
            filters: 64,
            window: 0,
            hop: 0,
            lowest: 0.00625,
        }
    }
}

impl FilterbankConfig {
    /// The settings with `window` and `hop` chosen for views of at least `shortest` samples.
    fn chosen(&self, shortest: usize) -> Self {
        let mut chosen = self.clone();
        if chosen.window == 0 {
            chosen.window = (shortest / 10).clamp(4, 400);
        }
        if chosen.hop == 0 {
            chosen.hop = (chosen.window * 2 / 5).max(1);
        }
        chosen
    }

    fn validate(&self, shortest: usize) -> Result<()> {
        within("encoder.filters", self.filters, 1..=1024)?;
        within("encoder.window", self.window, 4..=16384)?;
        let reason = format_args!("must be at most {shortest}, the length of the shortest view");
        ensure("encoder.window", self.window <= shortest, reason)?;
        within("encoder.hop", self.hop, 1..=self.window)?;
        ensure("encoder.lowest", (0.0..1.0).contains(&self.lowest), "must lie in 0..1")
    }

    /// The spectrograms of views of signals, as views.
    fn spectrograms(&self, signals: &ViewSpec) -> ViewSpec {
        let groups = signals.groups().iter().cloned().map(|mut group| {
            let frames = self.frames(group.shape[1].max());
            group.shape.splice(1.., [self.filters, frames].map(Extent::Exactly));
            group
        });
        ViewSpec::new(groups.collect::<Vec<_>>())
    }

    /// Frames of a signal.
    fn frames(&self, samples: usize) -> usize {
        samples.saturating_sub(self.window) / self.hop + 1
    }

    /// Puts filters before `encoder`, an encoder of pictures of the height `filters`.
    ///
    /// # Errors
    /// [`Error::BadValue`] for settings out of range.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_core::{BoxedEncoder, Encoder};
    /// use lejepa_nn::{ConvNetConfig, FilterbankConfig};
    ///
    /// let device = Device::flex();
    /// let config = FilterbankConfig { filters: 16, ..FilterbankConfig::default() };
    /// let net = ConvNetConfig { width: 4, stages: 3, ..ConvNetConfig::default() };
    /// let net = BoxedEncoder::new::<4>(net.init(1, &[16, 24], &device));
    /// let filterbank = config.init(net, &device)?;
    /// assert_eq!(filterbank.encode(Tensor::<3>::zeros([2, 1, 4080], &device)).dims(), [2, 16]);
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn init(&self, encoder: BoxedEncoder, device: &Device) -> Result<Filterbank> {
        let chosen = self.chosen(usize::MAX);
        chosen.validate(usize::MAX)?;
        let mut filters = chosen.gabor();
        let squares: f64 = filters.iter().map(|v| f64::from(v * v)).sum();
        let scale = (squares / filters.len() as f64).sqrt().max(1e-12);
        filters.iter_mut().for_each(|v| *v /= scale as f32);
        let data = TensorData::new(filters, [chosen.window, 2 * chosen.filters]);
        Ok(Filterbank {
            scale,
            filters: Param::from_tensor(Tensor::from_data(data, device)),
            norm: BatchNormConfig::new(chosen.filters).init(device),
            spectrogram: encoder,
            window: chosen.window,
            hop: chosen.hop,
        })
    }

    /// Gabor filters `[window, 2·filters]`, real parts first: cosines and sines under a Gaussian (Zeghidour et al.,
    /// arXiv 2101.08596), centres on the mel scale, as wide as their distances.
    fn gabor(&self) -> Vec<f32> {
        // Relative to half of the rate, of which 8 kHz is 1.
        let to_mel = |at: f64| (1.0 + at * 8000.0 / 700.0).ln();
        let from_mel = |mel: f64| (mel.exp() - 1.0) * 700.0 / 8000.0;
        let (low, high) = (to_mel(self.lowest), to_mel(1.0));
        let place = |i: f64| from_mel(low + (high - low) * i / self.filters as f64);
        let mut out = vec![0f32; self.window * 2 * self.filters];
        let middle = (self.window - 1) as f64 / 2.0;
        for i in 0..self.filters {
            // In periods a sample.
            let centre = place(i as f64 + 0.5) / 2.0;
            let width = (place(i as f64 + 1.0) - place(i as f64)) / 2.0;
            // Half of the power at the edges; within the window all the same.
            let spread = (2f64.ln().sqrt() / (TAU * width / 2.0)).min(self.window as f64 / 6.0);
            let envelope = |t: usize| (-((t as f64 - middle) / spread).powi(2) / 2.0).exp();
            let sum: f64 = (0..self.window).map(envelope).sum();
            for t in 0..self.window {
                let (phase, scale) = (TAU * centre * (t as f64 - middle), envelope(t) / sum);
                let row = &mut out[t * 2 * self.filters..];
                row[i] = (phase.cos() * scale) as f32;
                row[self.filters + i] = (phase.sin() * scale) as f32;
            }
        }
        out
    }
}

/// Complex filters over the frames of a signal, which begin as Gabor's and are learned freely; the logarithm of their
/// power, normalised for each filter over batch and time, is a spectrogram `[channels, filters, frames]` for an encoder
/// of pictures.
#[derive(Module, Debug)]
pub struct Filterbank {
    /// In units of their root mean square before training: AdamW moves every coefficient by about the learning rate,
    /// whatever its size.
    filters: Param<Tensor<2>>,
    #[module(skip)]
    scale: f64,
    norm: BatchNorm,
    spectrogram: BoxedEncoder,
    #[module(skip)]
    window: usize,
    #[module(skip)]
    hop: usize,
}

/// Added to the power before the logarithm: that of a faint signal of deviation 1.
const FLOOR: f64 = 1e-5;

impl Filterbank {
    /// `[B, C, samples] -> [B, C·filters·frames]`, and the shape of a spectrogram.
    fn spectrograms(&self, signals: Tensor<3>) -> (Tensor<2>, [usize; 3]) {
        let [b, c, _] = signals.dims();
        let frames: Tensor<4> = signals.unfold(2, self.window, self.hop);
        let [_, _, t, window] = frames.dims();
        let [_, both] = self.filters.dims();
        let filters = both / 2;
        let none = Tensor::zeros([both], (&frames.device(), frames.dtype()));
        let parts = linear(frames.reshape([b * c * t, window]), self.filters.val(), none);
        let squares = (parts * self.scale).square();
        let power = squares.clone().narrow(1, 0, filters) + squares.narrow(1, filters, filters);
        let logs = (power + FLOOR).log().reshape([b * c, t, filters]).swap_dims(1, 2);
        let normed: Tensor<3> = self.norm.forward(logs);
        (normed.reshape([b, c * filters * t]), [c, filters, t])
    }
}

impl Encoder<3> for Filterbank {
    fn encode(&self, views: Tensor<3>) -> Tensor<2> {
        let ([b, ..], device) = (views.dims(), views.device());
        let (spectrograms, shape) = self.spectrograms(views);
        // Built for such spectrograms, so that there is no other rank.
        let nothing = |_| Tensor::full([b, self.dim()], f32::NAN, &device);
        self.spectrogram.encode(spectrograms, &shape).unwrap_or_else(nothing)
    }

    fn dim(&self) -> usize {
        self.spectrogram.dim()
    }

    fn encode_all(&self, inputs: Vec<Input<3>>) -> Result<Tensor<2>> {
        if inputs.iter().any(|input| input.lengths.is_some()) {
            return Err(no_lengths());
        }
        let all: Vec<_> = inputs.into_iter().map(|input| self.spectrograms(input.values)).collect();
        let flat = all.iter().map(|(values, shape)| FlatInput::new(values.clone(), shape));
        self.spectrogram.encode_all(flat.collect())
    }

    /// Dense features are those of the spectrogram, averaged over frequency.
    fn features(&self, input: Input<3>, wants: &Wants) -> Result<Features> {
        if input.lengths.is_some() {
            return Err(no_lengths());
        }
        let (values, shape) = self.spectrograms(input.values);
        let of_picture = self.spectrogram.features(FlatInput::new(values, &shape), wants)?;
        let time = of_picture.grid.last().copied().unwrap_or(1);
        let over_time = |x: Tensor<3>| {
            let [b, cells, width] = x.dims();
            let rows = cells / time.max(1);
            x.reshape([b, rows, time * width]).mean_dim(1).reshape([b, time, width])
        };
        let mut features = Features::pooled(of_picture.pooled)
            .with_layers(of_picture.layers.into_iter().map(over_time).collect());
        if let Some(dense) = of_picture.dense {
            features = features.with_dense(over_time(dense), [time]);
        }
        Ok(features)
    }

    fn undecayed(&self) -> Vec<String> {
        let of_spectrogram = self.spectrogram.undecayed().into_iter();
        of_spectrogram.map(|name| format!("spectrogram.{name}")).collect()
    }
}

fn no_lengths() -> Error {
    Error::bad_value("encoder.name", "a filter bank takes no views of varying length")
}

/// Registers [`Filterbank`] as `filterbank`.
pub struct FilterbankKind;

impl Component for FilterbankKind {
    const NAME: &'static str = "filterbank";
    const ABOUT: &'static str = "learned filters of a signal, and any encoder of spectrograms";
    type Config = FilterbankConfig;

    fn docs() -> Docs {
        field_docs(include_str!("filterbank.rs"), "FilterbankConfig")
    }
}

impl EncoderKind for FilterbankKind {
    const AXES: &'static [usize] = &[1];

    fn build(config: &FilterbankConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let axes = at.views.grid().len();
        let reason = format_args!("is for signals: these views have {axes} grid axes");
        ensure("encoder.name", axes == 1, reason)?;
        let shortest = at.views.grids().iter().map(|grid| grid[0]).min().unwrap_or(0);
        let config = config.chosen(shortest);
        config.validate(shortest)?;
        let views = config.spectrograms(at.views);
        let encoder =
            inner("encoder.spectrogram", &config.spectrogram, FilterbankKind::NAME, &views, at)?;
        Ok(BoxedEncoder::new::<3>(config.init(encoder, at.device)?))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    fn build(change: impl Fn(&mut FilterbankConfig)) -> Result<BoxedEncoder> {
        let device = Device::flex();
        device.seed(6);
        let views = ViewSpec::multi_crop(2, [1, 4000], 1, [1, 2000]);
        let mut config = FilterbankConfig {
            spectrogram: "convnet width=4 stages=3 head=frequency hidden=16".into(),
            ..FilterbankConfig::default()
        };
        change(&mut config);
        FilterbankKind::build(&config, &BuildContext::new(&views, &device))
    }

    #[test]
    fn a_tone_is_loudest_in_the_filter_of_its_frequency() {
        let device = Device::flex();
        let config = FilterbankConfig::default().chosen(4000);
        assert_eq!((config.window, config.hop), (400, 160));
        let values = Tensor::<2>::from_data(
            TensorData::new(config.gabor(), [config.window, 2 * config.filters]),
            &device,
        );
        let mut last = 0;
        for share in [0.05, 0.1, 0.3, 0.6, 0.9] {
            let tone = |t: usize| (TAU * share / 2.0 * t as f64).sin() as f32;
            let tone: Vec<f32> = (0..config.window).map(tone).collect();
            let tone = Tensor::<2>::from_data(TensorData::new(tone, [1, config.window]), &device);
            let parts = tone.matmul(values.clone()).try_into_vec_as::<f32>().unwrap();
            let power = |i: usize| parts[i].powi(2) + parts[config.filters + i].powi(2);
            let loudest =
                (0..config.filters).max_by(|a, b| power(*a).total_cmp(&power(*b))).unwrap();
            assert!(loudest > last, "{share}: {loudest} after {last}");
            // Of a tone of amplitude 1 half of the amplitude goes to either sign of the frequency; between the centres of
            // two filters each has half of that power.
            assert!((0.12..0.27).contains(&power(loudest)), "{}", power(loudest));
            last = loudest;
        }
    }

    #[test]
    fn signals_of_several_lengths_are_embedded_and_filters_are_learned() {
        let device = Device::flex().autodiff();
        let config = FilterbankConfig { filters: 16, ..FilterbankConfig::default() };
        let net = crate::ConvNetConfig { width: 4, stages: 3, ..Default::default() };
        let net = BoxedEncoder::new::<4>(net.init(2, &[16, 24], &device));
        let filterbank = config.init(net, &device).unwrap();
        let noise =
            |n, samples| Tensor::<3>::random([n, 2, samples], Distribution::Default, &device);
        let inputs = vec![Input::new(noise(3, 4000)), Input::new(noise(2, 2000))];
        let y = filterbank.encode_all(inputs).unwrap();
        assert_eq!(y.dims(), [5, 16]);
        let gradients = y.square().sum().backward();
        let gradient = filterbank.filters.grad(&gradients).unwrap();
        assert!(gradient.abs().max().into_scalar::<f32>() > 0.0);
    }

    #[test]
    fn dense_features_are_those_of_time() {
        let encoder = build(|_| {}).unwrap();
        let x = Tensor::<2>::random([2, 4000], Distribution::Default, &Device::flex());
        let features = encoder.features(FlatInput::new(x.clone(), &[1, 4000]), &Wants::dense());
        let features = features.unwrap();
        let dense = features.dense.unwrap();
        assert_eq!(features.grid, [dense.dims()[1]]);
        let pooled = encoder.encode(x, &[1, 4000]).unwrap().into_data();
        features
            .pooled
            .into_data()
            .assert_approx_eq::<f32>(&pooled, Tolerance::rel_abs(1e-5, 1e-5));
    }

    #[test]
    fn bad_settings_are_refused() {
        type Change = fn(&mut FilterbankConfig);
        let bad: [(Change, &str); 8] = [
            (|c| c.filters = 0, "encoder.filters"),
            (|c| c.window = 3, "encoder.window"),
            (|c| c.window = 2001, "shortest view"),
            (|c| c.hop = 401, "encoder.hop"),
            (|c| c.lowest = 1.0, "encoder.lowest"),
            (|c| c.spectrogram = "filterbank".into(), "contain itself"),
            (|c| c.spectrogram = "nothing".into(), "encoder.spectrogram"),
            (|c| c.spectrogram = "convnet width=0".into(), "encoder.spectrogram"),
        ];
        for (change, says) in bad {
            let error = build(change).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let (views, device) = (ViewSpec::multi_crop(2, [3, 16, 16], 0, [3, 8, 8]), Device::flex());
        let at = BuildContext::new(&views, &device);
        let error = FilterbankKind::build(&FilterbankConfig::default(), &at).unwrap_err();
        assert!(error.to_string().contains("2 grid axes"));
    }
}
