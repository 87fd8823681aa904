use crate::linalg::LinalgError;
use crate::onnx::TensorError;

/// Why no plan could be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The budget is out of reach.
    #[error(
        "{asked} cannot be reached: {reached} is the least that is possible because {why}; ask for \
         less, {advice}or accept what is possible with `best_effort`"
    )]
    Budget {
        /// The budget in words, such as `--macs 0.2`.
        asked: String,
        /// What can be reached, such as `0.312 of the MACs`.
        reached: String,
        /// What holds the rest.
        why: String,
        /// Limits that would let it be reached, with a comma behind; nothing where none do.
        advice: &'static str,
    },
    /// No candidate that was measured is fast enough.
    #[error(
        "{asked} cannot be reached: the fastest of {trials} candidates takes {reached:.3} of the \
         latency; {why}, and what a run does beside its layers stays; ask for less, {advice}measure on a machine that does nothing else, or accept what is possible \
         with `best_effort`"
    )]
    TooSlow {
        /// The budget in words, such as `--latency 0.2`.
        asked: String,
        /// Candidates that were measured.
        trials: usize,
        /// The fastest's share of the original's time.
        reached: f64,
        /// What holds the rest.
        why: String,
        /// Limits that may be lowered, with a comma behind; nothing where none is in the way.
        advice: &'static str,
    },
    /// A budget that is met by measuring, where nothing is measured.
    #[error(
        "a budget of latency or divergence cannot be met without measuring: use `measured_widths` or `smallest`"
    )]
    Unmeasured,
    /// A plan that does not fit the model.
    #[error(
        "the plan does not fit the model at group '{group}': found {found}; use a plan that \
         `Pruned::plan` wrote for this very model and options"
    )]
    Plan {
        /// The group.
        group: String,
        /// What does not fit.
        found: String,
    },
    /// A weight that cannot be read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Statistics that cannot be used.
    #[error(transparent)]
    Mi(#[from] LinalgError),
}
