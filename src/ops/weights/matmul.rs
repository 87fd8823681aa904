//! MatMul and MatMulInteger: products with a constant matrix or a stack of them, or of two
//! activations.

use std::borrow::Cow;

use crate::graph::{Freeze, NodeView};
use crate::groups::{Alike, Backward, Bias, Cost, Operator, Walk};
use crate::onnx::{Tensor, TensorError};
use crate::ops::backward::{give_summed, input, reshaped, shape, transposed};
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
        let is_computed = |slot: usize| view.constant(slot).is_none();
        let multiplies = (is_computed(A) && is_computed(B)).then_some(Alike::Multiplies);
        matrix_slot(view).map(Alike::Weighs).or(multiplies)
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let gradient = back.output()?;
        let (left, right) = (shape(view, A)?, shape(view, B)?);
        if left.len() < 2 || right.len() < 2 {
            return None;
        }
        if back.wants(A) {
            let turned = turned(back, input(view, B)?, right.len());
            let found = back.graph.node("MatMul", &[gradient, &turned], &[]);
            let made = stacked(left, right, [left.len() - 2, left.len() - 1], left);
            give_summed(back, view, A, &found, &made)?;
        }
        if !back.wants(B) {
            return Some(());
        }
        let (inner, columns) = (*left.last()?, *right.last()?);
        if right.len() == 2 {
            // One matrix for all rows of the stack.
            let rows = left.iter().rev().skip(1).product();
            let data = reshaped(back, input(view, A)?, &[rows, inner])?;
            let gradient = reshaped(back, gradient, &[rows, columns])?;
            let data = transposed(back, &data, &[1, 0]);
            let found = back.graph.node("MatMul", &[&data, &gradient], &[]);
            back.give(B, found);
            return Some(());
        }
        let turned = turned(back, input(view, A)?, left.len());
        let found = back.graph.node("MatMul", &[&turned, gradient], &[]);
        let made = stacked(left, right, [right.len() - 2, right.len() - 1], right);
        give_summed(back, view, B, &found, &made)
    }
}

/// Each matrix of a stack transposed.
fn turned(back: &mut Backward<'_>, value: &str, rank: usize) -> String {
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    transposed(back, value, &perm)
}

/// The axes that both stacks make together, with the last two `axes` of one behind them.
fn stacked(left: &[usize], right: &[usize], axes: [usize; 2], of: &[usize]) -> Vec<usize> {
    let rank = left.len().max(right.len());
    let at = |shape: &[usize], axis: usize| {
        let own = (axis + shape.len()).checked_sub(rank);
        own.and_then(|own| shape.get(own)).copied().unwrap_or(1)
    };
    let stack = (0..rank.saturating_sub(2)).map(|axis| at(left, axis).max(at(right, axis)));
    stack
        .chain(axes.into_iter().filter_map(|axis| of.get(axis).copied()))
        .collect()
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
