//! What one batch hands to the fits of a level.

use std::collections::BTreeMap;

use faer::Mat;
use faer::traits::ComplexField;
use rayon::prelude::*;

use crate::graph::Graph;
use crate::onnx::Tensor;
use crate::repair::sequential::SequentialError;
use crate::repair::sequential::job::Job;
use crate::subgraph::SubgraphError;
use crate::taps::{Draw, Placed, TapError};

/// Where the rows of one batch stand.
pub(super) struct Found<'a> {
    pub draw: &'a Draw,
    /// Of the places of rows, none is padding.
    pub none: &'a [bool],
    pub graph: &'a Graph,
}

impl Found<'_> {
    /// What an input's tap gave.
    pub fn inputs<T: ComplexField + Copy + From<f32> + Into<f64>>(
        &self,
        placed: &Placed,
        tensor: Option<&Tensor>,
    ) -> Result<Mat<T>, SequentialError> {
        let entries = (&self.draw.reads, self.draw.padding.as_slice());
        self.read(placed, tensor, |name, tensor| {
            Ok(self.draw.counted(placed.unpack(name, tensor, entries)?))
        })
    }

    /// What another tap of the pruned model gave.
    pub fn pruned(
        &self,
        placed: &Placed,
        tensor: Option<&Tensor>,
    ) -> Result<Mat<f32>, SequentialError> {
        let entries = (&self.draw.places, self.none);
        self.read(placed, tensor, |name, tensor| {
            Ok(self.draw.counted(placed.unpack(name, tensor, entries)?))
        })
    }

    /// What a tap of the dense model gave, of which the positions were picked.
    pub fn dense(
        &self,
        placed: &Placed,
        tensor: Option<&Tensor>,
    ) -> Result<Mat<f32>, SequentialError> {
        self.read(placed, tensor, |name, tensor| {
            let rows = placed.unpack_picked(name, tensor, self.none.len())?;
            Ok(self.draw.counted(rows))
        })
    }

    /// What a tap gave, with an error that names the node where it gave something else.
    fn read<M>(
        &self,
        placed: &Placed,
        tensor: Option<&Tensor>,
        unpack: impl Fn(&str, &Tensor) -> Result<M, TapError>,
    ) -> Result<M, SequentialError> {
        let value = placed.tap.value;
        let tensor = tensor.ok_or_else(|| SubgraphError::missing(self.graph, value))?;
        unpack(&self.graph.values[value].name, tensor).map_err(|error| match error {
            TapError::Shape { shape: found, .. } => {
                let expected = vec![1, placed.channels, self.none.len()];
                SubgraphError::shape(self.graph, value, expected, found).into()
            }
            other => other.into(),
        })
    }
}

/// What one batch has for the jobs of a level: the positions of each, and what the taps of the
/// dense and of the pruned model gathered, job after job.
pub(super) struct Sampled {
    pub draws: Vec<Draw>,
    pub dense: Vec<Tensor>,
    pub pruned: Vec<Tensor>,
}

/// Adds one batch to all jobs.
pub(super) fn add_all(jobs: &mut [Job<'_>], sampled: Sampled) -> Result<(), SequentialError> {
    let mut dense = sampled.dense.into_iter();
    let mut pruned = sampled.pruned.into_iter();
    let work: Vec<_> = jobs
        .iter_mut()
        .zip(&sampled.draws)
        .map(|(job, draw)| {
            let counts = [job.dense_taps().count(), job.pruned_taps().count()];
            let dense: Vec<Tensor> = dense.by_ref().take(counts[0]).collect();
            let pruned: Vec<Tensor> = pruned.by_ref().take(counts[1]).collect();
            (job, draw, dense, pruned)
        })
        .collect();
    // What goes into one fit, the job that has its sums first.
    let mut fits: Vec<Vec<_>> = Vec::new();
    let mut places = BTreeMap::new();
    for part in work {
        match part.0.tie {
            None => fits.push(vec![part]),
            Some(tie) => {
                let place = *places.entry(tie.first).or_insert(fits.len());
                if place == fits.len() {
                    fits.push(Vec::new());
                }
                let at = if tie.leads { 0 } else { fits[place].len() };
                fits[place].insert(at, part);
            }
        }
    }
    fits.into_par_iter().try_for_each(|mut parts| {
        let Some(((lead, draw, dense, pruned), rest)) = parts.split_first_mut() else {
            return Ok(());
        };
        lead.add(None, draw, dense, pruned)?;
        let mut rest = rest.iter();
        rest.try_for_each(|(job, draw, dense, pruned)| lead.add(Some(job), draw, dense, pruned))
    })?;
    Ok(())
}
