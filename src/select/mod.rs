//! Selection: which channels stay under a budget.
//!
//! Every group's channels are ordered by backward elimination of MI (`mi`); the budget decides how
//! far each group goes. Groups are decided from the model's outputs to its inputs, each against
//! what survives downstream.

mod allocate;
mod amounts;
mod budget;
mod confidence;
mod cost;
mod error;
mod limits;
mod plan;
mod planned;
mod ranking;
mod reading;
mod search;
mod sensitivity;
mod smallest;
mod spent;

pub use allocate::{Choice, Target, allocate, allowed_widths};
pub use budget::{Budget, FileSize, TradeOff, measured_widths, targets, trade_off, widths};
pub use confidence::Interval;
pub use cost::{CostModel, Curve, group_of};
pub use error::SelectError;
pub use limits::{Hardware, Limits};
pub use plan::{Plan, PlannedGroup};
pub use planned::{PlannedAxis, PlannedInput, PlannedTensor};
pub use ranking::Ranking;
pub use search::Trial;
pub use sensitivity::{Sensitivities, Sensitivity};
pub use smallest::{Bound, Candidate, Patience, REACH, Rung, Search, ladder, smallest};
pub use spent::{Goes, Spent, spent, strangers};

use crate::graph::{Graph, GroupId, Table};
use crate::groups::{Groups, Widths};
use crate::mi::{Elimination, Reading, Removal};
use crate::statistics::Statistics;
use rayon::prelude::*;
use reading::View;

/// What a group's selection kept.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Score {
    /// Share of the mutual information with what the group's readers compute.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub mi_kept: f64,
    /// Where it lies with a confidence of 95 %; `None` with fewer than two samples,
    /// and for ranks.
    pub mi_interval: Option<Interval>,
    /// Share of the variance of the readers' outputs that the kept channels explain, the mean over
    /// the readers.
    pub explained: f64,
}

/// A plan and what it keeps.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The plan.
    pub plan: Plan,
    /// Per group, what its selection kept; `None` where nothing was selected.
    pub scores: Table<GroupId, Option<Score>>,
    /// The candidates that a budget of latency measured; empty for other budgets.
    pub trials: Vec<Trial>,
    /// The search of budgets of quality; `None` for others.
    pub search: Option<Search>,
}

/// Everything that selection reads.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its groups.
    pub groups: &'a Groups,
    /// What the calibration saw.
    pub statistics: &'a Statistics,
    /// The file of the model, where its bytes have a budget.
    pub file: Option<FileSize>,
}

/// How one block of a consumer reads a group.
pub(crate) struct ReadBy {
    /// The consumer.
    pub consumer: usize,
    /// The block of its inputs.
    pub block: usize,
    /// What it reads.
    pub reading: Reading,
}

impl<'a> Scene<'a> {
    /// Indexes of the groups that may be pruned and can be judged.
    #[must_use]
    pub fn prunable(&self) -> Vec<GroupId> {
        let judged = |index: &GroupId| {
            let group = &self.groups.groups[*index];
            let seen = |&consumer: &usize| self.statistics.of(consumer).is_some();
            group.frozen.is_empty() && group.channels.len() > 1 && group.consumers.iter().any(seen)
        };
        self.groups.groups.ids().filter(judged).collect()
    }

    /// How the consumers of a group read it when only the channels with `stays` are left elsewhere.
    pub(crate) fn read_by(
        &self,
        group: GroupId,
        stays: &[bool],
    ) -> Result<Vec<ReadBy>, SelectError> {
        let views = self.views(group, stays)?;
        let read = views.par_iter().filter_map(|view| {
            Some(ReadBy {
                consumer: view.consumer,
                block: view.block,
                reading: view.reading()?,
            })
        });
        Ok(read.collect())
    }

    fn views(self, group: GroupId, stays: &[bool]) -> Result<Vec<View<'a>>, SelectError> {
        reading::views(self.graph, self.groups, self.statistics, group, stays)
    }
}

