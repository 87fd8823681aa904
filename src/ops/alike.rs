//! Nodes that treat the channels along an axis alike, so that these may be any combinations of others.

use crate::graph::NodeView;
use crate::onnx::{Tensor, TensorError};

/// What a node does to channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alike {
    /// It sums them, or makes them of others, through the dense constant weight in a slot, and adds a bias to
    /// what it makes.
    Weighs(usize),
    /// It adds tensors, or positions of one, channel by channel.
    Adds,
    /// It scales and moves each channel on its own, by constants.
    Scales,
}

/// What the node does, where that is the same for all channels of an axis, or but for constants.
pub(super) fn alike(view: NodeView<'_>) -> Option<Alike> {
    let node = view.node;
    if !node.domain.is_empty() || node.outputs.iter().flatten().count() != 1 {
        return None;
    }
    let is_dense = || node.int("group", 1) == 1 && view.constant(1).is_some();
    match node.op_type.as_str() {
        "Conv" | "ConvTranspose" if is_dense() => Some(Alike::Weighs(1)),
        "Gemm" | "MatMul" => match (view.constant(0), view.constant(1)) {
            (None, Some(weight)) if is_matrix(weight) => Some(Alike::Weighs(1)),
            (Some(weight), None) if is_matrix(weight) => Some(Alike::Weighs(0)),
            _ => None,
        },
        // In the way of opsets before 7 a constant may lie elsewhere.
        "Add" | "Sub" if node.has("axis") => None,
        "Add" | "Sub" | "Sum" | "Identity" | "AveragePool" | "GlobalAveragePool" => {
            Some(Alike::Adds)
        }
        "BatchNormalization" if node.int("training_mode", 0) == 0 => Some(Alike::Scales),
        _ => None,
    }
}

/// Whether it is no stack of several matrices.
fn is_matrix(weight: &Tensor) -> bool {
    weight.shape.iter().rev().skip(2).all(|&length| length == 1)
}

/// A node that scales channels, divided: what it scales them by, and constants with which it only adds what it
/// added.
#[derive(Debug, Clone)]
pub struct Unscaled {
    /// Factor of each channel.
    pub scale: Vec<f64>,
    /// The constants by input slot.
    pub constants: [(usize, Tensor); 4],
    /// The one of these slots that holds what is added.
    pub added: usize,
}

/// Divides a node that [scales](Alike::Scales) channels; `None` where its constants are not there.
///
/// # Errors
/// Constants that are no floats, or beyond their type.
pub(super) fn unscaled(view: NodeView<'_>) -> Option<Result<Unscaled, TensorError>> {
    const SLOTS: [usize; 4] = [1, 2, 3, 4];
    let [Some(scale), Some(added), Some(mean), Some(variance)] =
        SLOTS.map(|slot| view.constant(slot))
    else {
        return None;
    };
    let epsilon = f64::from(view.node.float("epsilon", 1e-5));
    let divide = || {
        let factor = scale.to_f64()? / (variance.to_f64()? + epsilon).sqrt();
        let moved = added.to_f64()? - mean.to_f64()? * &factor;
        let filled = |value: f64| ndarray::ArrayD::from_elem(factor.raw_dim(), value);
        let [ones, zeros, rest] = [1.0, 0.0, 1.0 - epsilon].map(filled);
        Ok(Unscaled {
            scale: factor.iter().copied().collect(),
            constants: [
                (1, Tensor::from_f64(scale.dtype, &ones)?),
                (2, Tensor::from_f64(added.dtype, &moved)?),
                (3, Tensor::from_f64(mean.dtype, &zeros)?),
                (4, Tensor::from_f64(variance.dtype, &rest)?),
            ],
            added: 2,
        })
    };
    Some(divide())
}
