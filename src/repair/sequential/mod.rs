//! Sequential repair: every consumer is fitted to what the pruned and already repaired model really
//! gives it.
//!
//! A repair in one pass fits each consumer to the dense model's inputs; what the layers before lost
//! is not in its equations, and errors add up. Here the consumers are walked in topological order,
//! level by level, and at each the pruned model runs one subgraph further. The dense model has run
//! before, on the same samples. With `x` the pruned model's inputs and `t` the dense model's
//! outputs of a consumer,
//!
//! ```text
//! W' = W1 + Cov(t - W1 x, x) inv(Cov(x))        b' = mean(t) - W' mean(x)
//! ```
//!
//! is the least squares fit. `W1` is the weight of the repair in one pass; a ridge on `Cov(x)`
//! pulls `W'` back to it. Where the output goes on into a sum, as at the end of a residual
//! branch, `t` also makes good what the other summand lost: the sum is what should be as before.
//!
//! A level starts from values that an earlier one put away, on disk where they are more than the
//! memory allowed, and runs the nodes since then again where that is cheaper than to put away more.

mod course;
mod dense;
mod job;
mod jobs;
mod levels;
mod onward;
mod picked;
mod rectified;
mod regression;
mod ridge;
mod sampled;
mod ties;

use std::ops::Range;

use crate::data::{Batch, DataError, Padding};
use crate::graph::{Graph, NodeId};
use crate::groups::{Groups, Kept};
use crate::onnx::Model;
use crate::runtime::Runtime;
use crate::statistics::Statistics;
use crate::subgraph::{OpenSubgraph, Subgraph, SubgraphError};
use crate::surgery::{self, Repaired, SurgeryError};
use crate::taps::{Draw, TapError};

use course::Course;
use dense::Dense;
use job::Job;
use levels::Levels;
use sampled::Sampled;

/// Why a sequential repair failed.
#[derive(Debug, thiserror::Error)]
pub enum SequentialError {
    /// Data that cannot be read, or that a tap cannot use.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Values inside the model that cannot be used.
    #[error(transparent)]
    Values(#[from] TapError),
    /// A subgraph that cannot be run.
    #[error(transparent)]
    Subgraph(#[from] SubgraphError),
    /// A weight that cannot be solved or cut.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
}

/// What a sequential repair reads.
#[derive(Clone, Copy)]
pub struct RepairRequest<'a> {
    /// The dense model.
    pub model: &'a Model,
    /// Its graph.
    pub graph: &'a Graph,
    /// Its groups.
    pub groups: &'a Groups,
    /// The statistics of the repair in one pass.
    pub statistics: &'a Statistics,
    /// One entry per channel.
    pub stays: &'a [bool],
    /// Where subgraphs run.
    pub runtime: &'a Runtime,
    /// Bytes of samples and of activations between two subgraphs that are held in memory.
    pub memory: u64,
    /// Chooses the sampled positions.
    pub seed: u64,
}

/// Walks the consumers, starting from `once`, the weights of the repair in one pass. `samples` is
/// how many samples `batches` hold. `progress` is called with the number of levels first, then
/// after each.
///
/// # Errors
/// See [`SequentialError`].
pub fn repair(
    setting: RepairRequest<'_>,
    once: Repaired,
    samples: usize,
    batches: impl Iterator<Item = Result<Batch, DataError>>,
    progress: &dyn Fn(Progress),
) -> Result<Repaired, SequentialError> {
    let kept = Kept::new(setting.groups, setting.stays);
    let levels = Levels::find(setting.graph, setting.groups, setting.statistics, &kept);
    let mut jobs = jobs::jobs(&setting, &kept, &levels, samples);
    progress(Progress::Levels(jobs.len()));
    if jobs.is_empty() {
        return Ok(once);
    }
    let pruned = jobs
        .iter()
        .map(|jobs| job::wanted(jobs.iter().flat_map(Job::pruned_taps)));
    let mut walk = BothModels {
        setting,
        kept,
        course: Course::new(&setting, &kept, &pruned.collect::<Vec<_>>())?,
        dense: Dense::new(&setting, &jobs, setting.memory / 2),
        padding: Vec::new(),
    };
    let mut repaired = once;
    let mut first = Some(batches);
    for level in 0..jobs.len() {
        match first.take() {
            Some(batches) => {
                walk.run(level, &mut jobs, &repaired, batches.map(|b| b.map(Some)))?;
            }
            None => {
                let again = (0..walk.dense.batches()).map(|_| Ok(None));
                walk.run(level, &mut jobs, &repaired, again)?;
            }
        }
        job::solve(&std::mem::take(&mut jobs[level]), &mut repaired)?;
        walk.dense.finish(level);
        walk.course.finish(level);
        progress(Progress::Done);
    }
    Ok(repaired)
}

/// What a sequential repair tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has that many levels.
    Levels(usize),
    /// One more is done.
    Done,
}

