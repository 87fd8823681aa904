//! Constant and ConstantOfShape: data that come from the file.

use crate::graph::{Freeze, canonical_domain};
use crate::graph::{Node, NodeView};
use crate::groups::Operator;
use crate::groups::Walk;
use crate::onnx::{DataType, Tensor, TensorError, proto::NodeProto};

/// Where ConstantOfShape reads its shape.
const SHAPE: usize = 0;

pub(super) struct Constant;

impl Operator for Constant {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let (true, Some(output)) = (fills(view.node), view.output(0)) else {
            return Ok(());
        };
        // A last axis whose length is a constant may be one of channels, such as the first state of
        // a recurrent node. Where other axes meet channels they freeze.
        let shape = view.output_shape()?;
        let mut axes = vec![None; shape.len()];
        if let (Some((&length, rest)), Some(last)) = (shape.split_last(), axes.last_mut())
            && length > 1
            && walk.constant_size((view.id, SHAPE), rest.len()).is_some()
        {
            *last = Some(walk.fresh(view.id, length));
        }
        walk.follow_sizes((view.id, SHAPE), &axes, |_, _| false)?;
        walk.set(output, axes)
    }

    fn reads_sizes(&self) -> bool {
        true
    }
}

/// The tensor that a Constant node stores in an attribute, or that a ConstantOfShape node fills;
/// `None` for other nodes and for constants of other kinds (strings, sparse tensors). `input` is
/// what the node's first input holds, where that is constant. No more than `most` bytes are filled: a larger
/// constant is left to ONNX Runtime.
///
/// # Errors
/// The stored tensor's data do not match its shape.
pub fn stored(
    node: &Node,
    input: Option<&Tensor>,
    most: usize,
) -> Result<Option<Tensor>, TensorError> {
    if let (true, Some(shape)) = (fills(node), input) {
        return filled(node, shape, most);
    }
    if node.op_type != "Constant" || !node.domain.is_empty() {
        return Ok(None);
    }
    if let Some(tensor) = node.attributes.get("value").and_then(|a| a.t.as_ref()) {
        return Tensor::from_proto(tensor).map(Some);
    }
    let floats = |shape: &[usize], data: &[f32]| Tensor::from_f32(shape, data.to_vec());
    for (name, attribute) in &node.attributes {
        let ints = attribute.ints.as_slice();
        return Ok(Some(match name.as_str() {
            "value_float" => floats(&[], &[attribute.f()])?,
            "value_floats" => floats(&[attribute.floats.len()], &attribute.floats)?,
            "value_int" => Tensor::from_i64(&[], &[attribute.i()])?,
            "value_ints" => Tensor::from_i64(&[ints.len()], ints)?,
            _ => continue,
        }));
    }
    Ok(None)
}

/// Whether the node fills a tensor with one number.
#[must_use]
pub fn fills(node: &Node) -> bool {
    node.op_type == "ConstantOfShape" && node.domain.is_empty()
}

/// What ConstantOfShape makes; `None` where that is for ONNX Runtime to refuse.
fn filled(node: &Node, shape: &Tensor, most: usize) -> Result<Option<Tensor>, TensorError> {
    let sizes = shape.to_i64()?.into_iter().map(usize::try_from);
    let Ok(shape) = sizes.collect::<Result<Vec<usize>, _>>() else {
        return Ok(None);
    };
    let value = match node.attributes.get("value").and_then(|a| a.t.as_ref()) {
        Some(tensor) => Tensor::from_proto(tensor)?,
        None => Tensor::from_f32(&[1], vec![0.0])?,
    };
    let count = shape
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size));
    let bytes = count
        .filter(|_| value.len() == 1)
        .and_then(|count| count.checked_mul(value.bytes.len()));
    Ok(bytes.filter(|&n| n <= most).map(|_| Tensor {
        bytes: value.bytes.repeat(count.unwrap_or(0)).into(),
        shape,
        ..value
    }))
}

/// Whether the node draws random numbers, or its subgraphs do, so that its outputs are no constants
/// whatever it reads.
#[must_use]
pub fn draws(node: &NodeProto) -> bool {
    const TRAINING_MODE: usize = 2;
    let name = node.op_type();
    let trains = node.input.get(TRAINING_MODE).is_some_and(|i| !i.is_empty());
    let is_standard = canonical_domain(node.domain()).is_empty();
    let drops = name.contains("Dropout") && (trains || !is_standard);
    let own = name.starts_with("Random") || drops;
    let bodies = node.attribute.iter();
    let bodies = bodies.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    own || matches!(name, "Bernoulli" | "Multinomial" | "Sampling")
        || bodies.flat_map(|body| &body.node).any(draws)
}

/// The name of the operator and attribute that store a tensor: what surgery writes back.
#[must_use]
pub fn stores_tensor(node: &Node) -> bool {
    node.op_type == "Constant" && node.domain.is_empty()
}

/// What a node of the file that stores a tensor makes, with the tensor's shape.
#[must_use]
pub fn stored_shape(node: &NodeProto) -> Option<(&str, &[i64])> {
    let is_stored = node.op_type() == "Constant" && canonical_domain(node.domain()).is_empty();
    let mut tensors = node.attribute.iter().filter_map(|a| a.t.as_ref());
    let tensor = tensors.next().filter(|_| is_stored)?;
    Some((node.output.first()?.as_str(), tensor.dims.as_slice()))
}

/// Whether a tensor of this type can be a weight.
#[must_use]
pub fn is_weight(dtype: DataType) -> bool {
    matches!(
        dtype,
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16
    )
}
