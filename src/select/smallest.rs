//! The smallest model that keeps bounds which have to be measured.
//!
//! On the way from the whole model down there is a ladder of candidates, each the best use of so
//! many MACs by the losses of its groups. These say in which proportion two candidates lose; how
//! much, a few measured candidates say.

use crate::groups::Widths;
use crate::select::allocate::{Target, allocate, are_met};
use crate::select::budget::choices;
use crate::select::{CostModel, Limits, Losses, Scene};

/// A candidate that measures this share of the bound is near enough.
const NEAR: f64 = 0.9;
/// What is aimed at, so that expectations a little too low still find it.
const AIM: f64 = 0.98;
/// What measures less than this share of the bound may as well be noise.
const LEAST: f64 = 0.05;
/// Steps of the ladder, as a share of the MACs.
const STEP: f64 = 0.01;
/// The ladder of a bound on the change ends where the losses are this many times the bound:
/// measured ones never were so much smaller.
pub const REACH: f64 = 16.0;

/// A candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    /// Channels left of every group.
    pub widths: Widths,
    /// The share of the MACs that is left.
    pub macs: f64,
    /// Sum of the groups' losses.
    pub loss: f64,
}

impl Rung {
    /// The model as it is.
    #[must_use]
    pub fn whole(scene: Scene<'_>) -> Self {
        Rung {
            widths: scene.groups.widths(),
            macs: 1.0,
            loss: 0.0,
        }
    }
}

/// A candidate that was measured.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Candidate {
    /// Share of the multiply-accumulates that is left.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub macs: f64,
    /// What its groups were expected to lose, in sum, by trials of single groups.
    pub expected: f64,
    /// What was measured, by the bounds: the upper end of the change, the lower end of the
    /// agreement, the metric; null where it is not finite.
    #[cfg_attr(test, schemars(with = "Vec<Option<f64>>"))]
    pub measured: Vec<f64>,
    /// Whether it keeps all of the bounds.
    pub kept: bool,
}

/// What a candidate has to be worth.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bound {
    /// The option that asks for it: `max_change`, `agreement` or `max_drop`.
    #[cfg_attr(test, schemars(extend("enum" = ["max_change", "agreement", "max_drop"])))]
    pub of: &'static str,
    /// What is asked.
    pub bound: f64,
    /// The original's metric, for `max_drop`; `None` for others.
    pub original: Option<f64>,
}

/// A search for the smallest model.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Search {
    /// What a candidate has to keep.
    pub bounds: Vec<Bound>,
    /// The candidates that were measured, in this order.
    pub candidates: Vec<Candidate>,
}

/// Candidates from the largest model that costs no more than it may down, as far as the groups'
/// losses can stay within `reach`.
#[must_use]
pub fn ladder(
    scene: Scene<'_>,
    limits: &Limits,
    losses: &Losses,
    (costs, reach): (&[Target], f64),
) -> Vec<Rung> {
    let model = CostModel::macs(scene.graph, scene.groups);
    let whole = scene.groups.widths();
    let total = model.total(&whole);
    let choices = choices(scene, limits, Some(losses));
    let rung = |targets: &[Target]| {
        let widths = allocate(&choices, targets, whole.clone());
        Rung {
            macs: if total > 0.0 {
                model.total(&widths) / total
            } else {
                1.0
            },
            loss: choices.iter().map(|choice| choice.loss_at(&widths)).sum(),
            widths,
        }
    };
    let first = if are_met(costs, &whole) {
        Rung::whole(scene)
    } else {
        rung(costs)
    };
    let mut share = first.macs - STEP;
    let mut rungs = vec![first];
    while share > 0.0 && total > 0.0 {
        let mut targets = vec![Target {
            cost: model.clone(),
            most: total * share,
        }];
        targets.extend(costs.iter().cloned());
        let rung = rung(&targets);
        let is_out = rung.macs > share || rung.loss > reach;
        share = rung.macs.min(share) - STEP;
        if rungs.last().is_some_and(|last| last.macs > rung.macs) {
            rungs.push(rung);
        }
        if is_out {
            break;
        }
    }
    rungs
}

/// How a search goes about it.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// So many candidates are measured at most.
    pub most: usize,
    /// After so many misses in a row the candidate halfway is next, and expectations count no more:
    /// a measure that is coarse or noisy hardly tells candidates apart.
    pub misses: usize,
}

/// Looks for the last candidate that measures `bound` or less, where `expected` has what each is
/// expected to measure, up to a factor that changes slowly; the first is known to measure nothing.
/// Returns which were measured, and what: the last of them that kept the bound is the smallest that
/// did.
///
/// # Errors
/// Those of `measure`.
pub fn smallest<E>(
    expected: &[f64],
    (bound, patience): (f64, Patience),
    mut measure: impl FnMut(usize) -> Result<f64, E>,
) -> Result<Vec<(usize, f64)>, E> {
    let mut measured = Vec::new();
    // The last that keeps the bound, and the first after it that does not, with what they measured.
    let mut within: (usize, Option<f64>) = (0, None);
    let mut beyond: (usize, Option<f64>) = (expected.len(), None);
    let mut missed = 0;
    while measured.len() < patience.most {
        let next = if missed < patience.misses {
            next(expected, bound, within, beyond)
        } else {
            middle(within.0, beyond.0)
        };
        let Some(next) = next else {
            break;
        };
        let found = measure(next)?;
        measured.push((next, found));
        match found <= bound {
            true if found >= bound * NEAR => break,
            true => (within, missed) = ((next, Some(found)), 0),
            false => (beyond, missed) = ((next, Some(found)), missed + 1),
        }
    }
    Ok(measured)
}

