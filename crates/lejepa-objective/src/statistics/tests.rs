//! Properties that the statistics share, and values known otherwise.

use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;

use super::normal::{half_ln_two_pi, quantile};
use super::*;

/// A statistic and what is promised of it.
struct Case {
    name: &'static str,
    statistic: Box<dyn Statistic>,
    symmetric: bool,
    non_negative: bool,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, statistic: Box<dyn Statistic>, symmetric, non_negative| {
        cases.push(Case { name, statistic, symmetric, non_negative });
    };
    add("epps_pulley", Box::<EppsPulley>::default(), true, true);
    let integration = Integration::GaussHermite;
    add("gauss_hermite", Box::new(EppsPulley { integration, ..Default::default() }), true, true);
    for log_cdf in [LogCdf::Exact, LogCdf::Published] {
        let exact = log_cdf == LogCdf::Exact;
        add("anderson_darling", Box::new(AndersonDarling { log_cdf }), true, exact);
        add("nll", Box::new(OrderStatisticNll { log_cdf, alpha: 0.5 }), true, false);
    }
    add("nll", Box::new(OrderStatisticNll { alpha: 0.2, ..Default::default() }), true, false);
    add("cramer_von_mises", Box::new(CramerVonMises {}), true, true);
    add("watson", Box::new(Watson {}), true, true);
    add("extended_jarque_bera", Box::new(ExtendedJarqueBera {}), true, true);
    add("vc_reg", Box::new(VcReg {}), true, true);
    for k_max in [1, 4, 7] {
        add("moments", Box::new(Moments { k_max }), true, true);
    }
    for expectation in [Expectation::Elfving, Expectation::Blom, Expectation::Rahman] {
        for covariance in [Covariance::ShapiroFrancia, Covariance::Rahman] {
            let symmetric = expectation != Expectation::Elfving;
            let statistic = ShapiroWilk { expectation, covariance };
            add("shapiro_wilk", Box::new(statistic), symmetric, true);
        }
    }
    for m in [1, 3] {
        for method in [Spacing::Centered, Spacing::CenteredPublished, Spacing::Right] {
            let ratio = method != Spacing::Right;
            add("entropy", Box::new(Entropy { m, method }), true, ratio);
        }
    }
    cases
}

fn multivariate_cases() -> Vec<(&'static str, Box<dyn MultivariateStatistic>, bool)> {
    vec![
        ("bhep", Box::new(Bhep::default()), true),
        ("bhep 1", Box::new(Bhep { beta: 1.0 }), true),
        ("hz", Box::new(HenzeZirkler {}), true),
        ("bhep_m", Box::new(BhepM::default()), true),
        ("comb", Box::new(Comb::default()), false),
        ("comb .1", Box::new(Comb { gamma: 0.1 }), false),
        ("hv", Box::new(HenzeVisagie::default()), true),
        ("hv 1", Box::new(HenzeVisagie { gamma: 1.0 }), true),
        ("bhep_m 1.01", Box::new(BhepM { beta: 1.01 }), true),
        ("comb 1000", Box::new(Comb { gamma: 1e3 }), false),
    ]
}

/// Values of `f` and the gradient of their sum, at samples in the order of `[views, samples,
/// slices]`.
pub(super) fn at<const D: usize>(
    f: impl Fn(Tensor<3>) -> Tensor<D>,
    x: &[f64],
    shape: [usize; 3],
    dtype: DType,
) -> (Vec<f64>, Vec<f64>) {
    let device = Device::flex().autodiff();
    let data = TensorData::new(x.to_vec(), shape);
    let x = Tensor::<3>::from_data(data, (&device, dtype)).require_grad();
    let result = f(x.clone());
    let gradient = x.grad(&result.clone().sum().backward()).unwrap();
    (numbers(result), numbers(gradient))
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

/// Irregular numbers of about unit variance, no two alike.
fn samples(count: usize) -> Vec<f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            1.1 * quantile(((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64) + 0.2
        })
        .collect()
}

fn assert_close(name: &str, a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{name}");
    let scale = b.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance * scale, "{name}[{i}]: {x} {y}");
    }
}

