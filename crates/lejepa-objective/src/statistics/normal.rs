//! The standard normal distribution: quantiles on the host, distribution functions on tensors.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, PI};

use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// How ln Φ, the logarithm of the normal distribution function, is computed in the tails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogCdf {
    /// To the precision of the samples' type everywhere, with the right gradient.
    #[default]
    Exact,
    /// As the published LeJEPA code, for comparison with it: beyond |x| = 3 the approximation
    /// ln Φ(−x) ≈ ln φ(x) − ½ ln(0.656 x + 0.344 x² + 5.334). It jumps by 0.02 at |x| = 3, where
    /// it starts too high, and is 0.53 too high far out.
    Published,
}

/// ½ ln 2π
pub(super) fn half_ln_two_pi() -> f64 {
    0.5 * (2.0 * PI).ln()
}

/// The density at `x`.
pub(super) fn density(x: f64) -> f64 {
    (-0.5 * x * x - half_ln_two_pi()).exp()
}

/// The quantile of `p` in (0, 1) by Wichura (1988), algorithm AS 241, to about 10⁻¹⁶.
pub(crate) fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * polynomial(&CENTRE.0, r) / polynomial(&CENTRE.1, r);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    let magnitude = if r <= 5.0 {
        polynomial(&TAIL.0, r - 1.6) / polynomial(&TAIL.1, r - 1.6)
    } else {
        polynomial(&FAR_TAIL.0, r - 5.0) / polynomial(&FAR_TAIL.1, r - 5.0)
    };
    magnitude.copysign(q)
}

fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Numerator and denominator, lowest order first.
type Rational = ([f64; 8], [f64; 8]);

const CENTRE: Rational = (
    [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ],
    [
        1.0,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_854,
    ],
);

const TAIL: Rational = (
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        7.745_450_142_783_414e-4,
    ],
    [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ],
);

