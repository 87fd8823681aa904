//! Layers with weights: convolutions and products.

pub(super) mod activations;
mod conv;
mod conv_backward;
mod conv_transpose;
mod convolution;
mod deform;
mod einsum;
mod fused_matmul;
mod gemm;
mod matmul;
mod product;
mod qlinear;
mod stack;
mod unfollowed;

use crate::graph::NodeView;
use crate::onnx::Tensor;
use crate::ops::Entry;

pub(super) const FILES: &[&[Entry]] = &[
    conv::OPERATORS,
    conv_transpose::OPERATORS,
    deform::OPERATORS,
    gemm::OPERATORS,
    matmul::OPERATORS,
    fused_matmul::OPERATORS,
    einsum::OPERATORS,
    qlinear::OPERATORS,
    unfollowed::OPERATORS,
];

/// What ConvInteger and MatMulInteger mean for channels.
const INTEGERS: &str = "\
    as Conv and MatMul, with the zero points of the weight; behind a quantiser only, whose input \
    is what is observed. Weights are cut and not repaired: the scales of their sums lie in other \
    nodes";

/// Whether a convolution reads all channels through a constant weight.
fn is_dense(view: NodeView<'_>) -> bool {
    view.node.int("group", 1) == 1 && view.constant(1).is_some()
}

/// The slot of the only constant factor of a product, which is no stack of several matrices.
fn matrix_slot(view: NodeView<'_>) -> Option<usize> {
    match (view.constant(0), view.constant(1)) {
        (None, Some(weight)) if is_matrix(weight) => Some(1),
        (Some(weight), None) if is_matrix(weight) => Some(0),
        _ => None,
    }
}

/// Whether it is no stack of several matrices.
fn is_matrix(weight: &Tensor) -> bool {
    weight.shape.iter().rev().skip(2).all(|&length| length == 1)
}
