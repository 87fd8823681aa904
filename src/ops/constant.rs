//! Constant and ConstantOfShape: data that come from the file.

use crate::graph::{Node, NodeView};
use crate::groups::Walk;
use crate::onnx::{DataType, Tensor, TensorError};
use crate::ops::{Freeze, Operator};

pub(super) struct Constant;

impl Operator for Constant {
    fn trace(&self, _: NodeView<'_>, _: &mut Walk<'_>) -> Result<(), Freeze> {
        Ok(())
    }

    fn reads_sizes(&self) -> bool {
        // ConstantOfShape: its output's axes are not tracked, so where it meets channels they
        // freeze; `sizes::flow` freezes the channels that it counts.
        false
    }
}

/// The tensor that a Constant node stores in an attribute; `None` for other nodes and for
/// constants of other kinds (strings, sparse tensors).
///
/// # Errors
/// The stored tensor's data do not match its shape.
pub fn stored(node: &Node) -> Result<Option<Tensor>, TensorError> {
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

/// The name of the operator and attribute that store a tensor: what surgery writes back.
#[must_use]
pub fn stores_tensor(node: &Node) -> bool {
    node.op_type == "Constant" && node.domain.is_empty()
}

/// Whether a tensor of this type can be a weight.
#[must_use]
pub fn is_weight(dtype: DataType) -> bool {
    matches!(
        dtype,
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16
    )
}
