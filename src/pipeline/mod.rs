//! The whole pass, stage after stage: a model file in, a smaller one out.

mod batch;
mod combining;
mod compare;
mod cutting;
mod error;
mod files;
mod hint;
mod latency;
mod options;
mod samples;
mod sizes;
mod smallest;
mod states;
mod statistics;
mod sweep;
mod work;

use std::path::Path;

pub use compare::compare;
pub use error::Error;
pub use options::{Event, Globs, Options};
pub use sweep::sweep;

use crate::onnx::{self, Model};
use crate::outputs::Staged;
use crate::report::{self, Inspection, Report};
use crate::select::Plan;
use crate::verify::Change;
use files::Files;
use work::{Done, Evidence, Work};

/// A pruned model with how it came about.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The smaller model.
    pub model: Model,
    /// The channels that stayed.
    pub plan: Plan,
    /// What was found out; its bytes are those of the models with all tensors inline.
    pub report: Report,
}

/// Prunes the model at `input` and writes the result to `output`, which appears only when it is
/// whole and checked. `tell` hears of the progress.
///
/// # Errors
/// Any stage's error; nothing is left behind then.
pub fn prune(
    input: &Path,
    output: &Path,
    options: &Options,
    tell: &dyn Fn(Event),
) -> Result<Report, Error> {
    let model = onnx::load_within(input, options.allowance)?;
    let mut files = Files::of(&model, input, options)?;
    let target = files.model(output)?;
    files.tell(tell);
    let before = onnx::file_bytes(&model, input)?;
    let (mut outcome, statistics) = pruned(model, options, tell)?;
    outcome.report.input = Some(input.display().to_string());
    outcome.report.bytes = Change {
        before,
        after: files.stage(&outcome.model, &target)?,
    };
    files.add(statistics);
    write(&outcome, files)?;
    Ok(outcome.report)
}

/// Does all that [`prune`] does but writing the model: the plan and the report are written where the
/// options ask for them.
///
/// # Errors
/// Any stage's error.
pub fn rehearse(input: &Path, options: &Options, tell: &dyn Fn(Event)) -> Result<Report, Error> {
    let model = onnx::load_within(input, options.allowance)?;
    let mut files = Files::of(&model, input, options)?;
    files.tell(tell);
    let before = onnx::file_bytes(&model, input)?;
    let (mut outcome, statistics) = pruned(model, options, tell)?;
    outcome.report.input = Some(input.display().to_string());
    outcome.report.bytes.before = before;
    files.add(statistics);
    write(&outcome, files)?;
    Ok(outcome.report)
}

/// Prunes a model in memory. The files that `options` name for plan and report are left alone; statistics are
/// written where they are asked for.
///
/// # Errors
/// Any stage's error.
pub fn prune_model(
    model: Model,
    options: &Options,
    tell: &dyn Fn(Event),
) -> Result<Outcome, Error> {
    let (outcome, statistics) = pruned(model, options, tell)?;
    files::publish(statistics)?;
    Ok(outcome)
}

/// The pruned model, and the statistics that wait beside their place.
fn pruned(
    model: Model,
    options: &Options,
    tell: &dyn Fn(Event),
) -> Result<(Outcome, Option<Staged>), Error> {
    let work = Work::open(model, options, tell)?;
    let (done, mut evidence) = if work.is_prunable() {
        work.prune(options, tell)?
    } else {
        (work.unchanged(options)?, Evidence::default())
    };
    for note in &done.notes {
        tell(Event::Note(note.clone()));
    }
    let report = work.report(options, &done, &evidence);
    let Done {
        model, selection, ..
    } = done;
    let outcome = Outcome {
        model,
        plan: selection.plan,
        report,
    };
    Ok((outcome, evidence.staged.take()))
}

/// Puts the files of a run into place.
fn write(outcome: &Outcome, mut files: Files) -> Result<(), Error> {
    files.plan(&outcome.plan)?;
    files.report(&outcome.report, || outcome.report.html())?;
    files.publish()
}

/// Describes the groups of the model at `input`.
///
/// # Errors
/// The model cannot be read or run.
pub fn inspect(input: &Path, options: &Options, tell: &dyn Fn(Event)) -> Result<Inspection, Error> {
    inspect_model(onnx::load_within(input, options.allowance)?, options, tell)
}

/// Describes the groups of a model.
///
/// # Errors
/// The model cannot be run.
pub fn inspect_model(
    model: Model,
    options: &Options,
    tell: &dyn Fn(Event),
) -> Result<Inspection, Error> {
    let work = Work::open(model, options, tell)?;
    Ok(report::inspect(&work.graph, &work.groups))
}
