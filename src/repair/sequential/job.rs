//! One fit: the inputs that consumers share, and what each of them has to reach.

use std::collections::BTreeSet;

use faer::Mat;
use rayon::prelude::*;

use crate::data::Padding;
use crate::graph::{Graph, ValueId};
use crate::linalg::products;
use crate::onnx::Tensor;
use crate::repair::sequential::SequentialError;
use crate::repair::sequential::rectified::{Before, Block, KeptRows, Rectifier, Share, Targets};
use crate::repair::sequential::regression::{
    Affine, Aim, Centred, CrossMoments, Equations, Fitted, picked as picked_rows,
};
use crate::repair::sequential::ridge;
use crate::repair::sequential::sampled::Found;
use crate::repair::sequential::ties::Tie;
use crate::repair::{Onto, Refit};
use crate::statistics::Moments;
use crate::surgery::{Repaired, SurgeryError};
use crate::taps::{self, Draw, Placed};

/// The consumers that read one tensor in one way.
pub(super) struct Job<'a> {
    pub graph: &'a Graph,
    pub inputs: Placed,
    pub rows: usize,
    /// One per block of channels.
    pub moments: Vec<Moments>,
    /// The same over the samples that are held back; none where there are too few samples.
    pub held: Vec<Moments>,
    /// Samples seen.
    pub seen: usize,
    pub targets: Vec<Target<'a>>,
    /// The fit that it is a part of, where consumers share a weight. The job that leads has the
    /// sums.
    pub tie: Option<Tie>,
    /// Of the rows, those that are kept.
    pub share: Share,
    /// Per block, inputs less their shift.
    pub kept: Vec<KeptRows>,
}

/// One consumer.
pub(super) struct Target<'a> {
    pub fold: Refit<'a>,
    /// Output channels that stay.
    pub stays: Vec<usize>,
    pub output: Placed,
    pub crosses: Vec<CrossMoments>,
    /// The same over the samples that are held back.
    pub held: Vec<CrossMoments>,
    pub sum: Option<Sum>,
    pub rectifier: Option<Rectifier>,
    /// Of its targets, those that are kept.
    pub kept: Targets,
}

/// The sum that a consumer's output goes into.
pub(super) struct Sum {
    /// The summand that the output becomes; `None` where it is the output itself.
    pub own: Option<Placed>,
    /// The other one, in the dense and in the pruned model.
    pub other: Placed,
    pub other_pruned: Placed,
    /// Per kept channel, how the output becomes the summand.
    pub affine: Vec<Affine>,
    /// Of what the other summand lost.
    pub crosses: Vec<CrossMoments>,
    pub held: Vec<CrossMoments>,
}

impl<'a> Job<'a> {
    /// Taps of the dense model, each with the channels that stay.
    pub fn dense_taps(&self) -> impl Iterator<Item = (&Placed, &[usize])> {
        self.targets.iter().flat_map(|target| {
            let sum = target.sum.iter();
            let sum = sum.flat_map(|sum| sum.own.iter().chain([&sum.other]));
            let before = target.rectifier.as_ref().and_then(|r| match &r.before {
                Before::Other(placed) => Some(placed.as_ref()),
                Before::Output | Before::Sum => None,
            });
            let taps = std::iter::once(&target.output).chain(sum).chain(before);
            taps.map(|placed| (placed, target.stays.as_slice()))
        })
    }

    /// Taps of the pruned model, the inputs first.
    pub fn pruned_taps(&self) -> impl Iterator<Item = &Placed> {
        let sums = self.targets.iter().filter_map(|target| target.sum.as_ref());
        std::iter::once(&self.inputs).chain(sums.map(|sum| &sum.other_pruned))
    }

    /// The positions for one batch.
    pub fn draw(
        &self,
        seed: u64,
        (level, job, batch): (usize, usize, usize),
        padding: Option<&Padding>,
    ) -> Option<Draw> {
        let tap = (level as u64) << 32 | job as u64;
        let seed = taps::seed(seed, tap, batch as u64);
        self.inputs.draw(self.rows, seed, padding)
    }

    /// What the dense model's taps read: the input for it, and the positions.
    pub fn dense_feeds(&self, draw: &Draw) -> Vec<(String, Tensor)> {
        let taps = self.dense_taps();
        taps.map(|(placed, _)| (placed.positions.clone(), draw.places.tensor.clone()))
            .collect()
    }

