//! What the settings of the objective do, and what it refuses.

use burn::tensor::{Device, Distribution, FloatDType, Tensor, TensorData};
use lejepa_core::{BoxedStatistic, Entry, Registration, Registry, Seed, kind, origin};
use lejepa_objective::statistics::{Bhep, EppsPulley, Watson};
use lejepa_objective::{
    Centre, Losses, ObjectiveConfig, ObjectiveError, OverSlices, Reduction, Slicing, directions,
    prediction_loss,
};

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The prediction term with the first view as the target.
fn centre(z: &Tensor<3>) -> Tensor<1> {
    prediction_loss(z.clone(), &[0], Centre::Targets).unwrap()
}

fn sigreg(losses: &Losses) -> Tensor<1> {
    losses.term("sigreg").unwrap().clone()
}

fn normal(shape: [usize; 3]) -> Tensor<3> {
    let device = Device::flex().autodiff();
    device.seed(5);
    Tensor::random(shape, Distribution::Normal(0.2, 1.3), &device)
}

#[test]
fn nan_is_an_error_that_names_the_tensor_and_the_place() {
    let device = Device::flex();
    let config = ObjectiveConfig { slices: 8, ..Default::default() };
    for statistic in [BoxedStatistic::from(EppsPulley::default()), Watson {}.into()] {
        let objective = config.init_with(statistic).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut data = vec![0.3f32; 2 * 5 * 4];
            data[27] = bad;
            data[33] = bad;
            let z = Tensor::<3>::from_data(TensorData::new(data, [2, 5, 4]), &device);
            let error = objective.loss(z.clone(), centre(&z), Seed(0), 0).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("the embeddings hold 2 of 40"), "{text}");
            assert!(text.contains("at [1, 1, 3]"), "{text}");
            assert!(matches!(error, ObjectiveError::NotFinite { .. }));
            let axes = Tensor::<2>::full([4, 8], bad, &device);
            let error = objective.sigreg(z * 0.0 + 1.0, axes).unwrap_err();
            // 0 × NaN is NaN, so the embeddings are named first.
            assert!(error.to_string().contains("the embeddings"), "{error}");
            let axes = Tensor::<2>::full([4, 8], bad, &device);
            let error = objective.sigreg(normal([2, 5, 4]), axes).unwrap_err();
            assert!(error.to_string().contains("the directions hold 32 of 32"), "{error}");
        }
    }
    // Large is not infinite, although a sum of such values is.
    let z = Tensor::<3>::full([1, 4, 4], 3e38, &device);
    assert!(config.init().unwrap().loss(z.clone(), centre(&z), Seed(0), 0).is_ok());
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let objective = ObjectiveConfig { slices: 8, ..Default::default() }.init().unwrap();
    let device = Device::flex();
    for shape in [[0, 2, 2], [2, 0, 2], [2, 2, 0]] {
        let z = Tensor::<3>::zeros(shape, &device);
        assert!(objective.sigreg(z, Tensor::zeros([shape[2], 8], &device)).is_err(), "{shape:?}");
    }
    let z = Tensor::<3>::zeros([2, 2, 3], &device);
    assert!(objective.sigreg(z, Tensor::zeros([4, 8], &device)).is_err());
}

#[test]
fn sum_and_clip_equal_those_of_the_single_values() {
    let z = normal([3, 40, 6]);
    let axes = directions(Slicing::Gaussian, 6, 50, Seed(1), 0, &z.device());
    for statistic in [BoxedStatistic::from(EppsPulley::default()), Watson {}.into()] {
        let config = ObjectiveConfig { slices: 50, ..Default::default() };
        let each = |config: &ObjectiveConfig| {
            let o = config.init_with(statistic.clone()).unwrap();
            let all = values(o.sigreg_per_slice(z.clone(), axes.clone()).unwrap());
            (values(o.sigreg(z.clone(), axes.clone()).unwrap())[0], all)
        };
        let (mean, all) = each(&config);
        assert_eq!(all.len(), 150);
        let total: f64 = all.iter().sum();
        assert!((mean * 150.0 / total - 1.0).abs() < 1e-5);
        let (sum, _) = each(&ObjectiveConfig { over_slices: OverSlices::Sum, ..config.clone() });
        assert!((sum / (50.0 * mean) - 1.0).abs() < 1e-5);
        // In the middle of the values, so that some are cut and some are not.
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let clip = 0.5 * (sorted[74] + sorted[75]);
        let (cut, left) = each(&ObjectiveConfig { clip, ..config });
        let kept: f64 = all.iter().filter(|v| **v >= clip).sum();
        assert!((cut * 150.0 / kept - 1.0).abs() < 1e-4, "{cut} {kept}");
        assert!(left.iter().all(|v| *v == 0.0 || *v >= clip * 0.999));
        assert!(left.iter().filter(|v| **v == 0.0).count() >= 70);
    }
}