/// Both models on their way.
struct BothModels<'a> {
    setting: RepairRequest<'a>,
    kept: Kept<'a>,
    course: Course,
    dense: Dense<'a>,
    /// Of each batch that was seen.
    padding: Vec<Option<Padding>>,
}

impl<'a> BothModels<'a> {
    /// Runs a level on all batches: `None` for one that was seen before. Where a stage of the dense
    /// model begins, it runs as well.
    fn run(
        &mut self,
        level: usize,
        jobs: &mut [Vec<Job<'_>>],
        repaired: &Repaired,
        batches: impl Iterator<Item = Result<Option<Batch>, DataError>>,
    ) -> Result<(), SequentialError> {
        let mut subgraph = self.subgraph(level, &jobs[level], repaired)?;
        let stage = self.dense.begin(level)?;
        let mut last: Option<Sampled> = None;
        for (number, batch) in batches.enumerate() {
            let batch = batch?;
            if let Some(batch) = &batch {
                self.padding.push(Padding::of(batch));
            }
            let stage = stage.as_ref();
            let stage = stage.map(|levels| (levels, self.dense_feeds(jobs, levels, number)));
            let jobs = &mut jobs[level];
            let draws = self.draws(level, jobs, number);
            let feeds = jobs.iter().zip(&draws);
            let feeds = feeds.flat_map(|(job, draw)| job.pruned_feeds(draw));
            let feeds: Batch = feeds.collect();
            let (dense, course) = (&mut self.dense, &mut self.course);
            let run = || {
                if let Some((levels, feeds)) = stage {
                    dense.run(levels, (number, batch.as_ref()), feeds)?;
                }
                let pruned = subgraph.run(&mut course.track, number, batch.as_ref(), feeds)?;
                Ok::<_, SubgraphError>((dense.found(level, number)?, pruned))
            };
            // The batch before is added meanwhile.
            let add = || match last.take() {
                Some(sampled) => sampled::add_all(jobs, sampled),
                None => Ok(()),
            };
            let (found, added) = rayon::join(run, add);
            added?;
            let (dense, pruned) = found?;
            last = Some(Sampled {
                draws,
                dense,
                pruned,
            });
        }
        match last {
            Some(sampled) => sampled::add_all(&mut jobs[level], sampled),
            None => Ok(()),
        }
    }

    /// The positions for each job of a level in one batch.
    fn draws(&self, level: usize, jobs: &[Job<'_>], number: usize) -> Vec<Draw> {
        let padding = self.padding.get(number).and_then(Option::as_ref);
        let all = jobs.iter().enumerate();
        all.filter_map(|(index, job)| job.draw(self.setting.seed, (level, index, number), padding))
            .collect()
    }

    /// The positions for the dense model's taps of some levels.
    fn dense_feeds(&self, jobs: &[Vec<Job<'_>>], levels: &Range<usize>, number: usize) -> Batch {
        let mut feeds = Batch::new();
        for level in levels.clone() {
            let draws = self.draws(level, &jobs[level], number);
            let all = jobs[level].iter().zip(&draws);
            feeds.extend(all.flat_map(|(job, draw)| job.dense_feeds(draw)));
        }
        feeds
    }

    /// The part of the pruned model that a level runs.
    fn subgraph(
        &self,
        level: usize,
        jobs: &[Job<'_>],
        repaired: &Repaired,
    ) -> Result<OpenSubgraph<'a>, SequentialError> {
        let RepairRequest { model, graph, .. } = self.setting;
        let runs_here = |node: NodeId| self.course.runs(level, node);
        let cut = surgery::cut(model, graph, &self.kept, repaired, &runs_here)?;
        let taps = jobs.iter().flat_map(Job::pruned_taps).cloned().collect();
        let (inputs, outputs) = self.course.ends(graph, level);
        let subgraph = Subgraph::between(cut, graph, (inputs, &outputs), taps);
        Ok(subgraph.open_beside(self.setting.runtime)?)
    }
}
