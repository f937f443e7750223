//! Every statistic against plain loops over the formulas of its documentation, over the ranges of
//! its settings: values of heavy-tailed samples, and gradients by differences for 1 to 300 rows.

mod plain;

use burn::tensor::{DType, Device, Tensor, TensorData};
use lejepa_objective::statistics::{
    AndersonDarling, Bhep, BhepM, Comb, Covariance, CramerVonMises, Entropy, EppsPulley,
    Expectation, ExtendedJarqueBera, HenzeVisagie, HenzeZirkler, Integration, LogCdf, Moments,
    MultivariateStatistic, OrderStatisticNll, ShapiroWilk, Spacing, Statistic, VcReg, Watson,
};
use plain::Plain;
use proptest::prelude::*;

/// A statistic by plain loops.
type Loops = Box<dyn Fn(&[f64]) -> Plain>;

/// A statistic as a function of tensors and as one of numbers in rows of `dim`.
struct Case {
    name: String,
    dim: usize,
    tensors: Box<dyn Fn(Tensor<3>) -> Tensor<1>>,
    plain: Loops,
}

impl Case {
    fn sliced(
        statistic: impl Statistic + 'static,
        plain: impl Fn(&[f64]) -> Plain + 'static,
    ) -> Self {
        Self {
            name: format!("{statistic:?}"),
            dim: 1,
            tensors: Box::new(move |x| statistic.evaluate(x).reshape([1])),
            plain: Box::new(plain),
        }
    }

    fn multivariate(
        statistic: impl MultivariateStatistic + 'static,
        dim: usize,
        plain: impl Fn(&[&[f64]]) -> Plain + 'static,
    ) -> Self {
        Self {
            name: format!("{statistic:?}, {dim} dimensions"),
            dim,
            tensors: Box::new(move |x| statistic.evaluate(x)),
            plain: Box::new(move |x| plain(&x.chunks(dim).collect::<Vec<_>>())),
        }
    }

    fn value_and_gradient(&self, x: &[f64]) -> (f64, Vec<f64>) {
        let data = TensorData::new(x.to_vec(), [1, x.len() / self.dim, self.dim]);
        let device = Device::flex().autodiff();
        let x = Tensor::<3>::from_data(data, (&device, DType::F64)).require_grad();
        let value = (self.tensors)(x.clone());
        let gradient = x.grad(&value.clone().backward()).expect("a gradient");
        (numbers(value)[0], numbers(gradient))
    }

    fn check_value(&self, x: &[f64]) -> Result<(), TestCaseError> {
        let (value, gradient) = self.value_and_gradient(x);
        let Plain { value: expected, size } = (self.plain)(x);
        let rows = x.len() / self.dim;
        prop_assert!(value.is_finite(), "{}, {rows} rows: {value}", self.name);
        prop_assert!(gradient.iter().all(|g| g.is_finite()), "{}, {rows} rows", self.name);
        // Beyond, or nearly so, what f64 holds: scaled down.
        if size < 1e280 {
            let allowed = 1e-9 * expected.abs() + 1e-13 * size;
            let difference = (value - expected).abs();
            prop_assert!(difference <= allowed, "{}, {rows} rows: {value} {expected}", self.name);
        }
        Ok(())
    }

