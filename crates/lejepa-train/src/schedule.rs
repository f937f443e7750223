//! Learning rate: linear warm-up, then cosine.

use lejepa_core::config::{Docs, field_docs};
use lejepa_core::{Component, Error, Schedule, ScheduleKind, kind, register};
use serde::{Deserialize, Serialize};

use crate::adamw::AdamWKind;

register!(kind::Optimizer: AdamWKind, kind::Schedule: Cosine);

/// `[schedule]` of [`Cosine`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CosineSettings {
    /// Share of the steps, 0 to 1, over which the learning rate rises to its peak.
    pub warmup: f64,
    /// Learning rate at the end over the peak, 0 to 1.
    pub end: f64,
}

impl Default for CosineSettings {
    fn default() -> Self {
        Self { warmup: 0.1, end: 1e-3 }
    }
}

/// Linear warm-up, then half a cosine down to the end (Loshchilov and Hutter, arXiv 1608.03983, without
/// restarts).
pub struct Cosine(CosineSettings);

impl Component for Cosine {
    const NAME: &'static str = "cosine";
    const ABOUT: &'static str = "linear warm-up, then half a cosine";
    type Config = CosineSettings;

    fn docs() -> Docs {
        field_docs(include_str!("schedule.rs"), "CosineSettings")
    }
}

impl ScheduleKind for Cosine {
    fn build(config: &CosineSettings) -> lejepa_core::Result<Box<dyn Schedule>> {
        for (key, value) in [("warmup", config.warmup), ("end", config.end)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::bad_value(format!("schedule.{key}"), "must lie in 0..=1"));
            }
        }
        Ok(Box::new(Self(config.clone())))
    }
}

impl Schedule for Cosine {
    fn factor(&self, step: u64, total: u64) -> f64 {
        let CosineSettings { warmup, end } = self.0;
        let rise = (total as f64 * warmup).floor();
        let at = step as f64;
        if at < rise {
            return (at + 1.0) / rise;
        }
        let progress = ((at - rise) / (total as f64 - 1.0 - rise).max(1.0)).min(1.0);
        end + (1.0 - end) * half_cosine(progress)
    }
}

/// From 1 down to 0 as `progress` goes from 0 to 1.
pub(crate) fn half_cosine(progress: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_the_end() {
        let cosine = |warmup, end| Cosine(CosineSettings { warmup, end });
        let factors: Vec<f64> = (0..100).map(|s| cosine(0.1, 0.01).factor(s, 100)).collect();
        assert!((factors[0] - 0.1).abs() < 1e-12);
        assert!((factors[9] - 1.0).abs() < 1e-12);
        assert!((factors[10] - 1.0).abs() < 1e-12);
        assert!(factors[10..].windows(2).all(|w| w[1] <= w[0]));
        assert!((factors[99] - 0.01).abs() < 1e-12);
        assert!(cosine(0.0, 0.5).factor(0, 1).is_finite());
        assert!(cosine(1.0, 0.5).factor(0, 1) > 0.0);
    }
}
