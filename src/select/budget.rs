//! Budgets: how far the groups may go.

use crate::graph::{GroupId, Table};
use crate::groups::Widths;
use crate::select::allocate::{Choice, Target, allocate};
use crate::select::cost::CostModel;
use crate::select::search::{Trial, best, search};
use crate::select::{Limits, Losses, Scene, SelectError, Stop};

/// What is asked of the pruned model. It shows itself as on the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Budget {
    /// This fraction of the multiply-accumulates is left.
    Macs(f64),
    /// This fraction of the parameters is left.
    Params(f64),
    /// This fraction of the bytes of the file is left.
    Size(f64),
    /// The file has no more than these bytes.
    Bytes(f64),
    /// This fraction of the time of a run on the device in use is left.
    Latency(f64),
    /// A run on the device in use takes no more than these milliseconds.
    Milliseconds(f64),
    /// This fraction of every group's channels leaves.
    Ratio(f64),
    /// This share of every group's mutual information is left.
    MutualInformation(f64),
    /// The outputs on samples that nothing was fitted to change by no more than this share of their
    /// variance.
    Change(f64),
    /// This share of the samples that nothing was fitted to is classified as by the original.
    Agreement(f64),
    /// The metric falls by no more than this.
    Drop(f64),
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self {
            Budget::Milliseconds(_) => "ms",
            Budget::Bytes(_) => " bytes",
            _ => "",
        };
        write!(f, "`{}` {}{unit}", self.name(), self.value())
    }
}

impl Budget {
    /// What the option is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Budget::Macs(_) => "macs",
            Budget::Params(_) => "params",
            Budget::Size(_) | Budget::Bytes(_) => "size",
            Budget::Latency(_) | Budget::Milliseconds(_) => "latency",
            Budget::Ratio(_) => "ratio",
            Budget::MutualInformation(_) => "mi",
            Budget::Change(_) => "max_change",
            Budget::Agreement(_) => "agreement",
            Budget::Drop(_) => "max_drop",
        }
    }

    /// The number that is asked for.
    #[must_use]
    pub fn value(&self) -> f64 {
        match *self {
            Budget::Macs(value)
            | Budget::Params(value)
            | Budget::Size(value)
            | Budget::Bytes(value)
            | Budget::Latency(value)
            | Budget::Milliseconds(value)
            | Budget::Ratio(value)
            | Budget::MutualInformation(value)
            | Budget::Change(value)
            | Budget::Agreement(value)
            | Budget::Drop(value) => value,
        }
    }

    /// Whether groups share it, so that it needs to know what each of them loses.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !matches!(self, Budget::Ratio(_) | Budget::MutualInformation(_))
    }

    /// Whether it says what a model must be worth, and not what it may cost: the smallest model
    /// that is worth that is wanted.
    #[must_use]
    pub fn is_quality(&self) -> bool {
        matches!(
            self,
            Budget::Change(_) | Budget::Agreement(_) | Budget::Drop(_)
        )
    }

    /// Whether it bounds the time of a run.
    #[must_use]
    pub fn is_time(&self) -> bool {
        matches!(self, Budget::Latency(_) | Budget::Milliseconds(_))
    }

    /// Whether it bounds the bytes of the file.
    #[must_use]
    pub fn is_size(&self) -> bool {
        matches!(self, Budget::Size(_) | Budget::Bytes(_))
    }

    /// Whether the two cannot be asked for together.
    #[must_use]
    pub fn excludes(&self, other: &Budget) -> bool {
        self.name() == other.name() || !(self.is_shared() && other.is_shared())
    }

    /// The cost that it bounds, which the widths alone decide, with what it counts.
    fn cost(&self, scene: Scene<'_>) -> Option<(CostModel, &'static str)> {
        let (graph, groups) = (scene.graph, scene.groups);
        match self {
            Budget::Macs(_) => Some((CostModel::macs(graph, groups), "MACs")),
            Budget::Params(_) => Some((CostModel::parameters(graph, groups), "parameters")),
            Budget::Size(_) | Budget::Bytes(_) => {
                let beside = scene.file?.beside;
                Some((CostModel::bytes(graph, groups, beside), "bytes"))
            }
            _ => None,
        }
    }

    /// What it lets a model cost, where the whole one costs `total`.
    fn most(&self, scene: Scene<'_>, total: f64) -> f64 {
        match (self, scene.file) {
            (Budget::Bytes(most), _) => *most,
            (Budget::Size(share), Some(file)) => share * file.whole,
            _ => self.value() * total,
        }
    }
}

/// Bytes of a model's file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FileSize {
    /// Those of the original.
    pub whole: f64,
    /// Those that do not go with the widths.
    pub beside: f64,
}

