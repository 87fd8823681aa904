#![allow(clippy::unwrap_used)]
use faer::Scale;
use rand::Rng;

use super::*;
use crate::mi::{Elimination, Reading};

const COUNT: usize = 4000;
const SIZE: usize = 8;

/// Values of the normal distribution that share three factors.
fn gaussian(seed: u64) -> Mat<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || {
        let mut uniform = || (f64::from(rng.next_u32()) + 0.5) / 2f64.powi(32);
        let (a, b) = (uniform(), uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    };
    let factors = Mat::from_fn(COUNT, 3, |_, _| draw());
    let own = Mat::from_fn(COUNT, SIZE, |_, _| 0.4 * draw());
    factors * loads() + own
}

fn loads() -> Mat<f64> {
    Mat::from_fn(3, SIZE, |i, j| {
        ((i * 5 + j * 3 + i * j) % 7) as f64 / 4.0 - 0.7
    })
}

/// The covariance of what [`gaussian`] draws from.
fn truth() -> Mat<f64> {
    loads().transpose() * loads() + Mat::<f64>::identity(SIZE, SIZE) * Scale(0.16)
}

fn ranked(values: &Mat<f64>) -> Covariance {
    let mut rows = SampledRows::new(values.ncols(), 1, values.nrows(), values.nrows(), 0);
    rows.add(values, values.nrows());
    rows.covariance(0, values.ncols()).unwrap()
}

fn measured(values: &Mat<f64>) -> Covariance {
    let mut moments = Moments::new(values.ncols());
    moments.add(values.clone(), values.nrows());
    moments.covariance().unwrap()
}

fn correlation(covariance: &Mat<f64>, i: usize, j: usize) -> f64 {
    covariance[(i, j)] / (covariance[(i, i)] * covariance[(j, j)]).sqrt()
}

#[test]
fn growing_maps_of_the_channels_change_no_correlation() {
    let values = gaussian(1);
    let maps: [fn(f64) -> f64; 4] = [f64::exp, |x| x.powi(3), f64::atan, |x| 5.0 * x - 2.0];
    let mapped = Mat::from_fn(COUNT, SIZE, |i, j| maps[j % 4](values[(i, j)]));
    let (plain, mapped) = (ranked(&values), ranked(&mapped));
    for i in 0..SIZE {
        for j in 0..SIZE {
            let [a, b] = [&plain, &mapped].map(|found| correlation(&found.matrix(), i, j));
            assert!((a - b).abs() < 1e-6, "{i} {j}: {a} {b}");
        }
    }
    assert!((plain.shrinkage - mapped.shrinkage).abs() < 1e-6);
}

#[test]
fn of_gaussian_values_it_is_the_covariance_within_sampling_error() {
    let (found, truth) = (ranked(&gaussian(2)), truth());
    // A correlation's standard error is below 1 / sqrt(COUNT), 0.016, and a deviation's 0.011 of
    // it. Clipped at +-2.576 a normal variable has the variance 0.99 - 2 * 2.576 phi(2.576) +
    // 0.01 * 2.576^2 = 0.982.
    for i in 0..SIZE {
        let deviation = (found.at(i, i) / truth[(i, i)]).sqrt();
        assert!((deviation - 0.982f64.sqrt()).abs() < 0.04, "{deviation}");
        for j in 0..SIZE {
            let [found, truth] = [&found.matrix(), &truth].map(|matrix| correlation(matrix, i, j));
            assert!((found - truth).abs() < 0.06, "{i} {j}: {found} {truth}");
        }
    }
    assert!(found.shrinkage < 0.01);
}

/// The four channels that elimination keeps, for outputs that read all of them alike.
fn chosen(covariance: &Covariance) -> Vec<usize> {
    let weight = Mat::from_fn(5, SIZE, |i, j| {
        ((i * 3 + j * 5 + i * j) % 11) as f64 / 11.0 - 0.4
    });
    let gram = weight.transpose() * &weight;
    let covariance = covariance.shrunk();
    let variance = (&weight * &covariance * weight.transpose())
        .diagonal()
        .column_vector()
        .sum();
    let reading = Reading {
        covariance,
        gram,
        noise: variance,
        candidates: (0..SIZE).map(|channel| vec![channel]).collect(),
        absent: vec![],
    };
    let mut elimination = Elimination::new(vec![reading], SIZE).unwrap();
    for _ in 0..4 {
        elimination.step().unwrap();
    }
    elimination.left().to_vec()
}

#[test]
fn a_few_huge_values_change_the_choice_of_covariances_and_not_of_ranks() {
    let clean = gaussian(3);
    let best = chosen(&measured(&clean));
    assert_eq!(chosen(&ranked(&clean)), best);
    for worst in (0..SIZE).filter(|channel| !best.contains(channel)) {
        // One row in a thousand.
        let mut spoilt = clean.clone();
        (0..COUNT)
            .step_by(1000)
            .for_each(|row| spoilt[(row, worst)] = 1000.0);
        assert!(chosen(&measured(&spoilt)).contains(&worst));
        assert_eq!(chosen(&ranked(&spoilt)), best);
    }
}

#[test]
fn what_never_changes_has_no_variance() {
    let mut values = gaussian(4);
    values.col_as_slice_mut(2).fill(3.0);
    let found = ranked(&values);
    assert_eq!(found.mean[2], 3.0);
    for i in 0..SIZE {
        assert_eq!(found.at(i, 2), 0.0);
        assert!(found.at(i, i) > 0.0 || i == 2);
    }
}

/// Two channels of three kernel positions, whose value is `100 row + 10 channel + kernel position`.
fn numbered(rows: usize) -> Mat<f64> {
    Mat::from_fn(rows, 6, |i, j| (100 * i + 10 * (j / 3) + j % 3) as f64)
}

#[test]
fn as_many_rows_of_each_sample_are_kept_with_one_tap_after_the_other() {
    // 5 samples of 8 rows, of which 10 are wanted, in two batches.
    let mut kept = SampledRows::new(2, 3, 5, 10, 7);
    kept.add(&numbered(24), 3);
    kept.add(&numbered(16), 2);
    assert_eq!((kept.kept, kept.values.len()), (5, 20));
    let mut of_sample = [0; 5];
    for (number, row) in kept.values.chunks(2).enumerate() {
        let [first, second] = [row[0] as usize, row[1] as usize];
        assert_eq!(second, first + 10);
        assert_eq!(first % 10, number % 3);
        let before = if number < 6 { 0 } else { 3 };
        of_sample[before + first / 100 / 8] += 1;
    }
    assert_eq!(of_sample, [2; 5]);
    let mut again = SampledRows::new(2, 3, 5, 10, 7);
    again.add(&numbered(24), 3);
    again.add(&numbered(16), 2);
    assert_eq!(kept.values, again.values);
}

#[test]
fn of_more_samples_than_rows_some_give_one() {
    let mut kept = SampledRows::new(2, 3, 100, 30, 7);
    (0..10).for_each(|_| kept.add(&numbered(40), 10));
    assert_eq!((kept.kept, kept.values.len()), (30, 60));
    // Memory is bounded whatever the model.
    assert_eq!(rows_of_each(100), MOST_ROWS);
    assert!(rows_of_each(1 << 20) * (1 << 20) * 4 <= MOST_BYTES);
}