/// Central differences of the sum of `f`.
fn differences<const D: usize>(
    f: impl Fn(Tensor<3>) -> Tensor<D> + Copy,
    x: &[f64],
    shape: [usize; 3],
) -> Vec<f64> {
    let sum = |x: &[f64]| at(f, x, shape, DType::F64).0.iter().sum::<f64>();
    let h = 1e-5;
    (0..x.len())
        .map(|i| {
            let moved = |by: f64| {
                let mut x = x.to_vec();
                x[i] += by;
                sum(&x)
            };
            (moved(h) - moved(-h)) / (2.0 * h)
        })
        .collect()
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (x, shape) = (samples(2 * 9 * 2), [2, 9, 2]);
    for case in cases() {
        let f = |x| case.statistic.evaluate(x);
        let (_, gradient) = at(f, &x, shape, DType::F64);
        assert_close(case.name, &gradient, &differences(f, &x, shape), 1e-5);
    }
    for (name, statistic, _) in multivariate_cases() {
        let f = |x| statistic.evaluate(x);
        let (_, gradient) = at(f, &x, shape, DType::F64);
        assert_close(name, &gradient, &differences(f, &x, shape), 1e-5);
    }
}

#[test]
fn gradients_in_the_tails() {
    let x = [-12.0, -5.0, -3.5, 0.0, 0.3, 4.0, 9.0];
    for log_cdf in [LogCdf::Exact, LogCdf::Published] {
        let statistic = AndersonDarling { log_cdf };
        let f = |x| statistic.evaluate(x);
        let (_, gradient) = at(f, &x, [1, 7, 1], DType::F64);
        assert_close("anderson_darling", &gradient, &differences(f, &x, [1, 7, 1]), 1e-6);
    }
}

#[test]
fn f32_agrees_with_f64() {
    let (x, shape) = (samples(2 * 200 * 2), [2, 200, 2]);
    for case in cases() {
        let f = |x| case.statistic.evaluate(x);
        let (value, gradient) = at(f, &x, shape, DType::F64);
        let (value_32, gradient_32) = at(f, &x, shape, DType::F32);
        assert_close(case.name, &value_32, &value, 2e-4);
        assert_close(case.name, &gradient_32, &gradient, 2e-3);
    }
    for (name, statistic, _) in multivariate_cases() {
        let f = |x| statistic.evaluate(x);
        let (value, _) = at(f, &x, shape, DType::F64);
        let (value_32, _) = at(f, &x, shape, DType::F32);
        assert_close(name, &value_32, &value, 1e-3);
    }
}

#[test]
fn finite_in_f32_whatever_the_samples() {
    let spread = samples(12);
    let mut outliers = spread.clone();
    (outliers[0], outliers[5], outliers[6]) = (1e4, -1e4, 1e4);
    let extremes: Vec<f64> = (0..12).map(|i| if i % 3 == 0 { 1e4 } else { -1e4 }).collect();
    let ties: Vec<f64> = (0..12).map(|i| f64::from(i / 4)).collect();
    let inputs = [
        (vec![0.7, -0.3], [1, 1, 2]),
        (vec![0.0, 1e4], [1, 1, 2]),
        (vec![0.4, -2.0], [1, 2, 1]),
        (vec![0.4, -2.0, 1.0], [1, 3, 1]),
        (vec![0.0; 12], [1, 6, 2]),
        (vec![3.3; 12], [2, 6, 1]),
        (vec![-1e4; 12], [1, 12, 1]),
        (outliers.clone(), [1, 12, 1]),
        (outliers, [1, 6, 2]),
        (extremes.clone(), [1, 12, 1]),
        (extremes, [1, 4, 3]),
        (ties, [1, 12, 1]),
        (spread, [1, 3, 4]),
    ];
    let check = |name: &str, x: &[f64], (value, gradient): (Vec<f64>, Vec<f64>)| {
        assert!(value.iter().all(|x| x.is_finite()), "{name} of {x:?}: {value:?}");
        assert!(gradient.iter().all(|x| x.is_finite()), "{name} of {x:?}: {gradient:?}");
    };
    for (x, shape) in &inputs {
        for case in cases() {
            check(case.name, x, at(|x| case.statistic.evaluate(x), x, *shape, DType::F32));
        }
        for (name, statistic, _) in multivariate_cases() {
            check(name, x, at(|x| statistic.evaluate(x), x, *shape, DType::F32));
        }
    }
}

