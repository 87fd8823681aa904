//! A run, stage after stage: a model in, a smaller one out.
//!
//! Each stage is a function that takes a request of its own and returns a plain value:
//!
//! | stage | takes | returns |
//! |---|---|---|
//! | [`open`] | a model, [`Opening`] | [`Subject`]: graph, groups, samples |
//! | ask | the subject, the budgets | evidence: statistics, losses, times |
//! | choose | the evidence, a plan or a budget | which channels stay |
//! | fit | the choice | weights repaired in one pass |
//! | cut | the choice and these weights | a smaller model, repaired |
//! | judge | cut models | how far they are from the original |
//! | report | all of it | [`Report`] |
//!
//! In debug builds what must hold after a stage is looked at after it (`checks`).

mod batch;
mod calibration;
mod checks;
mod combining;
mod compare;
mod cutting;
mod error;
mod evidence;
mod heads;
mod hint;
mod judging;
mod latency;
mod observer;
mod open;
mod options;
mod quality;
mod samples;
mod sizes;
mod smallest;
mod states;
mod statistics;
mod tuning;
mod weighing;

pub use calibration::Calibration;
pub(crate) use compare::compare;
pub use cutting::apply;
pub use error::Error;
use heads::Wish;
pub use observer::{Event, Observer, Silent};
use open::open_for;
pub use open::{Opening, Subject, open};
pub(crate) use options::DEFAULT_MEMORY;
pub use options::{Globs, Options};
pub use statistics::statistics;

use std::path::Path;

use crate::onnx::{self, Model};
use crate::outputs::{Staged, Target};
use crate::repair::Repair;
use crate::report::{self, Inspection, Report};
use crate::select::{Budget, Plan};
use cutting::{Cut, How, Repairing};
use evidence::{Asking, Evidence, Found};
use judging::Judged;
use latency::Clock;
use options::Goal;
use quality::{Demands, Gauges};
use smallest::Smallest;

/// A pruned model with how it came about.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pruned {
    /// The smaller model.
    pub model: Model,
    /// The channels that stayed.
    pub plan: Plan,
    /// What was found out; its bytes are those of the models with all tensors inline.
    pub report: Report,
}

impl Pruned {
    /// Writes the model to a file, which appears only when it is whole; large tensors go to a file
    /// beside it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        Ok(onnx::save(&self.model, path.as_ref())?)
    }
}

/// Prunes a model. Where the statistics are kept, they are written aside, which the second value
/// holds.
///
/// # Errors
/// Any stage's error.
pub(crate) fn prune(
    model: Model,
    options: &Options,
    keep: Option<&Target>,
    observer: &dyn Observer,
) -> Result<(Pruned, Option<Staged>), Error> {
    let mut opening = options.opening.clone();
    opening.calibration = opening
        .calibration
        .comparing(quality::compared(&options.budgets));
    let subject = open_for(model, &opening, Wish::of(options), observer)?;
    let (judged, found) = if subject.is_prunable() {
        narrow(&subject, options, keep)?
    } else {
        (judging::unchanged(&subject, options)?, Found::nothing())
    };
    Ok((finish(&subject, judged, &found, options)?, found.staged))
}

/// What a file of statistics is called in messages.
pub(crate) const STATISTICS: &str = "file of statistics";

/// The stages between the open model and its report.
fn narrow(
    subject: &Subject<'_>,
    options: &Options,
    keep: Option<&Target>,
) -> Result<(Judged, Found), Error> {
    let goal = options.goal();
    let gauges = Gauges::of(subject, options)?;
    let demands = Demands::of(subject, goal.budgets(), gauges.metric.as_ref());
    if !matches!(goal, Goal::Default(_)) {
        demands.check()?;
    }
    let mut found = evidence::ask(subject, &Asking::of(options, goal.budgets(), keep))?;
    let how = how(options, &gauges);
    let budgets = goal.budgets();
    let cut = if !demands.is_empty() {
        let search = |file| {
            let how = How { file, ..how };
            let evidence = &found.evidence;
            let (goal, demands) = (&goal, &demands);
            Smallest {
                subject,
                evidence,
                goal,
                demands,
                how,
            }
            .find()
        };
        let within = (budgets, how.limits);
        weighing::within(subject, &found.evidence, within, false, search)?
    } else if budgets.iter().any(Budget::is_size) {
        made(subject, &found.evidence, &goal, how)?
    } else {
        let choice = cutting::choose(subject, &found.evidence, &goal, &how)?;
        let fitted = cutting::fit(subject, &found.evidence, choice, options.repair())?;
        // The repair layer by layer makes its own.
        found.evidence.drop_moments();
        cutting::cut(subject, &found.evidence, fitted, how.repairing)?
    };
    let mut cut = match options.repair() {
        Repair::Tuned => tuned(subject, &found.evidence, (cut, &demands), options.memory)?,
        _ => cut,
    };
    let widths = cut.selection.plan.widths();
    let foretold = latency::foretold(subject, &found.evidence, how.clock, &widths);
    cut.notes.extend(foretold);
    // Who asks for no budget asks for nothing worse in any way.
    let asks_nothing = matches!(goal, Goal::Default(_));
    if asks_nothing && cut.model.byte_size() > subject.original.byte_size() {
        let note = "what may leave would make the file larger: the model is written unchanged";
        let found = Found {
            staged: found.staged,
            ..Found::nothing()
        };
        return Ok((judging::whole(subject, options, note.into()), found));
    }
    let mut judged = judging::judge(subject, vec![cut], &gauges)?;
    let judged = judged.pop().ok_or(Error::NoStatistics)?;
    Ok((judged, found))
}

