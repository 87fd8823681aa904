//! Which basis each of a group's channels get, and tensors in it.

use std::collections::BTreeMap;

use faer::Mat;
use ndarray::{ArrayViewMutD, Axis, Slice};

use crate::combine::heads::Head;
use crate::combine::{CombineError, Turnable};
use crate::graph::{GroupId, ValueId};
use crate::mi::{self, Reading};
use crate::onnx::{Tensor, TensorError};
use crate::select::{ReadBy, Scene};

/// A basis, and the first of the consecutive positions or the matrix of a stack that gets it.
pub(crate) type Place = (usize, usize);

/// The bases that a group's channels get.
pub(super) struct Turn {
    /// Orthogonal matrices: new channel `i` is the sum of `basis[i, j]` times channel `j`.
    pub bases: Vec<Mat<f64>>,
    /// Per constant and axis, where which basis is.
    pub parts: BTreeMap<(ValueId, usize), Vec<Place>>,
    /// Per consumer, where which basis is; none where all that it reads has the first.
    pub readers: Vec<(usize, Vec<Place>)>,
    /// Constants to take instead before anything is turned.
    pub prepared: BTreeMap<ValueId, Tensor>,
}

impl Turn {
    /// The bases whose first directions tell most.
    ///
    /// # Errors
    /// Statistics or weights that cannot be read.
    pub fn of(scene: Scene<'_>, group: GroupId, found: Turnable) -> Result<Self, CombineError> {
        let own = &scene.groups.groups[group];
        let readings = scene.read_by(group, &vec![true; scene.groups.channel_count])?;
        let channels = own.channels.len();
        let basis = |readings: &[Reading]| {
            mi::basis(readings, channels).map_err(|error| CombineError::Directions {
                group: own.name.clone(),
                error,
            })
        };
        let mut turn = Turn {
            bases: Vec::new(),
            parts: BTreeMap::new(),
            readers: Vec::new(),
            prepared: BTreeMap::new(),
        };
        match found {
            Turnable::Linear(linear) => {
                let all: Vec<Reading> = readings.into_iter().map(|read| read.reading).collect();
                turn.bases.push(basis(&all)?);
                let constants = linear.constants.into_iter();
                turn.parts = constants.map(|at| (at, vec![(0, 0)])).collect();
                turn.readers = own
                    .consumers
                    .iter()
                    .map(|&reader| (reader, Vec::new()))
                    .collect();
                turn.prepared = linear.prepared;
            }
            Turnable::Heads(heads) => {
                let mut readers: BTreeMap<usize, Vec<Place>> = BTreeMap::new();
                for (index, head) in heads.into_iter().enumerate() {
                    turn.bases
                        .push(basis(&of_head(&head, &readings, channels))?);
                    for (value, axis, first) in head.parts {
                        turn.parts
                            .entry((value, axis))
                            .or_default()
                            .push((first, index));
                    }
                    for (consumer, first) in head.readers {
                        readers.entry(consumer).or_default().push((first, index));
                    }
                }
                turn.readers = readers.into_iter().collect();
            }
        }
        Ok(turn)
    }
}

/// How the readers of one head read it alone.
fn of_head(head: &Head, readings: &[ReadBy], channels: usize) -> Vec<Reading> {
    let of = |&(consumer, first): &(usize, usize)| {
        let mut own = readings
            .iter()
            .filter(move |read| read.consumer == consumer);
        let whole = own
            .clone()
            .find(|read| read.reading.covariance.nrows() > channels);
        match whole {
            Some(read) => read.reading.part(first, channels),
            None => own
                .find(|read| read.block == first)
                .map(|read| read.reading.clone()),
        }
    };
    head.readers.iter().filter_map(of).collect()
}

/// The tensor with each part of its positions along `axis` in the part's basis. As a basis is
/// orthogonal, that is what both a weight that makes the channels and one that reads them need.
///
/// # Errors
/// The tensor is not of floats.
pub(super) fn along(
    tensor: &Tensor,
    axis: usize,
    parts: &[Place],
    bases: &[Mat<f64>],
) -> Result<Tensor, TensorError> {
    let mut values = tensor.to_f64()?;
    for &(first, basis) in parts {
        let Some(basis) = bases.get(basis) else {
            continue;
        };
        let end = first.saturating_add(basis.nrows());
        if values.shape().get(axis).is_none_or(|&length| length < end) {
            continue;
        }
        let part = values.slice_axis_mut(Axis(axis), Slice::from(first..end));
        turn(part, axis, basis);
    }
    Tensor::from_f64(tensor.dtype, &values)
}

/// Turns each lane along `axis`.
fn turn(mut values: ArrayViewMutD<'_, f64>, axis: usize, basis: &Mat<f64>) {
    let channels = basis.nrows();
    let lanes = values.lanes(Axis(axis));
    let columns: Vec<f64> = lanes.into_iter().flatten().copied().collect();
    let columns =
        faer::MatRef::from_column_major_slice(&columns, channels, columns.len() / channels.max(1));
    let turned = basis * columns;
    let lanes = values.lanes_mut(Axis(axis)).into_iter();
    for (mut lane, turned) in lanes.zip(turned.col_iter()) {
        for (value, turned) in lane.iter_mut().zip(turned.iter()) {
            *value = *turned;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_lane_along_the_axis_is_turned() {
        let shape = [2, 3, 4];
        let tensor = Tensor::from_f32(&shape, (0..24).map(|i| (i * i % 7) as f32).collect());
        let tensor = tensor.unwrap();
        let before = tensor.to_f64().unwrap();
        for (axis, &length) in shape.iter().enumerate() {
            let basis = Mat::from_fn(length, length, |i, j| (i * 3 + j) as f64);
            let bases = [basis.clone()];
            let after = along(&tensor, axis, &[(0, 0)], &bases).unwrap();
            let after = after.to_f64().unwrap();
            let lanes = before.lanes(Axis(axis)).into_iter();
            for (old, new) in lanes.zip(after.lanes(Axis(axis))) {
                for i in 0..length {
                    let sum: f64 = (0..length).map(|j| basis[(i, j)] * old[j]).sum();
                    assert_eq!(new[i], sum);
                }
            }
        }
    }
}
