//! What each operator means for channels: the only place that knows operator names.
//!
//! One file per operator family. A rule says how atoms pass from a node's inputs to its outputs,
//! which constants they cut, who consumes them linearly and what the node costs; `rewrite` says
//! which attributes follow. Operators that have no rule freeze what they touch.

pub mod build;
pub mod constant;
pub mod cost;
pub mod inputs;
pub mod quantize;
pub mod sizes;
pub mod storage;

mod alike;
mod attention;
mod blocks;
mod broadcast;
mod contrib;
mod conv;
mod deform;
mod einsum;
mod join;
mod linear;
mod mixing;
mod norm;
mod parts;
mod pool;
mod product;
mod rectifier;
mod recurrent;
mod repeat;
mod resample;
mod reshape;
mod rotary;
mod sequence;
mod shift;
mod stack;
mod unfused;

use std::ops::RangeInclusive;

pub use alike::{Alike, Unscaled};
pub use repeat::repetitions;
pub use shift::{Shifted, shifted};
pub use unfused::unfused;

use crate::graph::{Graph, GraphError, Node, NodeView, ValueId};
use crate::groups::{self, Carried, Cost, Operator, Rules, Size, Walk};
use crate::onnx::proto::NodeProto;
use crate::onnx::{Model, Tensor, TensorError};

/// The operators that are known here.
pub const RULES: Known = Known;

/// See [`RULES`].
#[derive(Debug, Clone, Copy)]
pub struct Known;

impl Rules for Known {
    fn find(&self, node: &Node) -> Option<&dyn Operator> {
        find(&node.domain, &node.op_type).map(|operator| operator as &dyn Operator)
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        sizes::flow(view, walk)
    }

    fn open_entry(&self, view: NodeView<'_>) -> Option<i64> {
        sizes::open_entry(view.graph, view.id)
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::known(view, walk)
    }

    fn carried(&self, view: NodeView<'_>) -> Option<Carried> {
        storage::carried(view)
    }

    fn stored(
        &self,
        node: &Node,
        first: Option<&Tensor>,
        most: usize,
    ) -> Result<Option<Tensor>, TensorError> {
        constant::stored(node, first, most)
    }

    fn fills(&self, node: &Node) -> bool {
        constant::fills(node)
    }

    fn draws(&self, node: &NodeProto) -> bool {
        constant::draws(node)
    }

    fn reads_data(&self, node: &Node, slot: usize) -> bool {
        reads_data(node, slot)
    }

    fn reads_all_slots(&self, node: &Node) -> bool {
        reads_all_slots(node)
    }

    fn starts_sizes(&self, node: &Node) -> bool {
        sizes::starts(node)
    }

    fn computes_sizes(&self, node: &Node) -> bool {
        sizes::computes(node)
    }
}

/// The graph of a model, with its constants and counts [marked](groups::mark).
///
/// # Errors
/// Those of [`Graph::build`] and of [`groups::mark`].
pub fn graph(model: &Model) -> Result<Graph, GraphError> {
    let mut graph = Graph::build(model)?;
    groups::mark(&mut graph, model, &RULES)?;
    Ok(graph)
}

/// The rule of an operator, if there is one.
#[must_use]
pub fn find(domain: &str, op_type: &str) -> Option<&'static dyn Operator> {
    if domain == contrib::DOMAIN {
        return contrib::find(op_type);
    }
    if !domain.is_empty() {
        return None;
    }
    Some(match op_type {
        name if broadcast::covers(name) => &broadcast::Broadcast,
        "CastLike" | "DynamicQuantizeLinear" => &broadcast::OfFirst,
        "Conv" => &conv::Conv { of_integers: false },
        "ConvInteger" => &conv::Conv { of_integers: true },
        "ConvTranspose" => &conv::ConvTranspose,
        "DeformConv" => &deform::DeformConv,
        "Gemm" => &linear::Gemm,
        "MatMul" => &linear::MatMul,
        "MatMulInteger" => &linear::MatMulInteger,
        "Einsum" => &einsum::Einsum,
        "Attention" => &attention::Attention,
        "DepthToSpace" => &blocks::DepthToSpace,
        "SpaceToDepth" => &blocks::SpaceToDepth,
        "BatchNormalization" => &norm::BatchNormalization,
        "InstanceNormalization" => &norm::InstanceNormalization,
        "GroupNormalization" => &norm::GroupNormalization,
        "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => {
            &norm::LayerNormalization
        }
        "Softmax" | "LogSoftmax" | "Hardmax" => &mixing::AlongAxis,
        "LpNormalization" | "LRN" | "MeanVarianceNormalization" | "CumSum" | "Trilu" => {
            &mixing::AlongAxis
        }
        name if mixing::reduces(name) => &mixing::Reduce,
        name if pool::covers(name) => &pool::Pool,
        "MaxUnpool" => &pool::MaxUnpool,
        "RotaryEmbedding" => &rotary::RotaryEmbedding { cosines: 1 },
        "Concat" => &join::Concat,
        "Split" => &parts::Split,
        "SplitToSequence" => &sequence::SplitToSequence,
        "SequenceAt" => &sequence::SequenceAt,
        "Slice" => &parts::Slice,
        "Gather" => &parts::Gather,
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => &reshape::Reshape,
        "Transpose" => &reshape::Transpose,
        "Pad" => &resample::Pad,
        "Resize" | "Upsample" => &resample::Resize,
        "GridSample" | "RoiAlign" | "MaxRoiPool" => &resample::Sample,
        "Expand" => &resample::Expand,
        "Tile" => &resample::Tile,
        "Shape" => &sizes::Shape,
        "QuantizeLinear" | "DequantizeLinear" => &quantize::Quantize,
        "Constant" | "ConstantOfShape" => &constant::Constant,
        name => {
            let recurrent = recurrent::find(name).map(|rule| rule as &dyn Operator);
            return recurrent.or_else(|| quantize::find(name).map(|rule| rule as &dyn Operator));
        }
    })
}

