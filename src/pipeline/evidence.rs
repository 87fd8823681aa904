//! What the data say about a model, as far as the goal needs it.

use crate::combine::Combined;
use crate::graph::Graph;
use crate::onnx::Model;
use crate::outputs::{Staged, Target};
use crate::pipeline::combining::{Combining, combine};
use crate::pipeline::open::Subject;
use crate::pipeline::statistics::{Gathering, gather};
use crate::pipeline::{Error, Options, latency};
use crate::profile::Profile;
use crate::repair::Repair;
use crate::select::{
    self, Budget, CostModel, Limits, Losses, Ranking, Scene, Selection, Sensitivities, TradeOff,
};
use crate::statistics::{Estimator, Statistics};
use crate::trials::{self, Effort};

/// What the data say.
pub(super) enum Evidence {
    /// Nothing was asked of them: a plan is cut, and nothing repaired.
    Nothing,
    /// What the consumers read: enough for a plan, and for budgets that each group meets alone.
    Seen(Seen),
    /// Also what the outputs lose at every width of every group: for budgets that groups share.
    Tried(Seen, Losses),
    /// Also the time of a run as a function of the widths.
    Timed(Seen, Losses, CostModel),
}

/// What the consumers read, and the model whose channels that speaks of.
pub(super) struct Seen {
    pub statistics: Statistics,
    /// The model in these channels, where they are combinations of the original's.
    combined: Option<Combined>,
}

impl Seen {
    /// The dense model that the statistics speak of.
    pub fn dense<'a>(&'a self, subject: &'a Subject<'_>) -> (&'a Model, &'a Graph) {
        match &self.combined {
            Some(combined) => (&combined.model, &combined.graph),
            None => (&subject.model, &subject.graph),
        }
    }

    pub fn scene<'a>(&'a self, subject: &'a Subject<'_>) -> Scene<'a> {
        Scene {
            graph: self.dense(subject).1,
            groups: &subject.groups,
            statistics: &self.statistics,
            file: None,
        }
    }

    /// The selection with the groups marked that keep combinations.
    pub fn marked(&self, mut selection: Selection) -> Selection {
        let combined = self.combined.iter().flat_map(|combined| &combined.groups);
        for (planned, &combined) in selection.plan.groups.iter_mut().zip(combined) {
            planned.combined = combined && planned.kept.len() < planned.channels;
        }
        selection
    }
}

impl Evidence {
    pub fn seen(&self) -> Option<&Seen> {
        match self {
            Evidence::Nothing => None,
            Evidence::Seen(seen) | Evidence::Tried(seen, _) | Evidence::Timed(seen, ..) => {
                Some(seen)
            }
        }
    }

    pub fn losses(&self) -> Option<&Losses> {
        match self {
            Evidence::Nothing | Evidence::Seen(_) => None,
            Evidence::Tried(_, losses) | Evidence::Timed(_, losses, _) => Some(losses),
        }
    }

    /// Samples that the statistics saw.
    pub fn samples(&self) -> usize {
        self.seen().map_or(0, |seen| seen.statistics.samples)
    }

    /// Frees what only selecting needs, which is most of the memory.
    pub fn drop_moments(&mut self) {
        match self {
            Evidence::Nothing => {}
            Evidence::Seen(seen) | Evidence::Tried(seen, _) | Evidence::Timed(seen, ..) => {
                seen.statistics.drop_moments();
            }
        }
    }
}

/// What is asked of the data.
pub(super) struct Asking<'a> {
    pub gathering: Gathering<'a>,
    pub combining: Combining<'a>,
    pub budgets: &'a [Budget],
    /// Where the time of a run goes, where the user knows that.
    pub profile: Option<&'a Profile>,
    pub repair: Repair,
    pub limits: &'a Limits,
    pub memory: u64,
    pub trade_off: bool,
}

impl<'a> Asking<'a> {
    /// What a run needs for these budgets; for none of them, what its plan needs.
    pub fn of(options: &'a Options, budgets: &'a [Budget], keep: Option<&'a Target>) -> Self {
        let calibration = &options.opening.calibration;
        Asking {
            gathering: Gathering {
                calibration,
                estimator: options.estimator,
                allowance: options.opening.allowance,
                keep,
            },
            combining: Combining {
                plan: options.plan.as_ref(),
                is_told: !calibration.judges_by_synthetic(),
                is_wanted: options.combine && options.estimator == Estimator::Gaussian,
            },
            budgets,
            profile: options.profile.as_ref(),
            repair: options.repair(),
            limits: &options.limits,
            memory: options.memory,
            trade_off: options.trade_off,
        }
    }
}

