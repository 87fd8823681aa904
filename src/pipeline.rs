//! The whole pass, stage after stage: a model file in, a smaller one out.

mod batch;
mod calibration;
mod combining;
mod compare;
mod cutting;
mod divergence;
mod error;
mod hint;
mod latency;
mod options;
mod sizes;
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
use crate::report::{self, Change, Inspection, Report};
use crate::select::Plan;
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
    options::check_targets(input, Some(output), options)?;
    let mut outcome = prune_model(onnx::load_within(input, options.allowance)?, options, tell)?;
    outcome.report.input = Some(input.display().to_string());
    onnx::save(&outcome.model, output)?;
    outcome.report.bytes = Change {
        before: onnx::file_bytes(input)?,
        after: onnx::file_bytes(output)?,
    };
    write(&outcome, options)?;
    Ok(outcome.report)
}

/// Does all that [`prune`] does but writing the model: the plan and the report are written where the
/// options ask for them.
///
/// # Errors
/// Any stage's error.
pub fn rehearse(input: &Path, options: &Options, tell: &dyn Fn(Event)) -> Result<Report, Error> {
    options::check_targets(input, None, options)?;
    let mut outcome = prune_model(onnx::load_within(input, options.allowance)?, options, tell)?;
    outcome.report.input = Some(input.display().to_string());
    outcome.report.bytes.before = onnx::file_bytes(input)?;
    write(&outcome, options)?;
    Ok(outcome.report)
}

/// Prunes a model in memory. The files that `options` name for plan and report are left alone.
///
/// # Errors
/// Any stage's error.
pub fn prune_model(
    model: Model,
    options: &Options,
    tell: &dyn Fn(Event),
) -> Result<Outcome, Error> {
    let work = Work::open(model, options, tell)?;
    let (done, evidence) = if work.is_prunable() {
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
    Ok(Outcome {
        model,
        plan: selection.plan,
        report,
    })
}

/// The files beside the model.
fn write(outcome: &Outcome, options: &Options) -> Result<(), Error> {
    if let Some(path) = &options.plan_out {
        options::write_json(path, &outcome.plan)?;
    }
    if let Some(path) = &options.report {
        options::write_report(path, &outcome.report, || outcome.report.html())?;
    }
    Ok(())
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
