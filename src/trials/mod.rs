//! How far the model's outputs move when one group alone is narrowed and repaired.
//!
//! Unexplained variance at a layer says what its consumers lose, not what the model's outputs do:
//! some layers' errors die out, others grow. A few trials per group on a small batch measure it;
//! between the trials, the layer's own loss curve interpolates (docs/method/budgets.md).
//!
//! A trial runs only what the narrowing can change. What stands before it computes what it always
//! does: the dense model is run part by part, and each group's trials start from its values. Behind
//! the nodes that are cut, its nodes are the dense model's again, opened once for all trials
//! (`parts`).

mod dense;
mod effort;
mod reach;

pub use effort::Effort;

use crate::repair;
use std::collections::BTreeMap;

use rayon::prelude::*;

use dense::{DenseSubgraphs, Division};
use reach::Reach;

use crate::data::{Batch, DataError, Padding};
use crate::graph::{Graph, GroupId, NodeId, Table, ValueId};
use crate::groups::Kept;
use crate::onnx::{Model, Tensor, TensorError};
use crate::runtime::{Runtime, RuntimeError};
use crate::select::{Limits, Ranking, Scene, SelectError, Sensitivities, Sensitivity};
use crate::subgraph::{Schedule, Subgraph, SubgraphError, Track};
use crate::surgery::{self, SurgeryError};

/// Why a divergence could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
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
    Data(#[from] DataError),
    /// A model could not be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A part of the model could not be run.
    #[error(transparent)]
    Subgraph(#[from] SubgraphError),
    /// A trial could not be selected.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A trial could not be cut.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
}

/// What the trials read.
#[derive(Clone, Copy)]
pub struct TrialRequest<'a> {
    /// The dense model.
    pub model: &'a Model,
    /// Its graph, groups and statistics.
    pub scene: Scene<'a>,
    /// The order in which channels leave.
    pub ranking: &'a Ranking,
    /// The widths that are allowed.
    pub limits: &'a Limits,
    /// Where the models run.
    pub runtime: &'a Runtime,
    /// Bytes of activations that are held in memory.
    pub memory: u64,
}

/// Narrows every prunable group alone to shares of its channels and measures the outputs on
/// `batches`; these should have the samples of the effort. `progress` is called after every group.
///
/// # Errors
/// A trial that cannot be made or run.
pub fn measure(
    setting: TrialRequest<'_>,
    effort: Effort,
    batches: &[Batch],
    progress: &dyn Fn(usize),
) -> Result<Sensitivities, TrialError> {
    let Scene { graph, groups, .. } = setting.scene;
    let mut all = Table::from(vec![Vec::new(); groups.groups.len()]);
    let division = Division::of(setting.scene);
    let trials = trials(setting, effort.shares, &division)?;
    if trials.is_empty() {
        return Ok(Sensitivities(all));
    }
    // Asked for by the next part too, so that they wait until the trials have run.
    let mut requests = vec![Vec::new(); trials.len() + 1];
    for (level, trials) in trials.iter().enumerate() {
        requests[level].extend(&trials.reach.inputs);
        requests[level + 1].extend(&trials.reach.inputs);
    }
    let mut track = Track::new(Schedule::new(graph, &requests), setting.memory / 2);
    let paddings: Vec<Option<Padding>> = batches.iter().map(Padding::of).collect();
    let (mut parts, dense) = DenseSubgraphs::open(setting, &division, batches, &paddings)?;
    let heads = |level: usize| match trials.get(level) {
        Some(trials) => trials.heads(setting, effort.by_inputs),
        None => Ok(Vec::new()),
    };
    let mut next = heads(0)?;
    for (level, trials) in trials.iter().enumerate() {
        let subgraph = Subgraph::new(setting.model, graph, &track.schedule, level, Vec::new());
        let run = |heads: Vec<Subgraph<'_>>| {
            let mut subgraph = subgraph.open_beside(setting.runtime)?;
            for (number, batch) in batches.iter().enumerate() {
                subgraph.run(&mut track, number, Some(batch), Vec::new())?;
            }
            let heads = heads.into_iter();
            let found =
                heads.map(|head| trials.run(setting, (&mut track, &mut parts), head, &paddings));
            found.collect::<Result<Vec<Outputs>, TrialError>>()
        };
        // The next group is repaired and cut meanwhile.
        let present = std::mem::take(&mut next);
        let (found, following) = rayon::join(|| run(present), || heads(level + 1));
        for (&width, found) in trials.widths.iter().zip(found?) {
            let divergence = divergence(&dense, &found);
            all[trials.group].push(Sensitivity { width, divergence });
        }
        next = following?;
        track.finish(level);
        progress(1);
    }
    Ok(Sensitivities(all))
}

/// The trials of one group.
struct Trials {
    group: GroupId,
    widths: Vec<usize>,
    reach: Reach,
}

/// The trials of all prunable groups, in the order in which their parts of the model begin.
fn trials(
    setting: TrialRequest<'_>,
    shares: &[f64],
    division: &Division,
) -> Result<Vec<Trials>, TrialError> {
    let Scene { graph, groups, .. } = setting.scene;
    let mut all = Vec::new();
    for group in setting.scene.prunable() {
        let widths = trial_widths(&setting.limits.widths(&groups.groups[group]), shares);
        let Some(&narrowest) = widths.last() else {
            continue;
        };
        let stays = setting.ranking.stays(groups, group, narrowest);
        all.push(Trials {
            group,
            widths,
            reach: Reach::of(graph, &Kept::new(groups, &stays), division)?,
        });
    }
    all.sort_by_key(|trials| trials.reach.first);
    Ok(all)
}