/// Where factors such as (β − 1)^{−D/2} overflow, and with settings at their bounds.
#[test]
fn finite_in_f32_in_many_dimensions() {
    let (rows, dim) = (6, 64);
    let spread = samples(rows * dim);
    let mut outliers = spread.clone();
    (outliers[3], outliers[200]) = (1e4, -1e4);
    let statistics: [Box<dyn MultivariateStatistic>; 6] = [
        Box::new(Bhep { beta: 1.0 }),
        Box::new(HenzeZirkler {}),
        Box::new(BhepM { beta: 1.01 }),
        Box::new(BhepM { beta: 2.0 }),
        Box::new(Comb { gamma: 1e-3 }),
        Box::new(HenzeVisagie { gamma: 1e-3 }),
    ];
    for x in [spread, outliers, vec![0.0; rows * dim], vec![1e4; rows * dim]] {
        for statistic in &statistics {
            let f = |x| statistic.evaluate(x);
            let (value, gradient) = at(f, &x, [1, rows, dim], DType::F32);
            assert!(value[0].is_finite(), "{statistic:?} of {}…: {value:?}", x[0]);
            assert!(gradient.iter().all(|g| g.is_finite()), "{statistic:?} of {}…", x[0]);
        }
    }
}

/// The statistic of Henze & Visagie of one sample x is exp(r/γ)·(r(1 − 1/γ)² + D/2γ), r = ‖x‖²:
/// nothing is scaled down that the type can hold.
#[test]
fn sums_of_exponentials_are_whole_where_they_fit() {
    let gamma = 5.0f64;
    let statistic = HenzeVisagie { gamma };
    for (dtype, exponent, tolerance) in [(DType::F32, 60f64, 1e-4), (DType::F64, 400f64, 1e-11)] {
        let r = gamma * exponent;
        let whole = exponent.exp() * (r * (1.0 - 1.0 / gamma).powi(2) + 1.0 / gamma);
        let (value, gradient) = at(|x| statistic.evaluate(x), &[r.sqrt(), 0.0], [1, 1, 2], dtype);
        assert!((value[0] / whole - 1.0).abs() < tolerance, "{dtype:?}: {} {whole}", value[0]);
        let slope = 2.0 * r.sqrt() * (whole / gamma + exponent.exp() * (1.0 - 1.0 / gamma).powi(2));
        assert!(
            (gradient[0] / slope - 1.0).abs() < tolerance,
            "{dtype:?}: {} {slope}",
            gradient[0]
        );
    }
}

/// Settings that make the terms near 1 and the value, a difference of sums of them, small.
#[test]
fn small_values_keep_their_digits_in_f32() {
    let (x, shape) = (samples(40 * 3), [1, 40, 3]);
    let statistics: [Box<dyn MultivariateStatistic>; 4] = [
        Box::new(Bhep { beta: 1e-3 }),
        Box::new(BhepM { beta: 1e3 }),
        Box::new(Comb { gamma: 1e3 }),
        Box::new(HenzeVisagie { gamma: 1e3 }),
    ];
    for statistic in &statistics {
        let f = |x| statistic.evaluate(x);
        let wide = at(f, &x, shape, DType::F64).0[0];
        let narrow = at(f, &x, shape, DType::F32).0[0];
        assert!((narrow / wide - 1.0).abs() < 1e-4, "{statistic:?}: {narrow} {wide}");
    }
}

#[test]
fn shapiro_wilk_does_not_see_the_scale() {
    let x = samples(20);
    let small: Vec<f64> = x.iter().map(|x| x * 1e-9).collect();
    let statistic = ShapiroWilk::default();
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
        let value = |x: &[f64]| at(|x| statistic.evaluate(x), x, [1, 20, 1], dtype).0[0];
        assert!((value(&small) - value(&x)).abs() < tolerance, "{} {}", value(&small), value(&x));
    }
}