    /// Along the direction `along`, against central differences of the plain loops.
    fn check_gradient(&self, x: &[f64], along: &[f64]) -> Result<(), TestCaseError> {
        let rows = x.len() / self.dim;
        let (_, gradient) = self.value_and_gradient(x);
        let parts: Vec<f64> = gradient.iter().zip(along).map(|(g, v)| g * v).collect();
        let slope: f64 = parts.iter().sum();
        let steepness: f64 = parts.iter().map(|x| x.abs()).sum();
        let step = 1e-6;
        let moved = |by: f64| {
            let x: Vec<f64> = x.iter().zip(along).map(|(x, v)| x + by * v).collect();
            (self.plain)(&x)
        };
        let (high, low) = (moved(step), moved(-step));
        let expected = (high.value - low.value) / (2.0 * step);
        prop_assert!(gradient.iter().all(|g| g.is_finite()), "{}, {rows} rows", self.name);
        if high.size < 1e280 {
            let allowed = 1e-6 * steepness + 1e-14 * high.size / step;
            let difference = (slope - expected).abs();
            prop_assert!(difference <= allowed, "{}, {rows} rows: {slope} {expected}", self.name);
        }
        Ok(())
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Numbers for the settings.
#[derive(Debug, Clone, Copy)]
struct Settings {
    t_max: f64,
    knots: usize,
    k_max: usize,
    m: usize,
    alpha: f64,
    beta: f64,
    gamma: f64,
    dim: usize,
}

fn settings() -> impl Strategy<Value = Settings> {
    let line = (0.5..8.0f64, 2usize..60, 1usize..=40, 1usize..=6, 0.0..=0.5f64);
    // Of every order of magnitude.
    let space = (-2.0..0.7f64, -0.7..2.5f64, 1usize..=4);
    (line, space).prop_map(|((t_max, knots, k_max, m, alpha), (beta, gamma, dim))| Settings {
        t_max,
        knots,
        k_max,
        m,
        alpha,
        beta: 10f64.powf(beta),
        gamma: 10f64.powf(gamma),
        dim,
    })
}

fn sliced(s: Settings) -> Vec<Case> {
    let log_cdf = LogCdf::Exact;
    let mut cases = vec![
        Case::sliced(
            EppsPulley { t_max: s.t_max, knots: s.knots, ..Default::default() },
            move |x| plain::epps_pulley(x, s.t_max, s.knots),
        ),
        Case::sliced(AndersonDarling { log_cdf }, plain::anderson_darling),
        Case::sliced(CramerVonMises {}, plain::cramer_von_mises),
        Case::sliced(Watson {}, plain::watson),
        Case::sliced(ExtendedJarqueBera {}, plain::extended_jarque_bera),
        Case::sliced(VcReg {}, plain::vcreg),
        Case::sliced(Moments { k_max: s.k_max }, move |x| plain::moments(x, s.k_max)),
        Case::sliced(OrderStatisticNll { alpha: s.alpha, log_cdf }, move |x| {
            plain::order_statistic_nll(x, s.alpha)
        }),
    ];
    for method in [Spacing::Centered, Spacing::CenteredPublished, Spacing::Right] {
        let plain = move |x: &[f64]| plain::entropy(x, s.m, method);
        cases.push(Case::sliced(Entropy { m: s.m, method }, plain));
    }
    for expectation in [Expectation::Elfving, Expectation::Blom, Expectation::Rahman] {
        for covariance in [Covariance::ShapiroFrancia, Covariance::Rahman] {
            let plain = move |x: &[f64]| plain::shapiro_wilk(x, expectation, covariance);
            cases.push(Case::sliced(ShapiroWilk { expectation, covariance }, plain));
        }
    }
    cases
}

fn multivariate(s: Settings) -> Vec<Case> {
    let Settings { beta, gamma, dim, .. } = s;
    let beta_m = 1.01 + beta * gamma;
    vec![
        Case::multivariate(Bhep { beta }, dim, move |x| plain::bhep(x, beta)),
        Case::multivariate(HenzeZirkler {}, dim, plain::henze_zirkler),
        Case::multivariate(BhepM { beta: beta_m }, dim, move |x| plain::bhep_m(x, beta_m)),
        Case::multivariate(Comb { gamma }, dim, move |x| plain::comb(x, gamma)),
        Case::multivariate(HenzeVisagie { gamma }, dim, move |x| plain::henze_visagie(x, gamma)),
    ]
}

/// With tails as those of a Cauchy distribution, up to `u` = ±1.
fn heavy(u: f64) -> f64 {
    u / (1.0 - u.abs())
}

/// `count` numbers with the tails of Student's t with 2 degrees of freedom, none closer to its
/// neighbour than differences need, in an order that is not theirs.
fn apart(count: usize, jitter: &[f64], scale: f64) -> Vec<f64> {
    let place = |i: usize| {
        let p = (i as f64 + 0.5 + 0.3 * jitter[i % jitter.len()]) / count as f64;
        let u = 2.0 * p - 1.0;
        scale * u / (1.0 - u * u).sqrt()
    };
    let mut x: Vec<f64> = (0..count).map(place).collect();
    x.rotate_left(count / 3);
    x.chunks_mut(3).for_each(<[f64]>::reverse);
    x
}

fn rows() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..=8, 1usize..=300]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn values_of_heavy_tailed_samples(
        s in settings(),
        u in prop::collection::vec(-0.998..0.998f64, 1..120),
    ) {
        let x: Vec<f64> = u.iter().map(|&u| heavy(u)).collect();
        for case in sliced(s) {
            case.check_value(&x)?;
        }
    }

    #[test]
    fn values_of_heavy_tailed_samples_in_space(
        s in settings(),
        reach in 0.3..0.998f64,
        u in prop::collection::vec(-1.0..1.0f64, 4..200),
    ) {
        let used = u.len() / s.dim * s.dim;
        let x: Vec<f64> = u[..used].iter().map(|&u| heavy(reach * u)).collect();
        for case in multivariate(s) {
            case.check_value(&x)?;
        }
    }

    #[test]
    fn the_whole_line_by_gauss_hermite(x in prop::collection::vec(-4.0..4.0f64, 1..60)) {
        let integration = Integration::GaussHermite;
        let statistic = EppsPulley { knots: 40, integration, ..Default::default() };
        Case::sliced(statistic, plain::epps_pulley_whole).check_value(&x)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn gradients_are_those_of_plain_loops(
        s in settings(),
        rows in rows(),
        jitter in prop::collection::vec(0.01..1.0f64, 17),
        along in prop::collection::vec(-1.0..1.0f64, 4 * 300),
    ) {
        let x = apart(rows, &jitter, 1.3);
        for case in sliced(s) {
            case.check_gradient(&x, &along[..x.len()])?;
        }
        let x = apart(rows * s.dim, &jitter, 0.3);
        for case in multivariate(s) {
            case.check_gradient(&x, &along[..x.len()])?;
        }
    }
}
