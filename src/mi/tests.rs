//! MI against closed forms, brute force and fresh solves.

use faer::{Mat, MatRef};
use proptest::prelude::*;

use super::*;
use crate::linalg::{inverse, log_determinant};

mod exchanges;

/// `I(X_S; Y)` from first principles: 1/2 logdet(Cov Y + N) - 1/2 logdet(Cov(Y | X_S) + N).
fn direct(k: &Mat<f64>, w: &Mat<f64>, noise: f64, kept: &[usize]) -> f64 {
    let n = Mat::<f64>::identity(w.nrows(), w.nrows()) * faer::Scale(noise);
    let all: Mat<f64> = w * k * w.transpose();
    let k_ss = Mat::from_fn(kept.len(), kept.len(), |i, j| k[(kept[i], kept[j])]);
    let k_as = Mat::from_fn(k.nrows(), kept.len(), |i, j| k[(i, kept[j])]);
    let rest = if kept.is_empty() {
        all.clone()
    } else {
        let explained = &k_as * inverse(k_ss.as_ref()).unwrap() * k_as.transpose();
        w * (k - explained) * w.transpose()
    };
    0.5 * (logdet(&(&all + &n)) - logdet(&(&rest + &n)))
}

fn logdet(m: &Mat<f64>) -> f64 {
    log_determinant(m.as_ref()).unwrap()
}

fn reading(k: &Mat<f64>, w: &Mat<f64>, noise: f64) -> Reading {
    Reading {
        covariance: k.clone(),
        gram: w.transpose() * w,
        noise,
        candidates: (0..k.nrows()).map(|i| vec![i]).collect(),
        absent: vec![],
    }
}

fn start(k: &Mat<f64>, w: &Mat<f64>, noise: f64) -> Elimination {
    Elimination::new(vec![reading(k, w, noise)], k.nrows()).unwrap()
}

fn matrix(rows: usize, values: &[f64]) -> Mat<f64> {
    let columns = values.len() / rows;
    Mat::from_fn(rows, columns, |i, j| values[i * columns + j])
}

fn covariance(factor: MatRef<'_, f64>) -> Mat<f64> {
    let n = factor.nrows();
    factor * factor.transpose() + Mat::<f64>::identity(n, n) * faer::Scale(0.05)
}

#[test]
fn nested_sets_may_grow_by_blocks_and_by_nothing() {
    let k = covariance(matrix(3, &[1.0, 0.2, 0.1, 0.3, 0.8, 0.5, 0.1, 0.4, 0.9]).as_ref());
    let w = matrix(2, &[0.5, 0.3, 0.2, 0.1, 0.9, 0.4]);
    let reading = Reading {
        candidates: vec![vec![0, 2], vec![], vec![1]],
        ..reading(&k, &w, 0.3)
    };
    let found = nested(&reading, &[2, 1, 0]).unwrap();
    let expected: [&[usize]; 4] = [&[], &[1], &[1], &[0, 1, 2]];
    for (found, kept) in found.iter().zip(expected) {
        assert!((found - direct(&k, &w, 0.3, kept)).abs() < 1e-10);
    }
}

#[test]
fn independent_inputs_have_the_capacity_of_parallel_channels() {
    // Y_i = w_i X_i + noise, X_i independent: I = sum of 1/2 ln(1 + w_i^2 v_i / s).
    let (v, w, s) = ([1.0, 2.0, 0.5], [3.0, -1.0, 0.2], 0.3);
    let k = Mat::from_fn(3, 3, |i, j| if i == j { v[i] } else { 0.0 });
    let weight = Mat::from_fn(3, 3, |i, j| if i == j { w[i] } else { 0.0 });
    let each: Vec<f64> = (0..3)
        .map(|i| 0.5 * (1.0f64 + w[i] * w[i] * v[i] / s).ln())
        .collect();
    let mut e = start(&k, &weight, s);
    assert!((e.information() - each.iter().sum::<f64>()).abs() < 1e-12);
    for (candidate, loss) in each.iter().enumerate() {
        assert!((e.loss(candidate).unwrap() - loss).abs() < 1e-12);
    }
    let order: Vec<usize> = (0..3)
        .map(|_| e.step().unwrap().unwrap().candidate)
        .collect();
    assert_eq!(order, [2, 1, 0]);
    assert!(e.step().unwrap().is_none());
}

