//! Sequential repair: every consumer is fitted to what the pruned and already repaired model really
//! gives it.
//!
//! A repair in one pass fits each consumer to the dense model's inputs; what the layers before lost
//! is not in its equations, and errors add up. Here the consumers are walked in topological order,
//! level by level. At each level the dense and the pruned model run one segment further, on the
//! same samples. With `x` the pruned model's inputs and `t` the dense model's outputs of a consumer,
//!
//! ```text
//! W' = W1 + Cov(t - W1 x, x) inv(Cov(x))        b' = mean(t) - W' mean(x)
//! ```
//!
//! is the least squares fit. `W1` is the weight of the repair in one pass; a ridge on `Cov(x)`
//! pulls `W'` back to it. Where the output goes on into a sum, as at the end of a residual
//! branch, `t` also makes good what the other summand lost: the sum is what should be as before.
//!
//! What a later segment reads of an earlier one is kept between them, on disk where it is more than
//! the memory allowed. So both models run once, whatever their depth.

mod job;
mod levels;
mod regression;

use std::collections::BTreeSet;

use crate::calibrate::{Batch, CalibrateError, Statistics, StatisticsError};
use crate::graph::{Graph, ValueId};
use crate::groups::{Groups, Kept};
use crate::onnx::Model;
use crate::runtime::Runtime;
use crate::segments::{Open, Segment, SegmentError, Track};
use crate::surgery::{self, Repaired, SurgeryError};

use job::Job;
use levels::Levels;

/// Why a sequential repair failed.
#[derive(Debug, thiserror::Error)]
pub enum SequentialError {
    /// Data that cannot be read, or that a tap cannot use.
    #[error(transparent)]
    Data(#[from] CalibrateError),
    /// Values inside the model that cannot be used.
    #[error(transparent)]
    Values(#[from] StatisticsError),
    /// A segment that cannot be run.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A weight that cannot be solved or cut.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
}

/// What a sequential repair reads.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
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
    /// Where segments run.
    pub runtime: &'a Runtime,
    /// Bytes of activations that are held in memory between two segments.
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
    setting: Setting<'_>,
    once: Repaired,
    samples: usize,
    batches: impl Iterator<Item = Result<Batch, CalibrateError>>,
    progress: &dyn Fn(Step),
) -> Result<Repaired, SequentialError> {
    let kept = Kept::new(setting.groups, setting.stays);
    let levels = Levels::find(setting.graph, setting.groups, setting.statistics, &kept);
    let mut jobs = job::jobs(&setting, &kept, &levels, samples);
    progress(Step::Levels(jobs.len()));
    if jobs.is_empty() {
        return Ok(once);
    }
    let dense = jobs.iter().map(|jobs| wanted(jobs.iter().map(Job::dense)));
    let pruned = jobs.iter().map(|jobs| wanted(jobs.iter().map(Job::pruned)));
    let half = setting.memory / 2;
    let mut tracks = [
        Track::new(setting.graph, dense.collect(), half),
        Track::new(setting.graph, pruned.collect(), half),
    ];
    let mut first = Some(batches);
    let mut repaired = once;
    for (level, jobs) in jobs.iter_mut().enumerate() {
        let mut walk = Walk {
            setting,
            kept,
            level,
            tracks: &mut tracks,
        };
        match first.take() {
            Some(batches) => walk.run(jobs, &repaired, batches.map(|batch| batch.map(Some)))?,
            None => {
                let again = (0..walk.tracks[0].shelf.batches()).map(|_| Ok(None));
                walk.run(jobs, &repaired, again)?;
            }
        }
        for job in jobs.drain(..) {
            job.solve(&mut repaired)?;
        }
        progress(Step::Done);
    }
    Ok(repaired)
}

/// What a sequential repair tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It has that many levels.
    Levels(usize),
    /// One more is done.
    Done,
}

/// Each value once.
fn wanted(values: impl Iterator<Item = Vec<ValueId>>) -> Vec<ValueId> {
    let all: BTreeSet<ValueId> = values.flatten().collect();
    all.into_iter().collect()
}

/// One level of the walk.
struct Walk<'a, 't> {
    setting: Setting<'a>,
    kept: Kept<'a>,
    level: usize,
    tracks: &'t mut [Track; 2],
}

impl<'a> Walk<'a, '_> {
    /// Runs one segment of both models on all batches: `None` for a batch that was seen before,
    /// whose values are on the shelves.
    fn run(
        &mut self,
        jobs: &mut [Job<'_>],
        repaired: &Repaired,
        batches: impl Iterator<Item = Result<Option<Batch>, CalibrateError>>,
    ) -> Result<(), SequentialError> {
        let mut segments = self.segments(jobs, repaired)?;
        for (number, batch) in batches.enumerate() {
            let batch = batch?;
            let mut draws = Vec::new();
            for (index, job) in jobs.iter().enumerate() {
                draws.extend(job.draw(self.setting.seed, self.level, index, number));
            }
            let all = || jobs.iter().zip(&draws);
            let feeds = [
                all()
                    .flat_map(|(job, draw)| job.dense_feeds(draw))
                    .collect(),
                all()
                    .flat_map(|(job, draw)| job.pruned_feeds(draw))
                    .collect(),
            ];
            let mut found = [Vec::new(), Vec::new()];
            let sides = self.tracks.iter_mut().zip(&mut segments).zip(feeds);
            for (((track, segment), feeds), found) in sides.zip(&mut found) {
                *found = segment.run(track, number, batch.as_ref(), feeds)?;
            }
            job::add_all(jobs, &draws, found)?;
        }
        for track in self.tracks.iter_mut() {
            track.finish(self.level);
        }
        Ok(())
    }

    /// The level's segments of the dense and of the pruned model.
    fn segments(
        &self,
        jobs: &[Job<'_>],
        repaired: &Repaired,
    ) -> Result<Vec<Open<'a>>, SequentialError> {
        let Setting { model, graph, .. } = self.setting;
        let schedule = &self.tracks[1].schedule;
        let runs_here = |node: usize| schedule.stage(node) == Some(self.level);
        let cut = surgery::cut(model, graph, &self.kept, repaired, &runs_here)?;
        let taps = [
            jobs.iter().flat_map(Job::dense_taps).cloned().collect(),
            jobs.iter().flat_map(Job::pruned_taps).cloned().collect(),
        ];
        let mut segments = Vec::new();
        for ((track, model), taps) in self.tracks.iter().zip([model, &cut]).zip(taps) {
            let segment = Segment::new(model, graph, &track.schedule, self.level, taps);
            segments.push(segment.open(self.setting.runtime)?);
        }
        Ok(segments)
    }
}
