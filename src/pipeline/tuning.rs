//! Behind a repair layer by layer: weights moved along gradients.

use std::ops::RangeInclusive;

use crate::graph::Graph;
use crate::onnx::Model;
use crate::pipeline::Error;
use crate::pipeline::cutting::Cut;
use crate::pipeline::evidence::Evidence;
use crate::pipeline::open::Subject;
use crate::repair::Repair;
use crate::report::Note;
use crate::runtime::RuntimeError;
use crate::select::CostModel;
use crate::tune::{self, Progress, TuneError, TuneRequest};
use crate::verify::{Check, VerifyError};

/// Samples in one run of a model that learns.
const MOST_SAMPLES: usize = 16;
/// Multiply-accumulates of the original on all samples of all passes, about, and how many passes
/// there are at least and at most: what costs little is seen more often.
const WORK: f64 = 2.5e12;
const PASSES: RangeInclusive<usize> = 16..=64;
/// What is held of a sample at a time, in its values: those of the smaller model, their gradients,
/// and what they are drawn to.
const PER_VALUE: u64 = 3;

/// The model tuned, where that brings it nearer to the original on samples held back.
///
/// # Errors
/// The models cannot be run.
pub(super) fn tuned(
    subject: &Subject<'_>,
    evidence: &Evidence,
    mut cut: Cut,
    memory: u64,
) -> Result<Cut, Error> {
    let stays = cut.selection.plan.stays(&subject.groups)?;
    let Some(seen) = evidence
        .seen()
        .filter(|_| !stays.iter().all(|&stays| stays))
    else {
        return Ok(cut);
    };
    let (model, graph) = seen.dense(subject);
    let unit = subject.samples.unit().max(1);
    let request = TuneRequest {
        model,
        groups: &subject.groups,
        stays: &stays,
        runtime: &subject.runtime,
        memory,
        allowance: subject.allowance,
        per_run: per_run(subject, graph),
        unit,
        passes: passes(subject),
        seed: subject.samples.seed(),
    };
    let observer = subject.observer;
    let progress = |step| match step {
        Progress::Steps(total) => observer.counting("tuning", total, "steps"),
        Progress::Done => observer.advance(1),
    };
    let found = match tune::tune(request, &cut.model, subject.samples.units()?, &progress) {
        Err(TuneError::Runtime(error @ RuntimeError::Open { .. })) => Err(error.to_string()),
        found => found?.ok_or_else(|| "no weight of it can be tuned".to_owned()),
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            let note = format!("{why}: the repair layer by layer was kept");
            cut.notes.push(note.into());
            return Ok(cut);
        }
    };
    let errors = errors(subject, [&cut.model, &found.model])?;
    match errors {
        Some([before, after]) if after > before => {
            let note = format!(
                "tuned, the outputs would be further from the original's on the samples held back (squared error over \
                 the variance {after:.3} and {before:.3}): the repair layer by layer was kept"
            );
            cut.notes.push(note.into());
        }
        _ => {
            cut.notes.extend(ended(&found.ends));
            (cut.model, cut.repair) = (found.model, Repair::Tuned);
        }
    }
    Ok(cut)
}

/// Units in a run, of which the values have room.
fn per_run(subject: &Subject<'_>, graph: &Graph) -> usize {
    if !subject.samples.is_open() {
        return 1;
    }
    let unit = subject.samples.unit().max(1);
    let made = graph.made_bytes() / subject.samples.first_size().max(1) as u64;
    let held = made.saturating_mul(PER_VALUE).max(1);
    let most = MOST_SAMPLES.div_ceil(unit);
    let fitting = subject.allowance.bytes / 4 / held / unit as u64;
    usize::try_from(fitting).unwrap_or(most).clamp(1, most)
}

/// How often all samples are seen.
fn passes(subject: &Subject<'_>) -> usize {
    let macs = CostModel::macs(&subject.graph, &subject.groups);
    let of_pass = macs.total(&subject.groups.widths()) * subject.samples.seen().len() as f64;
    let wanted = (WORK / of_pass.max(1.0)) as usize;
    wanted.clamp(*PASSES.start(), *PASSES.end())
}

/// Where gradients end, in words.
fn ended(nodes: &[String]) -> Option<Note> {
    let (first, rest) = nodes.split_first()?;
    let more = match rest.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let note = format!(
        "the gradients of '{first}'{more} are not known: what is before was tuned to what it makes itself"
    );
    Some(note.into())
}

/// How far the outputs of both are from the original's on the samples held back.
fn errors(subject: &Subject<'_>, models: [&Model; 2]) -> Result<Option<[f64; 2]>, Error> {
    let mut check = Check::open(&subject.model, &models, &subject.runtime)?;
    let held_back = subject.samples.batches(subject.samples.compared())?;
    match check.squared_errors(held_back) {
        Ok(found) => Ok(found.try_into().ok()),
        Err(VerifyError::NotFinite { .. }) => Ok(Some([0.0, f64::INFINITY])),
        Err(error) => Err(error.into()),
    }
}