/// What the budgets allow a model to cost, as far as its widths alone decide that.
#[must_use]
pub fn targets(scene: Scene<'_>, budgets: &[Budget]) -> Vec<Target> {
    let whole = scene.groups.widths();
    let target = |budget: &Budget| {
        let (cost, _) = budget.cost(scene)?;
        let most = budget.most(scene, cost.total(&whole));
        Some(Target { cost, most })
    };
    budgets.iter().filter_map(target).collect()
}

/// Where each group's elimination stops.
pub(super) fn stops(
    scene: Scene<'_>,
    budgets: &[Budget],
    limits: &Limits,
    losses: Option<&Losses>,
) -> Result<Table<GroupId, Stop>, SelectError> {
    let widths = scene.groups.widths();
    let stop_at = |widths: Widths| widths.iter().map(|&width| Stop::Width(width)).collect();
    match budgets {
        [Budget::MutualInformation(share)] => Ok(vec![Stop::Mi(*share); widths.len()].into()),
        [Budget::Ratio(ratio)] => ratio_widths(scene, *ratio, limits, widths).map(stop_at),
        costs if costs.iter().all(|budget| budget.cost(scene).is_some()) => {
            self::widths(scene, costs, limits, losses).map(stop_at)
        }
        _ => Err(SelectError::Unmeasured),
    }
}

/// The allowed width nearest to what the ratio leaves, the wider of two.
fn ratio_widths(
    scene: Scene<'_>,
    ratio: f64,
    limits: &Limits,
    before: Widths,
) -> Result<Widths, SelectError> {
    let nearest = |limits: &Limits| {
        let mut widths = before.clone();
        for group in scene.prunable() {
            let wanted = widths[group] as f64 * (1.0 - ratio);
            let distance = |width: usize| (width as f64 - wanted).abs();
            let nearest = limits
                .widths(&scene.groups.groups[group])
                .into_iter()
                .reduce(|best, width| {
                    if distance(width) < distance(best) {
                        width
                    } else {
                        best
                    }
                });
            widths[group] = nearest.unwrap_or(widths[group]);
        }
        widths
    };
    let widths = nearest(limits);
    if ratio > 0.0 && before == widths && !limits.best_effort && !scene.prunable().is_empty() {
        let advice = limits.advice(|other| nearest(other) != before);
        let reached = "0 channels removed".to_owned();
        return Err(unreached(
            scene,
            Budget::Ratio(ratio),
            limits,
            (reached, advice),
        ));
    }
    Ok(widths)
}

/// The widths at which the least is lost of those that keep budgets which the widths alone decide.
///
/// # Errors
/// The budgets cannot be met.
pub fn widths(
    scene: Scene<'_>,
    budgets: &[Budget],
    limits: &Limits,
    losses: Option<&Losses>,
) -> Result<Widths, SelectError> {
    let targets = targets(scene, budgets);
    let whole = scene.groups.widths();
    let within = |limits: &Limits| {
        let choices = choices(scene, limits, losses);
        allocate(&choices, &targets, whole.clone())
    };
    let found = within(limits);
    kept(scene, budgets, limits, &found, within)?;
    Ok(found)
}

/// Refuses widths that miss one of the budgets, where `within` finds those that other limits
/// allow.
fn kept(
    scene: Scene<'_>,
    budgets: &[Budget],
    limits: &Limits,
    found: &Widths,
    within: impl Fn(&Limits) -> Widths,
) -> Result<(), SelectError> {
    if limits.best_effort || scene.prunable().is_empty() {
        return Ok(());
    }
    let whole = scene.groups.widths();
    for budget in budgets {
        let Some((cost, what)) = budget.cost(scene) else {
            continue;
        };
        let total = cost.total(&whole);
        let most = budget.most(scene, total);
        let reached = cost.total(found);
        if reached > most {
            let reaches = |limits: &Limits| cost.total(&within(limits)) <= most;
            let reached = match budget {
                Budget::Bytes(_) => format!("a file of {reached:.0} bytes"),
                _ => format!("{:.3} of the {what}", reached / total),
            };
            let found = (reached, limits.advice(reaches));
            return Err(unreached(scene, *budget, limits, found));
        }
    }
    Ok(())
}

