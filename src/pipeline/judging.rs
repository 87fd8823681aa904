//! The last stages: cut models are checked and compared with the original, and reported.

use crate::flags::with_flags;
use crate::onnx::Model;
use crate::pipeline::calibration::Calibration;
use crate::pipeline::cutting::{self, Cut};
use crate::pipeline::evidence::Found;
use crate::pipeline::open::Subject;
use crate::pipeline::options::in_words;
use crate::pipeline::quality::{Gauge, Gauges};
use crate::pipeline::{Error, Options};
use crate::repair::Repair;
use crate::report::{self, Note, Report};
use crate::select::{Budget, CostModel, Plan, Selection};
use crate::verify::{self, Change, Check, Runs, Timing};

/// A finished model with how it came about.
pub(super) struct Judged {
    pub model: Model,
    pub selection: Selection,
    comparison: Option<verify::Comparison>,
    latency: Option<Timing>,
    metric: Option<Change<f64>>,
    asked: String,
    repair: Repair,
    pub notes: Vec<Note>,
}

/// Checks cut models and compares them with the original, all in one pass over the data.
///
/// # Errors
/// A model cannot be run, or has another signature than the original.
pub(super) fn judge(
    subject: &Subject<'_>,
    cuts: Vec<Cut>,
    gauges: &Gauges<'_>,
) -> Result<Vec<Judged>, Error> {
    let metrics = metrics(&cuts, gauges.metric.as_ref())?;
    subject.observer.stage("checking the result");
    let models: Vec<&Model> = cuts.iter().map(|cut| &cut.model).collect();
    let mut check = Check::open(&subject.model, &models, &subject.runtime)?;
    let held_back = subject.samples.batches(subject.samples.compared())?;
    let comparisons = check.compare(held_back)?;
    // On made-up inputs, that shows only whether the models run and give numbers.
    let is_told = !subject.samples.is_synthetic();
    let is_measured = cuts.iter().any(|cut| !cut.selection.trials.is_empty());
    let runs = if is_measured { Runs::MANY } else { Runs::FEW };
    let times = match &gauges.clock {
        Some(clock) => (models.iter())
            .map(|model| clock.timing(model))
            .collect::<Result<_, _>>()?,
        None => check.latency(&subject.samples.one()?, runs)?,
    };
    debug_assert_eq!((comparisons.len(), times.len()), (cuts.len(), cuts.len()));
    let all = cuts.into_iter().zip(comparisons).zip(times).zip(metrics);
    let judged = all.map(|(((cut, comparison), latency), metric)| Judged {
        model: cut.model,
        selection: cut.selection,
        comparison: is_told.then_some(comparison),
        latency: Some(latency),
        metric,
        asked: cut.asked,
        repair: cut.repair,
        notes: cut.notes,
    });
    Ok(judged.collect())
}

/// What the metric is of the original and of each of the models.
fn metrics(cuts: &[Cut], gauge: Option<&Gauge<'_>>) -> Result<Vec<Option<Change<f64>>>, Error> {
    let Some(gauge) = gauge else {
        return Ok(vec![None; cuts.len()]);
    };
    let before = gauge.original()?;
    let measure = |cut: &Cut| {
        let after = cut.metric.map_or_else(|| gauge.measure(&cut.model), Ok)?;
        Ok(Some(Change { before, after }))
    };
    cuts.iter().map(measure).collect()
}

/// The model of which nothing may leave, as it was.
///
/// # Errors
/// The plan does not fit it.
pub(super) fn unchanged(subject: &Subject<'_>, options: &Options) -> Result<Judged, Error> {
    if let Some(plan) = &options.plan {
        plan.stays(&subject.groups)?;
    }
    let count = subject.groups.groups.len();
    let size = subject.original.byte_size() as f64;
    let is_kept = |budget: &Budget| matches!(budget, Budget::Bytes(most) if size <= *most);
    let costs = options.budgets.iter();
    let costs = costs.filter(|budget| !budget.is_quality() && !is_kept(budget));
    let costs: Vec<Budget> = costs.copied().collect();
    let missed = if costs.is_empty() || options.plan.is_some() {
        String::new()
    } else {
        format!("; {} is not reached", in_words(&costs))
    };
    let ungrouped = report::ungrouped(&subject.graph, &subject.groups).len();
    let why = match (count, ungrouped) {
        (0, 0) => "no convolution or matrix product with a constant weight makes channels",
        (0, _) => "no layer with weights makes channels that may leave (see `Prune::inspect`)",
        _ => "all its groups are frozen (see `Prune::inspect`)",
    };
    let note = format!("nothing to prune: {why}; the model is written unchanged{missed}");
    Ok(whole(subject, options, note.into()))
}

/// The model as it was.
pub(super) fn whole(subject: &Subject<'_>, options: &Options, note: Note) -> Judged {
    let stays = vec![true; subject.groups.channel_count];
    let plan = Plan::of(&subject.groups, &stays);
    Judged {
        model: subject.original.clone(),
        selection: cutting::given(subject, plan),
        comparison: None,
        latency: None,
        metric: None,
        asked: options.goal().asked(),
        repair: options.repair(),
        notes: vec![note],
    }
}

/// The report of a finished model.
pub(super) fn report(
    subject: &Subject<'_>,
    judged: &Judged,
    found: &Found,
    calibration: &Calibration,
) -> Report {
    let (graph, groups, selection) = (&subject.graph, &subject.groups, &judged.selection);
    let whole = groups.widths();
    let left = selection.plan.widths();
    let change = |model: &CostModel| Change {
        before: model.total(&whole),
        after: model.total(&left),
    };
    let synthetic = calibration.judges_by_synthetic();
    let statistics = found.evidence.seen().map(|seen| &seen.statistics);
    Report {
        version: env!("CARGO_PKG_VERSION"),
        device: subject.runtime.device().to_owned(),
        onnxruntime: subject.runtime.version().to_owned(),
        command: None,
        input: None,
        calibration: report::Calibration {
            source: calibration.sources(),
            synthetic,
            samples: found.evidence.samples(),
            compared: judged.comparison.map_or(0, |comparison| comparison.samples),
        },
        asked: with_flags(&judged.asked).into_owned(),
        repair: match judged.repair {
            Repair::None => "none",
            Repair::Once => "once",
            Repair::Sequential => "sequential",
            Repair::Tuned => "tuned",
        },
        macs: change(&CostModel::macs(graph, groups)),
        parameters: change(&CostModel::parameters(graph, groups)),
        bytes: Change {
            before: subject.original.byte_size(),
            after: judged.model.byte_size(),
        },
        latency_ms: judged.latency,
        metric: judged.metric,
        candidates: selection.trials.clone(),
        search: selection.search.clone(),
        groups: Report::groups(graph, groups, selection, statistics, synthetic),
        ungrouped: report::ungrouped(graph, groups),
        trade_off: found.trade_off.clone(),
        layers: report::layers(graph, groups, &left),
        comparison: judged.comparison,
        held_back: subject.samples.holds_back(),
        notes: [subject.notes.as_slice(), &judged.notes].concat(),
    }
}
