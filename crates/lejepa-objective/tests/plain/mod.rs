//! The statistics by the formulas of their documentation: loops over numbers in f64, without care
//! for speed, for overflow, or for digits lost where large sums cancel.

use std::f64::consts::{E, LN_2, PI};

use lejepa_objective::statistics::{Covariance, Expectation, Spacing};

/// A value, and how large the terms are that it is a sum or difference of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain {
    pub(crate) value: f64,
    pub(crate) size: f64,
}

impl Plain {
    fn new(value: f64, size: f64) -> Self {
        Self { value, size }
    }

    /// Of terms that are added up, by Neumaier's compensated summation.
    fn sum(terms: impl Iterator<Item = f64>) -> Self {
        let (mut sum, mut lost, mut size) = (0f64, 0f64, 0f64);
        for x in terms {
            let next = sum + x;
            lost += if sum.abs() >= x.abs() { (sum - next) + x } else { (x - next) + sum };
            (sum, size) = (next, size + x.abs());
        }
        Self::new(sum + lost, size)
    }

    fn add(self, other: Self) -> Self {
        Self::new(self.value + other.value, self.size + other.size)
    }

    fn times(self, factor: f64) -> Self {
        Self::new(self.value * factor, self.size * factor.abs())
    }
}

fn log_density(x: f64) -> f64 {
    -0.5 * x * x - 0.5 * (2.0 * PI).ln()
}

/// ln Φ(x).
fn log_cdf(x: f64) -> f64 {
    let a = -x;
    if a < 0.0 {
        return (-log_cdf(a).exp()).ln_1p();
    }
    if a < 1.5 {
        // Φ(−a) = ½ − φ(a)·(a + a³/3 + a⁵/(3·5) + …)
        let (mut term, mut sum, mut odd) = (a, a, 1.0);
        while term > 1e-18 * sum {
            odd += 2.0;
            term *= a * a / odd;
            sum += term;
        }
        return (0.5 - log_density(a).exp() * sum).ln();
    }
    // Φ(−a) = φ(a)/(a + 1/(a + 2/(a + …)))
    let fraction = (1..=120).rev().fold(a, |fraction, k| a + f64::from(k) / fraction);
    log_density(a) - fraction.ln()
}

fn cdf(x: f64) -> f64 {
    log_cdf(x).exp()
}