impl Trials {
    /// The heads at all widths.
    fn heads<'a>(
        &self,
        setting: TrialRequest<'a>,
        by_inputs: bool,
    ) -> Result<Vec<Subgraph<'a>>, TrialError> {
        let widths = self.widths.par_iter();
        widths
            .map(|&width| self.cut(setting, width, by_inputs))
            .collect()
    }

    /// The head when the group has this width.
    fn cut<'a>(
        &self,
        setting: TrialRequest<'a>,
        width: usize,
        by_inputs: bool,
    ) -> Result<Subgraph<'a>, TrialError> {
        let Scene {
            graph,
            groups,
            statistics,
            ..
        } = setting.scene;
        let stays = setting.ranking.stays(groups, self.group, width);
        let repaired = if by_inputs {
            repair::repair(graph, groups, statistics, &stays)?
        } else {
            repair::repair_channels(graph, groups, statistics, &stays)?
        };
        let kept = Kept::new(groups, &stays);
        let wanted = |node: NodeId| self.reach.head[node];
        let model = surgery::cut(setting.model, graph, &kept, &repaired, &wanted)?;
        let between = (self.reach.inputs.as_slice(), self.reach.ends.as_slice());
        Ok(Subgraph::between(model, graph, between, Vec::new()))
    }

    /// The outputs that change with this head.
    fn run(
        &self,
        setting: TrialRequest<'_>,
        (track, parts): (&mut Track, &mut DenseSubgraphs<'_>),
        head: Subgraph<'_>,
        batches: &[Option<Padding>],
    ) -> Result<Outputs, TrialError> {
        let graph = setting.scene.graph;
        let mut outputs = Outputs::new();
        let mut head = head.open(setting.runtime)?;
        for (number, padding) in batches.iter().enumerate() {
            let read = |value| track.cache.get(number, value);
            let mut changed = head.compute(Batch::new(), read)?.made;
            parts.run_from(self.reach.part, number, &mut changed)?;
            collect(&mut outputs, graph, &changed, padding.as_ref())?;
        }
        Ok(outputs)
    }
}

/// The allowed widths nearest to the shares, each once, without the whole.
fn trial_widths(allowed: &[usize], shares: &[f64]) -> Vec<usize> {
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
    let mut widths: Vec<usize> = shares.iter().filter_map(|&share| nearest(share)).collect();
    widths.dedup();
    widths
}

/// Per output of floats, its values, flat, and the number of samples.
type Outputs = BTreeMap<ValueId, (Vec<f64>, usize)>;

/// Values of one batch.
type Made = BTreeMap<ValueId, Tensor>;

/// Adds a batch's outputs, with zeros where its samples are padded.
fn collect(
    all: &mut Outputs,
    graph: &Graph,
    made: &Made,
    padding: Option<&Padding>,
) -> Result<(), TrialError> {
    for (&end, tensor) in made {
        if graph.values[end].is_output && crate::ops::constant::is_weight(tensor.dtype) {
            let failed = |error| TrialError::Output {
                output: graph.values[end].name.clone(),
                error,
            };
            let (values, count) = all.entry(end).or_default();
            let mut own: Vec<f64> = tensor.to_f64().map_err(failed)?.into_iter().collect();
            if let Some(padding) = padding {
                padding.fill(&mut own, &tensor.shape, 0.0);
            }
            values.extend(own);
            *count += samples(tensor);
        }
    }
    Ok(())
}

fn samples(tensor: &Tensor) -> usize {
    tensor.shape.first().copied().unwrap_or(1).max(1)
}

/// Squared difference over the variance across samples, summed over the outputs that `pruned` has.
fn divergence(dense: &Outputs, pruned: &Outputs) -> f64 {
    let mut sum = 0.0;
    for (output, (pruned, _)) in pruned {
        let Some((dense, samples)) = dense.get(output) else {
            continue;
        };
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
        let shares = [0.75, 0.5, 0.25];
        assert_eq!(trial_widths(&[24, 16, 8], &shares), [16, 8]);
        let wide = [64, 56, 48, 40, 32, 24, 16, 8];
        assert_eq!(trial_widths(&wide, &shares), [48, 32, 16]);
        assert_eq!(trial_widths(&wide, &[0.5]), [32]);
        assert!(trial_widths(&[6], &shares).is_empty());
    }

    #[test]
    fn divergence_is_the_share_of_the_variance() {
        // Two samples of one output: variance 2 around the mean 1, a change of 1 at one of them.
        let outputs = |values: Vec<f64>| Outputs::from([(ValueId::from(7), (values, 2))]);
        let dense = outputs(vec![0.0, 2.0]);
        assert_eq!(divergence(&dense, &outputs(vec![0.0, 3.0])), 0.5);
        assert_eq!(divergence(&dense, &dense.clone()), 0.0);
        // An offset that all samples share is a change too.
        assert_eq!(divergence(&dense, &outputs(vec![1.0, 3.0])), 1.0);
    }
}
