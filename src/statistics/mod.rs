//! What the calibration saw at every consumer's input.

mod copula;
mod covariance;
mod folds;
mod geometry;
mod moments;
mod normal;
mod patches;
mod spread;
mod store;
mod subsamples;
mod sums;
mod turn;

pub use copula::Estimator;
pub use covariance::Covariance;
pub use moments::{MergeError, Moments};
pub use normal::normal_scores;
pub(crate) use store::stage;
pub use store::{Origin, read};
pub use sums::Sums;

use std::path::PathBuf;

use faer::Mat;

use crate::data::{Batch, DataError};
use crate::graph::Graph;
use crate::groups::Groups;
use crate::linalg::triangle::Triangle;
use crate::onnx::Model;
use crate::runtime::{Runtime, RuntimeError};
use crate::statistics::subsamples::Subsamples;
use crate::taps::TapError;

/// Why statistics could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// No sample was read.
    #[error("the calibration data hold no sample: give at least one, better hundreds")]
    NoSamples,
    /// What a tap handed out cannot be used.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A file of statistics that cannot be used.
    #[error("{}: {problem}; {advice}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        advice: &'static str,
    },
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model could not be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Second moments of what every consumer reads.
pub struct Statistics {
    covariances: Vec<Observed>,
    of_consumer: Vec<Option<usize>>,
    /// Samples that were read.
    pub samples: usize,
}

/// What is known of one tap: a covariance per block of the consumers that share it.
pub struct Observed {
    /// Inputs per channel: 1 where the unfolding was left out.
    pub kernel: usize,
    /// One covariance per block of channels.
    pub blocks: Vec<Covariance>,
    parts: Vec<Subsamples>,
    /// The same of the channels without their taps and by ranks, where these were asked for.
    ranked: Vec<Covariance>,
}

impl Observed {
    /// The covariance of a block's channels that the estimator asks for, to select by.
    #[must_use]
    pub fn of_channels(&self, block: usize) -> Option<Covariance> {
        let ranked = self.ranked.get(block).cloned();
        ranked.or_else(|| Some(self.blocks.get(block)?.over_kernel(self.kernel)))
    }

    /// Whether selection goes by ranks.
    #[must_use]
    pub fn is_ranked(&self) -> bool {
        !self.ranked.is_empty()
    }

    /// What rows of one block of single inputs show, samples in `batches`.
    #[cfg(test)]
    pub(crate) fn of_rows(batches: Vec<Mat<f64>>, rows_per_sample: usize) -> Option<Observed> {
        let mut moments = crate::statistics::Moments::new(batches.first()?.ncols()).dealt(1);
        for batch in batches {
            let samples = batch.nrows() / rows_per_sample;
            moments.add(batch, samples);
        }
        Some(Observed {
            kernel: 1,
            blocks: vec![moments.covariance()?],
            parts: vec![moments.into_parts()?],
            ranked: Vec::new(),
        })
    }

    /// The lower triangle of the covariance of a block's channels, the mean over their inputs,
    /// without one of the parts of the samples, and shrunk as so many fewer samples ask for: the
    /// intensity falls with their number. None where no samples are left.
    #[must_use]
    pub fn shrunk_without(&self, block: usize, part: usize) -> Option<Mat<f64>> {
        let parts = self.parts.get(block)?;
        let rows = parts.rows();
        let all: usize = rows.iter().sum();
        let left = all - rows.get(part).copied().unwrap_or_default();
        let more = all as f64 / left.max(1) as f64;
        let covariance = Covariance {
            mean: Vec::new(),
            lower: parts.without(part)?,
            shrinkage: (self.blocks.get(block)?.shrinkage * more).min(1.0),
        };
        Some(covariance.shrunk_lower())
    }

    /// Rows of every part of the samples; none where selection goes by ranks, which parts do not
    /// have.
    #[must_use]
    pub fn part_rows(&self) -> Vec<usize> {
        if self.is_ranked() {
            return Vec::new();
        }
        self.parts.first().map(Subsamples::rows).unwrap_or_default()
    }
}

impl Statistics {
    /// Runs `batches` through `model`, tapped where channels that may leave are read.
    /// `options.samples` is how many samples will come; its `seed` chooses the positions.
    ///
    /// # Errors
    /// Data that cannot be read, or a failing run.
    pub fn gather(
        model: &Model,
        graph: &Graph,
        groups: &Groups,
        runtime: &Runtime,
        batches: impl Iterator<Item = Result<Batch, DataError>>,
        options: &GatherOptions<'_>,
    ) -> Result<Self, StatisticsError> {
        Sums::gather(model, graph, groups, runtime, batches, options, false)?.statistics()
    }

    /// Drops the second moments, once all that is made of them is made. How every consumer was
    /// observed stays known.
    pub fn drop_moments(&mut self) {
        for observed in &mut self.covariances {
            observed.parts.clear();
            observed.ranked.clear();
            for block in &mut observed.blocks {
                block.lower = Triangle::default();
            }
        }
    }

    /// What was observed at a consumer's input; `None` where it could not be tapped.
    #[must_use]
    pub fn of(&self, consumer: usize) -> Option<&Observed> {
        self.covariances
            .get(self.of_consumer.get(consumer).copied().flatten()?)
    }
}

/// How [`Statistics::gather`] samples.
pub struct GatherOptions<'a> {
    /// Number of samples that will come.
    pub samples: usize,
    /// Chooses the positions.
    pub seed: u64,
    /// What the mutual information will be computed from.
    pub estimator: Estimator,
    /// Called with the number of samples of every batch that is done.
    pub progress: &'a dyn Fn(usize),
}

#[cfg(test)]
pub(crate) use store::{Header, MAGIC};
