#![allow(clippy::unwrap_used)]

use super::*;
use faer::Scale;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn noise(rng: &mut ChaCha8Rng) -> f64 {
    // Sum of uniforms: close enough to Gaussian for a covariance.
    let unit = |r: &mut ChaCha8Rng| (r.next_u32() as f64) / f64::from(u32::MAX) - 0.5;
    (0..12).map(|_| unit(rng)).sum()
}

#[test]
fn batches_add_up_to_the_covariance_of_all_rows() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let data = Mat::from_fn(60, 5, |_, j| 100.0 + noise(&mut rng) * (j + 1) as f64);
    let mut moments = Moments::new(5);
    moments.add(data.as_ref().subrows(0, 20).to_owned(), 10);
    moments.add(data.as_ref().subrows(20, 40).to_owned(), 4);
    let covariance = moments.covariance().unwrap();
    for i in 0..5 {
        let mean = (0..60).map(|r| data[(r, i)]).sum::<f64>() / 60.0;
        assert!((covariance.mean[i] - mean).abs() < 1e-9);
        for j in 0..5 {
            let mean_j = (0..60).map(|r| data[(r, j)]).sum::<f64>() / 60.0;
            let direct = (0..60)
                .map(|r| (data[(r, i)] - mean) * (data[(r, j)] - mean_j))
                .sum::<f64>()
                / 60.0;
            assert!((covariance.at(i, j) - direct).abs() < 1e-9);
        }
    }
}

#[test]
fn shrinkage_is_that_of_the_definition() {
    // Directly from the sum over samples, for both ways to compute the scatter.
    for rows in [2, 9] {
        let (samples, size) = (7, 4);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let data = Mat::from_fn(samples * rows, size, |_, _| noise(&mut rng));
        let mut moments = Moments::new(size);
        moments.add(data.clone(), samples);
        let mean: Vec<f64> = (0..size)
            .map(|j| data.col_as_slice(j).iter().sum::<f64>() / (samples * rows) as f64)
            .collect();
        let centred = Mat::from_fn(samples * rows, size, |i, j| data[(i, j)] - mean[j]);
        let own = |i: usize| {
            let part = centred.as_ref().subrows(i * rows, rows);
            part.transpose() * part * Scale(1.0 / rows as f64)
        };
        let mut all = Mat::<f64>::zeros(size, size);
        (0..samples).for_each(|i| all += own(i) * Scale(1.0 / samples as f64));
        let spread: f64 = (0..samples)
            .map(|i| (own(i) - &all).squared_norm_l2())
            .sum();
        let m = all.diagonal().column_vector().iter().sum::<f64>() / size as f64;
        let distance = (&all - Mat::<f64>::identity(size, size) * Scale(m)).squared_norm_l2();
        let expected = (spread / (samples * samples) as f64 / distance).min(1.0);
        let found = moments.covariance().unwrap().shrinkage;
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
}

#[test]
fn sums_of_two_runs_are_those_of_one() {
    // Means far from each other, for both ways to compute the scatter, with and without folds.
    for (rows, samples, size) in [(2, 7, 4), (9, 5, 4), (1, 4, 6)] {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut part = |mean: f64| {
            Mat::from_fn(samples * rows, size, |_, j| {
                mean * j as f64 + noise(&mut rng)
            })
        };
        let parts = [part(1.0), part(4.0), part(-2.0)];
        let new = || Moments::of_rows(size, 3 * samples * rows).mergeable();
        let mut whole = new();
        let mut merged = new();
        for part in &parts {
            whole.add(part.clone(), samples);
            let mut one = new();
            one.add(part.clone(), samples);
            merged.merge(one).unwrap();
        }
        let [whole, merged] = [whole, merged].map(|moments| moments.covariance().unwrap());
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * (1.0 + a.abs()), "{a} {b}");
        near(whole.shrinkage, merged.shrinkage);
        for i in 0..size {
            near(whole.mean[i], merged.mean[i]);
            (0..size).for_each(|j| near(whole.at(i, j), merged.at(i, j)));
        }
    }
}

#[test]
fn few_samples_shrink_more_than_many() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut shrinkage = |samples: usize| {
        let data = Mat::from_fn(samples, 30, |_, j| {
            noise(&mut rng) * if j < 15 { 1.0 } else { 3.0 }
        });
        let mut moments = Moments::new(30);
        moments.add(data, samples);
        moments.covariance().unwrap().shrinkage
    };
    let (few, many) = (shrinkage(20), shrinkage(2000));
    assert!(few > 0.3 && many < 0.1 && few < 1.0, "{few} {many}");
}

#[test]
fn places_are_pooled_as_their_rows_together() {
    let rows = |first: usize, count: usize| {
        Mat::from_fn(count, 3, |i, j| {
            let at = (first + i) * (j + 2) % 17;
            at as f64 - if first > 0 { 9.0 * j as f64 } else { 0.0 }
        })
    };
    let (few, many) = (rows(0, 40), rows(100, 120));
    let seen = |all: &[&Mat<f64>]| {
        let mut moments = Moments::new(3);
        for rows in all {
            moments.add((*rows).clone(), rows.nrows());
        }
        moments.covariance().unwrap()
    };
    let (union, parts) = (seen(&[&few, &many]), [seen(&[&few]), seen(&[&many])]);
    let weighed = [(40.0, &parts[0]), (120.0, &parts[1])];
    let pooled = Covariance::pooled(&weighed, false).unwrap();
    let within = Covariance::pooled(&weighed, true).unwrap();
    for i in 0..3 {
        assert!((pooled.mean[i] - union.mean[i]).abs() < 1e-9);
        for j in 0..3 {
            assert!((pooled.at(i, j) - union.at(i, j)).abs() < 1e-9);
            let mean = 0.25 * parts[0].at(i, j) + 0.75 * parts[1].at(i, j);
            assert!((within.at(i, j) - mean).abs() < 1e-9);
        }
    }
    let narrow = Moments::new(2);
    assert!(narrow.covariance().is_none() && Covariance::pooled(&[], false).is_none());
}
