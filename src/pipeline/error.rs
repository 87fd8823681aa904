use std::path::{Path, PathBuf};

use crate::allowance::OverLimit;
use crate::clock::ClockError;
use crate::combine::CombineError;
use crate::data::DataError;
use crate::graph::GraphError;
use crate::metric::MetricError;
use crate::onnx::OnnxError;
use crate::outputs::OutputError;
use crate::profile::ProfileError;
use crate::repair::sequential::SequentialError;
use crate::runtime::RuntimeError;
use crate::select::SelectError;
use crate::statistics::StatisticsError;
use crate::surgery::SurgeryError;
use crate::trials::TrialError;
use crate::tune::TuneError;
use crate::verify::VerifyError;

/// Any stage's error. Options are named as in the library, in backticks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number that is out of its range.
    #[error("`{option}`: expected {expected}, found {found}")]
    Range {
        /// What it is called.
        option: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A pattern of names that cannot be read.
    #[error("`{option}`: {problem}")]
    Pattern {
        /// What it is for.
        option: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A file that cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A pattern that no node's name matches.
    #[error(
        "`{option}` '{pattern}' matches no node that makes channels; {hint}`Prune::inspect` lists them (`*` matches \
         `/` too)"
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
    /// A plan that cannot be read.
    #[error("{}: {error}; give a plan that `Pruned::plan` wrote", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// A plan of combinations without the data that they come from.
    #[error(
        "the plan keeps combinations of channels, which follow from the calibration data: give the `calibration` or \
         `statistics` that it was made with"
    )]
    UntoldCombinations,
    /// Statistics of other samples than the calibration's.
    #[error(
        "{}: the statistics are of {data} ({found}...), not of `calibration` as it is read now ({expected}...); give \
         the same data and options, or gather them again", path.display()
    )]
    OtherData {
        /// The file.
        path: PathBuf,
        /// What the samples of the statistics are called.
        data: String,
        /// The beginning of their digest.
        found: String,
        /// That of the samples that were given.
        expected: String,
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
        "nothing to prune: every group is frozen (`Prune::inspect` says why); a sweep would give copies"
    )]
    NothingToPrune,
    /// A sweep without budgets, or over one of quality.
    #[error(
        "a sweep goes over budgets of `macs`, `params`, `latency`, `ratio` or `mi`, found {found}"
    )]
    NotSwept {
        /// What was given.
        found: &'static str,
    },
    /// A selection without statistics.
    #[error("channels cannot be selected without statistics; give `calibration` or `plan`")]
    NoStatistics,
    /// Options that cannot be used together.
    #[error("`{first}` cannot be used with `{second}`")]
    Apart {
        /// The one.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A bound of quality that the samples cannot show.
    #[error(
        "{asked} needs {needed} samples that are held back, and there are {held}: give `calibration` with {all} or more"
    )]
    FewSamples {
        /// The budget.
        asked: String,
        /// Held-back samples that could show it if all agreed.
        needed: usize,
        /// Those that there are.
        held: usize,
        /// Calibration samples of which so many are held back.
        all: usize,
    },
    /// Agreement asked of a model that does not classify.
    #[error(
        "`agreement` needs an output of scores per class, of two axes, and the model has none: ask for `max_change`, \
         or measure it with `metric`"
    )]
    NoScores,
    /// A budget of a metric without one.
    #[error("`max_drop` needs a `metric` that may drop")]
    NoMetric,
    /// The user's metric fails.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// A model that cannot be profiled.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// A profile that cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A temporary folder cannot be made.
    #[error("a temporary folder for the model cannot be made: {0}")]
    Workspace(std::io::Error),
    /// Budgets that no model keeps all of.
    #[error(
        "the budgets contradict each other: of the largest model with {costs}, {measured}; ask for less, or accept it \
         with `best_effort`"
    )]
    Contradiction {
        /// The budgets of costs.
        costs: String,
        /// What of the others it measures.
        measured: String,
    },
    /// A file that stays too large.
    #[error(
        "{asked} cannot be reached: the {tried} models that were cut miss it, the last by a file of {found} bytes; ask \
         for less, or accept it with `best_effort`"
    )]
    FileSize {
        /// The budget.
        asked: String,
        /// How many were cut.
        tried: usize,
        /// Bytes of the last.
        found: u64,
    },
    /// Ranks asked of files that have none.
    #[error(
        "`estimator` copula needs ranks, and files of `statistics` hold sums only; give `calibration` without \
         `statistics`, or leave `estimator` at gaussian"
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
    /// The tuning.
    #[error(transparent)]
    Tune(Box<TuneError>),
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
    /// The same with the name of the file that it is about, where it has none: that of the plan, if
    /// there is one, or of the model.
    #[must_use]
    pub fn about(self, model: &Path, plan: Option<&Path>) -> Error {
        let is_of_plan = matches!(
            self,
            Error::Select(SelectError::Plan { .. }) | Error::UntoldCombinations
        );
        let path = match plan {
            Some(plan) if is_of_plan => plan,
            _ if self.has_no_file() => model,
            _ => return self,
        };
        Error::In {
            path: path.to_owned(),
            error: Box::new(self),
        }
    }

    /// The same of a comparison, with the names of both models where one of them does not do as the
    /// other does.
    #[must_use]
    pub fn between(self, original: &Path, other: &Path) -> Error {
        match self {
            Error::Verify(error) => Error::Compare {
                original: original.to_owned(),
                other: other.to_owned(),
                error: Box::new(error),
            },
            error => error.about(original, None),
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
            Error::Range { .. }
            | Error::Pattern { .. }
            | Error::IdleGlob { .. }
            | Error::NoBatch { .. }
            | Error::NothingToPrune
            | Error::NotSwept { .. }
            | Error::NoStatistics
            | Error::UntoldCombinations
            | Error::NoRows
            | Error::Clock(_)
            | Error::FileSize { .. }
            | Error::OverLimit(_)
            | Error::Graph(_)
            | Error::Combine(_)
            | Error::Divergence(_)
            | Error::Select(_)
            | Error::Sequential(_)
            | Error::Tune(_)
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

impl From<TuneError> for Error {
    fn from(error: TuneError) -> Self {
        Error::Tune(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::with_flags;

    #[test]
    fn errors_have_the_words_of_their_reader() {
        let error = Error::NoStatistics.about(Path::new("net.onnx"), None);
        let text = error.to_string();
        let start = "net.onnx: channels cannot be selected without statistics; give";
        assert_eq!(text, format!("{start} `calibration` or `plan`"));
        assert_eq!(with_flags(&text), format!("{start} --calib or --plan"));
    }
}
