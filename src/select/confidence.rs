//! How sure the samples are of the MI that is kept: the jackknife over their parts.
//!
//! With `t` the share by all samples, `t_k` that without part k, `p_k` the part's share of the rows
//! and `g` parts, the jackknife with groups of unequal sizes (Busing, Meijer, van der Leeden,
//! *Delete-m jackknife for unequal m*, 1999; with equal ones Tukey's of 1958) has
//!
//! ```text
//! estimate  e = g t - sum (1 - p_k) t_k
//! pseudo values v_k = t / p_k - (1 / p_k - 1) t_k
//! variance  s^2 = 1/g sum (v_k - e)^2 / (1 / p_k - 1)
//! ```
//!
//! `e` is free of the bias that falls with the number of samples, among it what the shrinkage does.
//! It leaves out that the channels were chosen on the same samples, so that it may be too good; the
//! interval goes from the smaller of `t` and `e` less Student's t of `g - 1` degrees of freedom
//! times `s` to the larger of them and as much.

use rayon::prelude::*;

use crate::linalg::LinalgError;
use crate::mi::{Removal, nested};
use crate::select::SelectError;
use crate::select::reading::View;

/// Quantiles of Student's t for 95 % on both sides, from one degree of freedom on.
const STUDENT: [f64; 4] = [12.706, 4.303, 3.182, 2.776];

/// A confidence interval of a share.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// For every number of removals, from none to all, how sure the share of MI is that is left; none
/// where fewer than two parts have samples.
pub(super) fn intervals(
    views: &[View<'_>],
    candidates: usize,
    removals: &[Removal],
) -> Result<Vec<Interval>, SelectError> {
    let gone: Vec<usize> = removals.iter().map(|removal| removal.candidate).collect();
    let order = last_to_leave_first(candidates, &gone);
    let of = |view: &View<'_>, part| {
        let found = view.reading_without(part).map(|r| nested(&r, &order));
        found.transpose()
    };
    let (without, sizes) = without_parts(views, gone.len(), of)?;
    if without.len() < 2 {
        return Ok(Vec::new());
    }
    let at = |removed: usize| {
        let last = removed.checked_sub(1).and_then(|last| removals.get(last));
        last.map_or(WHOLE, |removal| {
            jackknife(removal.mi_left, &shares_at(&without, removed), &sizes)
        })
    };
    Ok((0..=removals.len()).map(at).collect())
}

/// How sure the share `kept` is that is left without the candidates that are `gone`; `None` where
/// fewer than two parts have samples.
pub(super) fn interval(
    views: &[View<'_>],
    candidates: usize,
    gone: &[usize],
    kept: f64,
) -> Result<Option<Interval>, SelectError> {
    if gone.is_empty() {
        return Ok(Some(WHOLE));
    }
    let order = last_to_leave_first(candidates, gone);
    let stay = candidates.saturating_sub(gone.len());
    let of = |view: &View<'_>, part| {
        let found = view.pair_without(part, &order, stay)?;
        Ok(found.map(Vec::from))
    };
    let (without, sizes) = without_parts(views, 1, of)?;
    let found = || jackknife(kept, &shares_at(&without, 1), &sizes);
    Ok((without.len() > 1).then(found))
}

/// Of a group that keeps all its channels.
pub(super) const WHOLE: Interval = Interval {
    low: 1.0,
    high: 1.0,
};

/// The shares after so many removals, of all parts.
fn shares_at(without: &[Vec<f64>], removed: usize) -> Vec<f64> {
    let at = without.iter().filter_map(|shares| shares.get(removed));
    at.copied().collect()
}

