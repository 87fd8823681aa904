#![allow(clippy::unwrap_used)]

use super::*;
use faer::Scale;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CHANNELS: usize = 3;
const SAMPLES: usize = 7;

fn window(kernel: [usize; 2], stride: usize, dilation: usize, pads: [usize; 2]) -> Window {
    let input = [5, 6];
    // As much padding behind as before.
    let length = |axis: usize| {
        (input[axis] + 2 * pads[axis] - dilation * (kernel[axis] - 1) - 1) / stride + 1
    };
    Window {
        input: input.into(),
        output: vec![length(0), length(1)],
        kernel: kernel.into(),
        strides: vec![stride; 2],
        dilations: vec![dilation; 2],
        pads: pads.into(),
    }
}

fn images(scale: f32) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut draw = || rng.next_u32() as f32 / u32::MAX as f32;
    let count = SAMPLES * CHANNELS * 30;
    (0..count)
        .map(|i| scale * (draw() + (i / 30 % CHANNELS) as f32))
        .collect()
}

/// The patches one by one.
fn unfolded(images: &[f32], window: &Window) -> Mat<f64> {
    let (taps, places) = (window.taps(), window.output.iter().product::<usize>());
    Mat::from_fn(SAMPLES * places, CHANNELS * taps, |row, column| {
        let (sample, channel) = (row / places, column / taps);
        let read = window.reads(row % places)[column % taps];
        let first = (sample * CHANNELS + channel) * 30;
        read.map_or(0.0, |element| f64::from(images[first + element]))
    })
}

fn assert_near(found: &Mat<f64>, expected: &Mat<f64>, most: f64) {
    let difference = (found - expected).norm_max() / expected.norm_max();
    assert!(difference < most, "{difference}");
}

#[test]
fn sums_are_those_of_the_patches_one_by_one() {
    let windows = [
        window([3, 3], 1, 1, [1, 1]),
        window([3, 3], 2, 1, [1, 1]),
        window([5, 3], 1, 1, [2, 1]),
        window([3, 3], 1, 2, [2, 2]),
        window([2, 2], 1, 1, [0, 1]),
        window([1, 3], 1, 1, [0, 1]),
        window([3, 3], 1, 1, [2, 2]),
        window([4, 4], 2, 1, [1, 1]),
    ];
    // In f32, and values beyond it in f64.
    for (window, scale) in windows.iter().flat_map(|w| [(w, 1.0), (w, 1e17)]) {
        let most = if scale > 1.0 { 1e-9 } else { 1e-5 };
        let images = images(scale);
        let rows = unfolded(&images, window);
        let taps = window.taps();
        let mut expected = Moments::new(rows.ncols()).dealt(taps);
        expected.add(rows.clone(), SAMPLES);
        let mut patches = Patches::new(CHANNELS, window, 100).unwrap();
        let (first, rest) = images.split_at(2 * CHANNELS * 30);
        patches.add(first);
        patches.add(rest);
        let shift = patches.shift.clone();
        let found = patches.finish();
        let [covariance, wanted] = [&found, &expected].map(|m| m.covariance().unwrap());
        assert_near(&covariance.matrix(), &wanted.matrix(), most);
        let means = |mean: &[f64]| Mat::from_fn(mean.len(), 1, |i, _| mean[i]);
        assert_near(&means(&covariance.mean), &means(&wanted.mean), most);
        let shrinkage = shrinkage(&rows, &shift, taps);
        // A small difference of large sums.
        let error = (covariance.shrinkage - shrinkage).abs() / shrinkage;
        assert!(error < 100.0 * most, "{} {shrinkage}", covariance.shrinkage);
        let [found, expected] = [found, expected].map(|m| m.into_parts().unwrap());
        assert_eq!(found.rows(), expected.rows());
        for part in 0..SUBSAMPLES {
            let [found, expected] = [&found, &expected].map(|p| p.without(part).unwrap().lower());
            assert_near(&found, &expected, most);
        }
    }
}

/// By its definition, with second moments about the means of the channels in the first images.
fn shrinkage(rows: &Mat<f64>, shift: &[f64], taps: usize) -> f64 {
    let size = rows.ncols();
    let moved = Mat::from_fn(rows.nrows(), size, |i, j| rows[(i, j)] - shift[j / taps]);
    let per_sample = rows.nrows() / SAMPLES;
    let own = |sample: usize| {
        let part = moved.as_ref().subrows(sample * per_sample, per_sample);
        part.transpose() * part * Scale(1.0 / per_sample as f64)
    };
    let mut all = Mat::<f64>::zeros(size, size);
    (0..SAMPLES).for_each(|i| all += own(i) * Scale(1.0 / SAMPLES as f64));
    let spread = (0..SAMPLES).map(|i| (own(i) - &all).squared_norm_l2());
    let spread: f64 = spread.sum::<f64>() / (SAMPLES * SAMPLES) as f64;
    let mean = all.diagonal().column_vector().iter().sum::<f64>() / size as f64;
    let distance = (&all - Mat::<f64>::identity(size, size) * Scale(mean)).squared_norm_l2();
    (spread / distance).min(1.0)
}

#[test]
fn kernels_without_shared_products_are_left_to_others() {
    let is_made = |window: &Window, rows| Patches::new(CHANNELS, window, rows).is_some();
    // Patches that do not overlap.
    assert!(!is_made(&window([2, 2], 2, 1, [0, 0]), 6));
    assert!(!is_made(&window([1, 1], 1, 1, [0, 0]), 30));
    // A few patches of many.
    let usual = window([3, 3], 1, 1, [1, 1]);
    assert!(is_made(&usual, 30) && is_made(&usual, 12) && !is_made(&usual, 4));
}
