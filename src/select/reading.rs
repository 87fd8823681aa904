//! From statistics and weights to the readings that the elimination works on.

use faer::{Mat, MatRef};

use crate::graph::{Graph, GroupId};
use crate::groups::{Consumer, Groups};
use crate::linalg::{LinalgError, lower_gram};
use crate::mi::{Reading, nested, pair};
use crate::ops;
use crate::select::SelectError;
use crate::statistics::{Covariance, Observed, Statistics};

/// The noise floor over the mean variance of one tap's contribution to an output. For a 3 x 3
/// kernel this is about half the variance of the output itself
/// (docs/design/decisions/006-noise-floor.md).
const NOISE_SHARE: f64 = 5.0;

/// How one consumer, or one block of it, reads a group, whatever the samples.
pub(super) struct View<'a> {
    pub consumer: usize,
    pub observed: &'a Observed,
    /// The block of the consumer's inputs.
    pub block: usize,
    /// `W' W` over the outputs that stay and all taps, and the number of these rows.
    pub gram: Mat<f64>,
    pub rows: usize,
    /// W, where it has far fewer rows than inputs.
    pub weights: Option<Mat<f64>>,
    pub candidates: Vec<Vec<usize>>,
    pub absent: Vec<usize>,
}

impl View<'_> {
    /// What it is by all samples.
    pub fn reading(&self) -> Option<Reading> {
        self.of(self.observed.of_channels(self.block)?.shrunk())
    }

    /// What it is by all samples but those of one part; of the covariance the lower triangle
    /// counts.
    pub fn reading_without(&self, part: usize) -> Option<Reading> {
        self.of(self.observed.shrunk_without(self.block, part)?)
    }

    /// The MI of the first `kept` candidates of `order` and of all, by all samples but those of one
    /// part; `None` where these do not fit.
    pub fn pair_without(
        &self,
        part: usize,
        order: &[usize],
        kept: usize,
    ) -> Result<Option<[f64; 2]>, LinalgError> {
        let Some(weights) = &self.weights else {
            let all = self.reading_without(part).map(|r| nested(&r, order));
            let pair = |all: Vec<f64>| Some([*all.get(kept)?, *all.last()?]);
            return Ok(all.transpose()?.and_then(pair));
        };
        let covariance = self.observed.shrunk_without(self.block, part);
        let covariance = covariance.and_then(|found| Some((self.noise(&found)?, found)));
        let pair = covariance.map(|(noise, covariance)| {
            let inputs = (self.candidates.as_slice(), self.absent.as_slice());
            let (covariance, weights) = (covariance.as_ref(), weights.as_ref());
            pair(covariance, weights, noise, inputs, (order, kept))
        });
        pair.transpose()
    }

    fn of(&self, covariance: Mat<f64>) -> Option<Reading> {
        Some(Reading {
            noise: self.noise(&covariance)?,
            gram: self.gram.clone(),
            candidates: self.candidates.clone(),
            absent: self.absent.clone(),
            covariance,
        })
    }

    /// The noise floor; `None` where the covariance does not fit.
    fn noise(&self, covariance: &Mat<f64>) -> Option<f64> {
        let (size, gram) = (self.gram.nrows(), &self.gram);
        if covariance.nrows() != size {
            return None;
        }
        // Both are symmetric, and of the covariance the lower triangle counts.
        let column = |j: usize| {
            let pairs = gram.col_as_slice(j).iter();
            let mut pairs = pairs.zip(covariance.col_as_slice(j)).skip(j);
            let own = pairs.next().map_or(0.0, |(a, b)| a * b);
            own + 2.0 * pairs.map(|(a, b)| a * b).sum::<f64>()
        };
        let variance: f64 = (0..size).map(column).sum();
        let noise = NOISE_SHARE * variance / self.rows.max(1) as f64;
        Some(noise.max(f64::MIN_POSITIVE.sqrt()))
    }
}

