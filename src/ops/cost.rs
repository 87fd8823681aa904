//! What nodes cost that are not pruned: those without a rule, and those that their rule does not cover.

use crate::graph::NodeView;
use crate::groups::{Cost, Elements, Walk};
use crate::ops::contrib;

/// How many multiply-accumulates a weight stands for.
enum Work {
    /// Filters along the weight's first axis: all of one for each element of the output.
    Filters,
    /// Filters of a transposed convolution: all that read a channel for each element of the input.
    Transposed,
    /// Matrices, maybe packed: for each element of the output as many as the data's last axis is long.
    Matrix,
    /// All of the weight for each row of the data.
    Rows,
}

/// The cost of a node that multiplies with a weight, where the operator is known and no rule says it.
#[must_use]
pub fn known(view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
    if view.node.domain == contrib::DOMAIN && view.node.op_type == "MoE" {
        return experts(view, walk).unwrap_or_default();
    }
    let Some((slot, work)) = work(view) else {
        return Vec::new();
    };
    of(view, walk, slot, &work).into_iter().collect()
}

/// The weight's input slot, and how it is used.
fn work(view: NodeView<'_>) -> Option<(usize, Work)> {
    let name = view.node.op_type.as_str();
    Some(match (view.node.domain.as_str(), name) {
        ("", "Conv" | "ConvInteger" | "DeformConv") => (1, Work::Filters),
        ("", "ConvTranspose") => (1, Work::Transposed),
        ("", "Gemm" | "MatMul" | "MatMulInteger") => (1, Work::Matrix),
        ("", "QLinearMatMul") => (3, Work::Matrix),
        (contrib::DOMAIN, "FusedConv" | "NhwcConv" | "NhwcFusedConv") => (1, Work::Filters),
        ("" | contrib::DOMAIN, "QLinearConv") => (3, Work::Filters),
        (contrib::DOMAIN, "ConvTransposeWithDynamicPads") => (1, Work::Transposed),
        (contrib::DOMAIN, "QGemm") => (3, Work::Matrix),
        (contrib::DOMAIN, "Attention" | "QAttention") => (1, Work::Rows),
        (
            contrib::DOMAIN,
            "DynamicQuantizeMatMul"
            | "FusedGemm"
            | "FusedMatMul"
            | "FusedMatMulActivation"
            | "GemmFastGelu"
            | "GemmFloat8"
            | "MatMulBnb4"
            | "MatMulFpQ4"
            | "MatMulIntegerToFloat"
            | "MatMulNBits"
            | "TransposeMatMul",
        ) => (1, Work::Matrix),
        _ => return None,
    })
}

fn of(view: NodeView<'_>, walk: &Walk<'_>, slot: usize, work: &Work) -> Option<Cost> {
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
    Some(match is_weight && elements(weight) > 0 {
        true => Cost {
            node: view.id,
            of: Elements::Weight(slot),
            positions: total / elements(weight) as f64,
        },
        false => Cost {
            node: view.id,
            of: Elements::Axes(Vec::new()),
            positions: total,
        },
    })
}

/// A mixture of experts, of which each row of the data goes through `k`.
fn experts(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Cost>> {
    const WEIGHTS: [usize; 3] = [2, 4, 6];
    let data = view.shape(view.input(0)?).ok()?;
    let rows = elements(data) / data.last().copied().unwrap_or(1).max(1) as u64;
    let of_each = view.node.int("k", 1).max(1) as f64 * walk.per_sample(rows);
    let cost = |slot: usize| {
        let count = view.shape(view.input(slot)?).ok()?.first().copied()?;
        Some(Cost {
            node: view.id,
            of: Elements::Weight(slot),
            positions: of_each / count.max(1) as f64,
        })
    };
    Some(WEIGHTS.into_iter().filter_map(cost).collect())
}

fn elements(shape: &[usize]) -> u64 {
    let lengths = shape.iter().map(|&length| length as u64);
    lengths.fold(1, u64::saturating_mul)
}