#[test]
fn one_input_and_output_with_known_correlation() {
    // I = -1/2 ln(1 - rho^2), with rho the correlation of X and Y + noise.
    let (k, w, s) = (2.0, 0.7, 0.4);
    let rho2 = (w * k) * (w * k) / (k * (w * w * k + s));
    let e = start(&matrix(1, &[k]), &matrix(1, &[w]), s);
    assert!((e.information() + 0.5 * (1.0f64 - rho2).ln()).abs() < 1e-12);
}

#[test]
fn of_redundant_twins_exactly_one_is_kept() {
    // X_1 is nearly X_0; X_2 is weak but independent. One twin leaves first and at almost no
    // loss; then the other is worth more than X_2.
    let k = matrix(3, &[1.0, 0.9999, 0.0, 0.9999, 1.0, 0.0, 0.0, 0.0, 0.1]);
    let w = matrix(1, &[1.0, 1.0, 1.0]);
    let mut e = start(&k, &w, 0.01);
    let first = e.step().unwrap().unwrap();
    assert!(first.candidate < 2);
    assert!(first.mi_left > 0.99);
    assert_eq!(e.step().unwrap().unwrap().candidate, 2);
}

#[test]
fn the_last_channel_carries_all_that_is_left() {
    let k = covariance(matrix(4, &[1.0, 0.2, 0.5, 1.0, 0.1, 0.9, 0.3, 0.3]).as_ref());
    let w = matrix(2, &[1.0, 2.0, 0.5, -1.0, 0.3, 0.1, 1.0, 1.0]);
    let mut e = start(&k, &w, 0.1);
    let total = e.information();
    for _ in 0..3 {
        e.step().unwrap();
    }
    let last = e.left()[0];
    let share = direct(&k, &w, 0.1, &[last]) / total;
    assert!((e.loss(last).unwrap() / total - share).abs() < 1e-9);
    assert!(e.step().unwrap().unwrap().mi_left.abs() < 1e-9);
}

#[test]
fn coupled_positions_and_several_consumers_add_up() {
    let k = covariance(matrix(4, &[1.0, 0.2, 0.5, 1.0, 0.1, 0.9, 0.3, 0.3]).as_ref());
    let w = matrix(2, &[1.0, 2.0, 0.5, -1.0, 0.3, 0.1, 1.0, 1.0]);
    let v = matrix(1, &[0.2, 0.0, 1.0, 1.0]);
    let pairs = |w: &Mat<f64>, s: f64| Reading {
        candidates: vec![vec![0, 2], vec![1, 3]],
        ..reading(&k, w, s)
    };
    let e = Elimination::new(vec![pairs(&w, 0.1), pairs(&v, 0.2)], 2).unwrap();
    let all = [0, 1, 2, 3];
    let total = direct(&k, &w, 0.1, &all) + direct(&k, &v, 0.2, &all);
    assert!((e.information() - total).abs() < 1e-9);
    let without = direct(&k, &w, 0.1, &[1, 3]) + direct(&k, &v, 0.2, &[1, 3]);
    assert!((e.loss(0).unwrap() - (total - without)).abs() < 1e-9);
}

/// The most MI that any subset of that size keeps.
fn best_subset(k: &Mat<f64>, w: &Mat<f64>, noise: f64, size: usize) -> f64 {
    let n = k.nrows();
    let subsets = (0u32..1 << n).filter(|mask| mask.count_ones() as usize == size);
    let information = |mask: u32| {
        let kept: Vec<usize> = (0..n).filter(|i| mask & (1 << i) != 0).collect();
        direct(k, w, noise, &kept)
    };
    subsets.map(information).fold(0.0, f64::max)
}

