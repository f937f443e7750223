use super::*;
use crate::activations::narrowed;
use crate::gemm::tests::{has_bf16, noise};

/// A convolution, with the direct sums in f64.
struct Case {
    winograd: Winograd,
    x: Vec<f32>,
    filters: Vec<f32>,
    dy: Vec<f32>,
    y: Vec<f64>,
    dfilters: Vec<f64>,
}

/// Even and odd sizes, with and without padding, channels that are no multiple of a vector.
fn cases() -> Vec<Case> {
    let sizes = [([6, 8], 1, 16, 20), ([5, 7], 1, 33, 16), ([4, 3], 0, 16, 48)];
    sizes.map(|(size, pad, input, output)| case(size, pad, input, output)).into()
}

fn case(output_size: [usize; 2], pad: usize, input: usize, output: usize) -> Case {
    let input_size = output_size.map(|n| n + 2 - 2 * pad);
    let winograd = Winograd { batch: 3, input_size, output_size, pad, input, output };
    let x = noise(3 * input_size[0] * input_size[1] * input, 1);
    let filters = noise(output * input * 9, 2);
    let dy = noise(3 * output_size[0] * output_size[1] * output, 3);
    let (mut y, mut dfilters) = (vec![0f64; dy.len()], vec![0f64; filters.len()]);
    for (at, y) in y.iter_mut().enumerate() {
        let (o, at) = (at % output, at / output);
        let (j, row) = (at % output_size[1], at / output_size[1]);
        let (i, n) = (row % output_size[0], row / output_size[0]);
        for tap in 0..9 {
            let (i, j) = (i + tap / 3, j + tap % 3);
            let (Some(i), Some(j)) = (i.checked_sub(pad), j.checked_sub(pad)) else { continue };
            if i >= input_size[0] || j >= input_size[1] {
                continue;
            }
            for c in 0..input {
                let x = f64::from(x[((n * input_size[0] + i) * input_size[1] + j) * input + c]);
                let filter = (o * input + c) * 9 + tap;
                *y += x * f64::from(filters[filter]);
                dfilters[filter] += x * f64::from(dy[at * output + o]);
            }
        }
    }
    Case { winograd, x, filters, dy, y, dfilters }
}

/// The largest error.
fn error(values: &[f32], want: &[f64]) -> f64 {
    assert_eq!(values.len(), want.len());
    let errors = values.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs());
    errors.fold(0.0, f64::max)
}

/// What rounding the operands of `n` products of values below 1 to bf16 adds up to.
fn bf16_bound(n: usize) -> f64 {
    6.0 * (n as f64).sqrt() / 512.0
}

#[test]
fn f32_agrees_with_the_direct_sum() {
    for case in cases() {
        let filters = Filters3x3 { values: &case.filters, flipped: false };
        let (y, moments) = case.winograd.correlate(&case.x, filters, Precision::F32, true);
        let rows: usize = moments.iter().map(|(rows, _)| rows).sum();
        assert_eq!(rows * case.winograd.output, y.len());
        assert!(error(&y, &case.y) < 2e-5, "{}", error(&y, &case.y));
        let x = Activations::F32(&case.x);
        let dfilters = case.winograd.filter_gradient(x, &case.dy, Precision::F32);
        let error = error(&dfilters, &case.dfilters);
        assert!(error < 2e-5, "{error}");
    }
}

#[test]
fn bf16_agrees_with_the_direct_sum() {
    if !has_bf16() {
        return;
    }
    for case in cases() {
        let Winograd { output_size, input, .. } = case.winograd;
        let filters = Filters3x3 { values: &case.filters, flipped: false };
        let (y, _) = case.winograd.correlate(&case.x, filters, Precision::Bf16, false);
        assert!(error(&y, &case.y) < bf16_bound(9 * input), "{}", error(&y, &case.y));
        let narrow = narrowed(&case.x);
        for x in [Activations::F32(&case.x), Activations::Bf16(&narrow)] {
            let dfilters = case.winograd.filter_gradient(x, &case.dy, Precision::Bf16);
            let error = error(&dfilters, &case.dfilters);
            assert!(error < bf16_bound(3 * output_size[0] * output_size[1]), "{error}");
        }
    }
}

/// The layout for AMX works without AMX too, in f32 or on AVX512-BF16.
#[test]
fn unpacked_filters_agree_with_the_direct_sum() {
    for case in cases() {
        let filters = Filters3x3 { values: &case.filters, flipped: false };
        let filters = case.winograd.transform_filters_unpacked(filters);
        let filters = TransformedFilters::Amx(filters);
        let (y, _) = case.winograd.correlate_transformed(&case.x, &filters, false);
        let bound = bf16_bound(9 * case.winograd.input);
        assert!(error(&y, &case.y) < bound, "{}", error(&y, &case.y));
    }
}