/// A column of zeros lies in the middle of N(0, 1), where no gradient can tell the samples apart;
/// one at 3 should be pulled back by every statistic that sees the mean.
#[test]
fn a_collapse_off_centre_is_pulled_back() {
    for case in cases() {
        if matches!(case.name, "watson" | "entropy" | "shapiro_wilk") {
            continue;
        }
        let (_, gradient) = at(|x| case.statistic.evaluate(x), &[1.5; 8], [1, 8, 1], DType::F32);
        assert!(gradient.iter().sum::<f64>() > 0.0, "{}: {gradient:?}", case.name);
    }
}

#[test]
fn multivariate_statistics_are_not_changed_by_rotations_and_order() {
    let (n, angle) = (9, 0.7f64);
    let x = samples(2 * n);
    let rows: Vec<&[f64]> = x.chunks(2).collect();
    let turned: Vec<f64> = rows
        .iter()
        .rev()
        .flat_map(|r| {
            let (s, c) = angle.sin_cos();
            [c * r[0] - s * r[1], s * r[0] + c * r[1]]
        })
        .collect();
    for (name, statistic, non_negative) in multivariate_cases() {
        let f = |x| statistic.evaluate(x);
        let (a, _) = at(f, &x, [1, n, 2], DType::F64);
        let (b, _) = at(f, &turned, [1, n, 2], DType::F64);
        assert_close(name, &a, &b, 1e-10);
        assert!(!non_negative || a[0] >= 0.0, "{name}: {a:?}");
    }
}

#[test]
fn values_known_in_closed_form() {
    let value =
        |s: &dyn Statistic, x: &[f64]| at(|x| s.evaluate(x), x, [1, x.len(), 1], DType::F64).0[0];
    let four = [1.0, -1.0, 2.0, 0.0];
    let trapezoid = EppsPulley::default();
    assert!((value(&trapezoid, &four) - 0.558_190_349_864_277).abs() < 1e-12);
    assert!((value(&trapezoid, &[0.0; 5]) - 5.0 * trapezoid.collapsed_per_row()).abs() < 1e-12);
    assert!((trapezoid.gaussian_expectation() - 1.052_464_154_799_160_7).abs() < 1e-12);
    // Over the whole line, ∫ exp(−t²/2)|φ̂ − φ|² dt of a sample at 0 is √2π(1 − 2/√2 + 1/√3).
    let hermite = EppsPulley { integration: Integration::GaussHermite, ..Default::default() };
    let whole = (2.0 * std::f64::consts::PI).sqrt() * (1.0 - 2f64.sqrt() + 3f64.sqrt().recip());
    assert!((value(&hermite, &[0.0]) - whole).abs() < 1e-6, "{} {whole}", value(&hermite, &[0.0]));
    // −1 − ln Φ(0) − ln Φ(0), and −ln φ(0)
    let ln_2 = std::f64::consts::LN_2;
    assert!((value(&AndersonDarling::default(), &[0.0]) - (2.0 * ln_2 - 1.0)).abs() < 1e-9);
    assert!((value(&OrderStatisticNll::default(), &[0.0]) - half_ln_two_pi()).abs() < 1e-9);
    assert!((value(&CramerVonMises {}, &[0.0, 0.0]) - 0.0625).abs() < 1e-12);
    // m = ½, s² = 5/3
    let terms = 4.0 * 0.25 * 0.6 + 1.5 * 4.0 / 9.0;
    assert!((value(&VcReg {}, &four) - terms).abs() < 1e-12);
    let moments = 0.5 + (-2f64).exp() * 0.5 + (-3f64).exp() * 2.0 + (-4f64).exp() * 1.5;
    assert!((value(&Moments::default(), &four) - moments).abs() < 1e-12);
    // Samples at their expected places.
    let ideal: Vec<f64> = (1..=9).map(|i| 3.0 * quantile(f64::from(i) / 10.0)).collect();
    let (expectation, covariance) = (Expectation::Rahman, Covariance::ShapiroFrancia);
    assert!(value(&ShapiroWilk { expectation, covariance }, &ideal).abs() < 1e-12);
}

