use std::path::{Path, PathBuf};

use crate::allowance::OverLimit;
use crate::combine::CombineError;
use crate::data::DataError;
use crate::graph::GraphError;
use crate::onnx::OnnxError;
use crate::outputs::OutputError;
use crate::pipeline::Options;
use crate::repair::sequential::SequentialError;
use crate::runtime::RuntimeError;
use crate::select::SelectError;
use crate::statistics::StatisticsError;
use crate::surgery::SurgeryError;
use crate::trials::TrialError;
use crate::verify::VerifyError;

/// Any stage's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A pattern that no node's name matches.
    #[error(
        "{option} '{pattern}' matches no node that makes channels; {hint}`onnx-mipp inspect` lists \
         them (`*` matches `/` too)"
    )]
    IdleGlob {
        /// The option.
        option: &'static str,
        /// The pattern.
        pattern: String,
        /// What may have been meant, a sentence with a semicolon after it, or nothing.
        hint: String,
    },
    /// Two models that cannot be compared.
    #[error("comparing {} with {}: {error}", original.display(), other.display())]
    Compare {
        /// The first model.
        original: PathBuf,
        /// The second.
        other: PathBuf,
        /// Why not.
        error: Box<VerifyError>,
    },
    /// A JSON file that cannot be read.
    #[error("{}: {error}; give a plan that --plan-out wrote", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// A plan of combinations without the data that they come from.
    #[error(
        "{}: the plan keeps combinations of channels, which follow from the calibration data: give the --calib or \
         --stats that it was made with", path.display()
    )]
    UntoldCombinations {
        /// The plan.
        path: PathBuf,
    },
    /// A model that runs no batch that was tried.
    #[error("{error} (tried with batches of {tried})")]
    NoBatch {
        /// What the first of them ended in.
        error: Box<Error>,
        /// Their sizes.
        tried: String,
    },
    /// A sweep of a model that cannot be pruned.
    #[error(
        "nothing to prune: every group is frozen (`onnx-mipp inspect` says why); a sweep would give copies"
    )]
    NothingToPrune,
    /// A selection without statistics.
    #[error("channels cannot be selected without statistics; give --calib or --plan")]
    NoStatistics,
    /// Ranks asked of files that have none.
    #[error(
        "--estimator copula needs ranks, and files of --stats hold sums only; give --calib without --stats, \
         or leave --estimator at gaussian"
    )]
    NoRows,
    /// What takes more than is allowed.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The wire format.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The calibration data.
    #[error(transparent)]
    Calibrate(#[from] DataError),
    /// The statistics.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// Channels that cannot be combined.
    #[error(transparent)]
    Combine(#[from] CombineError),
    /// The trials.
    #[error(transparent)]
    Divergence(#[from] TrialError),
    /// The selection.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The sequential repair.
    #[error(transparent)]
    Sequential(Box<SequentialError>),
    /// The surgery.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
    /// The check of the result.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// An error of a stage that does not know where its model or plan came from.
    #[error("{}: {error}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Box<Error>,
    },
}

impl Error {
    /// The same with the name of the file that it is about, where it has none: that of the plan, or of the
    /// model.
    #[must_use]
    pub fn about(self, model: &Path, options: &Options) -> Error {
        let path = match (&self, &options.plan) {
            (Error::Select(SelectError::Plan { .. }), Some(plan)) => plan.as_path(),
            (error, _) if error.has_no_file() => model,
            _ => return self,
        };
        Error::In {
            path: path.to_owned(),
            error: Box::new(self),
        }
    }

    /// Whether it names no file.
    fn has_no_file(&self) -> bool {
        match self {
            Error::Onnx(error) => !matches!(
                error,
                OnnxError::File { .. } | OnnxError::Io { .. } | OnnxError::Output(_)
            ),
            Error::Runtime(error) => matches!(
                error,
                RuntimeError::Open { .. }
                    | RuntimeError::Run { .. }
                    | RuntimeError::Profile { .. }
                    | RuntimeError::Value { .. }
            ),
            Error::Calibrate(error) => {
                matches!(error, DataError::Option { .. } | DataError::Samples(_))
            }
            Error::Statistics(error) => !matches!(error, StatisticsError::File { .. }),
            Error::IdleGlob { .. }
            | Error::NoBatch { .. }
            | Error::NothingToPrune
            | Error::NoStatistics
            | Error::NoRows
            | Error::OverLimit(_)
            | Error::Graph(_)
            | Error::Combine(_)
            | Error::Divergence(_)
            | Error::Select(_)
            | Error::Sequential(_)
            | Error::Surgery(_)
            | Error::Verify(_) => true,
            _ => false,
        }
    }
}

impl From<SequentialError> for Error {
    fn from(error: SequentialError) -> Self {
        Error::Sequential(Box::new(error))
    }
}
