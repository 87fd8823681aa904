//! Exchanges against brute force over all subsets and fresh solves.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Two consumers of `2 * channels` inputs, two for each channel, the second with an absent one.
fn blocks(channels: usize, seed: u64) -> [(Mat<f64>, Mat<f64>, Vec<usize>); 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut one = |inputs: usize, absent: Vec<usize>| {
        let mut drawn = |rows: usize| {
            let mut draw = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
            Mat::from_fn(rows, inputs, |_, _| draw())
        };
        let loads = drawn(3);
        let own = Mat::<f64>::identity(inputs, inputs) * faer::Scale(0.02);
        (loads.transpose() * &loads + own, drawn(4), absent)
    };
    [
        one(2 * channels, vec![]),
        one(2 * channels + 1, vec![2 * channels]),
    ]
}

fn pairs(channels: usize, (k, w, absent): &(Mat<f64>, Mat<f64>, Vec<usize>)) -> Reading {
    Reading {
        candidates: (0..channels).map(|c| vec![c, channels + c]).collect(),
        absent: absent.clone(),
        ..reading(k, w, 0.1)
    }
}

/// The candidates that stay when so many leave by elimination, and what that loses in nats.
fn eliminated(readings: Vec<Reading>, candidates: usize, leave: usize) -> (Vec<usize>, f64, f64) {
    let mut e = Elimination::new(readings, candidates).unwrap();
    let total = e.information();
    let mut gone = Vec::new();
    let mut left = 1.0;
    for _ in 0..leave {
        let removal = e.step().unwrap().unwrap();
        gone.insert(0, removal.candidate);
        left = removal.mi_left;
    }
    (gone, total, left * total)
}

/// Exchanges where these candidates, and no others, have left.
fn exchange(readings: Vec<Reading>, candidates: usize, gone: Vec<usize>, least: f64) -> Exchanged {
    let all = Elimination::returning(readings, candidates).unwrap();
    all.exchange(gone, least).unwrap()
}

fn others(size: usize, gone: &[usize]) -> Vec<usize> {
    (0..size).filter(|i| !gone.contains(i)).collect()
}

proptest! {
    #[test]
    fn no_exchange_that_gains_is_left_and_the_sum_is_a_fresh_solve(
        (k, w) in problems(), noise in 0.01..1.0f64, leave in 1usize..6
    ) {
        let n = k.nrows();
        let leave = leave.min(n - 1);
        let (gone, _, before) = eliminated(vec![reading(&k, &w, noise)], n, leave);
        let found = exchange(vec![reading(&k, &w, noise)], n, gone, 1e-9);
        let kept = others(n, &found.gone);
        prop_assert_eq!(kept.len(), n - leave);
        let reached = direct(&k, &w, noise, &kept);
        prop_assert!(found.gained >= 0.0);
        prop_assert!((before + found.gained - reached).abs() < 1e-8);
        for &back in &found.gone {
            for &leaving in &kept {
                let mut other = others(n, &found.gone);
                other.retain(|&c| c != leaving);
                other.push(back);
                prop_assert!(direct(&k, &w, noise, &other) < reached + 1e-8);
            }
        }
        let k_ss = Mat::from_fn(kept.len(), kept.len(), |i, j| k[(kept[i], kept[j])]);
        let k_as = Mat::from_fn(n, kept.len(), |i, j| k[(i, kept[j])]);
        let rest = &k - &k_as * inverse(k_ss.as_ref()).unwrap() * k_as.transpose();
        let trace = |m: Mat<f64>| m.diagonal().column_vector().sum();
        let share = trace(&w * rest * w.transpose()) / trace(&w * &k * w.transpose());
        prop_assert!((found.unexplained - share).abs() < 1e-8);
    }
}

#[test]
fn blocks_of_several_consumers_are_exchanged_whole() {
    let channels = 6;
    let mut count = 0;
    for seed in 0..40 {
        let consumers = blocks(channels, seed);
        let readings = || consumers.each_ref().map(|c| pairs(channels, c)).to_vec();
        let information = |kept: &[usize]| -> f64 {
            let inputs: Vec<usize> = kept.iter().flat_map(|&c| [c, channels + c]).collect();
            let each = consumers.iter().map(|(k, w, _)| direct(k, w, 0.1, &inputs));
            each.sum()
        };
        let (gone, _, before) = eliminated(readings(), channels, 3);
        let found = exchange(readings(), channels, gone, 1e-9);
        let kept = others(channels, &found.gone);
        let reached = information(&kept);
        assert!((before + found.gained - reached).abs() < 1e-8);
        for &back in &found.gone {
            for &leaving in &kept {
                let mut other = kept.clone();
                other.retain(|&c| c != leaving);
                other.push(back);
                assert!(information(&other) < reached + 1e-8);
            }
        }
        count += found.count;
    }
    assert!(count > 5, "{count}");
}

/// Of 200 seeded cases with 10 channels, 3 outputs and 4 channels left: elimination alone finds the
/// best of all subsets in 101, with exchanges in 169.
#[test]
fn more_cases_end_at_the_best_of_all_subsets() {
    let (n, leave, cases) = (10, 6, 200);
    let mut best = [0, 0];
    for seed in 0..cases {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut drawn = |rows: usize, columns: usize| {
            let mut draw = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
            Mat::from_fn(rows, columns, |_, _| draw())
        };
        let (k, w) = (covariance(drawn(n, 5).as_ref()), drawn(3, n));
        let (gone, total, before) = eliminated(vec![reading(&k, &w, 0.05)], n, leave);
        let found = exchange(vec![reading(&k, &w, 0.05)], n, gone, 1e-9 * total);
        let most = best_subset(&k, &w, 0.05, n - leave);
        let reached = [before, before + found.gained];
        for (best, reached) in best.iter_mut().zip(reached) {
            *best += usize::from(reached > most - 1e-8);
        }
    }
    let [alone, exchanged] = best;
    assert!(
        alone < 120 && exchanged > 150,
        "{alone}, {exchanged} of {cases}"
    );
}