fn problems() -> impl Strategy<Value = (Mat<f64>, Mat<f64>)> {
    (3usize..8, 1usize..5).prop_flat_map(|(n, out)| {
        let factors = proptest::collection::vec(-1.0..1.0f64, n * n);
        let weights = proptest::collection::vec(-1.0..1.0f64, out * n);
        (factors, weights)
            .prop_map(move |(f, w)| (covariance(matrix(n, &f).as_ref()), matrix(out, &w)))
    })
}

proptest! {
    #[test]
    fn downdates_agree_with_fresh_solves((k, w) in problems(), noise in 0.01..1.0f64) {
        let mut e = start(&k, &w, noise);
        let all: Vec<usize> = (0..k.nrows()).collect();
        let total = direct(&k, &w, noise, &all);
        let (mut gone, mut open) = (Vec::new(), Vec::new());
        let variance = (&w * &k * w.transpose()).diagonal().column_vector().sum();
        prop_assert!((e.information() - total).abs() < 1e-8 * (1.0 + total));
        while e.left().len() > 1 {
            let before = direct(&k, &w, noise, e.left());
            for &candidate in e.left() {
                let rest: Vec<usize> = e.left().iter().copied().filter(|&i| i != candidate).collect();
                let fresh = before - direct(&k, &w, noise, &rest);
                prop_assert!((e.loss(candidate).unwrap() - fresh).abs() < 1e-8);
            }
            let removal = e.step().unwrap().unwrap();
            let kept = e.left();
            prop_assert!((removal.mi_left - direct(&k, &w, noise, kept) / total).abs() < 1e-8);
            let k_ss = Mat::from_fn(kept.len(), kept.len(), |i, j| k[(kept[i], kept[j])]);
            let k_as = Mat::from_fn(k.nrows(), kept.len(), |i, j| k[(i, kept[j])]);
            let rest = &k - &k_as * inverse(k_ss.as_ref()).unwrap() * k_as.transpose();
            let unexplained = (&w * rest * w.transpose()).diagonal().column_vector().sum() / variance;
            gone.push(removal.candidate);
            open.push(unexplained);
        }
        gone.extend(e.left());
        gone.reverse();
        for weights in [None, Some(w.as_ref())] {
            let found = super::unexplained(&reading(&k, &w, noise), weights, &gone).unwrap();
            prop_assert!((found[0] - 1.0).abs() < 1e-8 && found[gone.len()] == 0.0);
            for (found, open) in found[1..].iter().rev().skip(1).zip(&open) {
                prop_assert!((found - open).abs() < 1e-8);
            }
        }
    }

    #[test]
    fn nested_sets_have_the_information_of_fresh_solves((k, w) in problems(), noise in 0.01..1.0f64) {
        let n = k.nrows();
        // Input 0 is of no candidate, the last is gone; the others in another order than they lie.
        let order: Vec<usize> = (0..n - 2).rev().collect();
        let reading = Reading {
            candidates: (1..n - 1).map(|input| vec![input]).collect(),
            absent: vec![n - 1],
            ..reading(&k, &w, noise)
        };
        let found = nested(&reading, &order).unwrap();
        prop_assert_eq!(found.len(), n - 1);
        for (count, found) in found.iter().enumerate() {
            let kept: Vec<usize> = std::iter::once(0)
                .chain(order[..count].iter().map(|candidate| candidate + 1))
                .collect();
            prop_assert!((found - direct(&k, &w, noise, &kept)).abs() < 1e-8);
            let inputs = (reading.candidates.as_slice(), reading.absent.as_slice());
            let sets = (order.as_slice(), count);
            let two = pair(reading.covariance.as_ref(), w.as_ref(), noise, inputs, sets).unwrap();
            let present: Vec<usize> = (0..n - 1).collect();
            for (found, kept) in two.iter().zip([kept, present]) {
                prop_assert!((found - direct(&k, &w, noise, &kept)).abs() < 1e-8);
            }
        }
    }

    #[test]
    fn no_subset_beats_the_first_step_and_none_is_beaten_by_a_later_one(
        (k, w) in problems(), noise in 0.01..1.0f64
    ) {
        let mut e = start(&k, &w, noise);
        let total = e.information();
        while let Some(removal) = e.step().unwrap() {
            let size = e.left().len();
            let best = best_subset(&k, &w, noise, size);
            let reached = removal.mi_left * total;
            prop_assert!(reached <= best + 1e-8);
            if size + 1 == k.nrows() {
                prop_assert!(reached >= best - 1e-8, "{reached} of {best}");
            }
        }
    }

    #[test]
    fn with_independent_inputs_and_outputs_every_step_is_the_best_of_all_subsets(
        variances in proptest::collection::vec(0.1..2.0f64, 3..7),
        seeds in proptest::collection::vec(-1.0..1.0f64, 7),
        noise in 0.01..1.0f64,
    ) {
        let n = variances.len();
        let diagonal = |values: &[f64]| Mat::from_fn(n, n, |i, j| if i == j { values[i] } else { 0.0 });
        let (k, w) = (diagonal(&variances), diagonal(&seeds));
        let mut e = start(&k, &w, noise);
        let total = e.information();
        while let Some(removal) = e.step().unwrap() {
            let best = best_subset(&k, &w, noise, e.left().len());
            prop_assert!((removal.mi_left * total - best).abs() < 1e-8);
        }
    }

    #[test]
    fn absent_inputs_count_for_nothing((k, w) in problems(), noise in 0.01..1.0f64) {
        let n = k.nrows();
        let mut with = reading(&k, &w, noise);
        with.absent = vec![1];
        let e = Elimination::new(vec![with], n).unwrap();
        let kept: Vec<usize> = (0..n).filter(|&i| i != 1).collect();
        prop_assert!((e.information() - direct(&k, &w, noise, &kept)).abs() < 1e-8);
    }
}

