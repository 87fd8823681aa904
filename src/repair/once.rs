//! Repair in one pass: the removed inputs of every consumer, rebuilt from the kept ones, folded
//! into its weight and bias.
//!
//! The best linear prediction of the removed inputs R from the kept inputs K is
//! `x_R = mu_R + B (x_K - mu_K)` with `B = C_RK inv(C_KK)`. Put into `Y = W x + b` it gives
//! `W' = W_K + W_R B` and `b' = b + W_R (mu_R - B mu_K)`, the least squares fit of the dense output
//! on the kept inputs. The shrinkage of the covariance pulls B to zero, that is, the weights back
//! to the unrepaired ones, and never the kept weights themselves.
//!
//! A weight that several consumers share is fitted once, over the rows of all of them: `C` and `mu`
//! are those of the union, where each position of an output counts as one. Where the biases are
//! apart, each is fitted about its own mean. A weight that something else reads too, such as a
//! table of embeddings, stays as it is, and the bias takes what is left in the mean.

use std::borrow::Cow;

use faer::Mat;
use rayon::prelude::*;

use crate::graph::Graph;
use crate::groups::{ChannelMap, Groups, Kept, Sharing};
use crate::linalg::Divisor;
use crate::repair::refit::{Onto, Refit, Refitted};
use crate::statistics::{Covariance, Observed, Statistics};
use crate::surgery::{Repaired, SurgeryError};

/// How weights are repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// Not at all: kept weights stay as they are.
    None,
    /// Once, from the statistics of the dense model.
    Once,
    /// Once, then consumer after consumer on what the pruned model really makes
    /// ([`crate::repair::sequential`]).
    Sequential,
    /// So, and then along gradients, all weights together ([`crate::tune`]).
    Tuned,
}

/// Repairs every consumer that loses inputs.
///
/// # Errors
/// A covariance that cannot be inverted, or a weight that cannot be read.
pub fn repair(
    graph: &Graph,
    groups: &Groups,
    statistics: &Statistics,
    stays: &[bool],
) -> Result<Repaired, SurgeryError> {
    all(graph, groups, statistics, stays, false)
}

/// The same with one map between channels for all taps of a kernel, which costs next to nothing:
/// enough to compare widths by.
///
/// # Errors
/// As [`repair`].
pub fn repair_channels(
    graph: &Graph,
    groups: &Groups,
    statistics: &Statistics,
    stays: &[bool],
) -> Result<Repaired, SurgeryError> {
    all(graph, groups, statistics, stays, true)
}

fn all(
    graph: &Graph,
    groups: &Groups,
    statistics: &Statistics,
    stays: &[bool],
    of_channels: bool,
) -> Result<Repaired, SurgeryError> {
    let kept = Kept::new(groups, stays);
    let one = |index: usize| {
        let task = Task::new(graph, groups, statistics, kept, index)?;
        Some(
            if of_channels {
                task.of_channels()
            } else {
                task
            }
            .solve(),
        )
    };
    let solved: Vec<(Refit<'_>, Refitted)> = (0..groups.consumers.len())
        .into_par_iter()
        .filter_map(one)
        .collect::<Result<_, SurgeryError>>()?;
    let mut repaired = Repaired::default();
    for (fold, folded) in solved {
        let put = fold.put(folded, &mut repaired);
        put.map_err(|error| fold.failed(error))?;
    }
    Ok(repaired)
}

/// The covariances, block by block, of what the consumers that share a weight read, for one of
/// them. `None` where they were not observed alike.
fn together(
    groups: &Groups,
    statistics: &Statistics,
    (index, consumers): (usize, &[usize]),
    one_bias: bool,
) -> Option<Vec<Covariance>> {
    let all = consumers.iter().map(|&consumer| statistics.of(consumer));
    let all: Vec<&Observed> = all.collect::<Option<_>>()?;
    let own = statistics.of(index)?;
    let is_alike =
        |other: &&Observed| other.kernel == own.kernel && other.blocks.len() == own.blocks.len();
    if !all.iter().all(is_alike) {
        return None;
    }
    let positions = |&consumer: &usize| {
        let node = groups.consumers.get(consumer)?.node;
        let cost = groups.costs.iter().find(|cost| cost.node == node)?;
        Some(cost.positions)
    };
    let positions: Vec<f64> = consumers.iter().map(positions).collect::<Option<_>>()?;
    let block = |block: usize| {
        let parts = positions.iter().zip(&all);
        let parts = parts.map(|(&weight, observed)| Some((weight, observed.blocks.get(block)?)));
        let parts: Vec<_> = parts.collect::<Option<_>>()?;
        let mut pooled = Covariance::pooled(&parts, !one_bias)?;
        if !one_bias {
            pooled.mean.clone_from(&own.blocks.get(block)?.mean);
        }
        Some(pooled)
    };
    (0..own.blocks.len()).map(block).collect()
}

/// One consumer that loses inputs.
struct Task<'a> {
    fold: Refit<'a>,
    covariances: Cow<'a, [Covariance]>,
    /// Inputs per channel in the covariances: the kernel's taps, or 1.
    observed_kernel: usize,
    map: &'a ChannelMap,
    made: Option<&'a ChannelMap>,
    /// Whether the weight stays as it is.
    is_fixed: bool,
}