/// The model tuned, where it keeps then what is demanded of it.
fn tuned(
    subject: &Subject<'_>,
    evidence: &Evidence,
    (cut, demands): (Cut, &Demands<'_>),
    memory: u64,
) -> Result<Cut, Error> {
    let before = (!demands.is_empty()).then(|| cut.clone());
    let mut tuned = tuning::tuned(subject, evidence, cut, memory)?;
    let Some(mut before) = before else {
        return Ok(tuned);
    };
    let worth = demands.measure(&tuned.model)?;
    if worth.used <= 1.0 {
        tuned.metric = worth.metric;
        return Ok(tuned);
    }
    let note =
        "tuned, the model would not keep the quality that is asked for: it stays as it was before";
    before.notes.push(note.into());
    Ok(before)
}

/// Prunes a model to each of the budgets: calibration and trials are shared, selection and repair
/// are not.
///
/// # Errors
/// Any stage's error for any budget, and a model of which nothing may leave.
pub(crate) fn sweep(
    model: Model,
    budgets: &[Budget],
    options: &Options,
    keep: Option<&Target>,
    observer: &dyn Observer,
) -> Result<(Vec<Pruned>, Option<Staged>), Error> {
    let subject = open_for(model, &options.opening, Wish::of(options), observer)?;
    if !subject.is_prunable() {
        return Err(Error::NothingToPrune);
    }
    let gauges = Gauges::of(&subject, options)?;
    let found = evidence::ask(&subject, &Asking::of(options, budgets, keep))?;
    let cut = |&budget: &Budget| -> Result<Cut, Error> {
        observer.notes(&[format!("for {budget}:").into()]);
        let (goal, evidence): (_, &Evidence) = (Goal::Budgets(vec![budget]), &found.evidence);
        let cut = made(&subject, evidence, &goal, how(options, &gauges))?;
        match options.repair() {
            Repair::Tuned => tuning::tuned(&subject, evidence, cut, options.memory),
            _ => Ok(cut),
        }
    };
    let cuts = budgets.iter().map(cut).collect::<Result<_, _>>()?;
    let judged = judging::judge(&subject, cuts, &gauges)?;
    let all = judged.into_iter();
    let pruned = all.map(|judged| finish(&subject, judged, &found, options));
    Ok((pruned.collect::<Result<_, _>>()?, found.staged))
}

/// A model within budgets that its costs decide.
fn made(
    subject: &Subject<'_>,
    evidence: &Evidence,
    goal: &Goal<'_>,
    how: How<'_>,
) -> Result<Cut, Error> {
    let within = (goal.budgets(), how.limits);
    weighing::within(subject, evidence, within, true, |file| {
        let choice = cutting::choose(subject, evidence, goal, &How { file, ..how })?;
        let fitted = cutting::fit(subject, evidence, choice, how.repairing.repair)?;
        cutting::cut(subject, evidence, fitted, how.repairing)
    })
}

fn how<'a>(options: &'a Options, gauges: &'a Gauges<'_>) -> How<'a> {
    How {
        limits: &options.limits,
        clock: Clock::of(options, gauges),
        repairing: Repairing {
            repair: options.repair(),
            memory: options.memory,
        },
        file: None,
    }
}

fn finish(
    subject: &Subject<'_>,
    judged: Judged,
    found: &Found,
    options: &Options,
) -> Result<Pruned, Error> {
    subject.observer.notes(&judged.notes);
    let report = judging::report(subject, &judged, found, &options.opening.calibration);
    let plan = judged.selection.plan;
    Ok(Pruned {
        model: judged.model,
        plan: plan.spelt_out(&subject.model, &subject.graph, &subject.groups)?,
        report,
    })
}

/// Describes the groups of a model.
///
/// # Errors
/// The model cannot be run.
pub(crate) fn inspect(
    model: Model,
    request: &Opening,
    observer: &dyn Observer,
) -> Result<Inspection, Error> {
    let mut request = request.clone();
    // Of inputs that are made up only shapes are wanted.
    if request.calibration.is_synthetic() {
        request.calibration.reader.samples = Some(2);
    }
    let subject = open(model, &request, observer)?;
    Ok(report::inspect(&subject.graph, &subject.groups))
}