/// For each part that has samples, the shares of MI without it after so many steps, from none on,
/// and the part's share of the samples. `of` has the MI of each consumer without a part after all
/// steps to none.
fn without_parts(
    views: &[View<'_>],
    steps: usize,
    of: impl Fn(&View<'_>, usize) -> Result<Option<Vec<f64>>, LinalgError> + Sync,
) -> Result<(Vec<Vec<f64>>, Vec<f64>), SelectError> {
    let rows = views.first().map(|view| view.observed.part_rows());
    let rows = rows.unwrap_or_default();
    let count: usize = rows.iter().sum();
    let used: Vec<usize> = (0..rows.len()).filter(|&part| rows[part] > 0).collect();
    let shares = |&part: &usize| -> Result<Vec<f64>, SelectError> {
        let each: Vec<Option<Vec<f64>>> = views
            .par_iter()
            .map(|view| of(view, part))
            .collect::<Result<_, LinalgError>>()?;
        let mut information: Vec<f64> = Vec::new();
        for one in each.into_iter().flatten() {
            information.resize(one.len(), 0.0);
            let pairs = information.iter_mut().zip(one);
            pairs.for_each(|(sum, more)| *sum += more);
        }
        if information.is_empty() {
            information = vec![0.0; steps + 1];
        }
        let all = information.last().copied().unwrap_or_default();
        let kept = information.iter().rev().take(steps + 1);
        Ok(kept
            .map(|kept| if all > 0.0 { kept / all } else { 1.0 })
            .collect())
    };
    let without: Result<Vec<_>, SelectError> = used.par_iter().map(shares).collect();
    let sizes = used.iter().map(|&part| rows[part] as f64 / count as f64);
    Ok((without?, sizes.collect()))
}

/// The most removals at which this and all wider allowed widths keep `share` for sure.
pub(super) fn sure(intervals: &[Interval], share: f64, width: usize, allowed: &[usize]) -> usize {
    let removed = allowed.iter().filter_map(|left| width.checked_sub(*left));
    let is_sure = |removed: &usize| intervals.get(*removed).is_some_and(|i| i.low >= share);
    removed.take_while(is_sure).last().unwrap_or(0)
}

/// The order in which `gone`, the first to leave first, would come back.
fn last_to_leave_first(channels: usize, gone: &[usize]) -> Vec<usize> {
    let mut stays = vec![true; channels];
    for &candidate in gone {
        if let Some(stays) = stays.get_mut(candidate) {
            *stays = false;
        }
    }
    let stay = (0..channels).filter(|&candidate| stays[candidate]);
    stay.chain(gone.iter().rev().copied()).collect()
}

/// The interval about a share by all samples: `without` has those without one
/// part each, `sizes` the parts' shares of the samples.
fn jackknife(all: f64, without: &[f64], sizes: &[f64]) -> Interval {
    let parts = without.len() as f64;
    let pairs = || without.iter().zip(sizes);
    let estimate = parts * all - pairs().map(|(t, size)| (1.0 - size) * t).sum::<f64>();
    let one = |(t, size): (&f64, &f64)| {
        let others = 1.0 / size - 1.0;
        let value = all / size - others * t;
        (value - estimate).powi(2) / others
    };
    let error = (pairs().map(one).sum::<f64>() / parts).sqrt();
    let quantile = without.len().checked_sub(2).and_then(|n| STUDENT.get(n));
    let reach = quantile.map_or(f64::INFINITY, |quantile| quantile * error);
    Interval {
        low: (estimate.min(all) - reach).clamp(0.0, 1.0),
        high: (estimate.max(all) + reach).clamp(0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::mi::Reading;
    use crate::statistics::Observed;
    use faer::Mat;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::f64::consts::TAU;

    /// Shares of parts of these sizes.
    fn shares(sizes: &[usize]) -> Vec<f64> {
        let all: usize = sizes.iter().sum();
        sizes.iter().map(|&size| size as f64 / all as f64).collect()
    }

    /// The interval of a figure of samples, one of `sizes` after the other.
    fn interval(samples: &[f64], sizes: &[usize], figure: impl Fn(&[f64]) -> f64) -> Interval {
        let mut first = 0;
        let without = sizes.iter().map(|size| {
            let mut left = samples.to_vec();
            left.drain(first..first + size);
            first += size;
            figure(&left)
        });
        jackknife(
            figure(samples),
            &without.collect::<Vec<_>>(),
            &shares(sizes),
        )
    }

    fn mean(samples: &[f64]) -> f64 {
        samples.iter().sum::<f64>() / samples.len() as f64
    }

    fn variance(samples: &[f64]) -> f64 {
        let mean = mean(samples);
        samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / samples.len() as f64
    }

    #[test]
    fn of_a_mean_it_is_students_interval() {
        // Of five samples, textbook: mean 0.5, s = 0.1581, standard error 0.0707.
        let samples = [0.3, 0.4, 0.5, 0.6, 0.7];
        let found = interval(&samples, &[1; 5], mean);
        let reach = 2.776 * 0.025f64.sqrt() / 5.0f64.sqrt();
        assert!((found.low - (0.5 - reach)).abs() < 1e-12, "{found:?}");
        assert!((found.high - (0.5 + reach)).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn parts_of_unequal_sizes_count_by_their_sizes() {
        // The mean of means, each known to its part's share: s^2 = sum of (m_k - m)^2 p_k/(1-p_k) /
        // g.
        let samples = [0.2, 0.3, 0.1, 0.5, 0.6, 0.4, 0.4];
        let found = interval(&samples, &[3, 2, 2], mean);
        let (all, parts) = (
            mean(&samples),
            [(0.2, 3.0 / 7.0), (0.55, 2.0 / 7.0), (0.4, 2.0 / 7.0)],
        );
        let terms = parts.map(|(m, p): (f64, f64)| (m - all).powi(2) * p / (1.0 - p));
        let reach = 4.303 * (terms.iter().sum::<f64>() / 3.0).sqrt();
        assert!(
            (found.high - (all + reach).min(1.0)).abs() < 1e-12,
            "{found:?}"
        );
        assert!(
            (found.low - (all - reach).max(0.0)).abs() < 1e-12,
            "{found:?}"
        );
    }

    #[test]
    fn the_bias_of_few_samples_is_taken_out() {
        // The variance over n samples is too small by 1/n of itself; the jackknife's is that over
        // n - 1.
        let samples = [0.3, 0.4, 0.5, 0.6, 0.8];
        let found = interval(&samples, &[1; 5], variance);
        let expected = variance(&samples) * 5.0 / 4.0;
        let high = found.high - expected;
        // The other end is cut at 0.
        assert!(high > 0.0 && found.low == 0.0, "{found:?}");
        let mirrored = interval(&samples, &[1; 5], |samples| 0.5 + variance(samples));
        // As far below the figure itself as above the figure without its bias.
        let found = mirrored.low + mirrored.high - 1.0 - variance(&samples);
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn it_contains_the_figure_and_ends_at_all() {
        let biased = jackknife(0.9, &[0.5; 5], &[0.2; 5]);
        assert_eq!(
            biased,
            Interval {
                low: 0.9,
                high: 1.0
            }
        );
        let biased = jackknife(0.9, &[0.95; 5], &[0.2; 5]);
        assert!((biased.low - 0.7).abs() < 1e-12 && biased.high == 0.9);
    }

    /// Channels 2 and 3 are mixtures of the others and some noise.
    const MIXTURE: [[f64; 4]; 4] = [
        [1.0, 0.0, 0.0, 0.0],
        [0.5, 0.8, 0.0, 0.0],
        [0.6, 0.3, 0.4, 0.0],
        [-0.3, 0.7, 0.2, 0.5],
    ];

    fn view(observed: &Observed) -> View<'_> {
        View {
            consumer: 0,
            observed,
            block: 0,
            gram: Mat::identity(4, 4),
            rows: 4,
            weights: Some(Mat::identity(4, 4)),
            candidates: (0..4).map(|input| vec![input]).collect(),
            absent: Vec::new(),
        }
    }

    /// Share of the MI that the first two channels keep, by a reading.
    fn share(reading: &Reading) -> f64 {
        let all = nested(reading, &[0, 1, 2, 3]).unwrap();
        all[2] / all[4]
    }

    /// The interval by so many Gaussian samples of one row each.
    fn of_gaussians(samples: usize, rng: &mut ChaCha8Rng) -> Interval {
        let mut unit = || (f64::from(rng.next_u32()) + 0.5) / (f64::from(u32::MAX) + 1.0);
        // Box and Muller's transformation.
        let mut normal = || (-2.0 * unit().ln()).sqrt() * (TAU * unit()).cos();
        let sources = Mat::from_fn(samples, 4, |_, _| normal());
        let mixture = Mat::from_fn(4, 4, |i, j| MIXTURE[j][i]);
        let observed = Observed::of_rows(vec![sources * mixture], 1).unwrap();
        let view = view(&observed);
        let of = |view: &View<'_>, part| {
            let found = view.pair_without(part, &[0, 1, 2, 3], 2)?;
            Ok(found.map(Vec::from))
        };
        let (without, sizes) = without_parts(std::slice::from_ref(&view), 1, of).unwrap();
        let without: Vec<f64> = without.iter().map(|shares| shares[1]).collect();
        jackknife(share(&view.reading().unwrap()), &without, &sizes)
    }

    fn truth() -> f64 {
        let rows = Mat::from_fn(4, 4, |i, j| MIXTURE[i][j]);
        let covariance = &rows * rows.transpose();
        let trace: f64 = (0..4).map(|i| covariance[(i, i)]).sum();
        let any = Observed::of_rows(vec![rows], 1).unwrap();
        let like = view(&any).reading().unwrap();
        share(&Reading {
            noise: 5.0 * trace / 4.0,
            covariance,
            ..like
        })
    }

    #[test]
    fn intervals_cover_the_mi_of_known_gaussians_as_often_as_they_say() {
        let (truth, mut rng) = (truth(), ChaCha8Rng::seed_from_u64(11));
        let mut lows = Vec::new();
        // Of few samples, more of the shrinkage stays in the estimate: the upper end is too low
        // then.
        for (samples, least) in [(30, 0.75), (120, 0.91), (480, 0.91)] {
            let found: Vec<Interval> = (0..400).map(|_| of_gaussians(samples, &mut rng)).collect();
            let share = |what: &dyn Fn(&Interval) -> bool| {
                found.iter().filter(|interval| what(interval)).count() as f64 / 400.0
            };
            let covered = share(&|i| (i.low..=i.high).contains(&truth));
            assert!((least..=0.99).contains(&covered), "{samples}: {covered}");
            let promised = share(&|i| i.low > truth);
            assert!(promised <= 0.03, "{samples}: {promised}");
            let wide = mean(&found.iter().map(|i| i.high - i.low).collect::<Vec<_>>());
            assert!(wide < 1.4 / (samples as f64).sqrt(), "{samples}: {wide}");
            lows.push(mean(&found.iter().map(|i| i.low).collect::<Vec<_>>()));
        }
        // Fewer samples promise less.
        assert!(
            lows.is_sorted() && lows.iter().all(|low| *low < truth),
            "{lows:?} {truth}"
        );
    }

    #[test]
    fn widths_are_left_at_the_first_doubt() {
        let low = |low: f64| Interval { low, high: 1.0 };
        let all = [1.0, 0.99, 0.98, 0.94, 0.96, 0.91].map(low);
        assert_eq!(sure(&all, 0.9, 6, &[6, 5, 4, 3, 2, 1]), 5);
        assert_eq!(sure(&all, 0.95, 6, &[6, 5, 4, 3, 2, 1]), 2);
        assert_eq!(sure(&all, 0.95, 6, &[6, 4, 2]), 4);
        assert_eq!(sure(&all, 0.995, 6, &[6, 4, 2]), 0);
        assert_eq!(sure(&[], 0.9, 6, &[6, 4, 2]), 0);
    }
}