/// Per group, what the outputs lose at each of its allowed widths, the present one first.
pub type Losses = Table<GroupId, Vec<f64>>;

/// Chooses the channels that stay within all of the budgets. Those that groups share need `losses`.
///
/// # Errors
/// The budget cannot be met, or not without measuring, or the statistics cannot be used.
pub fn select(
    scene: Scene<'_>,
    budgets: &[Budget],
    limits: &Limits,
    losses: Option<&Losses>,
) -> Result<Selection, SelectError> {
    let stop = budget::stops(scene, budgets, limits, losses)?;
    follow(scene, &stop, limits)
}

/// Chooses the channels that stay where the number left of every group is given.
///
/// # Errors
/// The statistics cannot be used.
pub fn select_at(scene: Scene<'_>, widths: &Widths) -> Result<Selection, SelectError> {
    let stop: Table<GroupId, Stop> = widths.iter().map(|&width| Stop::Width(width)).collect();
    follow(
        scene,
        &stop,
        &Limits {
            align: 1,
            min_channels: 1,
            best_effort: true,
        },
    )
}

fn follow(
    scene: Scene<'_>,
    stop: &Table<GroupId, Stop>,
    limits: &Limits,
) -> Result<Selection, SelectError> {
    let count = scene.groups.groups.len();
    let mut selection = Selection {
        plan: Plan::default(),
        scores: vec![None; count].into(),
        trials: Vec::new(),
        search: None,
    };
    let mut stays = vec![true; scene.groups.channel_count];
    let mut unsure: Option<Unsure<'_>> = None;
    // Groups are numbered in topological order of their first producer.
    for group in scene.prunable().into_iter().rev() {
        let channels = &scene.groups.groups[group].channels;
        let allowed = limits.widths(&scene.groups.groups[group]);
        // No group waits for how sure another's selection is.
        let (interval, found) = rayon::join(
            || unsure.take().map(Unsure::interval).transpose(),
            || select_group(scene, group, &stays, &stop[group], &allowed),
        );
        selection.put(interval?);
        let (left, views) = found?;
        for &candidate in &left.gone {
            stays[channels[candidate]] = false;
        }
        selection.scores[group] = Some(score(scene, group, &left));
        unsure = Some(Unsure {
            group,
            views,
            left,
            width: channels.len(),
        });
    }
    selection.put(unsure.map(Unsure::interval).transpose()?);
    selection.plan = Plan::of(scene.groups, &stays);
    Ok(selection)
}

impl Selection {
    fn put(&mut self, found: Option<(GroupId, Option<Interval>)>) {
        if let Some((group, interval)) = found
            && let Some(Some(score)) = self.scores.get_mut(group)
        {
            score.mi_interval = interval;
        }
    }
}

/// What was selected in a group, before it is known how sure that is.
struct Unsure<'a> {
    group: GroupId,
    views: Vec<View<'a>>,
    left: Left,
    width: usize,
}

impl Unsure<'_> {
    /// The group, and where the share lies that is kept.
    fn interval(self) -> Result<(GroupId, Option<Interval>), SelectError> {
        let (gone, kept) = (&self.left.gone, 1.0 - self.left.lost);
        let interval = confidence::interval(&self.views, self.width, gone, kept)?;
        Ok((self.group, interval))
    }
}

/// Where a group's elimination ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stop {
    /// At this width.
    Width(usize),
    /// Before less than this share of the MI is left, as far as the samples can tell.
    Mi(f64),
}

/// What a group's selection comes to.
#[derive(Default)]
struct Left {
    /// Candidates that are gone.
    gone: Vec<usize>,
    /// Share of the MI that is lost.
    lost: f64,
    /// Sum over the consumers of the share of their output variance that cannot be rebuilt.
    unexplained: f64,
}