/// What was found out, and what was made of it on the way.
pub(super) struct Found {
    pub evidence: Evidence,
    /// What other budgets would lose; empty where that was not asked for or is not known.
    pub trade_off: Vec<TradeOff>,
    /// The file of the statistics, which waits beside its place.
    pub staged: Option<Staged>,
}

impl Found {
    pub fn nothing() -> Self {
        Found {
            evidence: Evidence::Nothing,
            trade_off: Vec::new(),
            staged: None,
        }
    }
}

/// Asks the data as far as the budgets need it.
///
/// # Errors
/// The data or the statistics cannot be used, or the model cannot be run.
pub(super) fn ask(subject: &Subject<'_>, request: &Asking<'_>) -> Result<Found, Error> {
    let is_needed = request.combining.plan.is_none()
        || request.repair != Repair::None
        || request.gathering.keep.is_some()
        || request.combining.plans_any(subject)?;
    if !is_needed {
        return Ok(Found::nothing());
    }
    let (mut statistics, staged) = gather(subject, &request.gathering)?;
    let combined = combine(subject, &request.combining, &mut statistics)?;
    let seen = Seen {
        statistics,
        combined,
    };
    let (losses, time) = if request.budgets.iter().any(Budget::is_shared) {
        (
            Some(lose(subject, &seen, request)?),
            timed(subject, request)?,
        )
    } else {
        (None, None)
    };
    let trade_off = trade_off(subject, &seen, (losses.as_ref(), time.as_ref()), request)?;
    let evidence = match (losses, time) {
        (None, _) => Evidence::Seen(seen),
        (Some(losses), None) => Evidence::Tried(seen, losses),
        (Some(losses), Some(time)) => Evidence::Timed(seen, losses, time),
    };
    Ok(Found {
        evidence,
        trade_off,
        staged,
    })
}

/// What the outputs lose at the widths of every group: measured trials on a few samples.
fn lose(subject: &Subject<'_>, seen: &Seen, request: &Asking<'_>) -> Result<Losses, Error> {
    let scene = seen.scene(subject);
    let total = scene.prunable().len();
    subject
        .observer
        .counting("trying narrower widths", total, "groups");
    let ranking = Ranking::of(scene)?;
    let setting = trials::TrialRequest {
        model: seen.dense(subject).0,
        scene,
        ranking: &ranking,
        limits: request.limits,
        runtime: &subject.runtime,
        memory: request.memory,
    };
    let progress = |groups: usize| subject.observer.advance(groups);
    let effort = Effort::worth(setting, subject.samples.seen().len())?;
    let batches = subject.samples.trials(effort.samples)?;
    let found = trials::measure(setting, effort, &batches, &progress)?;
    let losses = ranking.all_losses(scene, request.limits, &found);
    debug_assert_eq!(losses.len(), subject.groups.groups.len());
    Ok(losses)
}

/// The time of a run as a function of the widths, where a budget needs it.
fn timed(subject: &Subject<'_>, request: &Asking<'_>) -> Result<Option<CostModel>, Error> {
    if request.budgets.iter().any(Budget::is_time) {
        latency::model(subject, request.profile, request.limits).map(Some)
    } else {
        Ok(None)
    }
}

/// What other budgets of what was asked for would lose: by the trials, or by the layers' own losses
/// without any.
fn trade_off(
    subject: &Subject<'_>,
    seen: &Seen,
    (losses, time): (Option<&Losses>, Option<&CostModel>),
    request: &Asking<'_>,
) -> Result<Vec<TradeOff>, Error> {
    let scene = seen.scene(subject);
    // Made-up inputs do not tell what a budget costs.
    let is_told = request.trade_off && !subject.samples.is_synthetic();
    if !is_told || scene.prunable().is_empty() {
        return Ok(Vec::new());
    }
    let limits = request.limits;
    // Bytes are parameters, up to what a file holds beside them.
    let counts_parameters =
        |budget: &Budget| matches!(budget, Budget::Params(_)) || budget.is_size();
    let cost = match time {
        Some(time) => ("latency", time.clone()),
        None if request.budgets.iter().any(counts_parameters) => {
            ("params", CostModel::parameters(scene.graph, scene.groups))
        }
        None => ("macs", CostModel::macs(scene.graph, scene.groups)),
    };
    let cost = (cost.0, &cost.1);
    if let Some(losses) = losses {
        return Ok(select::trade_off(scene, limits, losses, cost));
    }
    let untried = Sensitivities(vec![Vec::new(); subject.groups.groups.len()].into());
    let own = Ranking::of(scene)?.all_losses(scene, limits, &untried);
    Ok(select::trade_off(scene, limits, &own, cost))
}