    /// What the pruned model's taps are fed.
    pub fn pruned_feeds(&self, draw: &Draw) -> Vec<(String, Tensor)> {
        let mut taps = self.pruned_taps();
        let inputs = taps.next().map(|placed| (placed, &draw.reads.tensor));
        let rest = taps.map(|placed| (placed, &draw.places.tensor));
        let all = inputs.into_iter().chain(rest);
        let gathered = all.filter(|(placed, _)| !placed.is_whole);
        gathered
            .map(|(placed, positions)| (placed.positions.clone(), positions.clone()))
            .collect()
    }

    /// Adds what the taps gathered of one batch: its own, or those of another job of the same fit,
    /// whose turn is after its own.
    pub fn add(
        &mut self,
        other: Option<&Job<'_>>,
        draw: &Draw,
        dense: &[Tensor],
        pruned: &[Tensor],
    ) -> Result<(), SequentialError> {
        let graph = self.graph;
        let inputs = other.map_or(&self.inputs, |other| &other.inputs).clone();
        let none = vec![false; draw.padding.len() / inputs.tap.kernel_positions().max(1)];
        let (mut dense, mut pruned) = (dense.iter(), pruned.iter());
        let found = Found {
            draw,
            none: &none,
            graph,
        };
        let centred = self.centre(&found, &inputs, pruned.next())?;
        let rows = centred.first().map_or(0, Centred::rows);
        let seen = self.kept.first().map_or(0, KeptRows::len);
        let keep = (self.share.of_batch(rows, seen), self.share);
        if self.targets.iter().any(|target| target.rectifier.is_some()) {
            for (kept, block) in self.kept.iter_mut().zip(&centred) {
                kept.push_inputs(block, keep.0, keep.1);
            }
        }
        let per_sample = draw.per_sample();
        let samples = rows / per_sample.max(1);
        if other.is_none() {
            self.seen += samples;
        }
        let held = ridge::held(self.seen.saturating_sub(samples), samples, per_sample);
        let apart: Vec<Centred> = if self.held.is_empty() {
            Vec::new()
        } else {
            centred.iter().map(|block| block.some(&held)).collect()
        };
        let count = held.len() / per_sample.max(1);
        for (moments, block) in self.held.iter_mut().zip(&apart) {
            match block {
                Centred::Single(rows) => drop(moments.add_single(rows.clone(), count)),
                Centred::Double(rows) => drop(moments.add(rows.clone(), count)),
            }
        }
        let centred = Inputs {
            all: &centred,
            held: &held,
            apart: &apart,
        };
        for (place, target) in self.targets.iter_mut().enumerate() {
            let taps = other.and_then(|other| other.targets.get(place));
            let taps = taps.map_or_else(|| Taps::of(target), Taps::of);
            target.add(&taps, &found, &centred, keep, [&mut dense, &mut pruned])?;
        }
        Ok(())
    }

    /// Adds the inputs to the sums of each block; returns them less their shift.
    fn centre(
        &mut self,
        found: &Found<'_>,
        placed: &Placed,
        tensor: Option<&Tensor>,
    ) -> Result<Vec<Centred>, SequentialError> {
        let count = self.moments.len().max(1);
        let per_block = placed.channels * placed.tap.kernel_positions() / count;
        let samples = |rows: usize| rows / found.draw.per_sample().max(1);
        if products::is_single(per_block) {
            let inputs: Mat<f32> = found.inputs(placed, tensor)?;
            if let [moments] = self.moments.as_mut_slice() {
                let samples = samples(inputs.nrows());
                return Ok(vec![Centred::Single(moments.add_single(inputs, samples))]);
            }
            let of_block = |(block, moments): (usize, &mut Moments)| {
                let part = inputs.subcols(block * per_block, per_block);
                Centred::Single(moments.add_single(part.to_owned(), samples(inputs.nrows())))
            };
            return Ok(self.moments.iter_mut().enumerate().map(of_block).collect());
        }
        let inputs: Mat<f64> = found.inputs(placed, tensor)?;
        let of_block = |(block, moments): (usize, &mut Moments)| {
            let part = inputs.subcols(block * per_block, per_block);
            Centred::Double(moments.add(part.to_owned(), samples(inputs.nrows())))
        };
        Ok(self.moments.iter_mut().enumerate().map(of_block).collect())
    }

