//! A budget of latency: where the time goes is profiled, candidates are measured.

use crate::pipeline::work::Work;
use crate::pipeline::{Error, Event};
use crate::select::{self, CostModel, Limits, Losses, Scene, Selection};
use crate::surgery::{self, Repaired};
use crate::verify;

/// Runs of each model in one measurement: many, because what is measured decides.
pub(super) const RUNS: usize = 101;

impl Work {
    /// The time of a run as a function of the widths, from ONNX Runtime's profile of the original.
    pub(super) fn time_model(&self, tell: &dyn Fn(Event)) -> Result<CostModel, Error> {
        tell(Event::Stage("profiling"));
        let profile = self.runtime.profile(&self.model, &self.samples.one()?)?;
        let spent = select::spent(&self.graph, &profile);
        Ok(CostModel::time(&self.graph, &self.groups, &spent))
    }

    /// The channels that stay where a run may take the share `asked` of the original's time.
    pub(super) fn select_by_latency(
        &self,
        scene: Scene<'_>,
        asked: f64,
        limits: &Limits,
        (model, losses): (&CostModel, Option<&Losses>),
        tell: &dyn Fn(Event),
    ) -> Result<Selection, Error> {
        let groups = self.groups.groups.iter();
        let whole: Vec<usize> = groups.map(|group| group.channels.len()).collect();
        if scene.prunable().is_empty() {
            return Ok(select::select_at(scene, &whole)?);
        }
        tell(Event::Stage("measuring candidates"));
        let total = model.total(&whole);
        let choose = |share: f64| {
            let widths = select::share(scene, limits, losses, model, share);
            let modelled = model.total(&widths) / total;
            (widths, modelled)
        };
        let found = select::search(asked, choose, |widths| self.share_of_latency(widths))?;
        let Some(found) = found else {
            return Ok(select::select_at(scene, &whole)?);
        };
        if !found.is_kept && !limits.best_effort {
            return Err(select::too_slow(scene, asked, limits, &found).into());
        }
        let selection = select::select_at(scene, &found.best.widths)?;
        Ok(Selection {
            trials: found.trials,
            ..selection
        })
    }

    /// The measured time of a run at these widths over the original's. Which channels stay and what
    /// their weights are makes no difference to it.
    fn share_of_latency(&self, widths: &[usize]) -> Result<f64, Error> {
        let mut stays = vec![true; self.groups.channel_count];
        for (group, &width) in self.groups.groups.iter().zip(widths) {
            for &channel in group.channels.iter().skip(width) {
                stays[channel] = false;
            }
        }
        let none = Repaired::default();
        let cut = surgery::prune(&self.model, &self.graph, &self.groups, &stays, &none)?;
        let one = self.samples.one()?;
        let times = verify::latency(&self.model, &[&cut], &self.runtime, &one, RUNS)?;
        let shares = times.iter().map(|time| time.after / time.before);
        Ok(shares.last().unwrap_or(f64::NAN))
    }
}
