//! Meeting a budget that has to be measured: candidates are chosen by a model of the cost,
//! measured, and the model is corrected by what was found.

use crate::groups::Widths;
/// So many candidates are measured at most.
const MOST_TRIALS: usize = 8;
/// A candidate this near below the budget is near enough.
const NEAR: f64 = 0.95;
/// What is aimed at, so that measuring again finds the budget kept.
const AIM: f64 = 0.98;

/// A candidate that was measured.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trial {
    /// Channels left of every group.
    #[serde(skip)]
    pub widths: Widths,
    /// Its share of the original's time by the model of the time.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub modelled: f64,
    /// The same as measured.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub measured: f64,
}

/// Looks for the widest candidate that is measured at or under the share `asked` of the whole
/// model's cost, and returns all that were measured, in this order; none where the whole model
/// keeps the budget by definition. `choose` gives the widths for a share by the cost model, with
/// the share that these really have by it, which is larger only where nothing more can leave;
/// `measure` gives the share that they have in truth.
///
/// # Errors
/// Those of `measure`.
pub fn search<E>(
    asked: f64,
    choose: impl Fn(f64) -> (Widths, f64),
    mut measure: impl FnMut(&Widths) -> Result<f64, E>,
) -> Result<Vec<Trial>, E> {
    let mut trials: Vec<Trial> = Vec::new();
    let mut share = Some(asked).filter(|&asked| asked < 1.0);
    while let Some(next) = share {
        let (widths, modelled) = choose(next);
        if trials.len() == MOST_TRIALS || trials.iter().any(|trial| trial.widths == widths) {
            break;
        }
        let measured = measure(&widths)?;
        trials.push(Trial {
            widths,
            modelled,
            measured,
        });
        if (asked * NEAR..=asked).contains(&measured) {
            break;
        }
        share = next_share(asked, &trials);
    }
    Ok(trials)
}

/// The share by the cost model to try next; none where trials contradict each other. Measured
/// shares are taken to be linear in modelled ones: between the trials next to the budget where
/// there are some on both sides, else on from the whole model through the nearest, so that what a
/// model takes beside the work that shrinks is found in the first trial.
fn next_share(asked: f64, trials: &[Trial]) -> Option<f64> {
    let points = trials.iter().map(|trial| (trial.modelled, trial.measured));
    let (kept, missed): (Vec<_>, Vec<_>) = points.partition(|(_, measured)| *measured <= asked);
    let by_model = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0);
    let kept = kept.into_iter().max_by(by_model);
    let missed = missed.into_iter().min_by(by_model);
    let whole = (1.0, 1.0);
    let (low, high) = match (kept, missed) {
        (Some(kept), missed) => (kept, missed.unwrap_or(whole)),
        (None, missed) => (missed?, whole),
    };
    // False also for what is not a number.
    let is_ordered = low.0 < high.0;
    if !is_ordered {
        return None;
    }
    let (below, above) = (asked * AIM - low.1, high.1 - asked * AIM);
    let again = 0.5f64.powi(same_side(asked, trials));
    let (below, above) = match kept {
        Some(_) if trials.last().is_some_and(|last| last.measured <= asked) => {
            (below, above * again)
        }
        Some(_) => (below * again, above),
        None => (below, above),
    };
    let slope = (below + above) / (high.0 - low.0);
    let share = low.0 + below / slope.max(f64::MIN_POSITIVE);
    // At most half of what is left goes at a time: a slope may be all noise.
    Some(share.clamp(low.0 / 2.0, high.0)).filter(|share| share.is_finite())
}

/// How many trials before the last fell on its side of the budget, one after the other.
fn same_side(asked: f64, trials: &[Trial]) -> i32 {
    let mut sides = trials.iter().rev().map(|trial| trial.measured <= asked);
    let last = sides.next();
    i32::try_from(sides.take_while(|&side| Some(side) == last).count()).unwrap_or(i32::MAX)
}

/// The widest trial that keeps the budget, or the fastest where none does.
#[must_use]
pub fn best(asked: f64, trials: &[Trial]) -> Option<&Trial> {
    let kept = trials.iter().filter(|trial| trial.measured <= asked);
    let widest = kept.max_by(|a, b| a.modelled.total_cmp(&b.modelled));
    let fastest = || {
        let trials = trials.iter();
        trials.min_by(|a, b| a.measured.total_cmp(&b.measured))
    };
    widest.or_else(fastest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GroupId;

    /// One group of 100 channels, from which all but `least` may leave in steps.
    fn choose(step: usize, least: usize) -> impl Fn(f64) -> (Widths, f64) {
        move |share| {
            let width = ((share * 100.0) as usize / step * step).max(least);
            (Widths::from(vec![width]), width as f64 / 100.0)
        }
    }

    /// The widths and the time of the best trial, and how many there were.
    fn found(
        asked: f64,
        clock: impl Fn(f64) -> f64,
        step: usize,
        least: usize,
    ) -> (usize, f64, usize) {
        let measure =
            |widths: &Widths| Ok::<f64, ()>(clock(widths[GroupId::from(0)] as f64 / 100.0));
        let trials = search(asked, choose(step, least), measure).unwrap();
        let best = best(asked, &trials).unwrap();
        (best.widths[GroupId::from(0)], best.measured, trials.len())
    }

    #[test]
    fn a_true_model_needs_one_trial() {
        assert_eq!(found(0.5, |share| share, 1, 1), (50, 0.5, 1));
    }

    #[test]
    fn time_that_does_not_shrink_is_found_and_allowed_for() {
        // 0.3 + 0.7 s <= 0.6 where s <= 0.428.
        let (width, time, trials) = found(0.6, |share| 0.3 + 0.7 * share, 1, 1);
        assert!(time <= 0.6 && trials <= 3, "{time} {trials}");
        assert!((39..=42).contains(&width), "{width}");
    }

    #[test]
    fn curved_clocks_are_met_within_the_trials() {
        for power in [0.5, 0.7, 1.5, 2.0, 3.0f64] {
            for asked in [0.3, 0.5, 0.9] {
                let (width, time, _) = found(asked, |share| share.powf(power), 1, 1);
                let is_near = time <= asked && time > asked * 0.85;
                assert!(is_near, "{power} {asked}: {width} {time}");
            }
        }
    }

    #[test]
    fn steps_end_the_search() {
        // 0.5 is kept by far, and the next step up is 0.75.
        let (width, _, trials) = found(0.6, |share| share, 25, 25);
        assert!(width == 50 && trials <= 2, "{width} {trials}");
    }

    #[test]
    fn what_cannot_be_reached_ends_with_the_fastest() {
        let (width, time, _) = found(0.2, |share| 0.3 + 0.7 * share, 1, 10);
        assert_eq!(width, 10);
        assert!((time - 0.37).abs() < 1e-12);
    }

    #[test]
    fn a_clock_that_shows_nothing_ends_too() {
        for constant in [1.0, 1.5, f64::NAN] {
            let (_, time, trials) = found(0.5, |_| constant, 1, 1);
            let is_kept = time <= 0.5;
            assert!(!is_kept && trials <= MOST_TRIALS, "{time} {trials}");
        }
    }

    #[test]
    fn the_whole_model_need_not_be_measured() {
        let trials = search(1.0, choose(1, 1), |_| Err("measured")).unwrap();
        assert_eq!(trials, []);
        assert_eq!(best(1.0, &trials), None);
    }

    #[test]
    fn an_error_of_the_clock_is_returned() {
        let result = search(0.5, choose(1, 1), |_| Err("no clock"));
        assert_eq!(result, Err("no clock"));
    }
}
