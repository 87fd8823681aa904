//! MatMul and MatMulInteger: products with a constant matrix or a stack of them, or of two
//! activations.

use std::borrow::Cow;

use crate::graph::{Freeze, NodeView};
use crate::groups::{Alike, Bias, Cost, Operator, Walk};
use crate::onnx::{Tensor, TensorError};
use crate::ops::cost::{self, Work};
use crate::ops::weights::activations::Activations;
use crate::ops::weights::matrix_slot;
use crate::ops::weights::product::Product;
use crate::ops::weights::stack::StackProduct;
use crate::ops::{Entry, quantize};

pub(super) const CHANNELS: &str = "\
    as Gemm; a stack of one matrix counts as a matrix. A constant stack of several on the right \
    (experts) makes one set of channels: a place in the width leaves from all matrices, each is \
    judged and repaired on the part of the data that it reads. Of two activations, what is summed \
    over is tied (the queries' and the keys' inner axis), axes of a stack are tied (heads), the \
    others pass on (the values' inner axis)";

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["MatMul"], &MatMul, CHANNELS),
    Entry::standard(&["MatMulInteger"], &MatMulInteger, super::INTEGERS),
];

const A: usize = 0;
const B: usize = 1;

struct MatMul;

impl Operator for MatMul {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let shape = |slot: usize| view.shape(view.need(slot)?);
        let (left, right) = (shape(0)?, shape(1)?);
        let (l, r) = (left.len(), right.len());
        if l < 2 || r < 2 {
            return Err(Freeze::new("one of its factors is a vector"));
        }
        let is_matrix = |shape: &[usize]| shape.iter().rev().skip(2).all(|&length| length == 1);
        let product = match (view.constant(0), view.constant(1)) {
            (None, Some(_)) if is_matrix(right) && l >= r => Product {
                data: 0,
                axis: l - 1,
                made_axis: l - 1,
                weight: 1,
                out_axis: r - 1,
                in_axis: r - 2,
                gain: 1.0,
            },
            (Some(_), None) if is_matrix(left) && r >= l => Product {
                data: 1,
                axis: r - 2,
                made_axis: r - 2,
                weight: 0,
                out_axis: l - 2,
                in_axis: l - 1,
                gain: 1.0,
            },
            _ => {
                let stack = StackProduct::of_matmul(view)
                    .filter(|stack| !stack.has_channels_for_matrices(view, walk));
                if let Some(stack) = stack {
                    return stack.trace(view, walk);
                }
                let both = Activations {
                    left: [l - 2, l - 1],
                    right: [r - 2, r - 1],
                };
                return both.trace(view, walk);
            }
        };
        product.trace(view, walk, Bias::Added).map(|_| ())
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, B, &Work::Matrix)
    }

    fn alike(&self, view: NodeView<'_>) -> Option<Alike> {
        matrix_slot(view).map(Alike::Weighs)
    }
}

struct MatMulInteger;

impl Operator for MatMulInteger {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let (data, weight) = (view.shape(view.need(A)?)?, view.shape(view.need(B)?)?);
        let &[_, _] = weight else {
            return Err(Freeze::new("its weight is no matrix"));
        };
        if view.constant(B).is_none() || data.is_empty() {
            return Err(Freeze::new("its weight is computed while the model runs"));
        }
        quantize::is_readable(view, A)?;
        let product = Product {
            data: A,
            axis: data.len() - 1,
            made_axis: data.len() - 1,
            weight: B,
            out_axis: 1,
            in_axis: 0,
            gain: 1.0,
        };
        let made = product.trace(view, walk, Bias::None)?;
        match quantize::zero_points(view)? {
            Some(slot) => walk.cut((view.id, slot), 0, &made),
            None => Ok(()),
        }
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, B, &Work::Matrix)
    }

    fn weight<'v>(
        &self,
        view: NodeView<'v>,
        slot: usize,
    ) -> Option<Result<Cow<'v, Tensor>, TensorError>> {
        quantize::centred(view, slot)
    }
}