const FAR_TAIL: Rational = (
    [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    [
        1.0,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ],
);

/// Φ(x). The upper tail loses relative precision in 1 − Φ: use [`log_cdf`] where that matters.
pub(super) fn cdf(x: Tensor<3>) -> Tensor<3> {
    (x * FRAC_1_SQRT_2).erf() * 0.5 + 0.5
}

/// ln Φ(x) and ln Φ(−x).
pub(super) fn log_cdf(x: Tensor<3>, method: LogCdf) -> (Tensor<3>, Tensor<3>) {
    let negative = x.clone().lower_equal_elem(0.0);
    // Not `abs`: its gradient at 0 is 0, and constant columns of zeros would never move.
    let magnitude = x.clone().mask_where(negative.clone(), -x);
    let small = log_tail(magnitude, method);
    // The probability of the other side is at least ½, so nothing cancels in 1 − Φ.
    let large = (-small.clone().exp()).log1p();
    (large.clone().mask_where(negative.clone(), small.clone()), small.mask_where(negative, large))
}

/// The logarithm of the normal density.
pub(super) fn log_density(x: Tensor<3>) -> Tensor<3> {
    x.square() * -0.5 - half_ln_two_pi()
}

/// ln Φ(−a) for a ≥ 0.
fn log_tail(a: Tensor<3>, method: LogCdf) -> Tensor<3> {
    // With z = a/√2 and t = 1/(1 + z/2), ln(erfc(z)·exp(z²)/t) is a smooth function of t in (0, 1]:
    // one polynomial serves the middle and both tails, and nothing is exponentiated.
    let t = (a.clone() * (0.5 * FRAC_1_SQRT_2) + 1.0).recip();
    let u = t.clone() * 2.0 - 1.0;
    let wide = a.dtype() == DType::F64;
    let coefficients: &[f64] = if wide { &LOG_SCALED_ERFC_F64 } else { &LOG_SCALED_ERFC };
    let last = coefficients.len() - 1;
    let mut sum = u.clone() * coefficients[0];
    for &c in &coefficients[1..last] {
        sum = (sum + c) * u.clone();
    }
    let exact = t.log() + sum - a.clone().square() * 0.5 + (coefficients[last] - LN_2);
    match method {
        LogCdf::Exact => exact,
        LogCdf::Published => {
            let helper = a.clone() * 0.656 + a.clone().square() * 0.344 + 5.334;
            let far = a.clone().greater_elem(3.0);
            exact.mask_where(far, log_density(a) - helper.log() * 0.5)
        }
    }
}

/// Coefficients, highest order first, of ln(erfc(z)·exp(z²)/t) in u = 2t − 1, t = 1/(1 + z/2): the
/// Chebyshev expansion on −1 ≤ u ≤ 1 cut at order 14, written in powers of u. Off by at most
/// 3·10⁻¹⁰, its derivative by at most 10⁻⁷: enough for f32. What statistics sum has factors up to
/// N and cancels, so f64 needs more.
const LOG_SCALED_ERFC: [f64; 15] = [
    -8.121253e-06,
    2.0723071e-05,
    4.1795888e-05,
    -0.000154633791,
    -7.1197302e-05,
    0.000657953849,
    -0.00015613428,
    -0.002339277725,
    0.001761339367,
    0.008823558178,
    -0.00987298046,
    -0.046895482161,
    0.047343320367,
    0.672643220546,
    -0.67179408416,
];

/// The same cut at order 24: off by at most 3·10⁻¹⁶, its derivative by at most 2·10⁻¹³.
const LOG_SCALED_ERFC_F64: [f64; 25] = [
    -1.277_608_655_496_867_7e-8,
    2.980_513_364_515_168e-8,
    7.745_572_408_758_512e-8,
    -2.895_626_567_435_524e-7,
    -4.146_853_754_663_641e-8,
    1.283_394_915_356_199e-6,
    -1.409_445_991_433_531e-6,
    -2.963_484_230_959_699e-6,
    8.662_535_397_475_538e-6,
    1.398_937_047_761_105_1e-7,
    -3.023_784_054_007_137e-5,
    3.174_693_542_327_236e-5,
    7.141_810_433_422_301e-5,
    -0.000_174_304_129_869_259_38,
    -9.373_894_767_667_295e-5,
    0.000_673_679_135_256_886_4,
    -0.000_146_246_287_421_284_06,
    -0.002_345_812_552_995_894,
    0.001_758_933_507_402_803_2,
    0.008_824_938_561_312_326,
    -0.009_872_689_364_099_222,
    -0.046_895_610_231_328_92,
    0.047_343_306_841_863_525,
    0.672_643_223_977_658_3,
    -0.671_794_084_056_692_2,
];

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::super::tests::at;
    use super::{LogCdf, log_cdf, quantile};

    #[test]
    fn log_cdf_reaches_the_tails() {
        // ln Φ(−x) and φ(x)/Φ(−x), in 50-digit arithmetic.
        let known = [
            (0.0, -std::f64::consts::LN_2, 0.797_884_560_802_865_4),
            (1.0, -1.841_021_645_009_263_6, 1.525_135_276_160_981),
            (3.0, -6.607_726_221_510_349, 3.283_098_654_930_436_4),
            (5.0, -15.064_998_393_988_725, 5.186_503_967_125_842),
            (10.0, -53.231_285_150_512_47, 10.098_093_233_962_512),
            (1e4, -50_000_010.129_278_91, 10_000.000_099_999_997),
        ];
        for (x, value, hazard) in known {
            for (dtype, tolerance, of_hazard) in
                [(DType::F64, 1e-14, 1e-13), (DType::F32, 3e-7, 1e-6)]
            {
                let lower = |x| log_cdf(x, LogCdf::Exact).0;
                let upper = |x| log_cdf(x, LogCdf::Exact).1;
                let (a, da) = at(lower, &[-x], [1, 1, 1], dtype);
                let (b, db) = at(upper, &[x], [1, 1, 1], dtype);
                assert!((a[0] / value - 1.0).abs() < tolerance, "{x}: {} {value}", a[0]);
                assert!((b[0] / a[0] - 1.0).abs() < tolerance, "{x}: {} {}", a[0], b[0]);
                assert!((da[0] / hazard - 1.0).abs() < of_hazard, "{x}: {} {hazard}", da[0]);
                assert!((db[0] / da[0] + 1.0).abs() < of_hazard, "{x}: {} {}", da[0], db[0]);
            }
        }
    }

    #[test]
    fn quantiles() {
        let known = [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.01, -2.326_347_874_040_841),
            (1e-10, -6.361_340_902_404_056),
            (1e-20, -9.262_340_089_798_408),
        ];
        for (p, x) in known {
            assert!((quantile(p) - x).abs() < 1e-13, "{p}: {}", quantile(p));
        }
    }
}
