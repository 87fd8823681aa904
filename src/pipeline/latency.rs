//! A budget of latency: where the time goes is profiled, candidates are measured.

use crate::groups::Widths;
use crate::onnx::Model;
use crate::pipeline::Error;
use crate::pipeline::open::Subject;
use crate::pipeline::quality::Gauge;
use crate::select::{Budget, CostModel};
use crate::surgery::{self, Repaired};
use crate::verify::{Check, Runs, Timing};

/// The time of a run as a function of the widths, from ONNX Runtime's profile of the original.
pub(super) fn model(subject: &Subject<'_>) -> Result<CostModel, Error> {
    subject.observer.stage("profiling");
    let one = subject.samples.one()?;
    let profile = subject.runtime.profile(&subject.model, &one)?;
    Ok(CostModel::time(&subject.graph, &subject.groups, &profile))
}

/// The share of the original's time that a budget allows.
pub(super) fn asked(
    subject: &Subject<'_>,
    budget: Budget,
    clock: Option<&Gauge<'_>>,
) -> Result<f64, Error> {
    match budget {
        Budget::Milliseconds(wanted) => {
            let before = match clock {
                Some(clock) => clock.original()?,
                None => times(subject, &subject.model)?.before,
            };
            Ok(wanted / before)
        }
        budget => Ok(budget.value()),
    }
}

/// The measured time of a run at these widths over the original's. Which channels stay and what
/// their weights are makes no difference to it.
pub(super) fn share(
    subject: &Subject<'_>,
    widths: &Widths,
    clock: Option<&Gauge<'_>>,
) -> Result<f64, Error> {
    let (model, graph, groups) = (&subject.model, &subject.graph, &subject.groups);
    let mut stays = vec![true; groups.channel_count];
    for (group, &width) in groups.groups.iter().zip(widths) {
        for &channel in group.channels.iter().skip(width) {
            stays[channel] = false;
        }
    }
    let cut = surgery::prune(model, graph, groups, &stays, &Repaired::default())?;
    match clock {
        Some(clock) => {
            let before = clock.original()?;
            Ok(clock.measure(&cut)? / before)
        }
        None => Ok(times(subject, &cut)?.share()),
    }
}

/// How long the original and another model take here.
fn times(subject: &Subject<'_>, other: &Model) -> Result<Timing, Error> {
    let one = subject.samples.one()?;
    let mut check = Check::open(&subject.model, &[other], &subject.runtime)?;
    let found = check.latency(&one, Runs::MANY)?.pop();
    Ok(found.unwrap_or(Timing::told(f64::NAN, f64::NAN)))
}
