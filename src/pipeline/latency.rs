//! A budget of latency: where the time goes is profiled, candidates are measured.

use crate::groups::Widths;
use crate::pipeline::Error;
use crate::pipeline::open::Subject;
use crate::select::CostModel;
use crate::surgery::{self, Repaired};
use crate::verify::{Check, Runs};

/// The time of a run as a function of the widths, from ONNX Runtime's profile of the original.
pub(super) fn model(subject: &Subject<'_>) -> Result<CostModel, Error> {
    subject.observer.stage("profiling");
    let one = subject.samples.one()?;
    let profile = subject.runtime.profile(&subject.model, &one)?;
    Ok(CostModel::time(&subject.graph, &subject.groups, &profile))
}

/// The measured time of a run at these widths over the original's. Which channels stay and what
/// their weights are makes no difference to it.
pub(super) fn share(subject: &Subject<'_>, widths: &Widths) -> Result<f64, Error> {
    let (model, graph, groups) = (&subject.model, &subject.graph, &subject.groups);
    let mut stays = vec![true; groups.channel_count];
    for (group, &width) in groups.groups.iter().zip(widths) {
        for &channel in group.channels.iter().skip(width) {
            stays[channel] = false;
        }
    }
    let cut = surgery::prune(model, graph, groups, &stays, &Repaired::default())?;
    let one = subject.samples.one()?;
    let times = Check::open(model, &[&cut], &subject.runtime)?.latency(&one, Runs::MANY)?;
    let mut shares = times.iter().map(|time| time.after / time.before);
    Ok(shares.next().unwrap_or(f64::NAN))
}
