//! Gauss-Hermite quadrature.

use std::f64::consts::PI;

use crate::quadrature::Quadrature;

/// The rule for ∫ f(t) exp(−t²/2) dt over the line and an even f, exact for polynomials of degree
/// up to 4·`half` − 3: of its 2·`half` − 1 nodes the `half` ones with t ≥ 0, with doubled weights.
pub(super) fn gauss_hermite(half: usize) -> Quadrature {
    let half = half.max(1);
    let order = 2 * half - 1;
    let knots: Vec<f64> = (0..half).map(|k| node(order, half - 1 + k)).collect();
    let weights = knots
        .iter()
        .enumerate()
        .map(|(k, &t)| {
            let sides = if k == 0 { 1.0 } else { 2.0 };
            sides * (2.0 * PI).sqrt() / sum_of_squares(order, t)
        })
        .collect();
    Quadrature { knots, weights }
}

/// The node with `index` nodes below it: the eigenvalue of the symmetric tridiagonal matrix with
/// zeros on the diagonal and √1, √2, … next to it (Golub & Welsch 1969), by bisection.
fn node(order: usize, index: usize) -> f64 {
    if 2 * index + 1 == order {
        return 0.0;
    }
    // Every node is below √(4·order), and ours are above 0.
    let (mut low, mut high) = (0.0, 2.0 * (order as f64).sqrt());
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if nodes_below(order, middle) > index {
            high = middle;
        } else {
            low = middle;
        }
    }
}

/// By Sylvester's law of inertia: negative pivots of the matrix less t.
fn nodes_below(order: usize, t: f64) -> usize {
    let mut count = 0;
    let mut pivot = 1.0;
    for k in 0..order {
        pivot = -t - if k == 0 { 0.0 } else { k as f64 / pivot };
        if pivot == 0.0 {
            pivot = -f64::MIN_POSITIVE;
        }
        count += usize::from(pivot < 0.0);
    }
    count
}

/// Σ h_k(t)² over the orthonormal Hermite polynomials of degree below `order`.
fn sum_of_squares(order: usize, t: f64) -> f64 {
    let (mut previous, mut current) = (0f64, 1f64);
    let mut sum = 0f64;
    for k in 0..order {
        sum += current * current;
        // Far out in large rules: the weight is 0, and going on would make it NaN.
        if sum.is_infinite() {
            break;
        }
        let next = (t * current - (k as f64).sqrt() * previous) / (k as f64 + 1.0).sqrt();
        (previous, current) = (current, next);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::gauss_hermite;

    #[test]
    fn integrates_even_polynomials_exactly() {
        for half in [1, 2, 3, 9, 17, 40] {
            let rule = gauss_hermite(half);
            assert!(rule.knots.windows(2).all(|w| w[0] < w[1]), "{:?}", rule.knots);
            // ∫ t^(2k) exp(−t²/2) dt = √(2π)·(2k − 1)!!
            let mut moment = (2.0 * std::f64::consts::PI).sqrt();
            for k in 0..(2 * half - 1).min(20) {
                let sum: f64 = rule
                    .knots
                    .iter()
                    .zip(&rule.weights)
                    .map(|(t, w)| w * t.powi(2 * k as i32))
                    .sum();
                assert!((sum / moment - 1.0).abs() < 1e-11, "{half} {k}: {sum} {moment}");
                moment *= (2 * k + 1) as f64;
            }
        }
    }

    #[test]
    fn large_rules_are_finite() {
        for half in [200, 600] {
            let rule = gauss_hermite(half);
            assert!(rule.knots.iter().chain(&rule.weights).all(|x| x.is_finite()));
            let sum: f64 = rule.weights.iter().sum();
            assert!((sum / (2.0 * std::f64::consts::PI).sqrt() - 1.0).abs() < 1e-10, "{sum}");
        }
    }
}
