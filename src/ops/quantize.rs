//! QuantizeLinear and DequantizeLinear: element by element, with scales that may lie along an axis.

use std::borrow::Cow;

use crate::graph::{Freeze, Graph, Node, NodeView, ValueId, view::normalize_axis};
use crate::groups::{Cost, Dequantizer, Elements, Operator, Walk};
use crate::onnx::{Tensor, TensorError};

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

/// The real numbers that a value stands for: what a quantiser reads to make it, or the value itself.
pub(super) fn source(graph: &Graph, value: ValueId) -> ValueId {
    let quantises = |name: &str| matches!(name, "QuantizeLinear" | "DynamicQuantizeLinear");
    let maker = graph.values[value].producer.map(|node| &graph.nodes[node]);
    let quantiser = maker.filter(|node| node.domain.is_empty() && quantises(&node.op_type));
    let read = quantiser.and_then(|node| node.inputs.first().copied().flatten());
    read.unwrap_or(value)
}

/// Inputs of ConvInteger and MatMulInteger.
const INTEGER_WEIGHT: usize = 1;
const INTEGER_ZERO_POINT: usize = 3;

/// Checks that the integers which ConvInteger or MatMulInteger reads stand for numbers that can be
/// observed.
pub(super) fn is_readable(view: NodeView<'_>, slot: usize) -> Result<(), Freeze> {
    let data = view.need(slot)?;
    match source(view.graph, data) == data {
        true => Err(Freeze::new(
            "it reads integers that no quantiser makes, so nothing tells their scale",
        )),
        false => Ok(()),
    }
}

/// The slot of the weight's zero points, where ConvInteger or MatMulInteger has one for each output.
pub(super) fn zero_points(view: NodeView<'_>) -> Result<Option<usize>, Freeze> {
    let Some(value) = view.input(INTEGER_ZERO_POINT) else {
        return Ok(None);
    };
    if view.constant(INTEGER_ZERO_POINT).is_none() {
        return Err(Freeze::new(
            "its zero points are computed while the model runs",
        ));
    }
    let is_one = view.shape(value)?.iter().product::<usize>() == 1;
    Ok((!is_one).then_some(INTEGER_ZERO_POINT))
}

/// The constant in the weight's slot of a node as real numbers, up to a factor for each output:
/// integers less their zero points.
///
/// # Errors
/// Its elements are no numbers, or its zero points do not fit.
pub fn weight(view: NodeView<'_>, slot: usize) -> Option<Result<Cow<'_, Tensor>, TensorError>> {
    let tensor = view.constant(slot)?;
    let is_of_integers = view.node.domain.is_empty()
        && matches!(view.node.op_type.as_str(), "ConvInteger" | "MatMulInteger")
        && slot == INTEGER_WEIGHT;
    if !is_of_integers {
        return Some(Ok(Cow::Borrowed(tensor)));
    }
    let zero_points = view.constant(INTEGER_ZERO_POINT);
    Some(centred(tensor, zero_points).map(Cow::Owned))
}

/// Integers less their zero points, which lie along the first axis of a convolution's weight and the
/// last of a matrix.
fn centred(weight: &Tensor, zero_points: Option<&Tensor>) -> Result<Tensor, TensorError> {
    let mut values: Vec<f32> = weight.to_i64()?.into_iter().map(|int| int as f32).collect();
    let zero_points = zero_points.map_or(Ok(Vec::new()), Tensor::to_i64)?;
    let is_matrix = weight.shape.len() == 2;
    let outputs = zero_points.len().max(1);
    let inner = values.len() / outputs;
    for (index, value) in values.iter_mut().enumerate() {
        let output = if is_matrix {
            index % outputs
        } else {
            index / inner.max(1)
        };
        *value -= zero_points.get(output).copied().unwrap_or(0) as f32;
    }
    Tensor::from_f32(&weight.shape, values)
}

/// Convolutions and products of integers with fixed scales. Their channels stay: the scales of what they sum lie in
/// other nodes, and nothing tells which.
#[derive(Debug)]
pub(super) struct Integers {
    weight: usize,
    /// The axis of what they make, counted from the end where it is negative.
    axis: i64,
}

pub(super) fn find(op_type: &str) -> Option<&'static Integers> {
    Some(match op_type {
        "QLinearConv" => &Integers { weight: 3, axis: 1 },
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

/// What the node stores in few bits, if it is one that does.
#[must_use]
pub fn stored(node: &Node) -> Option<Dequantizer> {
    let is_one = node.domain.is_empty() && node.op_type == "DequantizeLinear";
    (is_one && node.int("block_size", 0) == 0).then(|| Dequantizer {
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
