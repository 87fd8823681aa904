//! The samples of a run, as they are asked for.

use std::path::PathBuf;

use crate::allowance::Allowance;
use crate::data::{ImageOptions, ReaderOptions};
use crate::graph::Graph;
use crate::ops;

/// Unlabelled samples, which show what a model's channels carry. The default holds none: inputs are
/// made up, and nothing is known about the quality of the result.
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) statistics: Vec<PathBuf>,
    pub(crate) source: Option<String>,
    pub(crate) reader: ReaderOptions,
    pub(crate) batch: Option<usize>,
    /// Samples that are compared beyond the usual, where so many are held back.
    pub(crate) compared: usize,
}

impl Calibration {
    /// The samples in files, one after the other: .npy, .npz, ONNX test data (.pb), images, and
    /// folders of these.
    pub fn files<P: Into<PathBuf>>(files: impl IntoIterator<Item = P>) -> Self {
        Calibration::default().with_files(files)
    }

    /// Adds the samples in more files.
    #[must_use]
    pub fn with_files<P: Into<PathBuf>>(mut self, files: impl IntoIterator<Item = P>) -> Self {
        self.files.extend(files.into_iter().map(Into::into));
        self
    }

    /// Starts from the statistics of earlier runs, whose sums are added, in place of a pass over
    /// the samples.
    #[must_use]
    pub fn statistics<P: Into<PathBuf>>(mut self, files: impl IntoIterator<Item = P>) -> Self {
        self.statistics = files.into_iter().map(Into::into).collect();
        self
    }

    /// What the report calls the samples, where that is not the names of their files.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Uses at most so many samples, taken evenly over the data. By default all, and 256 that are
    /// made up.
    #[must_use]
    pub fn samples(mut self, samples: usize) -> Self {
        self.reader.samples = Some(samples);
        self
    }

    /// Runs so many samples at a time. By default as many as fit a modest amount of memory.
    #[must_use]
    pub fn batch(mut self, samples: usize) -> Self {
        self.batch = Some(samples);
        self
    }

    /// Fixes the sizes of an input that the model leaves open; the first of them, the batch, is not
    /// used.
    #[must_use]
    pub fn shape(mut self, input: impl Into<String>, sizes: impl Into<Vec<usize>>) -> Self {
        self.reader.shapes.insert(input.into(), sizes.into());
        self
    }

    /// How image files become tensors.
    #[must_use]
    pub fn images(mut self, images: ImageOptions) -> Self {
        self.reader.image = images;
        self
    }

    /// The seed of everything random; 0 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.reader.seed = seed;
        self
    }

    /// Whether inputs are made up.
    pub(crate) fn is_synthetic(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether the statistics are of made-up inputs.
    pub(super) fn judges_by_synthetic(&self) -> bool {
        self.is_synthetic() && self.statistics.is_empty()
    }

    /// What the report calls the samples.
    pub(super) fn sources(&self) -> Vec<String> {
        match &self.source {
            Some(source) => vec![source.clone()],
            None => crate::report::source(&self.files),
        }
    }

    /// The same where so many of the samples that are held back are needed, if there are as many.
    pub(super) fn comparing(&self, samples: usize) -> Calibration {
        Calibration {
            compared: samples,
            ..self.clone()
        }
    }

    /// The same for a model, whose first nodes tell what values its inputs take.
    pub(super) fn told_by(&self, graph: &Graph, allowance: Allowance) -> Calibration {
        let mut told = self.clone();
        told.reader.told = ops::inputs::values(graph);
        told.reader.allowance = allowance;
        told
    }
}
