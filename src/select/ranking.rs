//! Every group's channels in the order in which they would leave, were all other groups whole.

use crate::graph::GroupId;
use crate::graph::Table;
use faer::Mat;
use rayon::prelude::*;

use crate::groups::Groups;
use crate::linalg::LinalgError;
use crate::mi::{Elimination, unexplained};
use crate::select::reading::View;
use crate::select::{Limits, Losses, Scene, SelectError, Sensitivities, readings};

/// Per group, how its channels would leave; empty for groups that stay whole.
#[derive(Debug, Clone)]
pub struct Ranking(Table<GroupId, Ranked>);

/// The channels of one group.
#[derive(Debug, Clone, Default)]
struct Ranked {
    /// All of them, the last to leave first.
    order: Vec<usize>,
    /// For every width from 0 on, the share of variance that the consumers lose, summed.
    unexplained: Vec<f64>,
}

impl Ranking {
    /// Ranks the channels of all prunable groups.
    ///
    /// # Errors
    /// The statistics cannot be used.
    pub fn of(scene: Scene<'_>) -> Result<Self, SelectError> {
        let stays = vec![true; scene.groups.channel_count];
        let rank = |group: GroupId| -> Result<(GroupId, Ranked), SelectError> {
            let channels = scene.groups.groups[group].channels.len();
            Ok((group, Ranked::of(&scene.views(group, &stays)?, channels)?))
        };
        let ranked: Vec<_> = scene
            .prunable()
            .into_par_iter()
            .map(rank)
            .collect::<Result<_, SelectError>>()?;
        let mut all = Table::from(vec![Ranked::default(); scene.groups.groups.len()]);
        for (group, ranked) in ranked {
            all[group] = ranked;
        }
        Ok(Ranking(all))
    }

    /// Which channels stay when one group alone is narrowed to `width`.
    #[must_use]
    pub fn stays(&self, groups: &Groups, group: GroupId, width: usize) -> Vec<bool> {
        let mut stays = vec![true; groups.channel_count];
        let channels = &groups.groups[group].channels;
        for &candidate in self.0[group].order.iter().skip(width) {
            stays[channels[candidate]] = false;
        }
        stays
    }

    /// The share of variance that a group's consumers lose at a width.
    fn unexplained(&self, group: GroupId, width: usize) -> f64 {
        let open = self.0[group].unexplained.get(width);
        open.copied().unwrap_or_default()
    }

    /// What the outputs lose at the allowed widths of every group.
    #[must_use]
    pub fn all_losses(&self, scene: Scene<'_>, limits: &Limits, found: &Sensitivities) -> Losses {
        let groups = scene.groups.groups.entries();
        groups
            .map(|(index, group)| self.losses(index, &limits.widths(group), found))
            .collect()
    }

    /// What the outputs lose at each of a group's allowed widths: the layer's own curve, scaled to
    /// go through the trials.
    fn losses(&self, group: GroupId, widths: &[usize], found: &Sensitivities) -> Vec<f64> {
        let trials = &found.0[group];
        let scales: Vec<(f64, f64)> = trials
            .iter()
            .map(|trial| {
                let own = self.unexplained(group, trial.width).max(1e-12);
                (trial.width as f64, (trial.divergence / own).max(1e-12).ln())
            })
            .collect();
        let mut least = 0.0f64;
        widths
            .iter()
            .map(|&width| {
                least = least.max(self.unexplained(group, width) * scale_at(&scales, width as f64));
                least
            })
            .collect()
    }
}

impl Ranked {
    fn of(views: &[View<'_>], channels: usize) -> Result<Self, LinalgError> {
        let mut elimination = Elimination::new(readings(views), channels)?;
        let mut order = Vec::new();
        while let Some(removal) = elimination.step()? {
            order.push(removal.candidate);
        }
        drop(elimination);
        order.reverse();
        let own = |view: &View<'_>| -> Result<Vec<f64>, LinalgError> {
            let weights = view.weights.as_ref().map(Mat::as_ref);
            let found = view
                .reading()
                .map(|reading| unexplained(&reading, weights, &order));
            Ok(found.transpose()?.unwrap_or_default())
        };
        let each: Vec<Vec<f64>> = views
            .par_iter()
            .map(own)
            .collect::<Result<_, LinalgError>>()?;
        let mut unexplained = vec![0.0; channels + 1];
        for own in each {
            let pairs = unexplained.iter_mut().zip(own);
            pairs.for_each(|(sum, own)| *sum += own);
        }
        Ok(Ranked { order, unexplained })
    }
}

/// The scale at a width: geometric interpolation between the trials (widest first), constant
/// beyond them, 1 without any.
fn scale_at(scales: &[(f64, f64)], width: f64) -> f64 {
    let (Some(first), Some(last)) = (scales.first(), scales.last()) else {
        return 1.0;
    };
    if width >= first.0 {
        return first.1.exp();
    }
    for pair in scales.windows(2) {
        if let [(wide, a), (narrow, b)] = pair
            && width >= *narrow
        {
            let share = (wide - width) / (wide - narrow);
            return (a + share * (b - a)).exp();
        }
    }
    last.1.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_go_through_the_trials_and_stay_constant_beyond() {
        let scales = [(8.0, 1.0f64.ln()), (4.0, 4.0f64.ln())];
        for (width, expected) in [(9.0, 1.0), (8.0, 1.0), (6.0, 2.0), (4.0, 4.0), (1.0, 4.0)] {
            assert!((scale_at(&scales, width) - expected).abs() < 1e-12);
        }
        assert_eq!(scale_at(&[], 3.0), 1.0);
    }
}