    /// Fits each target, from the weights of the repair in one pass; `None` where no row was seen.
    fn fitted(&self, once: &Repaired) -> Result<Vec<Option<Solved>>, SurgeryError> {
        if self.tie.is_some_and(|tie| !tie.leads) {
            return Ok(Vec::new());
        }
        let targets = self.targets.par_iter();
        targets.map(|target| self.fit(target, once)).collect()
    }

    fn fit(&self, target: &Target<'a>, once: &Repaired) -> Result<Option<Solved>, SurgeryError> {
        let once = target.fold.present(once);
        let once = once.map_err(|error| target.fold.failed(error))?;
        let (mut matrices, mut shift) = (Vec::new(), Vec::new());
        for (block, (moments, once)) in self.moments.iter().zip(once).enumerate() {
            let held = self.held.get(block);
            let equations = Equations::new(moments, held, &target.aim(block), once);
            let equations = equations.map_err(|error| SurgeryError::Repair {
                node: target.fold.node().to_owned(),
                error,
            })?;
            let Some(equations) = equations else {
                return Ok(None);
            };
            let (matrix, moved) = target.fit(block, &equations, &self.kept);
            matrices.push(matrix);
            shift.extend(moved);
        }
        Ok(Some((matrices, shift)))
    }
}

/// Fitted matrices, one per block, and the shift of every row.
type Solved = (Vec<Mat<f64>>, Vec<f64>);

/// Puts the fitted weights of a level into `repaired`, which has those of the repair in one pass.
pub(super) fn solve(jobs: &[Job<'_>], repaired: &mut Repaired) -> Result<(), SurgeryError> {
    let once = &*repaired;
    let fitted: Vec<_> = jobs.par_iter().map(|job| job.fitted(once)).collect();
    for (job, fitted) in jobs.iter().zip(fitted) {
        let rest = jobs.iter().filter(|other| {
            let follows = |tie: Tie| job.tie == Some(Tie { leads: true, ..tie }) && !tie.leads;
            other.tie.is_some_and(follows)
        });
        let rest: Vec<&Job<'_>> = rest.collect();
        for (place, fitted) in fitted?.into_iter().enumerate() {
            let Some((matrices, shift)) = fitted else {
                continue;
            };
            let targets = std::iter::once(job).chain(rest.iter().copied());
            for target in targets.filter_map(|job| job.targets.get(place)) {
                let folded = target.fold.tensors(&matrices, &shift, Onto::Zero);
                let put = folded.and_then(|folded| target.fold.put(folded, repaired));
                put.map_err(|error| target.fold.failed(error))?;
            }
        }
    }
    Ok(())
}

/// Where a target is read.
struct Taps {
    output: Placed,
    /// The summand that the output becomes, and the other one in the dense and in the pruned model.
    sum: Option<(Option<Placed>, [Placed; 2])>,
    before: Option<Placed>,
}

impl Taps {
    fn of(target: &Target<'_>) -> Self {
        let before = target.rectifier.as_ref().map(|rectifier| &rectifier.before);
        Taps {
            output: target.output.clone(),
            sum: target.sum.as_ref().map(|sum| {
                let others = [sum.other.clone(), sum.other_pruned.clone()];
                (sum.own.clone(), others)
            }),
            before: match before {
                Some(Before::Other(placed)) => Some(placed.as_ref().clone()),
                Some(Before::Output | Before::Sum) | None => None,
            },
        }
    }
}

impl Target<'_> {
    /// Adds what the taps gathered of one batch: `centred` has the inputs per block, of which the
    /// first `count` rows are kept.
    fn add(
        &mut self,
        taps: &Taps,
        found: &Found<'_>,
        centred: &Inputs<'_>,
        (count, share): (usize, Share),
        [dense, pruned]: [&mut std::slice::Iter<'_, Tensor>; 2],
    ) -> Result<(), SequentialError> {
        let stay = self.stays.len();
        let mut dense = |placed: &Placed| {
            let placed = placed.clone().with_channels(stay);
            found.dense(&placed, dense.next())
        };
        let output = dense(&taps.output)?;
        centred.add(&mut self.crosses, &mut self.held, &output);
        let (mut lost, mut total) = (None, None);
        if let Some((sum, (own, [other, other_pruned]))) = self.sum.as_mut().zip(taps.sum.as_ref())
        {
            let own = own.as_ref().map(&mut dense).transpose()?;
            let other = dense(other)?;
            let left = found.pruned(other_pruned, pruned.next())?;
            if let Some(own) = &own {
                add_affine(&mut sum.affine, &output, own);
            }
            total = Some(own.as_ref().unwrap_or(&output) + &other);
            let lost = lost.insert(other - left);
            centred.add(&mut sum.crosses, &mut sum.held, lost);
        }
        let Some(rectifier) = &mut self.rectifier else {
            return Ok(());
        };
        let kept = &mut self.kept;
        kept.output.push(&output, count, share);
        if let Some(lost) = &lost {
            let rows = kept.lost.get_or_insert_default();
            rows.push(lost, count, share);
        }
        let before = match (&rectifier.before, &taps.before) {
            (Before::Output, _) => return Ok(()),
            (Before::Sum, _) => total,
            (Before::Other(_), placed) => placed.as_ref().map(&mut dense).transpose()?,
        };
        if let Some(before) = before {
            if let Some(affine) = &mut rectifier.affine {
                add_affine(affine, &output, &before);
            }
            let rows = kept.before.get_or_insert_default();
            rows.push(&before, count, share);
        }
        Ok(())
    }

    /// Fits one block; `inputs` are those that were kept, per block.
    fn fit(&self, block: usize, equations: &Equations, inputs: &[KeptRows]) -> Fitted {
        let fitted = equations.solve(None);
        let (Some(rectifier), Some(inputs)) = (&self.rectifier, inputs.get(block)) else {
            return fitted;
        };
        let outputs = fitted.0.nrows();
        let first = block * outputs;
        let affine = match &self.sum {
            Some(sum) => sum.own.as_ref().map(|_| &sum.affine),
            None => rectifier.affine.as_ref(),
        };
        let factor = |place: usize| affine.map_or(Some(1.0), |affine| affine[place].factor());
        let factors: Vec<Option<f64>> = (first..first + outputs).map(factor).collect();
        let refined = Block {
            equations,
            passes: &rectifier.passes,
            lost: factors.iter().map(|f| f.map_or(0.0, |f| 1.0 / f)).collect(),
            factors,
            first,
            inputs,
            targets: &self.kept,
        };
        refined.refine(fitted)
    }

    fn aim(&self, block: usize) -> Aim<'_> {
        let outputs = self.stays.len() / self.crosses.len().max(1);
        let lost = self.sum.as_ref().map(|sum| {
            let affine = sum.affine.iter().skip(block * outputs).take(outputs);
            let is_own = sum.own.is_none();
            let weight = |affine: &Affine| {
                if is_own {
                    1.0
                } else {
                    affine.factor().map_or(0.0, |factor| 1.0 / factor)
                }
            };
            (&sum.crosses[block], affine.map(weight).collect())
        });
        Aim {
            outputs: &self.crosses[block],
            lost,
            held: self
                .held
                .get(block)
                .map(|held| (held, self.sum.as_ref().and_then(|sum| sum.held.get(block)))),
            gain: self.fold.consumer.gain,
        }
    }
}

