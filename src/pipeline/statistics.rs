//! Where statistics come from: a pass over the data, or files of earlier passes.

use crate::statistics;
use std::path::Path;

use crate::graph::Graph;
use crate::groups::Groups;
use crate::outputs::Staged;
use crate::pipeline::files;
use crate::pipeline::work::Work;
use crate::pipeline::{Error, Event, Options};
use crate::report::source;
use crate::statistics::{
    Estimator, GatherOptions, MergeError, Origin, Statistics, StatisticsError, Sums,
};

/// Bytes that are held while data run through the model: the statistics, and the weights, of which a session has
/// a copy and so has a model that is cut.
pub(super) fn kept(graph: &Graph, groups: &Groups) -> u64 {
    let weights = graph.stored_bytes().saturating_mul(2);
    Sums::bytes(graph, groups).saturating_add(weights)
}

impl Work {
    /// What the consumers read, from the files of `--stats` or else from the data; then also their file,
    /// aside, where it was asked for.
    pub(super) fn statistics(
        &self,
        options: &Options,
        tell: &dyn Fn(Event),
    ) -> Result<(Statistics, Option<Staged>), Error> {
        let what = || "the calibration, for its statistics and the weights,".to_owned();
        let advice = "prune fewer layers at a time (--only, --exclude), or allow more";
        let kept = kept(&self.graph, &self.groups);
        options.allowance.bytes(kept, what, advice)?;
        if !options.stats.is_empty() {
            return Ok((self.stored(options, tell)?, None));
        }
        let mut staged = None;
        let mut sums = self.gather(options, tell)?;
        if let Some(path) = &options.stats_out {
            let origin = Origin {
                model: self.original.digest(),
                data: self.samples.digest(options)?,
                source: source(&options.calibration),
            };
            let target = files::statistics(path)?;
            staged = Some(statistics::stage(&target, &origin, &mut sums)?);
        }
        Ok((sums.statistics()?, staged))
    }

    fn gather(&self, options: &Options, tell: &dyn Fn(Event)) -> Result<Sums, Error> {
        let wanted = self.samples.seen();
        tell(Event::Counting {
            stage: "calibrating",
            total: wanted.len(),
            what: "samples",
        });
        let progress = |done: usize| tell(Event::Advance(done));
        let gather = GatherOptions {
            samples: wanted.len(),
            seed: options.reader.seed,
            estimator: options.estimator,
            progress: &progress,
        };
        let batches = self.samples.batches(wanted)?;
        Ok(Sums::gather(
            &self.model,
            &self.graph,
            &self.groups,
            &self.runtime,
            batches,
            &gather,
            options.stats_out.is_some(),
        )?)
    }

    /// The sums of all files together. Data twice, or other data than --calib names, are a slip.
    fn stored(&self, options: &Options, tell: &dyn Fn(Event)) -> Result<Statistics, Error> {
        if options.estimator == Estimator::Copula {
            return Err(Error::NoRows);
        }
        tell(Event::Stage("reading statistics"));
        let failed = |path: &Path, problem: String, advice| {
            Error::Statistics(StatisticsError::File {
                path: path.to_owned(),
                problem,
                advice,
            })
        };
        let model = self.original.digest();
        let mut all: Option<Sums> = None;
        let mut origins: Vec<(&Path, Origin)> = Vec::new();
        for path in &options.stats {
            let (origin, sums) = statistics::read(path, &self.graph, &self.groups, &model)?;
            let twin = origins.iter().find(|(_, other)| other.data == origin.data);
            if let Some((other, _)) = twin {
                let problem = format!("the statistics are of the same data as {}", other.display());
                return Err(failed(path, problem, "give each file of data once"));
            }
            origins.push((path, origin));
            let merged = match &mut all {
                None => {
                    all = Some(sums);
                    Ok(())
                }
                Some(all) => all.merge(sums),
            };
            merged.map_err(|MergeError| {
                let problem = "the statistics cannot be added to those before".to_owned();
                failed(path, problem, "gather them again with --stats-out")
            })?;
        }
        if !options.calibration.is_empty() {
            let data = self.samples.digest(options)?;
            if let Some((path, first)) = origins.first()
                && origins.iter().all(|(_, origin)| origin.data != data)
            {
                let problem = format!(
                    "the statistics are of {} ({}...), not of --calib as it is read now ({}...)",
                    first.source.join(", "),
                    first.data.get(..8).unwrap_or_default(),
                    data.get(..8).unwrap_or_default()
                );
                return Err(failed(
                    path,
                    problem,
                    "give the same data and options, or gather them again",
                ));
            }
        }
        let sums = all.ok_or(Error::NoStatistics)?;
        Ok(sums.statistics()?)
    }
}
