//! What nodes cost that multiply with a weight, where their rule does not say it.

use crate::graph::NodeView;
use crate::groups::{Cost, Elements, Walk};

/// How many multiply-accumulates a weight stands for.
pub(super) enum Work {
    /// Filters along the weight's first axis: all of one for each element of the output.
    Filters,
    /// Filters of a transposed convolution: all that read a channel for each element of the input.
    Transposed,
    /// Matrices, maybe packed: for each element of the output as many as the data's last axis is
    /// long.
    Matrix,
    /// All of the weight for each row of the data.
    Rows,
}

/// The cost of a node whose weight in a slot stands for that work.
pub(super) fn of(view: NodeView<'_>, walk: &Walk<'_>, slot: usize, work: &Work) -> Vec<Cost> {
    known(view, walk, slot, work).into_iter().collect()
}

fn known(view: NodeView<'_>, walk: &Walk<'_>, slot: usize, work: &Work) -> Option<Cost> {
    let data = view.shape(view.input(0)?).ok()?;
    let weight = view.shape(view.input(slot)?).ok()?;
    let made = view.output_shape().ok()?;
    // Gemm may have its data turned.
    let inner = match view.node.int("transA", 0) {
        0 => data.last(),
        _ => data.iter().rev().nth(1),
    };
    let inner = inner.copied().unwrap_or(1) as u64;
    let first = weight.first().copied().unwrap_or(1) as u64;
    let per = |count: u64, of: u64| count / of.max(1);
    let total = match work {
        Work::Filters => elements(made).saturating_mul(per(elements(weight), first)),
        Work::Transposed => elements(data).saturating_mul(per(elements(weight), first)),
        Work::Matrix => elements(made).saturating_mul(inner),
        Work::Rows => per(elements(data), inner).saturating_mul(elements(weight)),
    };
    let total = walk.per_sample(total);
    let is_constant = view.constant(slot).is_some();
    // A second factor that is computed is no weight of a layer, but a convolution's always is.
    let is_weight = is_constant || matches!(work, Work::Filters | Work::Transposed);
    let (of, positions) = if is_weight && elements(weight) > 0 {
        (Elements::Weight(slot), total / elements(weight) as f64)
    } else {
        (Elements::Axes(Vec::new()), total)
    };
    Some(Cost {
        node: view.id,
        of,
        positions,
    })
}

pub(super) fn elements(shape: &[usize]) -> u64 {
    let lengths = shape.iter().map(|&length| length as u64);
    lengths.fold(1, u64::saturating_mul)
}