/// The gradient with clipping is that of the plain path, and nothing comes of clipped directions.
#[test]
fn clipped_directions_have_no_gradient() {
    let z = normal([2, 30, 4]).require_grad();
    let axes = directions(Slicing::Gaussian, 4, 20, Seed(1), 0, &z.device());
    let gradient = |clip: f64, plain: bool| {
        let objective = ObjectiveConfig { slices: 20, clip, ..Default::default() }.init().unwrap();
        let value = if plain {
            objective.sigreg_per_slice(z.clone(), axes.clone()).unwrap().mean()
        } else {
            objective.sigreg(z.clone(), axes.clone()).unwrap()
        };
        values(z.grad(&value.backward()).unwrap())
    };
    let fused = gradient(2.0, false);
    for (f, p) in fused.iter().zip(gradient(2.0, true)) {
        assert!((f - p).abs() < 1e-5, "{f} {p}");
    }
    assert_ne!(fused, gradient(0.0, false));
    assert!(gradient(1e6, false).iter().all(|g| *g == 0.0));
}

#[test]
fn sixteen_bits_are_summed_in_thirty_two() {
    let z = normal([2, 512, 8]);
    let axes = directions(Slicing::Gaussian, 8, 64, Seed(1), 0, &z.device());
    let objective = ObjectiveConfig { slices: 64, ..Default::default() }.init().unwrap();
    for (narrow, tolerance) in [(FloatDType::BF16, 1e-5), (FloatDType::F16, 1e-5)] {
        // What the embeddings are after rounding to 16 bits is exact in 32.
        let rounded = z.clone().cast(narrow);
        let wide = rounded.clone().cast(FloatDType::F32);
        let x = rounded.require_grad();
        let from_narrow = objective.sigreg(x.clone(), axes.clone()).unwrap();
        let from_wide = values(objective.sigreg(wide, axes.clone()).unwrap())[0];
        let gradient = x.grad(&from_narrow.clone().backward()).unwrap();
        let value = values(from_narrow)[0];
        assert!((value / from_wide - 1.0).abs() < tolerance, "{narrow:?}: {value} {from_wide}");
        assert!(values(gradient).iter().all(|g| g.is_finite()));
    }
}

#[test]
fn multivariate_statistics_need_no_directions() {
    let config = ObjectiveConfig { slices: 16, ..Default::default() };
    let objective = config.init_with(Bhep { beta: 0.5 }.into()).unwrap();
    let z = normal([3, 20, 4]).require_grad();
    let a = objective.loss(z.clone(), centre(&z), Seed(0), 0).unwrap();
    let b = objective.loss(z.clone(), centre(&z), Seed(1), 7).unwrap();
    assert_eq!(values(sigreg(&a)), values(sigreg(&b)));
    let gradient = values(z.grad(&a.total.backward()).unwrap());
    assert!(gradient.iter().any(|g| g.abs() > 1e-6));
}

/// For every registered statistic: the gauge's two ends are finite, the loss is, gradients flow.
#[test]
fn every_registered_statistic_trains() {
    let registry = Registry::discover().unwrap();
    let z = normal([3, 32, 4]).require_grad();
    for item in registry.all::<kind::Statistic>() {
        let entry: &Entry<kind::Statistic> = item.entry().unwrap();
        let name = entry.name();
        let statistic = (entry.build())(&item.meta().defaults().unwrap()).unwrap();
        let config = ObjectiveConfig { slices: 16, ..Default::default() };
        let objective = config.init_with(statistic).unwrap();
        let gauge = objective.gauge(3, 32, 4);
        assert!(gauge.gaussian.is_finite() && gauge.collapsed.is_finite(), "{}", name);
        assert_eq!(gauge, objective.gauge(3, 32, 4), "{}", name);
        let losses = objective.loss(z.clone(), centre(&z), Seed(0), 0).unwrap();
        let gradient = values(z.grad(&sigreg(&losses).backward()).unwrap());
        let size: f64 = gradient.iter().map(|g| g * g).sum();
        assert!(size > 0.0 && size.is_finite(), "{}: {size}", name);
        assert!(objective.convention().contains("SIGReg("), "{}", objective.convention());
    }
}

