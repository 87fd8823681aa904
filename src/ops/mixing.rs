//! Operators that mix the elements along some axes: channels there must stay, others pass.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{Operator, Walk};

/// Operators whose output has the input's shape, and mixes along some axes.
pub(super) struct AlongAxis;

impl Operator for AlongAxis {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let mixed = mixed_axes(view, rank)?;
        // Frozen channels go on: what takes lengths or makes sums from here sees whose they are.
        let axes = walk.axes(input);
        for axis in mixed {
            walk.freeze_axis(input, axis, view.id, "it mixes the channels");
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }
}

fn mixed_axes(view: NodeView<'_>, rank: usize) -> Result<Vec<usize>, Freeze> {
    let node = view.node;
    Ok(match node.op_type.as_str() {
        "LRN" => vec![1],
        "MeanVarianceNormalization" => node
            .ints("axes")
            .unwrap_or(&[0, 2, 3])
            .iter()
            .map(|&axis| normalize_axis(axis, rank))
            .collect::<Result<_, _>>()?,
        "Trilu" => (rank.saturating_sub(2)..rank).collect(),
        "CumSum" => match view.constant_ints(1)?.as_deref() {
            Some(&[axis]) => vec![normalize_axis(axis, rank)?],
            _ => return Err(Freeze::new("it has no axis")),
        },
        "LpNormalization" => vec![normalize_axis(node.int("axis", -1), rank)?],
        // Before opset 13, these flatten everything from the axis on.
        _ if view.graph.opset < 13 => (normalize_axis(node.int("axis", 1), rank)?..rank).collect(),
        _ => vec![normalize_axis(node.int("axis", -1), rank)?],
    })
}

/// Operators that reduce some axes to one value.
pub(super) struct Reduce;

pub(super) fn reduces(op_type: &str) -> bool {
    const NAMES: &[&str] = &[
        "ArgMax",
        "ArgMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    ];
    NAMES.contains(&op_type)
}

impl Operator for Reduce {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let reduced = reduced_axes(view, rank)?;
        let keeps = view.node.int("keepdims", 1) != 0;
        // A mean that keeps its axis meets the channels again: a norm in pieces.
        let is_part_of_norm = view.node.op_type == "ReduceMean" && keeps;
        let text = if is_part_of_norm {
            "it reduces over the channels (--prune-normalized lets them leave)"
        } else {
            "it reduces over the channels"
        };
        let mut axes = Vec::new();
        for (axis, map) in walk.axes(input).into_iter().enumerate() {
            if reduced.contains(&axis) {
                if !is_part_of_norm || !walk.scope().normalized {
                    walk.freeze_axis(input, axis, view.id, text);
                }
                if keeps {
                    axes.push(None);
                }
            } else {
                axes.push(map);
            }
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }
}

fn reduced_axes(view: NodeView<'_>, rank: usize) -> Result<Vec<usize>, Freeze> {
    if view.node.op_type.starts_with("Arg") {
        return Ok(vec![normalize_axis(view.node.int("axis", 0), rank)?]);
    }
    match view.ints("axes", 1)? {
        Some(axes) if !axes.is_empty() => axes
            .into_iter()
            .map(|axis| normalize_axis(axis, rank))
            .collect(),
        _ if view.node.int("noop_with_empty_axes", 0) != 0 => Ok(Vec::new()),
        _ => Ok((0..rank).collect()),
    }
}
