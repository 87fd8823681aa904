//! The dense model's side of all fits. Nothing of it depends on the repair: its nodes run once, and
//! of what its taps gather the outputs that stay wait for their level.

use std::ops::Range;

use rayon::prelude::*;

use crate::data::Batch;
use crate::onnx::Tensor;
use crate::repair::sequential::RepairRequest;
use crate::repair::sequential::job::{self, Job};
use crate::repair::sequential::picked;
use crate::subgraph::{OpenSubgraph, Schedule, SpillCache, Subgraph, SubgraphError, Track};
use crate::taps::Placed;

/// Elements that a run gathers of a sample, about: those of a batch are all in memory at once.
const MOST_GATHERED: usize = 1 << 21;

/// The dense model with the taps of all levels. It runs in one stage, or in more where its taps
/// gather much.
pub(super) struct Dense<'a> {
    setting: RepairRequest<'a>,
    /// The stage that runs, open. An open model holds the memory of its runs.
    subgraph: Option<OpenSubgraph<'a>>,
    /// What crosses from stage to stage.
    track: Track,
    /// Per batch, by the number of the tap.
    /// Keys are places in `taps`.
    cache: SpillCache<usize>,
    taps: Vec<Placed>,
    /// Per tap, the channels that stay.
    stays: Vec<Vec<usize>>,
    /// Per level, its taps.
    levels: Vec<Range<usize>>,
    /// Per stage, its levels.
    stages: Vec<Range<usize>>,
}

impl<'a> Dense<'a> {
    /// For the jobs of all levels; `memory` bytes of samples and activations are held in memory.
    pub fn new(setting: &RepairRequest<'a>, jobs: &[Vec<Job<'_>>], memory: u64) -> Self {
        let (mut taps, mut stays, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        let mut gathered = Vec::new();
        for jobs in jobs {
            let first = taps.len();
            for (placed, channels) in jobs.iter().flat_map(Job::dense_taps) {
                taps.push(placed.clone());
                stays.push(channels.to_vec());
            }
            levels.push(first..taps.len());
            let of_job = |job: &Job<'_>| {
                let widths = job.dense_taps().map(|(placed, _)| placed.channels);
                widths.sum::<usize>().saturating_mul(job.rows)
            };
            gathered.push(jobs.iter().map(of_job).sum());
        }
        let stages = stages(&gathered);
        let asked = |stage: &Range<usize>| job::wanted(&taps[taps_of(&levels, stage)]);
        let requests: Vec<_> = stages.iter().map(asked).collect();
        Dense {
            setting: *setting,
            subgraph: None,
            track: Track::new(Schedule::new(setting.graph, &requests), memory / 2),
            cache: SpillCache::new(memory / 2),
            taps,
            stays,
            levels,
            stages,
        }
    }

    /// Opens the stage that begins with a level; returns the levels that it is for.
    pub fn begin(&mut self, level: usize) -> Result<Option<Range<usize>>, SubgraphError> {
        let mut stages = self.stages.iter();
        let Some(stage) = stages.position(|stage| stage.start == level) else {
            return Ok(None);
        };
        let taps = self.taps[taps_of(&self.levels, &self.stages[stage])].to_vec();
        let RepairRequest { model, graph, .. } = self.setting;
        let subgraph = Subgraph::new(model, graph, &self.track.schedule, stage, taps);
        self.subgraph = Some(subgraph.open_beside(self.setting.runtime)?);
        Ok(Some(self.stages[stage].clone()))
    }

    /// Runs a batch through the stage that is open, for these levels; `places` are the positions
    /// for their taps. The first stage reads the batch itself.
    pub fn run(
        &mut self,
        stage: &Range<usize>,
        (number, batch): (usize, Option<&Batch>),
        places: Batch,
    ) -> Result<(), SubgraphError> {
        self.cache.open(number);
        let Some(subgraph) = &mut self.subgraph else {
            return Ok(());
        };
        let taps = taps_of(&self.levels, stage);
        let fed = taps.clone().zip(&places);
        let fed = fed.filter(|&(tap, _)| !self.taps[tap].is_whole);
        let feeds = fed.map(|(_, feed)| feed.clone()).collect();
        let found = subgraph.run(&mut self.track, number, batch, feeds)?;
        let all: Vec<_> = taps.zip(found).zip(&places).collect();
        let picked = all.into_par_iter().map(|((tap, tensor), (_, places))| {
            let (stays, placed) = (&self.stays[tap], &self.taps[tap]);
            let picked = if placed.is_whole {
                picked::positions(&tensor, stays, places)
            } else {
                picked::channels(tensor, stays, placed.channels_last)
            };
            (tap, picked)
        });
        for (tap, picked) in picked.collect::<Vec<_>>() {
            self.cache.put(number, tap, picked)?;
        }
        Ok(())
    }

    /// Number of batches seen.
    pub fn batches(&self) -> usize {
        self.cache.batches()
    }

    /// What the taps of a level gathered of a batch.
    pub fn found(&mut self, level: usize, number: usize) -> Result<Vec<Tensor>, SubgraphError> {
        let taps = self.levels.get(level).cloned().unwrap_or_default();
        let found = taps.filter_map(|tap| self.cache.get(number, tap).transpose());
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Forgets the samples of a level, whose batches were all seen.
    pub fn finish(&mut self, level: usize) {
        self.subgraph = None;
        if let Some(stage) = self.stages.iter().position(|stage| stage.start == level) {
            self.track.finish(stage);
        }
        let taps = self.levels.get(level).cloned().unwrap_or_default();
        self.cache.drop_values(&taps.collect::<Vec<_>>());
    }
}

/// Runs of levels that gather so much together, or one level that gathers more.
fn stages(gathered: &[usize]) -> Vec<Range<usize>> {
    let mut stages: Vec<Range<usize>> = Vec::new();
    let mut sum = 0_usize;
    for (level, &more) in gathered.iter().enumerate() {
        sum = sum.saturating_add(more);
        match stages.last_mut() {
            Some(stage) if sum <= MOST_GATHERED => stage.end = level + 1,
            _ => {
                stages.push(level..level + 1);
                sum = more;
            }
        }
    }
    stages
}

/// The taps of some levels.
fn taps_of(levels: &[Range<usize>], stage: &Range<usize>) -> Range<usize> {
    let all = levels.get(stage.clone()).unwrap_or_default();
    match (all.first(), all.last()) {
        (Some(first), Some(last)) => first.start..last.end,
        _ => 0..0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stages_gather_no_more_than_one_level_must() {
        let most = MOST_GATHERED;
        assert_eq!(stages(&[most / 2, most / 2, 1]), [0..2, 2..3]);
        assert_eq!(stages(&[1, 3 * most, 1, 1]), [0..1, 1..2, 2..4]);
        assert_eq!(stages(&[usize::MAX, usize::MAX]), [0..1, 1..2]);
    }
}
