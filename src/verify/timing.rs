//! How long two models take, measured in turns.

use serde::Serialize;

/// The measurement is looked at in so many parts, of two turns at least.
const PARTS: usize = 5;
const LEAST_TURNS: usize = 2;
/// Where the parts of a measurement are further apart than this share of the result, the machine
/// had too much else to do.
const BUSY: f64 = 0.3;

/// Milliseconds of one run of two models: the mean of the faster half of the runs, which other work
/// on the machine has disturbed the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timing {
    /// The first model's.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub before: f64,
    /// The second's.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub after: f64,
    /// The least share of the first's that the second takes in a part of the measurement.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub low: f64,
    /// The largest. Where both are further apart than 0.3 of the result, the machine was too busy
    /// to tell.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub high: f64,
}

impl Timing {
    /// Of the runs of both models, turn by turn.
    #[must_use]
    pub fn of(before: &[f64], after: &[f64]) -> Timing {
        let whole = Timing::told(faster_half(before), faster_half(after));
        let turns = before.len().min(after.len());
        let size = turns.div_ceil(PARTS).max(LEAST_TURNS);
        let parts = before.chunks(size).zip(after.chunks(size));
        let parts = parts.filter(|(before, after)| before.len().min(after.len()) >= LEAST_TURNS);
        let shares = parts.map(|(before, after)| faster_half(after) / faster_half(before));
        shares.fold(whole, |all, share| Timing {
            low: all.low.min(share),
            high: all.high.max(share),
            ..all
        })
    }

    /// What somebody else has measured.
    #[must_use]
    pub fn told(before: f64, after: f64) -> Timing {
        let share = after / before;
        Timing {
            before,
            after,
            low: share,
            high: share,
        }
    }

    /// Of several measurements the one whose share is in the middle; not a number of none.
    #[must_use]
    pub fn middle(mut turns: Vec<Timing>) -> Timing {
        turns.sort_by(|a, b| a.share().total_cmp(&b.share()));
        let middle = turns.get(turns.len().saturating_sub(1) / 2).copied();
        let nothing = Timing::told(f64::NAN, f64::NAN);
        turns
            .iter()
            .fold(middle.unwrap_or(nothing), |all, turn| Timing {
                low: all.low.min(turn.low),
                high: all.high.max(turn.high),
                ..all
            })
    }

    /// The second's share of the first's.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.after / self.before
    }

    /// Whether the machine was quiet enough to tell.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.high - self.low <= BUSY * self.share()
    }
}

/// The mean of the faster half; not a number of none.
fn faster_half(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.truncate(times.len().div_ceil(2));
    times.iter().sum::<f64>() / times.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_half_counts() {
        let found = Timing::of(&[2.0, 9.0, 2.0, 8.0], &[1.0, 1.0, 7.0, 7.0]);
        assert_eq!((found.before, found.after, found.share()), (2.0, 1.0, 0.5));
        assert!(faster_half(&[]).is_nan());
    }

    /// Both slow down together half of the time: that is no matter.
    #[test]
    fn what_disturbs_both_models_is_no_matter() {
        let load = |turn: usize| {
            if (turn / 10).is_multiple_of(2) {
                1.0
            } else {
                3.0
            }
        };
        let before: Vec<f64> = (0..50).map(|turn| 2.0 * load(turn)).collect();
        let after: Vec<f64> = (0..50).map(load).collect();
        let found = Timing::of(&before, &after);
        assert!(found.is_told(), "{found:?}");
        assert!((found.share() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn of_several_measurements_the_middle_one_counts() {
        let turns = [(2.0, 1.0), (2.0, 1.8), (3.0, 1.8)];
        let found = Timing::middle(turns.map(|(a, b)| Timing::told(a, b)).to_vec());
        assert_eq!((found.before, found.after), (3.0, 1.8));
        assert_eq!((found.low, found.high), (0.5, 0.9));
        assert!(!found.is_told());
        assert!(Timing::middle(Vec::new()).share().is_nan());
    }

    /// The second alone is slow in one part of five.
    #[test]
    fn parts_that_differ_tell_that_the_machine_was_busy() {
        let before = [2.0; 50];
        let mut after = [1.0; 50];
        after[20..30].fill(1.8);
        let found = Timing::of(&before, &after);
        assert!(!found.is_told());
        assert_eq!((found.share(), found.low, found.high), (0.5, 0.5, 0.9));
        assert!(Timing::told(2.0, 1.5).is_told());
    }
}