/// The candidate halfway between two.
fn middle(within: usize, beyond: usize) -> Option<usize> {
    let between = within + 1..beyond;
    (!between.is_empty()).then(|| between.start + between.len() / 2)
}

/// The last candidate between the two that should keep the bound; none where none is left or
/// should.
fn next(
    expected: &[f64],
    bound: f64,
    within: (usize, Option<f64>),
    beyond: (usize, Option<f64>),
) -> Option<usize> {
    let between = within.0 + 1..beyond.0;
    if between.is_empty() {
        return None;
    }
    if beyond.1.is_some_and(|measured| !measured.is_finite()) {
        // It says nothing of how much less the others lose.
        return middle(within.0, beyond.0);
    }
    let known = |(place, measured): (usize, Option<f64>)| {
        let expected = expected.get(place).filter(|&&expected| expected > 0.0)?;
        // Nothing lost has no logarithm.
        Some((*expected, measured?.max(bound * LEAST)))
    };
    let (low, high) = (known(within), known(beyond));
    let scale = |loss: f64| match (low, high) {
        (Some(low), Some(high)) if high.0 > low.0 => {
            let share = (loss / low.0).ln() / (high.0 / low.0).ln();
            (low.1 / low.0).powf(1.0 - share) * (high.1 / high.0).powf(share)
        }
        (Some(one), _) | (None, Some(one)) => one.1 / one.0,
        (None, None) => 1.0,
    };
    let keeps = |&place: &usize| {
        let loss = expected.get(place).copied().unwrap_or(f64::INFINITY);
        loss <= 0.0 || loss * scale(loss) <= bound * AIM
    };
    let last = between.clone().rfind(keeps);
    // The least step is worth a measurement where nothing is known to keep the bound.
    last.or((within.0 == 0).then_some(between.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_MEASURED: usize = 5;
    const PATIENCE: Patience = Patience {
        most: MOST_MEASURED,
        misses: 3,
    };

    /// The candidate that is found where each measures `truth` of what is expected, and how many
    /// were measured.
    fn found(expected: &[f64], bound: f64, truth: impl Fn(f64) -> f64) -> (usize, usize) {
        let measure = |place: usize| Ok::<f64, ()>(truth(expected[place]));
        let measured = smallest(expected, (bound, PATIENCE), measure).unwrap_or_default();
        let kept = measured.iter().filter(|(_, found)| *found <= bound);
        (
            kept.map(|(place, _)| *place).max().unwrap_or(0),
            measured.len(),
        )
    }

    /// A loss that grows by a tenth from candidate to candidate.
    fn curve() -> Vec<f64> {
        let losses = (0..60).map(|step| 1e-4 * 1.1f64.powi(step));
        std::iter::once(0.0).chain(losses).collect()
    }

    #[test]
    fn expectations_that_hold_take_one_measurement() {
        // 1e-4 x 1.1^48 = 0.0097 is the last below 0.01, at once near enough.
        assert_eq!(found(&curve(), 0.01, |loss| loss), (49, 1));
    }

    #[test]
    fn the_smallest_is_found_whatever_the_factor() {
        let expected = curve();
        for factor in [0.3, 0.7, 1.4, 3.0, 10.0] {
            for power in [0.7, 1.0, 1.3f64] {
                let truth = |loss: f64| factor * 0.01 * (loss / 0.01).powf(power);
                let (place, measured) = found(&expected, 0.01, truth);
                let best = expected.iter().filter(|&&loss| truth(loss) <= 0.01).count() - 1;
                assert!(
                    (best.saturating_sub(1)..=best).contains(&place) && measured <= MOST_MEASURED,
                    "{factor} {power}: {place} of {best} by {measured}"
                );
            }
        }
    }

    /// All beyond the 20th miss by the same little, whatever is expected of them.
    #[test]
    fn a_coarse_measure_is_halved() {
        let expected = curve();
        let edge = expected[20];
        let truth = |loss: f64| if loss < edge { 0.009 } else { 0.0101 };
        let measure = |place: usize| Ok::<f64, ()>(truth(expected[place]));
        let measured = smallest(&expected, (0.01, Patience { most: 8, misses: 1 }), measure)
            .unwrap_or_default();
        let kept = measured.iter().filter(|(_, found)| *found <= 0.01);
        let best = kept.map(|(place, _)| *place).max();
        assert!((16..20).contains(&best.unwrap_or(0)), "{measured:?}");
    }

    #[test]
    fn what_keeps_no_bound_stays_whole() {
        for loss in [1.0, f64::INFINITY, f64::NAN] {
            let (place, measured) = found(&curve(), 0.01, |_| loss);
            assert!(
                place == 0 && measured <= MOST_MEASURED,
                "{place} {measured}"
            );
        }
    }

    #[test]
    fn what_loses_nothing_goes_all_the_way() {
        assert_eq!(found(&[0.0, 0.0, 0.0, 0.0], 0.01, |_| 0.0), (3, 1));
        assert_eq!(found(&curve(), 0.01, |_| 0.0).0, 60);
    }

    #[test]
    fn a_model_without_candidates_is_not_measured() {
        assert_eq!(found(&[0.0], 0.01, |_| 0.0), (0, 0));
        assert_eq!(found(&[], 0.01, |_| 0.0), (0, 0));
    }

    #[test]
    fn measurements_that_contradict_end_the_search() {
        // More than the bound at the least step and nothing beyond.
        let truth = |loss: f64| if loss < 2e-4 { 1.0 } else { 0.0 };
        let (place, measured) = found(&curve(), 0.01, truth);
        assert!(place > 0 && measured <= MOST_MEASURED);
    }
}
