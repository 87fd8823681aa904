//! QuantizeLinear and DequantizeLinear: element by element, with scales that may lie along an axis.

use crate::graph::{Node, NodeView, view::normalize_axis};
use crate::groups::{Cost, Elements, Walk};
use crate::ops::{Freeze, Operator};

const SCALE: usize = 1;
const ZERO_POINT: usize = 2;

pub(super) struct Quantize;

impl Operator for Quantize {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        if view.node.int("block_size", 0) != 0 {
            return Err(Freeze::new("its scales hold for blocks"));
        }
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let axes = walk.axes(input);
        for slot in [SCALE, ZERO_POINT] {
            let Some(value) = view.input(slot) else {
                continue;
            };
            let is_one = view.shape(value)?.iter().product::<usize>() == 1;
            if is_one {
                continue;
            }
            let axis = normalize_axis(view.node.int("axis", 1), rank)?;
            let Some(map) = axes.get(axis).cloned().flatten() else {
                continue;
            };
            if view.constant(slot).is_none() {
                return Err(Freeze::new("its scales are computed while the model runs"));
            }
            walk.cut((view.id, slot), 0, &map)?;
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }
}

/// Convolutions and products of integers. Their channels stay: the scales of what they sum lie in
/// other nodes, and nothing tells which.
#[derive(Debug)]
pub(super) struct Integers {
    weight: usize,
    /// The axis of what they make, counted from the end where it is negative.
    axis: i64,
}

pub(super) fn find(op_type: &str) -> Option<&'static Integers> {
    Some(match op_type {
        "ConvInteger" => &Integers { weight: 1, axis: 1 },
        "QLinearConv" => &Integers { weight: 3, axis: 1 },
        "MatMulInteger" => &Integers {
            weight: 1,
            axis: -1,
        },
        "QLinearMatMul" => &Integers {
            weight: 3,
            axis: -1,
        },
        _ => return None,
    })
}

impl Operator for Integers {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        const TEXT: &str = "it computes with integers, whose scales lie in other nodes";
        let shape = view.output_shape()?;
        let axis = normalize_axis(self.axis, shape.len())?;
        for value in view.node.inputs.iter().flatten() {
            for own in 0..view.shape(*value)?.len() {
                walk.freeze_axis(*value, own, view.id, TEXT);
            }
        }
        let length = shape.get(axis).copied().unwrap_or(0);
        let mut axes = vec![None; shape.len()];
        if let Some(slot) = axes.get_mut(axis) {
            *slot = Some(walk.fixed(view.id, length, TEXT));
        }
        if view.constant(self.weight).is_some() {
            let positions =
                shape.iter().map(|&n| n as u64).product::<u64>() / (length as u64).max(1);
            walk.cost(Cost {
                node: view.id,
                of: Elements::Weight(self.weight),
                positions: walk.per_sample(positions),
            });
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }
}

/// Input slots of a node that stores a tensor in few bits, and the axis along which its scales lie
/// where there are several.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// The quantised numbers.
    pub data: usize,
    /// Their scales.
    pub scale: usize,
    /// Their zero points; the slot may be empty.
    pub zero_point: usize,
    /// As the attribute has it.
    pub axis: i64,
}

/// What the node stores in few bits, if it is one that does.
#[must_use]
pub fn stored(node: &Node) -> Option<Stored> {
    let is_one = node.domain.is_empty() && node.op_type == "DequantizeLinear";
    (is_one && node.int("block_size", 0) == 0).then(|| Stored {
        data: 0,
        scale: SCALE,
        zero_point: ZERO_POINT,
        axis: node.int("axis", 1),
    })
}

/// The input slot of a node that gives its constant another type.
#[must_use]
pub fn widened(node: &Node) -> Option<usize> {
    (node.domain.is_empty() && node.op_type == "Cast").then_some(0)
}

/// The input slots whose scales multiply to that of the bias in an integer convolution or product.
pub const BIAS_FOLLOWS: [usize; 2] = [0, 1];
