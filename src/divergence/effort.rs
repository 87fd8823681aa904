//! How many samples the trials run on: they are to cost less than running the calibration data.

use crate::divergence::parts::Division;
use crate::divergence::{DivergenceError, Setting};
use crate::select::CostModel;

/// Samples of a trial, at most and at least. Few are enough (docs/method.md, Sharing a budget), but of
/// one alone nothing varies.
const MOST_SAMPLES: usize = 16;
const LEAST_SAMPLES: usize = 3;
/// The cost of all trials, as a share of that of the samples that the statistics see.
const OF_CALIBRATION: f64 = 1.0;
/// Multiply-accumulates that cost nothing to speak of.
const FREE: f64 = 1e10;

/// The samples that trials are worth where the statistics see `seen` of them: 16 where the trials take less
/// than the multiply-accumulates of these, fewer down to 3 where they do not.
///
/// # Errors
/// A trial that cannot be planned.
pub fn samples_worth(setting: Setting<'_>, seen: usize) -> Result<usize, DivergenceError> {
    let scene = setting.scene;
    let groups = scene.groups.groups.iter();
    let whole: Vec<usize> = groups.map(|group| group.channels.len()).collect();
    let cost = |counts: &dyn Fn(usize) -> bool| {
        CostModel::macs_of(scene.graph, scene.groups, counts).total(&whole)
    };
    let trials = super::trials(setting, &Division::of(scene))?;
    let each = trials
        .iter()
        .map(|trials| trials.widths.len() as f64 * cost(&|node| trials.reach.nodes[node]));
    let once: f64 = each.sum();
    let allowed = (OF_CALIBRATION * seen as f64 * cost(&|_| true)).max(FREE);
    Ok(within(allowed, once))
}

/// With that many multiply-accumulates, where all trials of one sample cost `once`, at most.
fn within(allowed: f64, once: f64) -> usize {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let fit = (allowed / once.max(1.0)).min(MOST_SAMPLES as f64) as usize;
    fit.max(LEAST_SAMPLES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costly_trials_run_on_fewer_samples() {
        assert_eq!(within(1e10, 1e6), MOST_SAMPLES);
        assert_eq!(within(1e10, 0.0), MOST_SAMPLES);
        assert_eq!(within(1e10, 1.5e9), 6);
        assert_eq!(within(1e10, 1e11), LEAST_SAMPLES);
    }
}