fn add_affine(affine: &mut [Affine], from: &Mat<f32>, to: &Mat<f32>) {
    for (channel, affine) in affine.iter_mut().enumerate() {
        affine.add(from.col_as_slice(channel), to.col_as_slice(channel));
    }
}

/// The inputs of one batch, per block.
struct Inputs<'a> {
    all: &'a [Centred],
    /// Rows that are held back, and the inputs there.
    held: &'a [usize],
    apart: &'a [Centred],
}

impl Inputs<'_> {
    fn add(&self, all: &mut [CrossMoments], held: &mut [CrossMoments], targets: &Mat<f32>) {
        add_blocks(all, targets, self.all);
        if !self.held.is_empty() && !held.is_empty() {
            let targets = picked_rows(targets.as_ref(), self.held);
            add_blocks(held, &targets, self.apart);
        }
    }
}

fn add_blocks(crosses: &mut [CrossMoments], targets: &Mat<f32>, inputs: &[Centred]) {
    let outputs = targets.ncols() / crosses.len().max(1);
    for (block, (cross, inputs)) in crosses.iter_mut().zip(inputs).enumerate() {
        cross.add(targets, block * outputs..(block + 1) * outputs, inputs);
    }
}

/// The values of taps, each once.
pub(super) fn wanted<'p>(taps: impl IntoIterator<Item = &'p Placed>) -> Vec<ValueId> {
    let all: BTreeSet<ValueId> = taps.into_iter().map(|placed| placed.tap.value).collect();
    all.into_iter().collect()
}