/// What the consumers of a group see of it when only the channels with `stays` are left elsewhere.
pub(super) fn views<'a>(
    graph: &Graph,
    groups: &Groups,
    statistics: &'a Statistics,
    group: GroupId,
    stays: &[bool],
) -> Result<Vec<View<'a>>, SelectError> {
    let mut views = Vec::new();
    let Some(group) = groups.groups.get(group) else {
        return Ok(views);
    };
    let mut candidate_of = vec![None; groups.channel_count];
    for (candidate, &channel) in group.channels.iter().enumerate() {
        candidate_of[channel] = Some(candidate);
    }
    for &index in &group.consumers {
        let consumer = &groups.consumers[index];
        let Some(observed) = statistics.of(index) else {
            continue;
        };
        let Some(map) = groups.read_by(consumer) else {
            continue;
        };
        let grams = match consumer.partner {
            Some(partner) => weighed_by(graph, groups, statistics, partner, observed.blocks.len()),
            None => grams(graph, groups, consumer, stays)?,
        };
        let per_block = consumer.per_block(map.len());
        for (block, weighed) in grams.into_iter().enumerate() {
            // The matrices of a stack may all read the same.
            let seen = block % consumer.observed_blocks().max(1);
            if seen >= observed.blocks.len() || weighed.gram.nrows() != per_block {
                continue;
            }
            let first = block * per_block % map.len().max(1);
            let inputs = map.iter().cycle().skip(first).take(per_block);
            let mut candidates = vec![Vec::new(); group.channels.len()];
            let mut absent = Vec::new();
            for (input, &channel) in inputs.enumerate() {
                match candidate_of[channel] {
                    Some(candidate) => candidates[candidate].push(input),
                    None if !stays[channel] => absent.push(input),
                    None => {}
                }
            }
            views.push(View {
                consumer: index,
                observed,
                block: seen,
                gram: weighed.gram,
                rows: weighed.rows,
                weights: weighed.weights,
                candidates,
                absent,
            });
        }
    }
    Ok(views)
}

/// How one block of a consumer weighs its inputs.
struct Weighed {
    gram: Mat<f64>,
    rows: usize,
    weights: Option<Mat<f64>>,
}

/// `W' W` where the weight is computed as well: with rows `w` of the other factor, the mean of
/// `w w'` for each of them.
fn weighed_by(
    graph: &Graph,
    groups: &Groups,
    statistics: &Statistics,
    partner: usize,
    blocks: usize,
) -> Vec<Weighed> {
    let Some((observed, consumer)) = statistics.of(partner).zip(groups.consumers.get(partner))
    else {
        return Vec::new();
    };
    let shape = graph.values[consumer.input]
        .shape
        .as_deref()
        .unwrap_or_default();
    let along = consumer.layout.out_axes.first();
    let rows = along
        .and_then(|&axis| shape.get(axis))
        .copied()
        .unwrap_or(1)
        .max(1);
    // Keys that several heads of queries share are fewer matrices, each of which meets several of
    // the other factor's.
    let others = observed.blocks.len();
    let met = |block: usize| {
        let first = block * others / blocks.max(1);
        first..((block + 1) * others / blocks.max(1)).max(first + 1)
    };
    let weighed = |block: usize| -> Option<Weighed> {
        let met = observed.blocks.get(met(block))?;
        let size = met.first()?.mean.len();
        let second = |i: usize, j: usize| {
            let of = |one: &Covariance| one.at(i, j) + one.mean[i] * one.mean[j];
            met.iter().map(of).sum::<f64>() * rows as f64
        };
        Some(Weighed {
            gram: Mat::from_fn(size, size, second),
            rows: rows * met.len(),
            weights: None,
        })
    };
    (0..blocks).map_while(weighed).collect()
}

/// Per block, `W' W` over the outputs that stay and all taps, and the number of these rows.
fn grams(
    graph: &Graph,
    groups: &Groups,
    consumer: &Consumer,
    stays: &[bool],
) -> Result<Vec<Weighed>, SelectError> {
    let view = graph.view(consumer.node);
    let weight = ops::of(view.node).weight(view, consumer.weight);
    let Some(weight) = weight else {
        return Ok(Vec::new());
    };
    let (weight, layout) = (weight?, &consumer.layout);
    let matrices = layout.matrices(&weight)?;
    let per_output = layout.rows_per_output(&weight.shape).max(1);
    let taps = layout.kernel_positions(&weight.shape).max(1);
    let made = groups.made_by(consumer);
    let mut grams = Vec::new();
    for (block, matrix) in matrices.iter().enumerate() {
        let outputs = matrix.nrows() / per_output;
        let stays_output = |row: &usize| {
            let channel =
                made.and_then(|map| map.get((block * outputs + row / per_output) % map.len()));
            channel.is_none_or(|&channel| stays[channel])
        };
        let rows: Vec<usize> = (0..matrix.nrows()).filter(stays_output).collect();
        let channels = matrix.ncols() / taps;
        // Each tap's contribution to an output is a row of its own.
        let unfolded = Mat::from_fn(rows.len() * taps, channels, |i, c| {
            matrix[(rows[i / taps], c * taps + i % taps)]
        });
        grams.push(Weighed {
            gram: gram(unfolded.as_ref()),
            rows: unfolded.nrows(),
            weights: (2 * unfolded.nrows() <= channels).then_some(unfolded),
        });
    }
    Ok(grams)
}

/// `rows' rows`.
fn gram(rows: MatRef<'_, f64>) -> Mat<f64> {
    let mut gram = lower_gram(rows);
    for j in 0..gram.ncols() {
        for i in 0..j {
            gram[(i, j)] = gram[(j, i)];
        }
    }
    gram
}
