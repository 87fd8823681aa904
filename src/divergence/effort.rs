//! How much is measured: the trials are to cost less than running the calibration data.

use crate::divergence::{DivergenceError, Setting};
use crate::select::CostModel;

/// Shares of a group's channels that are left in its trials, where these cost little.
const SHARES: &[f64] = &[0.75, 0.5, 0.25];
/// Those of costly trials.
const FEW_SHARES: &[f64] = &[0.5];
/// Samples of a trial, at most and at least; with fewer than `ENOUGH`, one share is tried on more.
const MOST_SAMPLES: usize = 16;
const ENOUGH: usize = 4;
const LEAST_SAMPLES: usize = 2;
/// The cost of all trials, as a share of that of the samples that the statistics see.
const OF_CALIBRATION: f64 = 0.5;
/// Multiply-accumulates that cost nothing to speak of.
const FREE: f64 = 1e10;

/// How often each group is narrowed, and on how many samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Shares of its channels that are left in a group.
    pub shares: &'static [f64],
    /// Samples of each trial.
    pub samples: usize,
}

impl Effort {
    /// For small models, or where time does not count.
    pub const FULL: Effort = Effort {
        shares: SHARES,
        samples: MOST_SAMPLES,
    };

    /// Where the statistics see so many samples.
    ///
    /// # Errors
    /// A trial that cannot be planned.
    pub fn of(setting: Setting<'_>, seen: usize) -> Result<Effort, DivergenceError> {
        let scene = setting.scene;
        let groups = scene.groups.groups.iter();
        let whole: Vec<usize> = groups.map(|group| group.channels.len()).collect();
        let cost = |counts: &dyn Fn(usize) -> bool| {
            CostModel::macs_of(scene.graph, scene.groups, counts).total(&whole)
        };
        let trials = super::trials(setting, SHARES)?;
        let each = trials
            .iter()
            .map(|trials| cost(&|node| trials.reach.nodes[node]));
        let once: f64 = each.sum();
        let allowed = (OF_CALIBRATION * seen as f64 * cost(&|_| true)).max(FREE);
        Ok(Effort::within(allowed, once))
    }

    /// With that many multiply-accumulates, where narrowing every group once costs `once` for each
    /// sample, at most.
    fn within(allowed: f64, once: f64) -> Effort {
        let samples = |shares: &[f64]| {
            let fit = allowed / (once * shares.len() as f64).max(1.0);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let fit = fit.min(MOST_SAMPLES as f64) as usize;
            fit.max(LEAST_SAMPLES)
        };
        let shares = match samples(SHARES) {
            ENOUGH.. => SHARES,
            _ => FEW_SHARES,
        };
        Effort {
            shares,
            samples: samples(shares),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costly_trials_are_fewer() {
        assert_eq!(Effort::within(1e10, 1e6), Effort::FULL);
        assert_eq!(Effort::within(1e10, 0.0), Effort::FULL);
        let some = Effort::within(1e10, 5e8);
        assert_eq!((some.shares, some.samples), (SHARES, 6));
        let few = Effort::within(1e10, 1.6e9);
        assert_eq!((few.shares, few.samples), (FEW_SHARES, 6));
        let least = Effort::within(1e10, 1e11);
        assert_eq!((least.shares, least.samples), (FEW_SHARES, LEAST_SAMPLES));
    }
}