/// Selects in one group: an elimination, what of it the samples are sure of, exchanges. Also
/// returns how the group's consumers read it.
fn select_group<'a>(
    scene: Scene<'a>,
    group: GroupId,
    stays: &[bool],
    stop: &Stop,
    allowed: &[usize],
) -> Result<(Left, Vec<View<'a>>), SelectError> {
    let width = scene.groups.groups[group].channels.len();
    if matches!(stop, Stop::Width(least) if *least >= width) {
        return Ok((Left::default(), Vec::new()));
    }
    let views = scene.views(group, stays)?;
    let (mut removals, elimination) = eliminate(&views, width, stop, allowed)?;
    let asked = match stop {
        Stop::Mi(share) if !views.iter().any(|view| view.observed.is_ranked()) => Some(*share),
        _ => None,
    };
    if let Some(share) = asked {
        let intervals = confidence::intervals(&views, width, &removals)?;
        removals.truncate(confidence::sure(&intervals, share, width, allowed));
    }
    let mut left = improve(elimination, &removals, ROUNDING)?;
    if let Some(share) = asked {
        // What exchanges keep is more, but may be less sure.
        let interval = confidence::interval(&views, width, &left.gone, 1.0 - left.lost)?;
        if interval.is_some_and(|interval| interval.low < share) {
            let (_, elimination) = eliminate(&views, width, stop, allowed)?;
            left = improve(elimination, &removals, f64::INFINITY)?;
        }
    }
    Ok((left, views))
}

fn readings(views: &[View<'_>]) -> Vec<Reading> {
    views.par_iter().filter_map(View::reading).collect()
}

/// The removals down to an allowed width, and the elimination, which may have gone further.
fn eliminate(
    views: &[View<'_>],
    width: usize,
    stop: &Stop,
    allowed: &[usize],
) -> Result<(Vec<Removal>, Elimination), SelectError> {
    let least = match stop {
        Stop::Width(width) => *width,
        Stop::Mi(_) => allowed.last().copied().unwrap_or(width),
    };
    let mut removals = Vec::new();
    let mut elimination = Elimination::returning(readings(views), width)?;
    while width - removals.len() > least {
        let Some(removal) = elimination.step()? else {
            break;
        };
        if matches!(stop, Stop::Mi(share) if removal.mi_left < *share) {
            break;
        }
        removals.push(removal);
    }
    // Back to the next width that the alignment allows.
    let left = width - removals.len();
    let target = allowed
        .iter()
        .copied()
        .filter(|&w| w >= left)
        .min()
        .unwrap_or(width);
    removals.truncate(width - target);
    Ok((removals, elimination))
}

/// Exchanges below this share of the MI are taken for rounding.
const ROUNDING: f64 = 1e-9;

/// Exchanges channels that left for channels that stayed while that keeps more MI than this share.
fn improve(
    elimination: Elimination,
    removals: &[Removal],
    least: f64,
) -> Result<Left, SelectError> {
    let Some(last) = removals.last() else {
        return Ok(Left::default());
    };
    // The last to leave is the first that may come back.
    let gone = removals.iter().rev().map(|removal| removal.candidate);
    let total = elimination.information();
    let found = elimination.exchange(gone.collect(), least * total)?;
    let gained = if total > 0.0 {
        found.gained / total
    } else {
        0.0
    };
    Ok(Left {
        gone: found.gone,
        lost: (1.0 - last.mi_left - gained).clamp(0.0, 1.0),
        unexplained: found.unexplained,
    })
}

fn score(scene: Scene<'_>, group: GroupId, left: &Left) -> Score {
    let readers = scene.groups.groups[group].consumers.iter();
    let count: usize = readers
        .filter_map(|&consumer| scene.statistics.of(consumer))
        .map(|observed| observed.blocks.len())
        .sum();
    Score {
        mi_kept: 1.0 - left.lost,
        mi_interval: None,
        explained: 1.0 - left.unexplained / count.max(1) as f64,
    }
}