impl<'a> Task<'a> {
    fn new(
        graph: &'a Graph,
        groups: &'a Groups,
        statistics: &'a Statistics,
        kept: Kept<'a>,
        index: usize,
    ) -> Option<Self> {
        let consumer = groups.consumers.get(index)?;
        let map = groups.read_by(consumer)?;
        let observed = statistics.of(index)?;
        let fold = Refit::new(graph, consumer, kept)?;
        let sharing = groups.sharing.get(index).unwrap_or(&Sharing::Alone);
        let covariances = match sharing {
            Sharing::Together {
                consumers,
                one_bias,
            } => Cow::Owned(together(groups, statistics, (index, consumers), *one_bias)?),
            Sharing::Alone | Sharing::Fixed => Cow::Borrowed(observed.blocks.as_slice()),
        };
        (kept.count(map) < map.len()).then_some(Task {
            fold,
            covariances,
            observed_kernel: observed.kernel,
            map,
            made: groups.made_by(consumer),
            is_fixed: *sharing == Sharing::Fixed,
        })
    }

    /// The same where the kernel's taps are not told apart.
    fn of_channels(self) -> Self {
        if self.observed_kernel == 1 {
            return self;
        }
        let blocks = self.covariances.iter();
        let blocks: Vec<Covariance> = blocks
            .map(|b| b.over_kernel(self.observed_kernel))
            .collect();
        Task {
            covariances: Cow::Owned(blocks),
            observed_kernel: 1,
            ..self
        }
    }

    fn solve(self) -> Result<(Refit<'a>, Refitted), SurgeryError> {
        let error = |error| self.fold.failed(error);
        let layout = &self.fold.consumer.layout;
        let matrices = layout.matrices(self.fold.weight).map_err(error)?;
        let per_output = layout.rows_per_output(&self.fold.weight.shape).max(1);
        let inputs = self.fold.consumer.per_block(self.map.len());
        let outputs = matrices.first().map_or(0, Mat::nrows) / per_output;
        let (mut repaired, mut shift) = (Vec::new(), Vec::new());
        for (block, matrix) in matrices.iter().enumerate() {
            let stays_at = |map: &ChannelMap, at: usize| {
                map.get(at % map.len().max(1))
                    .is_none_or(|&c| self.fold.kept.has(c))
            };
            let input_stays: Vec<bool> = (0..inputs)
                .map(|i| stays_at(self.map, block * inputs + i))
                .collect();
            let rows: Vec<usize> = (0..matrix.nrows())
                .filter(|row| {
                    self.made
                        .is_none_or(|m| stays_at(m, block * outputs + row / per_output))
                })
                .collect();
            // The matrices of a stack may all read the same.
            let seen = block % self.fold.consumer.observed_blocks().max(1);
            let covariance = self.covariances.get(seen).ok_or_else(|| self.mismatch())?;
            let (weight, moved) = self.solve_block(matrix, &rows, &input_stays, covariance)?;
            repaired.push(weight);
            shift.extend(moved);
        }
        let folded = self.fold.tensors(&repaired, &shift, Onto::Present);
        Ok((self.fold, folded.map_err(error)?))
    }

    fn mismatch(&self) -> SurgeryError {
        SurgeryError::Node {
            node: self.fold.node().to_owned(),
            what: "its statistics do not fit its weight".to_owned(),
        }
    }

    /// The new matrix of one block, of the kept rows and columns, and the shift of each row.
    fn solve_block(
        &self,
        weight: &Mat<f64>,
        rows: &[usize],
        input_stays: &[bool],
        covariance: &Covariance,
    ) -> Result<(Mat<f64>, Vec<f64>), SurgeryError> {
        let taps = weight.ncols() / input_stays.len().max(1);
        let observed = self.observed_kernel;
        if covariance.mean.len() != input_stays.len() * observed
            || !taps.is_multiple_of(observed.max(1))
        {
            return Err(self.mismatch());
        }
        let columns = |stays: bool| -> Vec<usize> {
            let all = 0..input_stays.len() * observed;
            all.filter(|column| input_stays[column / observed.max(1)] == stays)
                .collect()
        };
        let (kept, removed) = (columns(true), columns(false));
        let shrunk = covariance.shrinking();
        let failed = |error| SurgeryError::Repair {
            node: self.fold.node().to_owned(),
            error,
        };
        // W_R B is solved as it is: there are fewer outputs than removed inputs.
        let divisor = Divisor::new(shrunk.lower(&kept).as_ref()).map_err(failed)?;
        let across = Mat::from_fn(removed.len(), kept.len(), |i, j| {
            shrunk.at(removed[i], kept[j])
        });
        // Where the unfolding was not observed, all taps share one map.
        let repeats = taps / observed.max(1);
        let source = |column: usize, repeat: usize| column * repeats + repeat;
        let mut result = Mat::zeros(rows.len(), kept.len() * repeats);
        let mut shift = vec![0.0; rows.len()];
        for repeat in 0..repeats {
            let pick = |list: &[usize]| {
                Mat::from_fn(rows.len(), list.len(), |i, j| {
                    weight[(rows[i], source(list[j], repeat))]
                })
            };
            let (of_kept, of_removed) = (pick(&kept), pick(&removed));
            let rebuilt = if self.is_fixed {
                Mat::zeros(rows.len(), kept.len())
            } else {
                divisor.divide((&of_removed * &across).as_ref())
            };
            for (i, shift) in shift.iter_mut().enumerate() {
                for j in 0..kept.len() {
                    result[(i, source(j, repeat))] = of_kept[(i, j)] + rebuilt[(i, j)];
                    *shift -= rebuilt[(i, j)] * covariance.mean[kept[j]];
                }
                for (j, &column) in removed.iter().enumerate() {
                    *shift += of_removed[(i, j)] * covariance.mean[column];
                }
            }
        }
        Ok((result, shift))
    }
}
