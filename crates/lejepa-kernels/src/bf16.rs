//! Rounding to bf16.

/// The nearest bf16, ties to even, in the low half; NaN becomes the quiet NaN 0x7fc0.
#[inline(always)]
pub(crate) fn round_to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    // The sum overflows for NaNs only. Rounding up could turn those into infinities.
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { 0x7fc0 } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even_and_keeps_nan() {
        for (x, want) in [
            (1.0, 0x3f80),
            (-1.0, 0xbf80),
            (1.0 + 0.003, 0x3f80), // below half of 2⁻⁷
            (1.0 + 0.005, 0x3f81),
            (1.0 + 0.00390625, 0x3f80), // a tie, to even
            (1.0 + 3.0 * 0.00390625, 0x3f82),
            (0.0, 0),
            (-0.0, 0x8000),
            (1e-40, 0x0001), // subnormal
            (f32::MAX, 0x7f80),
            (f32::MIN, 0xff80),
            (f32::INFINITY, 0x7f80),
            (f32::NEG_INFINITY, 0xff80),
        ] {
            assert_eq!(round_to_bf16(x), want, "{x}");
        }
        // Quiet and signalling, of both signs, with the least and the largest payloads.
        for payload in [1, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x3f_ffff, 0x40_0000, 0x7f_ffff] {
            for sign in [0, 1 << 31] {
                let x = f32::from_bits(sign | 0x7f80_0000 | payload);
                assert!(x.is_nan());
                assert_eq!(round_to_bf16(x), 0x7fc0, "{:x}", x.to_bits());
            }
        }
    }
}
