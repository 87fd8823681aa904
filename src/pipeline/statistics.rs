//! Where statistics come from: a pass over the data, or files of earlier passes.

use crate::statistics;
use std::path::{Path, PathBuf};

use crate::allowance::Allowance;
use crate::graph::Graph;
use crate::groups::Groups;
use crate::outputs::{Staged, Target};
use crate::pipeline::Error;
use crate::pipeline::calibration::Calibration;
use crate::pipeline::open::Subject;
use crate::statistics::{
    Estimator, GatherOptions, MergeError, Origin, Statistics, StatisticsError, Sums,
};

/// Bytes that are held while data run through the model: the statistics, and the weights, of which
/// a session has a copy and so has a model that is cut.
pub(super) fn kept(graph: &Graph, groups: &Groups) -> u64 {
    let weights = graph.stored_bytes().saturating_mul(2);
    Sums::bytes(graph, groups).saturating_add(weights)
}

/// Which statistics are asked for.
pub(super) struct Gathering<'a> {
    pub calibration: &'a Calibration,
    pub estimator: Estimator,
    pub allowance: Allowance,
    /// Where the sums of a pass over the data are kept.
    pub keep: Option<&'a Target>,
}

/// What the consumers read: the means and covariances of all samples, in one pass.
///
/// # Errors
/// The data cannot be read, or the model cannot be run on them.
pub fn statistics(subject: &Subject<'_>, estimator: Estimator) -> Result<Statistics, Error> {
    let sums = pass(subject, subject.samples.all(), estimator, false)?;
    Ok(sums.statistics()?)
}

/// What the consumers read, from the files of statistics or else from the data that are not held
/// back; then also their file, aside, where it was asked for.
///
/// # Errors
/// The files or the data cannot be read, do not fit, or ask for more memory than is allowed.
pub(super) fn gather(
    subject: &Subject<'_>,
    request: &Gathering<'_>,
) -> Result<(Statistics, Option<Staged>), Error> {
    let what = || "the calibration, for its statistics and the weights,".to_owned();
    let advice = "prune fewer layers at a time (`only`, `exclude`), or allow more";
    let kept = kept(&subject.graph, &subject.groups);
    request.allowance.bytes(kept, what, advice)?;
    if !request.calibration.statistics.is_empty() {
        return Ok((stored(subject, request)?, None));
    }
    let seen = subject.samples.seen();
    let mut sums = pass(subject, seen, request.estimator, request.keep.is_some())?;
    let mut staged = None;
    if let Some(target) = request.keep {
        let origin = Origin {
            model: subject.original.digest(),
            data: subject.samples.digest()?,
            source: request.calibration.sources(),
        };
        staged = Some(statistics::stage(target, &origin, &mut sums)?);
    }
    Ok((sums.statistics()?, staged))
}

fn pass(
    subject: &Subject<'_>,
    wanted: &[usize],
    estimator: Estimator,
    is_kept: bool,
) -> Result<Sums, Error> {
    subject
        .observer
        .counting("calibrating", wanted.len(), "samples");
    let progress = |done: usize| subject.observer.advance(done);
    let options = GatherOptions {
        samples: wanted.len(),
        seed: subject.samples.seed(),
        estimator,
        progress: &progress,
    };
    Ok(Sums::gather(
        &subject.model,
        &subject.graph,
        &subject.groups,
        &subject.runtime,
        subject.samples.batches(wanted)?,
        &options,
        is_kept,
    )?)
}

/// The sums of all files together. Data twice, or other data than the calibration's, are a slip.
fn stored(subject: &Subject<'_>, request: &Gathering<'_>) -> Result<Statistics, Error> {
    if request.estimator == Estimator::Copula {
        return Err(Error::NoRows);
    }
    subject.observer.stage("reading statistics");
    let (files, model) = (&request.calibration.statistics, subject.original.digest());
    let mut all: Option<Sums> = None;
    let mut origins: Vec<(&PathBuf, Origin)> = Vec::new();
    for path in files {
        let (origin, sums) = statistics::read(path, &subject.graph, &subject.groups, &model)?;
        let twin = origins.iter().find(|(_, other)| other.data == origin.data);
        if let Some((other, _)) = twin {
            let problem = format!("the statistics are of the same data as {}", other.display());
            return Err(unusable(path, problem, "give each file of data once"));
        }
        origins.push((path, origin));
        match &mut all {
            None => all = Some(sums),
            Some(all) => all.merge(sums).map_err(|MergeError| {
                let problem = "the statistics cannot be added to those before".to_owned();
                unusable(path, problem, "gather them again with `save_statistics`")
            })?,
        }
    }
    if !request.calibration.is_synthetic() {
        of_this_data(&origins, &subject.samples.digest()?)?;
    }
    let sums = all.ok_or(Error::NoStatistics)?;
    Ok(sums.statistics()?)
}

/// Fails unless one of the files is of the data with this digest.
fn of_this_data(origins: &[(&PathBuf, Origin)], data: &str) -> Result<(), Error> {
    match origins.first() {
        Some((path, first)) if origins.iter().all(|(_, origin)| origin.data != data) => {
            let start = |digest: &str| digest.get(..8).unwrap_or_default().to_owned();
            Err(Error::OtherData {
                path: path.to_path_buf(),
                data: first.source.join(", "),
                found: start(&first.data),
                expected: start(data),
            })
        }
        _ => Ok(()),
    }
}

fn unusable(path: &Path, problem: String, advice: &'static str) -> Error {
    Error::Statistics(StatisticsError::File {
        path: path.to_owned(),
        problem,
        advice,
    })
}