#[test]
fn nll_counts_the_outer_samples() {
    let x = samples(10);
    let f = |alpha| {
        let s = OrderStatisticNll { alpha, ..Default::default() };
        let (mean, _) = at(|x| s.evaluate(x), &x, [1, 10, 1], DType::F64);
        let (each, _) = at(|x| s.per_sample(x), &x, [1, 10, 1], DType::F64);
        (mean[0], each)
    };
    let (_, all) = f(0.5);
    let (mean, outer) = f(0.15);
    let mut order: Vec<usize> = (0..10).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let mut sum = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        let counts = !(2..8).contains(&rank);
        assert_eq!(outer[i], if counts { all[i] } else { 0.0 });
        sum += outer[i];
    }
    assert!((mean - sum / 4.0).abs() < 1e-12);
}

#[test]
fn settings_are_read_strictly() {
    let entropy: Entropy = serde_json::from_str(r#"{"method": "right"}"#).unwrap();
    assert_eq!(entropy, Entropy { m: 1, method: Spacing::Right });
    let watson: Watson = serde_json::from_str("{}").unwrap();
    assert_eq!(watson, Watson {});
    let pulley: EppsPulley =
        serde_json::from_str(r#"{"integration": "gauss_hermite", "knots": 9}"#).unwrap();
    assert_eq!(
        serde_json::from_str::<EppsPulley>(&serde_json::to_string(&pulley).unwrap()).unwrap(),
        pulley
    );
    assert!(serde_json::from_str::<EppsPulley>(r#"{"knot": 9}"#).is_err());
    assert!(serde_json::from_str::<Watson>(r#"{"knots": 9}"#).is_err());
}

#[test]
fn settings_out_of_range_are_drawn_in() {
    let extreme: Vec<Box<dyn Statistic>> = vec![
        Box::new(EppsPulley { knots: 0, ..Default::default() }),
        Box::new(Moments { k_max: 0 }),
        Box::new(Moments { k_max: 1000 }),
        Box::new(Entropy { m: 0, method: Spacing::Centered }),
        Box::new(Entropy { m: 1000, method: Spacing::Centered }),
        Box::new(Entropy { m: 1000, method: Spacing::CenteredPublished }),
        Box::new(Entropy { m: 1000, method: Spacing::Right }),
        Box::new(OrderStatisticNll { alpha: -1.0, ..Default::default() }),
        Box::new(OrderStatisticNll { alpha: 7.0, ..Default::default() }),
    ];
    for statistic in extreme {
        let (value, gradient) = at(|x| statistic.evaluate(x), &samples(8), [1, 8, 1], DType::F32);
        assert!(value.iter().chain(&gradient).all(|x| x.is_finite()), "{statistic:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn univariate_properties(
        x in prop::collection::vec(-4.0..4.0f64, 2 * 7),
        rotation in 0usize..7,
    ) {
        let n = 7;
        let column = |c: usize| x.iter().skip(c).step_by(2).copied().collect::<Vec<_>>();
        let (a, b) = (column(0), column(1));
        let mut turned = a.clone();
        turned.rotate_left(rotation);
        turned.swap(0, 3);
        let mirrored: Vec<f64> = a.iter().map(|x| -x).collect();
        for case in cases() {
            let f = |x: &[f64], m| at(|x| case.statistic.evaluate(x), x, [1, n, m], DType::F64).0;
            let both = f(&x, 2);
            let tolerance = |v: f64| 1e-9 * (1.0 + v.abs());
            for (value, alone) in both.iter().zip([&a, &b]) {
                let alone = f(alone, 1)[0];
                prop_assert!((value - alone).abs() <= tolerance(alone), "{} columns", case.name);
            }
            let moved = f(&turned, 1)[0];
            prop_assert!((both[0] - moved).abs() <= tolerance(moved), "{} order", case.name);
            if case.symmetric {
                let mirror = f(&mirrored, 1)[0];
                prop_assert!((both[0] - mirror).abs() <= tolerance(mirror), "{} sign", case.name);
            }
            if case.non_negative {
                prop_assert!(both.iter().all(|&v| v >= -1e-12), "{}: {both:?}", case.name);
            }
        }
    }
}