/// What the page on statistics shows: a statistic from another crate, by one line.
mod third_party {
    use burn::tensor::Tensor;
    use lejepa_core::{
        BoxedStatistic, Component, Result, Statistic, StatisticKind, kind, register,
    };
    use serde::{Deserialize, Serialize};

    /// The fourth moment alone.
    #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(super) struct Fourth {}

    impl Statistic for Fourth {
        fn evaluate(&self, projections: Tensor<3>) -> Tensor<2> {
            let [views, _, slices] = projections.dims();
            (projections.powi_scalar(4).mean_dim(1) - 3.0).square().reshape([views, slices])
        }
    }

    impl Component for Fourth {
        const NAME: &'static str = "fourth";
        const ABOUT: &'static str = "the fourth moment alone";
        type Config = Self;
    }

    impl StatisticKind for Fourth {
        fn build(config: &Self) -> Result<BoxedStatistic> {
            Ok(BoxedStatistic::sliced(config.clone()))
        }
    }

    register!(kind::Statistic: Fourth);
}

#[test]
fn a_statistic_of_another_crate_is_found_by_name() {
    let registry = Registry::discover().unwrap();
    let entry = registry.find::<kind::Statistic>("fourth", None).unwrap();
    let statistic = (entry.build())(&entry.meta().defaults().unwrap()).unwrap();
    let objective = ObjectiveConfig::default().init_with(statistic).unwrap();
    // The fourth moment of N(0, 1) is 3; at a collapse it is 0.
    let gauge = objective.gauge(1, 4096, 8);
    assert!(gauge.gaussian < 0.1 && gauge.collapsed == 9.0, "{gauge:?}");
    // A second crate of the same name is an error that names both.
    let again = Registration::of::<kind::Statistic, third_party::Fourth>(origin!());
    let twice = registry.clone().add(again).unwrap_err();
    assert!(twice.to_string().contains("statistic `fourth` is registered twice"), "{twice}");
}

#[test]
fn the_gauge_is_exact_for_epps_pulley() {
    let objective = ObjectiveConfig::default().init().unwrap();
    let gauge = objective.gauge(8, 64, 32);
    assert!((gauge.gaussian - 1.052_464_154_799_160_7).abs() < 1e-12);
    assert!((gauge.collapsed / 64.0 - 0.402_047_579_731_664_55).abs() < 1e-6);
    let pooled = ObjectiveConfig { reduction: Reduction::Pooled, ..Default::default() };
    let pooled = pooled.init().unwrap().gauge(8, 64, 32);
    assert!((pooled.collapsed / (8.0 * gauge.collapsed) - 1.0).abs() < 1e-5);
}

/// Every slicing estimates the same number: the mean over all directions.
#[test]
fn slicings_agree_on_average() {
    let z = normal([1, 64, 6]);
    let value = |slicing: Slicing, slices, seed| {
        let config = ObjectiveConfig { slicing, slices, ..Default::default() };
        let objective = config.init().unwrap();
        let axes = objective.axes(&z, Seed(seed), 0);
        values(objective.sigreg(z.clone(), axes).unwrap())[0]
    };
    let exact = value(Slicing::Gaussian, 50_000, 0);
    for slicing in [Slicing::Sobol, Slicing::Orthogonal, Slicing::Fixed] {
        let mean = (0..40).map(|seed| value(slicing, 60, seed)).sum::<f64>() / 40.0;
        assert!((mean / exact - 1.0).abs() < 0.05, "{slicing:?}: {mean} {exact}");
    }
    let spread = |slicing| {
        let error = |seed| (value(slicing, 60, seed) - exact).powi(2);
        (100..140).map(error).sum::<f64>()
    };
    let gaussian = spread(Slicing::Gaussian);
    for slicing in [Slicing::Sobol, Slicing::Orthogonal] {
        assert!(spread(slicing) < gaussian, "{slicing:?}: {} {gaussian}", spread(slicing));
    }
}