/// By bisection.
fn quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    let (mut low, mut high) = (-40.0, 0.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if log_cdf(middle) < p.ln() {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

fn sorted(x: &[f64]) -> Vec<f64> {
    let mut x = x.to_vec();
    x.sort_by(f64::total_cmp);
    x
}

/// The ranks 1 to N with the sorted samples.
fn ranked(x: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    sorted(x).into_iter().enumerate().map(|(i, x)| (i as f64 + 1.0, x))
}

fn mean(x: impl ExactSizeIterator<Item = f64>) -> Plain {
    let n = x.len() as f64;
    Plain::sum(x).times(1.0 / n)
}

/// By the trapezoid rule.
pub(crate) fn epps_pulley(x: &[f64], t_max: f64, knots: usize) -> Plain {
    let n = x.len() as f64;
    let step = t_max / (knots - 1) as f64;
    Plain::sum((0..knots).map(|k| {
        let t = k as f64 * step;
        let normal = (-0.5 * t * t).exp();
        let real = mean(x.iter().map(|x| (t * x).cos())).value - normal;
        let imaginary = mean(x.iter().map(|x| (t * x).sin())).value;
        let weight = if k == 0 || k + 1 == knots { step } else { 2.0 * step };
        n * weight * normal * (real * real + imaginary * imaginary)
    }))
    .add(Plain::new(0.0, n * t_max))
}

/// Over the whole line, in closed form.
pub(crate) fn epps_pulley_whole(x: &[f64]) -> Plain {
    let n = x.len() as f64;
    let pairs =
        Plain::sum(x.iter().flat_map(|a| x.iter().map(move |b| (-0.5 * (a - b).powi(2)).exp())));
    let singles = Plain::sum(x.iter().map(|x| (-0.25 * x * x).exp()));
    pairs
        .times(1.0 / n)
        .add(singles.times(-(2f64.sqrt())))
        .add(Plain::new(n, n).times(3f64.sqrt().recip()))
        .times((2.0 * PI).sqrt())
}

pub(crate) fn anderson_darling(x: &[f64]) -> Plain {
    let n = x.len() as f64;
    let x = sorted(x);
    let terms = (1..=x.len()).map(|i| {
        let logs = log_cdf(x[i - 1]) + log_cdf(-x[x.len() - i]);
        -(2.0 * i as f64 - 1.0) / n * logs
    });
    Plain::sum(terms).add(Plain::new(-n, n))
}

pub(crate) fn cramer_von_mises(x: &[f64]) -> Plain {
    let n = x.len() as f64;
    let terms = ranked(x).map(|(i, x)| ((2.0 * i - 1.0) / (2.0 * n) - cdf(x)).powi(2) / n);
    Plain::new(terms.sum(), 1.0)
}

pub(crate) fn watson(x: &[f64]) -> Plain {
    let shift = mean(x.iter().map(|&x| cdf(x))).value - 0.5;
    cramer_von_mises(x).add(Plain::new(-shift * shift, 1.0))
}

/// Mean and unbiased variance.
fn spread(x: &[f64]) -> (f64, f64) {
    let m = mean(x.iter().copied()).value;
    let sum: f64 = x.iter().map(|x| (x - m).powi(2)).sum();
    (m, sum / (x.len() - 1).max(1) as f64)
}

pub(crate) fn vcreg(x: &[f64]) -> Plain {
    let n = x.len() as f64;
    let (m, variance) = spread(x);
    let floored = variance.max(1e-8);
    let rounding = n * mean(x.iter().copied()).size.powi(2) / floored;
    let value = n * m * m / floored + (n - 1.0) * (variance - 1.0).powi(2) / 2.0;
    Plain::new(value, value + rounding)
}

pub(crate) fn extended_jarque_bera(x: &[f64]) -> Plain {
    let n = x.len() as f64;
    let (m, variance) = spread(x);
    let scale = variance.max(1e-8).sqrt();
    let moment = |k| mean(x.iter().map(|x| ((x - m) / scale).powi(k))).value;
    let shape = n / 6.0 * (moment(3).powi(2) + ((moment(4) - 3.0) / 2.0).powi(2));
    vcreg(x).add(Plain::new(shape, n * (1.0 + moment(4)).powi(2)))
}

pub(crate) fn moments(x: &[f64], k_max: usize) -> Plain {
    let mut total = mean(x.iter().copied());
    total.value = total.value.abs();
    for k in 2..=k_max as i32 {
        let normal: f64 = if k % 2 == 0 { (1..k).step_by(2).map(f64::from).product() } else { 0.0 };
        let moment = mean(x.iter().map(|x| x.powi(k)));
        let factor = f64::from(-k).exp();
        let term = Plain::new((moment.value - normal).abs(), moment.size + normal);
        total = total.add(term.times(factor));
    }
    total
}

pub(crate) fn shapiro_wilk(x: &[f64], expectation: Expectation, covariance: Covariance) -> Plain {
    let n = x.len() as f64;
    let expected: Vec<f64> = (1..=x.len())
        .map(|i| i as f64)
        .map(|i| match expectation {
            Expectation::Elfving => (i - PI / 8.0) / (n + 0.25),
            Expectation::Blom => (i - 0.375) / (n + 0.25),
            Expectation::Rahman => i / (n + 1.0),
        })
        .map(quantile)
        .collect();
    let weights: Vec<f64> = match covariance {
        Covariance::ShapiroFrancia => expected,
        Covariance::Rahman => {
            let density: Vec<f64> = expected.iter().map(|&m| log_density(m).exp()).collect();
            let at = |i: isize| {
                let i = usize::try_from(i).unwrap_or(usize::MAX);
                density.get(i).map_or(0.0, |density| density * expected[i])
            };
            (0..x.len() as isize)
                .map(|i| density[i as usize] * (2.0 * at(i) - at(i - 1) - at(i + 1)))
                .collect()
        }
    };
    let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let inner: f64 = sorted(x).iter().zip(&weights).map(|(x, w)| x * w).sum();
    let lengths = length(x) * length(&weights);
    let cosine = if length(&weights) > 1e-12 { inner / lengths } else { 0.0 };
    Plain::new(1.0 - cosine.abs(), 1.0)
}

pub(crate) fn entropy(x: &[f64], m: usize, method: Spacing) -> Plain {
    if x.len() < 2 {
        return Plain::new(0.0, 0.0);
    }
    let (n, last) = (x.len() as f64, x.len() - 1);
    let m = m.clamp(1, last);
    let deviation = spread(x).1.sqrt().max(1e-5);
    let x = sorted(x);
    let log = |low: usize, high: usize| (x[high] - x[low]).max(1e-5).ln();
    let centred =
        |m: usize| (0..=last).map(|i| log(i.saturating_sub(m), (i + m).min(last))).sum::<f64>();
    let (sum, width): (f64, _) = match method {
        Spacing::Centered => (centred(m), 2 * m),
        Spacing::CenteredPublished => {
            let m = m.min(last / 2).max(1);
            let ends = log(0, (2 * m).min(last)) + log(last.saturating_sub(2 * m), last);
            (centred(m) + ends, 2 * m)
        }
        Spacing::Right => ((0..=last - m).map(|i| log(i, i + m)).sum(), m),
    };
    let entropy = sum / n + (n / width as f64).ln();
    let value = 0.5 * (2.0 * PI * E).ln() + deviation.ln() - entropy;
    match method {
        Spacing::Centered | Spacing::CenteredPublished => {
            Plain::new(value.exp(), value.exp() * (1.0 + entropy.abs()))
        }
        Spacing::Right => Plain::new(value, 1.0 + entropy.abs() + deviation.ln().abs()),
    }
}

pub(crate) fn order_statistic_nll(x: &[f64], alpha: f64) -> Plain {
    let n = x.len() as f64;
    let log_factorial = |k: f64| (1..=k as usize).map(|i| (i as f64).ln()).sum::<f64>();
    let kept = (alpha * n).ceil().max(1.0);
    let terms: Vec<f64> = ranked(x)
        .filter(|&(k, _)| k <= kept || k > n - kept)
        .flat_map(|(k, x)| {
            let binomial = log_factorial(n) - log_factorial(k - 1.0) - log_factorial(n - k);
            [-binomial, -(k - 1.0) * log_cdf(x), -(n - k) * log_cdf(-x), -log_density(x)]
        })
        .collect();
    let count = terms.len() as f64 / 4.0;
    Plain::sum(terms.into_iter()).times(1.0 / count)
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// ‖a + `sign`·b‖²
fn pair(a: &[f64], b: &[f64], sign: f64) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a + sign * b).powi(2)).sum()
}