/// Two sets of many inputs, most of which are nearly mixtures of the others.
#[test]
fn factors_of_single_precision_are_enough_for_two_sets() {
    let (n, outputs, kept) = (520, 40, 260);
    let mut state = 1u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state) / f64::from(u32::MAX) - 0.5
    };
    let loads = Mat::from_fn(n, 60, |_, _| draw());
    let own = Mat::<f64>::identity(n, n) * faer::Scale(1e-5);
    let k = &loads * loads.transpose() + own;
    let w = Mat::from_fn(outputs, n, |_, _| draw());
    let reading = reading(&k, &w, 100.0);
    let order: Vec<usize> = (0..n).map(|i| (i * 7) % n).collect();
    let all = nested(&reading, &order).unwrap();
    let inputs = (reading.candidates.as_slice(), [].as_slice());
    let two = pair(k.as_ref(), w.as_ref(), 100.0, inputs, (&order, kept)).unwrap();
    for (found, expected) in two.iter().zip([all[kept], all[n]]) {
        let error = (found / expected - 1.0).abs();
        assert!(error < 1e-5 && *found != expected, "{error}");
    }
}

#[test]
fn rounding_below_zero_is_no_obstacle() {
    // All inputs are one, but for errors that make an eigenvalue negative.
    let size = 40;
    let matrix = Mat::from_fn(size, size, |i, j| {
        let error = if i == j { -2e-6 } else { 0.0 };
        1.0 + error
    });
    let found = inverse(matrix.as_ref()).unwrap();
    assert!(
        (found[(0, 0)] * 1e-5 - 1.0).abs() < 0.3,
        "{}",
        found[(0, 0)]
    );
    // What is no covariance at all stays an error.
    let negative = Mat::from_fn(2, 2, |i, j| if i == j { -1.0 } else { 0.0 });
    assert!(inverse(negative.as_ref()).is_err());
    let endless = Mat::from_fn(2, 2, |_, _| f64::INFINITY);
    assert!(inverse(endless.as_ref()).is_err());
}
