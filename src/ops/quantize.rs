//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear: element by element, with scales that
//! may lie along an axis; and what operators on integers ask of them.

use std::borrow::Cow;

use crate::graph::{Freeze, Graph, Node, NodeView, ValueId, view::normalize_axis};
use crate::groups::{Carried, Dequantizer, Operator, Step, Walk};
use crate::onnx::{Tensor, TensorError};
use crate::ops::Entry;
use crate::ops::elementwise::broadcast;
use crate::ops::storage::is_stored;

const CHANNELS: &str = "channels keep their place; scales along the channels are cut with them";

pub(super) const OPERATORS: &[Entry] = &[
    Entry::standard(&["QuantizeLinear"], &QuantizeLinear, CHANNELS),
    Entry::standard(&["DequantizeLinear"], &DequantizeLinear, CHANNELS),
    Entry::standard(
        &["DynamicQuantizeLinear"],
        &DynamicQuantizeLinear,
        "channels keep their place; the scale spans what is left",
    ),
];

const SCALE: usize = 1;
const ZERO_POINT: usize = 2;

struct QuantizeLinear;

impl Operator for QuantizeLinear {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        trace(view, walk)
    }
}

struct DequantizeLinear;

impl Operator for DequantizeLinear {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        trace(view, walk)
    }

    fn carried(&self, view: NodeView<'_>, made: &[usize]) -> Option<Carried> {
        let stored = self.dequantizer(view.node)?;
        let rest = [stored.scale, stored.zero_point];
        let are_stored = rest
            .iter()
            .all(|&slot| view.input(slot).is_none_or(|v| is_stored(view, v)));
        are_stored.then(|| Carried::in_place(stored.data, made, Step::Dequantized(stored)))
    }

    fn dequantizer(&self, node: &Node) -> Option<Dequantizer> {
        (node.int("block_size", 0) == 0).then(|| Dequantizer {
            data: 0,
            scale: SCALE,
            zero_point: ZERO_POINT,
            axis: node.int("axis", 1),
        })
    }
}

/// Gives the data of its first input in another type, and makes scale and zero point, of what is
/// left.
struct DynamicQuantizeLinear;

impl Operator for DynamicQuantizeLinear {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::first(view, walk)
    }
}

fn trace(view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
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

/// The real numbers that a value stands for: what a quantiser reads to make it, or the value
/// itself.
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
    if source(view.graph, data) == data {
        let text = "it reads integers that no quantiser makes, so nothing tells their scale";
        return Err(Freeze::new(text));
    }
    Ok(())
}

/// The slot of the weight's zero points, where ConvInteger or MatMulInteger has one for each
/// output.
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

/// The constant in a slot of ConvInteger or MatMulInteger as real numbers, up to a factor for each
/// output: integers less their zero points.
///
/// # Errors
/// Its elements are no numbers, or its zero points do not fit.
pub(super) fn centred(
    view: NodeView<'_>,
    slot: usize,
) -> Option<Result<Cow<'_, Tensor>, TensorError>> {
    let tensor = view.constant(slot)?;
    if slot != INTEGER_WEIGHT {
        return Some(Ok(Cow::Borrowed(tensor)));
    }
    let zero_points = view.constant(INTEGER_ZERO_POINT);
    Some(less(tensor, zero_points).map(Cow::Owned))
}

/// Integers less their zero points, which lie along the first axis of a convolution's weight and
/// the last of a matrix.
fn less(weight: &Tensor, zero_points: Option<&Tensor>) -> Result<Tensor, TensorError> {
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

/// The input slots whose scales multiply to that of the bias in an integer convolution or product.
pub const BIAS_FOLLOWS: [usize; 2] = [0, 1];
