//! Constant and ConstantOfShape: data that come from the file.

use crate::graph::{Freeze, Node, NodeView, canonical_domain};
use crate::groups::{Operator, Walk};
use crate::onnx::{DataType, Tensor, TensorError, proto::NodeProto};
use crate::ops::Entry;

const CHANNELS: &str = "\
    constants; what follows from constants alone counts as a constant too, whatever the operators \
    (but those that draw random numbers, and functions that stay operators): ONNX Runtime computes \
    it. The last axis of a tensor that is filled to a computed shape (a first state) can leave \
    like channels";

pub(super) const OPERATORS: &[Entry] = &[
    Entry::standard(&["Constant"], &Constant, CHANNELS),
    Entry::standard(&["ConstantOfShape"], &ConstantOfShape, CHANNELS),
];

struct Constant;

impl Operator for Constant {
    fn trace(&self, _: NodeView<'_>, _: &mut Walk<'_>) -> Result<(), Freeze> {
        Ok(())
    }

    fn reads_sizes(&self) -> bool {
        true
    }

    fn stores_tensor(&self) -> bool {
        true
    }

    fn stored(
        &self,
        node: &Node,
        _: Option<&Tensor>,
        _: usize,
    ) -> Result<Option<Tensor>, TensorError> {
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
}

/// Where ConstantOfShape reads its shape.
const SHAPE: usize = 0;

struct ConstantOfShape;

impl Operator for ConstantOfShape {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let Some(output) = view.output(0) else {
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

    fn fills(&self) -> bool {
        true
    }

    fn stored(
        &self,
        node: &Node,
        first: Option<&Tensor>,
        most: usize,
    ) -> Result<Option<Tensor>, TensorError> {
        first.map_or(Ok(None), |shape| filled(node, shape, most))
    }

    fn filled(&self, view: NodeView<'_>, _: usize) -> Option<i64> {
        let value = view.node.attributes.get("value")?;
        let value = Tensor::from_proto(value.t.as_ref()?).ok()?;
        value.to_i64().ok()?.first().copied()
    }
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
