//! How much the trials do: they are to cost less than running the calibration data.

use crate::graph::{GroupId, NodeId};
use crate::select::{CostModel, Scene};
use crate::trials::dense::Division;
use crate::trials::{TrialError, TrialRequest};

/// The trials of each group, and what they run on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Samples of a trial.
    pub samples: usize,
    /// Shares of a group's channels that are left in its trials.
    pub(super) shares: &'static [f64],
    /// Whether they are repaired by all inputs, and not by one map between channels for all taps of
    /// a kernel.
    pub(super) by_inputs: bool,
}

/// Samples of a trial, at most and at least. Few are enough
/// (docs/design/decisions/015-trials-of-small-nets.md), but of one alone nothing varies.
const MOST_SAMPLES: usize = 16;
const LEAST_SAMPLES: usize = 2;
/// So many samples go before more widths.
const FEW_SAMPLES: usize = 3;
/// With 1/2 alone, ImageNet's classifiers agree with the original on a fifth fewer photographs
/// (docs/design/decisions/016-trials-of-large-nets.md); the curve may be left to go between the
/// other two.
const SHARES: &[f64] = &[0.75, 0.5, 0.25];
const FEW_SHARES: &[f64] = &[0.75, 0.25];
/// The cost of all trials, as a share of that of the samples that the statistics see.
const OF_CALIBRATION: f64 = 1.0 / 3.0;
/// Multiply-accumulates that cost nothing to speak of.
const FREE: f64 = 1e10;

impl Effort {
    /// Where cost is no matter.
    pub const MOST: Effort = Effort {
        samples: MOST_SAMPLES,
        shares: SHARES,
        by_inputs: true,
    };

    /// Where cost matters most.
    pub const LEAST: Effort = Effort {
        samples: LEAST_SAMPLES,
        shares: FEW_SHARES,
        by_inputs: false,
    };

    /// What trials are worth where the statistics see `seen` samples: three widths on up to 16
    /// samples where these take less than a third of the multiply-accumulates of those, two widths
    /// on 2 samples where they take far more. Three widths are repaired by all inputs where that
    /// takes no more than a third either.
    ///
    /// # Errors
    /// A trial that cannot be planned.
    pub fn worth(setting: TrialRequest<'_>, seen: usize) -> Result<Self, TrialError> {
        let scene = setting.scene;
        let whole = scene.groups.widths();
        let cost = |counts: &dyn Fn(NodeId) -> bool| {
            CostModel::macs_of(scene.graph, scene.groups, counts).total(&whole)
        };
        let trials = crate::trials::trials(setting, SHARES, &Division::of(scene))?;
        let each = trials.iter().map(|trials| {
            let own = cost(&|node| trials.reach.nodes[node]);
            (trials.widths.len(), own)
        });
        let (mut once, mut few) = (0.0, 0.0);
        for (widths, own) in each {
            once += widths as f64 * own;
            few += widths.min(FEW_SHARES.len()) as f64 * own;
        }
        let allowed = (OF_CALIBRATION * seen as f64 * cost(&|_| true)).max(FREE);
        let solving = trials.iter().map(|trials| solving(scene, trials.group));
        Ok(Effort::within(allowed, once, few, solving.sum()))
    }

    /// With that many multiply-accumulates, where all trials of one sample cost `once`, and `few`
    /// with the fewer widths, and the repairs by all inputs `solving`.
    fn within(allowed: f64, once: f64, few: f64, solving: f64) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let fit = |once: f64| (allowed / once.max(1.0)).min(MOST_SAMPLES as f64) as usize;
        if fit(once) >= FEW_SAMPLES {
            return Effort {
                samples: fit(once),
                shares: SHARES,
                by_inputs: solving <= allowed,
            };
        }
        Effort {
            samples: fit(few).clamp(LEAST_SAMPLES, FEW_SAMPLES),
            ..Effort::LEAST
        }
    }
}

/// Multiply-accumulates of the factors that the repairs of a group's trials need, with all of their
/// inputs.
fn solving(scene: Scene<'_>, group: GroupId) -> f64 {
    let consumers = scene.groups.groups.get(group).map(|g| &g.consumers);
    let observed = consumers.into_iter().flatten();
    let observed = observed.filter_map(|&consumer| scene.statistics.of(consumer));
    let inputs = observed.flat_map(|observed| observed.blocks.iter().map(|b| b.mean.len()));
    let cubes: f64 = inputs.map(|inputs| (inputs as f64).powi(3)).sum();
    cubes / 3.0 * SHARES.iter().map(|share| share.powi(3)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costly_trials_run_on_fewer_samples_and_then_of_fewer_widths() {
        let found = |once: f64| {
            let effort = Effort::within(1e10, once, once / 1.5, 0.0);
            assert_eq!(effort.by_inputs, effort.shares.len() == 3);
            (effort.samples, effort.shares.len())
        };
        assert_eq!(found(1e6), (MOST_SAMPLES, 3));
        assert_eq!(found(0.0), (MOST_SAMPLES, 3));
        assert_eq!(found(1.5e9), (6, 3));
        assert_eq!(found(3.3e9), (3, 3));
        assert_eq!(found(3.4e9), (3, 2));
        assert_eq!(found(7e9), (2, 2));
        assert_eq!(found(1e11), (2, 2));
        assert!(!Effort::within(1e10, 1e6, 1e6, 2e10).by_inputs);
    }
}
