//! Learning rate: linear warm-up, then cosine.

/// The learning rate at `step` of `total` (0-based): rises linearly to `peak` over the first
/// `warmup` share of the steps, then falls along a cosine to `peak · end`.
///
/// ```
/// use lejepa_train::learning_rate;
///
/// // 100 steps, a tenth of them warm-up, a peak of 0.1, at the end a thousandth of it.
/// let lr = |step| learning_rate(step, 100, 0.1, 1e-3, 0.1);
/// assert!(lr(0) < lr(5) && lr(5) < lr(9));
/// assert!(lr(20) > lr(50) && lr(50) > lr(99));
/// assert!(lr(99) < 1e-3);
/// ```
pub fn learning_rate(step: u64, total: u64, peak: f64, end: f64, warmup: f64) -> f64 {
    let rise = (total as f64 * warmup).floor();
    let at = step as f64;
    if at < rise {
        return peak * (at + 1.0) / rise;
    }
    let progress = ((at - rise) / (total as f64 - 1.0 - rise).max(1.0)).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    peak * (end + (1.0 - end) * cosine)
}

#[cfg(test)]
mod tests {
    use super::learning_rate;

    #[test]
    fn rises_then_falls_to_the_end() {
        let lr: Vec<f64> = (0..100).map(|s| learning_rate(s, 100, 2.0, 0.01, 0.1)).collect();
        assert!((lr[0] - 0.2).abs() < 1e-12);
        assert!((lr[9] - 2.0).abs() < 1e-12);
        assert!((lr[10] - 2.0).abs() < 1e-12);
        assert!(lr[10..].windows(2).all(|w| w[1] <= w[0]));
        assert!((lr[99] - 0.02).abs() < 1e-12);
        assert!(learning_rate(0, 1, 1.0, 0.5, 0.0).is_finite());
        assert!(learning_rate(0, 1, 1.0, 0.5, 1.0) > 0.0);
    }
}