/// Over all pairs of rows.
fn pairs(x: &[&[f64]], term: impl Fn(&[f64], &[f64]) -> f64) -> Plain {
    let term = &term;
    Plain::sum(x.iter().flat_map(|&a| x.iter().map(move |&b| term(a, b))))
}

pub(crate) fn bhep(x: &[&[f64]], beta: f64) -> Plain {
    let (n, half_dim, square) = (x.len() as f64, 0.5 * x[0].len() as f64, beta * beta);
    let singles = x.iter().map(|x| (-square * inner(x, x) / (2.0 + 2.0 * square)).exp());
    pairs(x, |a, b| (-0.5 * square * pair(a, b, -1.0)).exp())
        .times(1.0 / (n * n))
        .add(Plain::sum(singles).times(-2.0 * (1.0 + square).powf(-half_dim) / n))
        .add(Plain::new(1.0, 1.0).times((1.0 + 2.0 * square).powf(-half_dim)))
}

pub(crate) fn henze_zirkler(x: &[&[f64]]) -> Plain {
    let (n, d) = (x.len() as f64, x[0].len() as f64);
    bhep(x, (n * (2.0 * d + 1.0) / 4.0).powf(1.0 / (d + 4.0)) / 2f64.sqrt())
}

pub(crate) fn bhep_m(x: &[&[f64]], beta: f64) -> Plain {
    let (n, half_dim) = (x.len() as f64, 0.5 * x[0].len() as f64);
    let singles = x.iter().map(|x| (inner(x, x) / (4.0 * beta - 2.0)).exp());
    pairs(x, |a, b| (pair(a, b, 1.0) / (4.0 * beta)).exp())
        .times(beta.powf(-half_dim) / n)
        .add(Plain::sum(singles).times(-2.0 * (beta - 0.5).powf(-half_dim)))
        .add(Plain::new(n, n).times((beta - 1.0).powf(-half_dim)))
}

pub(crate) fn comb(x: &[&[f64]], gamma: f64) -> Plain {
    let n = x.len() as f64;
    pairs(x, |a, b| {
        let growth = ((inner(a, a) - inner(b, b)) / (4.0 * gamma)).exp();
        growth * (inner(a, b) / (2.0 * gamma)).cos()
    })
    .times(1.0 / (n * n))
    .add(Plain::new(-1.0, 1.0))
    .times(n.sqrt())
}

pub(crate) fn henze_visagie(x: &[&[f64]], gamma: f64) -> Plain {
    let (n, dim) = (x.len() as f64, x[0].len() as f64);
    pairs(x, |a, b| {
        let s = pair(a, b, 1.0);
        let rest = dim / (2.0 * gamma) - s / (2.0 * gamma) + s / (4.0 * gamma * gamma);
        (s / (4.0 * gamma)).exp() * (inner(a, b) + rest)
    })
    .times(1.0 / n)
}

#[test]
fn the_distribution_function_is_that_of_tables() {
    // In 50-digit arithmetic.
    for (x, value) in [
        (0.0, -LN_2),
        (-1.0, -1.841_021_645_009_263_6),
        (-3.0, -6.607_726_221_510_349),
        (-10.0, -53.231_285_150_512_47),
        (1.0, -0.172_753_779_023_449_88),
    ] {
        assert!((log_cdf(x) / value - 1.0).abs() < 1e-13, "{x}: {} {value}", log_cdf(x));
    }
    assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-14);
}