/// The widest widths found at which a run takes no more than the share `asked` of the original's
/// time, and other `budgets` are kept, which the widths alone decide; with all that were measured.
/// `model` says what a run takes at given widths, up to a factor; `measure` runs a model of these
/// widths and says what share of the original's time it takes.
///
/// # Errors
/// The budgets cannot be met, or `measure` fails.
pub fn measured_widths<E: From<SelectError>>(
    scene: Scene<'_>,
    (asked, budgets): (f64, &[Budget]),
    limits: &Limits,
    (losses, model): (Option<&Losses>, &CostModel),
    measure: impl FnMut(&Widths) -> Result<f64, E>,
) -> Result<(Widths, Vec<Trial>), E> {
    let whole = scene.groups.widths();
    if scene.prunable().is_empty() {
        return Ok((whole, Vec::new()));
    }
    let total = model.total(&whole);
    let start = widths(scene, budgets, limits, losses)?;
    let mut targets = targets(scene, budgets);
    targets.push(Target {
        cost: model.clone(),
        most: total,
    });
    let choices = choices(scene, limits, losses);
    let choose = |share: f64| {
        let mut targets = targets.clone();
        if let Some(time) = targets.last_mut() {
            time.most = total * share;
        }
        let widths = allocate(&choices, &targets, whole.clone());
        let modelled = model.total(&widths) / total;
        (widths, modelled)
    };
    let trials = search(asked, choose, measure)?;
    let Some(best) = best(asked, &trials) else {
        return Ok((start, trials));
    };
    // A time that is not a number keeps no budget.
    let is_kept = best.measured <= asked;
    if !is_kept && !limits.best_effort {
        let error = SelectError::TooSlow {
            asked: Budget::Latency(asked).to_string(),
            trials: trials.len(),
            reached: best.measured,
            why: why(scene, limits),
            // How fast other widths are is not known.
            advice: limits.advice(|_| true),
        };
        return Err(error.into());
    }
    Ok((best.widths.clone(), trials))
}

fn unreached(
    scene: Scene<'_>,
    budget: Budget,
    limits: &Limits,
    (reached, advice): (String, &'static str),
) -> SelectError {
    SelectError::Budget {
        asked: budget.to_string(),
        reached,
        why: why(scene, limits),
        advice,
    }
}

/// A point on the way from the whole model down.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TradeOff {
    /// What `left` is a share of: `macs`, `params` or `latency`, whichever was asked for.
    #[cfg_attr(test, schemars(extend("enum" = ["macs", "params", "latency"])))]
    pub of: &'static str,
    /// Share of it that is left.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub left: f64,
    /// Share of the multiply-accumulates that is left.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub macs: f64,
    /// Sum of the groups' losses: the expected squared change of the outputs over their variance
    /// where the losses come from trials.
    pub loss: f64,
}

/// What budgets of a cost, named `of`, would lose, from all of it down in steps to the least that
/// can be reached.
#[must_use]
pub fn trade_off(
    scene: Scene<'_>,
    limits: &Limits,
    losses: &Losses,
    (of, cost): (&'static str, &CostModel),
) -> Vec<TradeOff> {
    const STEPS: u32 = 20;
    let macs = CostModel::macs(scene.graph, scene.groups);
    let whole = scene.groups.widths();
    let total = cost.total(&whole);
    let left = |model: &CostModel, widths: &Widths| match model.total(&whole) {
        total if total > 0.0 => model.total(widths) / total,
        _ => 1.0,
    };
    let choices = choices(scene, limits, Some(losses));
    let mut points: Vec<TradeOff> = Vec::new();
    for step in (1..=STEPS).rev() {
        let share = f64::from(step) / f64::from(STEPS);
        let target = Target {
            cost: cost.clone(),
            most: total * share,
        };
        let widths = allocate(&choices, &[target], whole.clone());
        let loss = choices.iter().map(|choice| choice.loss_at(&widths));
        let point = TradeOff {
            of,
            left: left(cost, &widths),
            macs: left(&macs, &widths),
            loss: 0.0 + loss.sum::<f64>(),
        };
        // Measured times may rise again where fewer channels fill no block.
        if points.last().is_none_or(|last| point.left < last.left) {
            points.push(point);
        }
        if point.left > share {
            break;
        }
    }
    points
}

/// Every prunable group's widths and their losses.
pub(super) fn choices(scene: Scene<'_>, limits: &Limits, losses: Option<&Losses>) -> Vec<Choice> {
    let choice = |group: GroupId| {
        let widths = limits.widths(&scene.groups.groups[group]);
        let known = losses.and_then(|losses| losses.get(group));
        let losses = known.filter(|known| known.len() == widths.len()).cloned();
        // Without losses, all channels are worth the same.
        let losses = losses.unwrap_or_else(|| (0..widths.len()).map(|step| step as f64).collect());
        Choice {
            group,
            widths,
            losses,
        }
    };
    scene.prunable().into_iter().map(choice).collect()
}

/// What keeps a budget out of reach.
fn why(scene: Scene<'_>, limits: &Limits) -> String {
    let frozen = scene
        .groups
        .groups
        .iter()
        .filter(|group| !group.frozen.is_empty());
    let channels: usize = frozen.clone().map(|group| group.channels.len()).sum();
    format!(
        "{} of {} groups ({channels} channels) are frozen (see `onnx-mipp inspect`), widths are \
         multiples of {} and no group gets below {} channels",
        frozen.count(),
        scene.groups.groups.len(),
        limits.align.max(1),
        limits.min_channels.max(1)
    )
}
