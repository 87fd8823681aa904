//! A budget of latency: where the time goes is profiled, candidates are measured.

use crate::pipeline::work::Work;
use crate::pipeline::{Error, Event};
use crate::select::CostModel;
use crate::surgery::{self, Repaired};
use crate::verify::{Check, Runs};

impl Work {
    /// The time of a run as a function of the widths, from ONNX Runtime's profile of the original.
    pub(super) fn time_model(&self, tell: &dyn Fn(Event)) -> Result<CostModel, Error> {
        tell(Event::Stage("profiling"));
        let profile = self.runtime.profile(&self.model, &self.samples.one()?)?;
        Ok(CostModel::time(&self.graph, &self.groups, &profile))
    }

    /// The measured time of a run at these widths over the original's. Which channels stay and what
    /// their weights are makes no difference to it.
    pub(super) fn share_of_latency(&self, widths: &[usize]) -> Result<f64, Error> {
        let mut stays = vec![true; self.groups.channel_count];
        for (group, &width) in self.groups.groups.iter().zip(widths) {
            for &channel in group.channels.iter().skip(width) {
                stays[channel] = false;
            }
        }
        let none = Repaired::default();
        let cut = surgery::prune(&self.model, &self.graph, &self.groups, &stays, &none)?;
        let one = self.samples.one()?;
        let times = Check::open(&self.model, &[&cut], &self.runtime)?.latency(&one, Runs::MANY)?;
        let mut shares = times.iter().map(|time| time.after / time.before);
        Ok(shares.next().unwrap_or(f64::NAN))
    }
}
