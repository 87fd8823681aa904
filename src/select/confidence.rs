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
//! and the interval is `e` more or less Student's t of `g - 1` degrees of freedom times `s`. `e` is
//! free of the bias that falls with the number of samples: few samples show channels that look more
//! alike than they are.

use crate::mi::{Removal, nested};
use crate::select::{Scene, SelectError};

/// Quantiles of Student's t for 95 % on both sides, from one degree of freedom on.
const STUDENT: [f64; 4] = [12.706, 4.303, 3.182, 2.776];

/// A confidence interval of a share.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// For every number of removals, from none to all, how sure the share of MI is that is left; none
/// where fewer than two parts have samples.
pub(super) fn intervals(
    scene: Scene<'_>,
    group: usize,
    stays: &[bool],
    removals: &[Removal],
) -> Result<Option<Vec<Interval>>, SelectError> {
    let whole = Interval {
        low: 1.0,
        high: 1.0,
    };
    if removals.is_empty() {
        return Ok(Some(vec![whole]));
    }
    let views = scene.views(group, stays)?;
    let Some(view) = views.first() else {
        return Ok(None);
    };
    let rows = view.observed.part_rows();
    let count: usize = rows.iter().sum();
    let used = rows.iter().enumerate().filter(|(_, rows)| **rows > 0);
    let (parts, sizes): (Vec<usize>, Vec<f64>) = used
        .map(|(part, &rows)| (part, rows as f64 / count as f64))
        .unzip();
    if parts.len() < 2 {
        return Ok(None);
    }
    let order = last_to_leave_first(scene.groups.groups[group].channels.len(), removals);
    let mut without: Vec<Vec<f64>> = Vec::new();
    for part in parts {
        let mut information = vec![0.0; order.len() + 1];
        for reading in views.iter().filter_map(|view| view.reading_without(part)) {
            for (sum, more) in information.iter_mut().zip(nested(&reading, &order)?) {
                *sum += more;
            }
        }
        let all = information.last().copied().unwrap_or_default();
        let kept = information.iter().rev().take(removals.len() + 1);
        without.push(
            kept.map(|kept| if all > 0.0 { kept / all } else { 1.0 })
                .collect(),
        );
    }
    let at = |removed: usize| {
        let replicates: Vec<f64> = without.iter().map(|shares| shares[removed]).collect();
        match removed.checked_sub(1).and_then(|last| removals.get(last)) {
            Some(removal) => jackknife(removal.mi_left, &replicates, &sizes),
            None => whole,
        }
    };
    Ok(Some((0..=removals.len()).map(at).collect()))
}

/// The most removals at which this and all wider allowed widths keep `share` for sure.
pub(super) fn sure(intervals: &[Interval], share: f64, width: usize, allowed: &[usize]) -> usize {
    let removed = allowed.iter().filter_map(|left| width.checked_sub(*left));
    let is_sure = |removed: &usize| intervals.get(*removed).is_some_and(|i| i.low >= share);
    removed.take_while(is_sure).last().unwrap_or(0)
}

fn last_to_leave_first(channels: usize, removals: &[Removal]) -> Vec<usize> {
    let mut stays = vec![true; channels];
    for removal in removals {
        if let Some(stays) = stays.get_mut(removal.candidate) {
            *stays = false;
        }
    }
    let stay = (0..channels).filter(|&candidate| stays[candidate]);
    stay.chain(removals.iter().rev().map(|removal| removal.candidate))
        .collect()
}

/// The interval about a share by all samples, which lies within it: `without` has those without one
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
        low: (estimate - reach).min(all).clamp(0.0, 1.0),
        high: (estimate + reach).max(all).clamp(0.0, 1.0),
    }
}