/// What a node takes the shape of its output from, where that is a constant.
#[must_use]
pub fn target(view: NodeView<'_>) -> Option<&Tensor> {
    const TARGET: usize = 1;
    let is_shaped = matches!(view.node.op_type.as_str(), "Reshape" | "Expand");
    let target = view.constant(TARGET)?;
    (is_shaped && view.node.domain.is_empty()).then_some(target)
}

/// Whether a node that lays elements out anew makes as many as it reads, as far as their shapes are known.
#[must_use]
pub fn keeps_elements(view: NodeView<'_>) -> bool {
    const LAYING: &[&str] = &["Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];
    let lays = view.node.domain.is_empty() && LAYING.contains(&view.node.op_type.as_str());
    let shape = |value: Option<ValueId>| view.shape(value?).ok();
    match (shape(view.input(0)), shape(view.output(0))) {
        (Some(read), Some(made)) if lays => {
            let count = |shape: &[usize]| shape.iter().copied().fold(1, usize::saturating_mul);
            count(read) == count(made)
        }
        _ => true,
    }
}

/// The other summand, where the node adds the value `own` and one other that is no constant.
#[must_use]
pub fn other_summand(view: NodeView<'_>, own: ValueId) -> Option<ValueId> {
    broadcast::other_summand(view, own)
}

/// The interval where the node gives its first input as it is, if it gives the interval's nearest end
/// for all other inputs.
#[must_use]
pub fn passes(view: NodeView<'_>) -> Option<RangeInclusive<f64>> {
    rectifier::passes(view)
}

/// What the node reads, where it makes each position behind the channels from the same position of
/// that alone, with weights that all positions share.
#[must_use]
pub fn pointwise(view: NodeView<'_>) -> Option<ValueId> {
    conv::pointwise(view)
}

/// What the node does to channels, where that is the same for all of an axis, or but for constants.
#[must_use]
pub fn alike(view: NodeView<'_>) -> Option<Alike> {
    alike::alike(view)
}

/// The node that [scales](Alike::Scales) channels, divided; `None` where its constants are not there.
///
/// # Errors
/// Constants that are no floats, or beyond their type.
#[must_use]
pub fn unscaled(view: NodeView<'_>) -> Option<Result<Unscaled, TensorError>> {
    alike::unscaled(view)
}

/// Whether the node tells the lengths of axes, whatever the data along them.
#[must_use]
pub fn reads_lengths_only(node: &Node) -> bool {
    node.domain.is_empty() && matches!(node.op_type.as_str(), "Shape" | "Size")
}

/// Whether the data of the node's outputs depend on that input's data, not just on its type.
#[must_use]
pub fn reads_data(node: &Node, slot: usize) -> bool {
    !(node.domain.is_empty() && node.op_type == "CastLike" && slot == 1)
}

/// Whether the node takes any number of inputs, none of which may be left out.
#[must_use]
pub fn reads_all_slots(node: &Node) -> bool {
    const ANY_NUMBER: [&str; 7] = [
        "Concat",
        "Einsum",
        "Max",
        "Mean",
        "Min",
        "SequenceConstruct",
        "Sum",
    ];
    node.domain.is_empty() && ANY_NUMBER.contains(&node.op_type.as_str())
}
