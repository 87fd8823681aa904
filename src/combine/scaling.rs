//! Weights that take over the scale of the node behind them.

use ndarray::Axis;

use crate::onnx::{Tensor, TensorError};

/// The tensor with each channel along `axis` times its factor.
///
/// # Errors
/// The tensor is not of floats, or a product is beyond their type.
pub(super) fn along(tensor: &Tensor, axis: usize, factors: &[f64]) -> Result<Tensor, TensorError> {
    let mut values = tensor.to_f64()?;
    for (mut channel, factor) in values.axis_iter_mut(Axis(axis)).zip(factors) {
        channel *= *factor;
    }
    Tensor::from_f64(tensor.dtype, &values)
}
