//! How far the model's outputs move when one group alone is narrowed and repaired.
//!
//! Unexplained variance at a layer says what its consumers lose, not what the model's outputs do:
//! some layers' errors die out, others grow. A few trials per group on a small batch measure it;
//! between the trials, the layer's own loss curve interpolates (docs/method.md, Sharing a budget).

use crate::calibrate::{Batch, CalibrateError};
use crate::onnx::{Model, Tensor, TensorError};
use crate::runtime::{Runtime, RuntimeError};
use crate::select::{Limits, Ranking, Scene, SelectError};
use crate::surgery::{self, SurgeryError};

/// Shares of a group's channels that are left in its trials.
const TRIALS: [f64; 3] = [0.75, 0.5, 0.25];

/// Why a divergence could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum DivergenceError {
    /// An output that cannot be compared.
    #[error("output '{output}': {error}")]
    Output {
        /// The output.
        output: String,
        /// What is wrong with it.
        error: TensorError,
    },
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] CalibrateError),
    /// A model could not be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A trial could not be selected.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A trial could not be cut.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
}

/// One trial: the group at this width moves the outputs by this share of their variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Channels left.
    pub width: usize,
    /// Squared change of all outputs over their variance across the batch.
    pub divergence: f64,
}

/// Per group, its trials from the widest to the narrowest; empty for groups that stay whole.
#[derive(Debug, Clone)]
pub struct Divergences(pub Vec<Vec<Trial>>);

/// Narrows every prunable group alone, in a few steps, and measures the outputs on `batches`.
/// `progress` is called after every group.
///
/// # Errors
/// A trial that cannot be made or run.
pub fn measure(
    scene: Scene<'_>,
    ranking: &Ranking,
    limits: &Limits,
    (model, runtime): (&Model, &Runtime),
    batches: &[Batch],
    progress: &dyn Fn(usize),
) -> Result<Divergences, DivergenceError> {
    let dense = outputs(model, runtime, batches)?;
    let mut all = vec![Vec::new(); scene.groups.groups.len()];
    for group in scene.prunable() {
        for width in trial_widths(&limits.widths(&scene.groups.groups[group])) {
            let stays = ranking.stays(scene.groups, group, width);
            let repaired = surgery::repair(scene.graph, scene.groups, scene.statistics, &stays)?;
            let trial = surgery::prune(model, scene.graph, scene.groups, &stays, &repaired)?;
            let divergence = divergence(&dense, &outputs(&trial, runtime, batches)?);
            all[group].push(Trial { width, divergence });
        }
        progress(1);
    }
    Ok(Divergences(all))
}

/// The allowed widths nearest to the trials' shares, each once, without the whole.
fn trial_widths(allowed: &[usize]) -> Vec<usize> {
    let Some((&whole, narrower)) = allowed.split_first() else {
        return Vec::new();
    };
    let nearest = |share: f64| {
        let wanted = whole as f64 * share;
        let distance = |width: &usize| (*width as f64 - wanted).abs();
        narrower
            .iter()
            .copied()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
    };
    let mut widths: Vec<usize> = TRIALS.iter().filter_map(|&share| nearest(share)).collect();
    widths.dedup();
    widths
}

type Outputs = Vec<(Vec<f64>, usize)>;

/// All outputs of floats, flat, with their number of samples.
fn outputs(
    model: &Model,
    runtime: &Runtime,
    batches: &[Batch],
) -> Result<Outputs, DivergenceError> {
    let mut session = runtime.session(model)?;
    let names = session.outputs();
    let mut all: Outputs = vec![(Vec::new(), 0); names.len()];
    for batch in batches {
        let found = session.run(batch, &names)?;
        for ((tensor, name), (values, count)) in found.iter().zip(&names).zip(&mut all) {
            if crate::ops::constant::is_weight(tensor.dtype) {
                let failed = |error| DivergenceError::Output {
                    output: name.clone(),
                    error,
                };
                values.extend(tensor.to_f64().map_err(failed)?);
                *count += samples(tensor);
            }
        }
    }
    all.retain(|(_, count)| *count > 0);
    Ok(all)
}

fn samples(tensor: &Tensor) -> usize {
    tensor.shape.first().copied().unwrap_or(1).max(1)
}

/// Squared difference over the variance across samples, summed over the outputs.
fn divergence(dense: &Outputs, pruned: &Outputs) -> f64 {
    let mut sum = 0.0;
    for ((dense, samples), (pruned, _)) in dense.iter().zip(pruned) {
        let size = dense.len() / samples;
        let mut mean = vec![0.0; size];
        for row in dense.chunks(size.max(1)) {
            row.iter()
                .zip(&mut mean)
                .for_each(|(value, mean)| *mean += value / *samples as f64);
        }
        let rows = dense.chunks(size.max(1));
        let variance: f64 = rows
            .map(|row| {
                row.iter()
                    .zip(&mean)
                    .map(|(v, m)| (v - m) * (v - m))
                    .sum::<f64>()
            })
            .sum();
        let change: f64 = dense
            .iter()
            .zip(pruned)
            .map(|(a, b)| (a - b) * (a - b))
            .sum();
        if variance > 0.0 && change.is_finite() {
            sum += change / variance;
        } else if change > 0.0 {
            // An output that does not vary, or is no number any more: as bad as all of it.
            sum += 1.0;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_allowed_widths_each_once() {
        assert_eq!(trial_widths(&[24, 16, 8]), [16, 8]);
        assert_eq!(trial_widths(&[64, 56, 48, 40, 32, 24, 16, 8]), [48, 32, 16]);
        assert!(trial_widths(&[6]).is_empty());
    }

    #[test]
    fn divergence_is_the_share_of_the_variance() {
        // Two samples of one output: variance 2 around the mean 1, a change of 1 at one of them.
        let dense = vec![(vec![0.0, 2.0], 2)];
        assert_eq!(divergence(&dense, &vec![(vec![0.0, 3.0], 2)]), 0.5);
        assert_eq!(divergence(&dense, &dense.clone()), 0.0);
        // An offset that all samples share is a change too.
        assert_eq!(divergence(&dense, &vec![(vec![1.0, 3.0], 2)]), 1.0);
    }
}
