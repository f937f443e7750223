//! Values of files of more than 8 bits as 16-bit levels.

/// The values of black and white that a user set, or `None` for what a file holds.
pub(crate) type Range = Option<[f64; 2]>;

/// Bits that cameras and scanners fill of 16.
const DEPTHS: [u32; 2] = [12, 14];

/// Scales 16-bit values in place so that white is 65,535, and says so where the file leaves bits unused. The last
/// channel is left alone where it is `alpha`.
pub(crate) fn stretch(
    values: &mut [u16],
    channels: usize,
    alpha: bool,
    range: Range,
) -> Option<String> {
    let colours = channels - usize::from(alpha);
    let [black, white] = match range {
        Some(range) => range,
        None => {
            let most = values.chunks_exact(channels).flat_map(|p| &p[..colours]).max().copied()?;
            let bits = DEPTHS.into_iter().find(|bits| u32::from(most) < 1 << bits)?;
            [0.0, f64::from((1u32 << bits) - 1)]
        }
    };
    for pixel in values.chunks_exact_mut(channels) {
        for value in &mut pixel[..colours] {
            *value = level(f64::from(*value), black, white);
        }
    }
    let remark = || {
        format!("16-bit values up to {white} taken as 0 to 1 (image.range sets black and white)")
    };
    range.is_none().then(remark)
}

fn level(value: f64, black: f64, white: f64) -> u16 {
    // The cast holds what is beyond at the ends.
    ((value - black) / (white - black) * f64::from(u16::MAX) + 0.5) as u16
}

/// Numbers of any kind as levels, and what was taken for black and white. `colours` of each `channels` values
/// count; an alpha after them is 0 to 1.
///
/// # Errors
/// A reason where a value is NaN or infinite.
pub(crate) fn of_numbers(
    values: &[f64],
    channels: usize,
    colours: usize,
    range: Range,
) -> Result<(Vec<u16>, Option<String>), String> {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.chunks_exact(channels).flat_map(|pixel| &pixel[..colours]) {
        if !value.is_finite() {
            return Err(format!(
                "has pixels that are {}",
                if value.is_nan() { "NaN" } else { "infinite" }
            ));
        }
        (least, most) = (least.min(*value), most.max(*value));
    }
    let ([black, white], remark) = match range {
        Some(range) => (range, None),
        None if least >= 0.0 && most <= 1.0 => ([0.0, 1.0], None),
        None if least >= 0.0 && most <= 255.0 => {
            let remark = "numbers of 0 to 255 taken as 0 to 1 (image.range sets black and white)";
            ([0.0, 255.0], Some(remark.to_string()))
        }
        None => {
            let remark = "numbers scaled by the smallest and largest of each file (image.range sets black and \
                          white for all)";
            ([least, if most > least { most } else { least + 1.0 }], Some(remark.to_string()))
        }
    };
    let levels = values.chunks_exact(channels).flat_map(|pixel| {
        pixel.iter().enumerate().map(|(at, &value)| {
            if at < colours { level(value, black, white) } else { level(value, 0.0, 1.0) }
        })
    });
    Ok((levels.collect(), remark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_in_use_are_stretched_to_all() {
        let mut grey = [0, 2048, 4095];
        let remark = stretch(&mut grey, 1, false, None).unwrap();
        assert!(remark.contains("4095"), "{remark}");
        assert_eq!(grey, [0, 32776, 65535]);
        let mut full = [0, 40000];
        assert_eq!((stretch(&mut full, 1, false, None), full), (None, [0, 40000]));
        // Alpha keeps its scale; a user's range needs no remark.
        let mut two = [100, 65535, 300, 7];
        assert_eq!(stretch(&mut two, 2, true, Some([100.0, 300.0])), None);
        assert_eq!(two, [0, 65535, 65535, 7]);
    }

    #[test]
    fn numbers_are_scaled_by_what_they_are() {
        let levels = |values: &[f64], range| of_numbers(values, 1, 1, range).unwrap();
        assert_eq!(levels(&[0.0, 1.0], None), (vec![0, 65535], None));
        assert_eq!(levels(&[0.0, 51.0, 255.0], None).0, [0, 13107, 65535]);
        let (scaled, remark) = levels(&[-100.0, 0.0, 300.0], None);
        assert_eq!(scaled, [0, 16384, 65535]);
        assert!(remark.unwrap().contains("smallest and largest"));
        assert_eq!(levels(&[-1.0, 0.5, 9.0], Some([0.0, 1.0])).0, [0, 32768, 65535]);
        assert_eq!(levels(&[7.0e6; 3], None).0, [0; 3]);
        assert!(of_numbers(&[f64::NAN], 1, 1, None).unwrap_err().contains("NaN"));
    }
}
