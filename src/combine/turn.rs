//! Tensors in another basis of the channels that lie along one of their axes.

use faer::Mat;
use ndarray::{ArrayD, Axis};

use crate::onnx::{Tensor, TensorError};

/// The tensor whose channels along `axis` are those of `basis`, one row for each: new channel `i`
/// is the sum of `basis[i, j]` times channel `j`. As `basis` is orthogonal, that is what both a
/// weight that makes the channels and one that reads them need.
///
/// # Errors
/// The tensor is not of floats.
pub(super) fn along(tensor: &Tensor, axis: usize, basis: &Mat<f64>) -> Result<Tensor, TensorError> {
    let values = tensor.to_f64()?;
    let channels = basis.nrows();
    if values.shape().get(axis) != Some(&channels) {
        return Ok(tensor.clone());
    }
    let mut last = values.clone();
    last.swap_axes(axis, values.ndim() - 1);
    let rest = last.len() / channels.max(1);
    let flat: Vec<f64> = last.iter().copied().collect();
    let columns = Mat::from_fn(channels, rest, |channel, other| {
        flat[other * channels + channel]
    });
    let turned = basis * columns;
    let mut target = ArrayD::<f64>::zeros(values.raw_dim());
    let mut view = target.view_mut();
    view.swap_axes(axis, values.ndim() - 1);
    for (other, mut lane) in view
        .lanes_mut(Axis(values.ndim() - 1))
        .into_iter()
        .enumerate()
    {
        for (channel, value) in lane.iter_mut().enumerate() {
            *value = turned[(channel, other)];
        }
    }
    Tensor::from_f64(tensor.dtype, &target)
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
            let after = along(&tensor, axis, &basis).unwrap().to_f64().unwrap();
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
