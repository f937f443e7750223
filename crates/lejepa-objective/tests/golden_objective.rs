//! The objective against reference values, and its gradient against finite differences.
//!
//! The values are read from `tests/golden/reference.json`, or from the file of the same form that
//! the environment variable `LEJEPA_GOLDEN` names.

use burn::tensor::{Device, Tensor, TensorData};
use lejepa_core::Seed;
use lejepa_objective::statistics::{EppsPulley, Statistic};
use lejepa_objective::{Centre, Losses, Mix, ObjectiveConfig, Reduction, prediction_loss};
use serde_json::Value;

fn reference() -> Value {
    let path = std::env::var("LEJEPA_GOLDEN").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/reference.json").to_string()
    });
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn numbers(value: &Value) -> (Vec<usize>, Vec<f64>) {
    let shape = value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize);
    let data = value["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap());
    (shape.collect(), data.collect())
}

fn tensor<const D: usize>(value: &Value, device: &Device) -> Tensor<D> {
    let (shape, data) = numbers(value);
    let data: Vec<f32> = data.into_iter().map(|x| x as f32).collect();
    Tensor::from_data(TensorData::new(data, shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Every element to `relative` of the largest of the expected ones.
fn assert_close(what: &str, got: &[f64], want: &[f64], relative: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    let scale = want.iter().fold(0f64, |a, x| a.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= relative * scale, "{what}[{i}]: got {g}, want {w}");
    }
}

fn term(losses: &Losses, name: &str) -> Vec<f64> {
    values(losses.term(name).unwrap().clone())
}

#[test]
fn golden_objective() {
    let device = Device::flex().autodiff();
    let golden = reference();
    let cases = golden["objective"].as_array().unwrap();
    assert!(!cases.is_empty());
    for (i, case) in cases.iter().enumerate() {
        let centre = match case["centre"].as_str().unwrap() {
            "global" => Centre::Targets,
            "all" => Centre::All,
            other => panic!("unknown centre {other}"),
        };
        let config = ObjectiveConfig {
            lambda: case["lam"].as_f64().unwrap(),
            slices: case["slices"].as_u64().unwrap() as usize,
            ..ObjectiveConfig::default()
        };
        let statistic: lejepa_core::BoxedStatistic = EppsPulley {
            t_max: case["t_max"].as_f64().unwrap(),
            knots: case["knots"].as_u64().unwrap() as usize,
            ..EppsPulley::default()
        }
        .into();
        let targets: Vec<usize> = (0..case["globals"].as_u64().unwrap() as usize).collect();
        let z = tensor::<3>(&case["z"], &device).require_grad();
        let axes = tensor::<2>(&case["directions"], &device);
        let prediction = || prediction_loss(z.clone(), &targets, centre).unwrap();
        let per_view = config.init_with(statistic.clone()).unwrap();
        let losses = per_view.loss_along(z.clone(), prediction(), axes.clone()).unwrap();
        let want = |key: &str| vec![case[key].as_f64().unwrap()];
        let name = |what: &str| format!("objective {i}, {what}");
        assert_close(&name("prediction"), &term(&losses, "prediction"), &want("prediction"), 1e-5);
        assert_close(&name("sigreg"), &term(&losses, "sigreg"), &want("sigreg_per_view"), 1e-5);
        assert_close(&name("total"), &values(losses.total.clone()), &want("total_convex"), 1e-5);
        let gradient = z.grad(&losses.total.backward()).unwrap();
        let (_, expected) = numbers(&case["grad_total_convex"]);
        assert_close(&name("gradient"), &values(gradient), &expected, 1e-4);

        let pooled = ObjectiveConfig { reduction: Reduction::Pooled, ..config.clone() };
        let losses = pooled
            .init_with(statistic.clone())
            .unwrap()
            .loss_along(z.clone(), prediction(), axes.clone())
            .unwrap();
        assert_close(&name("pooled"), &term(&losses, "sigreg"), &want("sigreg_pooled"), 1e-5);

        let additive = ObjectiveConfig { mix: Mix::Additive, ..config };
        let losses = additive
            .init_with(statistic)
            .unwrap()
            .loss_along(z.clone(), prediction(), axes)
            .unwrap();
        let sum = case["prediction"].as_f64().unwrap()
            + case["lam"].as_f64().unwrap() * case["sigreg_per_view"].as_f64().unwrap();
        assert_close(&name("additive"), &values(losses.total), &[sum], 1e-5);
    }
}

#[test]
fn golden_epps_pulley() {
    let device = Device::flex().autodiff();
    let golden = reference();
    let mut seen = 0;
    for case in golden["univariate"].as_array().unwrap() {
        if case["statistic"] != "epps_pulley" {
            continue;
        }
        seen += 1;
        let statistic = EppsPulley {
            t_max: case["params"]["t_max"].as_f64().unwrap(),
            knots: case["params"]["n_points"].as_u64().unwrap() as usize,
            ..EppsPulley::default()
        };
        let input = case["input"].as_str().unwrap();
        let x = tensor::<2>(&golden["inputs"][input], &device).require_grad();
        let value = statistic.evaluate(x.clone().unsqueeze::<3>());
        assert_close(input, &values(value.clone()), &numbers(&case["value"]).1, 1e-5);
        let gradient = x.grad(&value.sum().backward()).unwrap();
        assert_close(input, &values(gradient), &numbers(&case["grad"]).1, 1e-4);
    }
    assert!(seen > 0, "the reference has no Epps-Pulley entries");
}

#[test]
fn known_samples_have_known_statistics() {
    let device = Device::flex();
    let of = |data: &[f32]| {
        let x = Tensor::<1>::from_floats(data, &device).reshape([1, data.len(), 1]);
        values(EppsPulley::default().evaluate(x))[0]
    };
    assert!((of(&[-1.0, 0.0, 1.0, 2.0]) - 0.558_190_349_864_277).abs() < 1e-5);
    assert!((of(&[0.0; 10]) - 4.020_475_797_316_645).abs() < 1e-5);
    assert!((of(&[1.0; 10]) - 11.860_058_055_185_18).abs() < 2e-5);
}

/// A loss in f64 by the formula, to differentiate numerically.
fn slow_loss(z: &[f64], [v, n, k]: [usize; 3], globals: usize, axes: &[f64], m: usize) -> f64 {
    let at = |i: usize, j: usize, d: usize| z[(i * n + j) * k + d];
    let mut prediction = 0.0;
    for j in 0..n {
        for d in 0..k {
            let centre = (0..globals).map(|i| at(i, j, d)).sum::<f64>() / globals as f64;
            prediction += (0..v).map(|i| (centre - at(i, j, d)).powi(2)).sum::<f64>();
        }
    }
    prediction /= (v * n * k) as f64;
    let (t_max, knots) = (3.0, 17);
    let step = t_max / (knots - 1) as f64;
    let mut sigreg = 0.0;
    for i in 0..v {
        for a in 0..m {
            let x: Vec<f64> =
                (0..n).map(|j| (0..k).map(|d| at(i, j, d) * axes[d * m + a]).sum()).collect();
            for q in 0..knots {
                let t = q as f64 * step;
                let w = if q == 0 || q == knots - 1 { step } else { 2.0 * step };
                let phi = (-0.5 * t * t).exp();
                let re = x.iter().map(|x| (t * x).cos()).sum::<f64>() / n as f64 - phi;
                let im = x.iter().map(|x| (t * x).sin()).sum::<f64>() / n as f64;
                sigreg += n as f64 * w * phi * (re * re + im * im);
            }
        }
    }
    0.95 * prediction + 0.05 * sigreg / (v * m) as f64
}

#[test]
fn gradient_equals_finite_differences() {
    use rand::RngExt;
    let shape = [3, 5, 4];
    let (globals, m) = (2, 6);
    let mut rng = Seed(5).rng(lejepa_core::Purpose::Demo, &[]);
    let mut z: Vec<f64> = (0..60).map(|_| rng.random_range(-2.0..2.0)).collect();
    let device = Device::flex().autodiff();
    let axes = lejepa_objective::directions(Default::default(), shape[2], m, Seed(1), 0, &device);
    let axes_data = values(axes.clone());
    let as_f32: Vec<f32> = z.iter().map(|&x| x as f32).collect();
    let x = Tensor::<3>::from_data(TensorData::new(as_f32, shape), &device).require_grad();
    let objective = ObjectiveConfig { slices: m, ..ObjectiveConfig::default() }.init().unwrap();
    let prediction = prediction_loss(x.clone(), &[0, 1], Centre::Targets).unwrap();
    let losses = objective.loss_along(x.clone(), prediction, axes).unwrap();
    let value = slow_loss(&z, shape, globals, &axes_data, m);
    assert!((values(losses.total.clone())[0] - value).abs() < 1e-5 * value.abs());
    let gradient = values(x.grad(&losses.total.backward()).unwrap());
    let h = 1e-5;
    for i in 0..z.len() {
        let keep = z[i];
        z[i] = keep + h;
        let up = slow_loss(&z, shape, globals, &axes_data, m);
        z[i] = keep - h;
        let down = slow_loss(&z, shape, globals, &axes_data, m);
        z[i] = keep;
        let numeric = (up - down) / (2.0 * h);
        assert!((gradient[i] - numeric).abs() < 1e-5, "{i}: {} {numeric}", gradient[i]);
    }
}

#[test]
fn every_view_gets_a_gradient() {
    let device = Device::flex().autodiff();
    for centre in [Centre::Targets, Centre::All] {
        let z =
            Tensor::<3>::random([4, 8, 6], burn::tensor::Distribution::Normal(0.0, 1.0), &device)
                .require_grad();
        let objective = ObjectiveConfig { slices: 16, ..Default::default() }.init().unwrap();
        let prediction = prediction_loss(z.clone(), &[0, 1], centre).unwrap();
        let losses = objective.loss(z.clone(), prediction, Seed(0), 0).unwrap();
        let gradient = z.grad(&losses.total.backward()).unwrap();
        for norm in values(gradient.square().sum_dims(&[1, 2])) {
            assert!(norm > 1e-12);
        }
    }
}

#[test]
fn impossible_settings_and_shapes_are_errors() {
    let device = Device::flex();
    for bad in [
        ObjectiveConfig { lambda: 1.5, ..Default::default() },
        ObjectiveConfig { lambda: -0.1, mix: Mix::Additive, ..Default::default() },
        ObjectiveConfig { lambda: f64::NAN, ..Default::default() },
        ObjectiveConfig { slices: 0, ..Default::default() },
        ObjectiveConfig { clip: -1.0, ..Default::default() },
        ObjectiveConfig { clip: f64::NAN, ..Default::default() },
    ] {
        assert!(bad.init().is_err(), "{bad:?}");
    }
    let z = Tensor::<3>::zeros([3, 2, 2], &device);
    for targets in [&[][..], &[3], &[0, 9]] {
        assert!(prediction_loss(z.clone(), targets, Centre::All).is_err());
    }
    // Targets need not be the first views: the mean of the last two.
    let z = Tensor::<3>::from_floats([[[4.0]], [[1.0]], [[3.0]]], &device);
    let loss = values(prediction_loss(z, &[1, 2], Centre::Targets).unwrap())[0];
    assert!((loss - 2.0).abs() < 1e-6, "{loss}");
}
