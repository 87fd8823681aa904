//! What a plan cuts out of the tensors of a file: for those who cut the same network in another
//! form, such as the PyTorch model that the file was exported from.

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, NodeId, ValueId};
use crate::groups::{Groups, Kept, Stored};
use crate::onnx::Model;
use crate::ops;
use crate::select::{Plan, SelectError};

/// What PyTorch's exporter calls the names of the modules around a node.
const SCOPES: &str = "pkg.torch.onnx.name_scopes";

/// An input of the model as it was fed when the shapes of the others were observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedInput {
    /// The input.
    pub name: String,
    /// Type of its elements, ONNX's name in small letters.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A stored tensor that loses positions where a node reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedTensor {
    /// The tensor.
    pub name: String,
    /// The node that reads it, or what is computed of it.
    pub node: String,
    /// That node's operator.
    pub operator: String,
    /// The input of that node, counted from 0.
    pub input: usize,
    /// The module that PyTorch's exporter says the node is of. Left out where the file does not
    /// say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub module: Option<String>,
    /// Shape of the tensor in the original model.
    pub shape: Vec<usize>,
    /// The axes that lose positions.
    pub axes: Vec<PlannedAxis>,
}

/// What stays along an axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedAxis {
    /// The axis.
    pub axis: usize,
    /// Positions that stay, ascending, counted from 0.
    pub kept: Vec<usize>,
}

impl Plan {
    /// The plan with what it cuts out of the tensors of its model.
    ///
    /// # Errors
    /// The plan was made for other groups.
    pub fn spelt_out(
        mut self,
        model: &Model,
        graph: &Graph,
        groups: &Groups,
    ) -> Result<Self, SelectError> {
        let stays = self.stays(groups)?;
        let kept = Kept::new(groups, &stays);
        let names = model.input_names().into_iter();
        let input = |name: String| {
            let value = &graph.values[graph.find(&name)?];
            Some(PlannedInput {
                dtype: value.dtype?.to_string(),
                shape: value.shape.clone()?,
                name,
            })
        };
        self.inputs = names.filter_map(input).collect();
        let uses = groups.uses.keys();
        let cut = uses.filter_map(|&(node, slot)| tensor(model, graph, &kept, node, slot));
        self.tensors = cut.collect();
        Ok(self)
    }
}

/// What a node reads in a slot, where it loses positions.
fn tensor(
    model: &Model,
    graph: &Graph,
    kept: &Kept<'_>,
    node: NodeId,
    slot: usize,
) -> Option<PlannedTensor> {
    let value = graph.view(node).input(slot)?;
    let maps = kept.cut(node, slot)?.iter().enumerate();
    let axes = maps.filter_map(|(axis, map)| {
        let kept = kept.positions(map.as_ref()?);
        (kept.len() < map.as_ref()?.len()).then_some(PlannedAxis { axis, kept })
    });
    let axes: Vec<PlannedAxis> = axes.collect();
    if axes.is_empty() {
        return None;
    }
    let (stored, axes) = where_stored(graph, value, axes);
    Some(PlannedTensor {
        name: graph.values[stored].name.clone(),
        node: graph.nodes[node].name.clone(),
        operator: graph.nodes[node].full_name(),
        input: slot,
        module: module(model, node),
        shape: graph.values[stored].shape.clone()?,
        axes,
    })
}

/// The stored tensor and its axes; what is read itself where they do not all lie in what is stored.
fn where_stored(
    graph: &Graph,
    value: ValueId,
    axes: Vec<PlannedAxis>,
) -> (ValueId, Vec<PlannedAxis>) {
    let stored = Stored::of(graph, value, &ops::RULES);
    let moved = axes.iter().map(|cut| {
        Some(PlannedAxis {
            axis: stored.axes.get(cut.axis).copied().flatten()?,
            kept: cut.kept.clone(),
        })
    });
    match moved.collect() {
        Some(moved) => (stored.root, moved),
        None => (value, axes),
    }
}

/// The exporter lists the modules around a node from the outermost on, and the node's own name
/// last: `['', 'features', 'features.0', 'conv2d']`.
fn module(model: &Model, node: NodeId) -> Option<String> {
    let node = model.proto.graph.as_ref()?.node.get(node.index())?;
    let mut notes = node.metadata_props.iter();
    let scopes = notes.find(|note| note.key() == SCOPES)?.value();
    let names: Vec<&str> = scopes.split('\'').skip(1).step_by(2).collect();
    let (_, around) = names.split_last()?;
    Some((*around.last()?).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, StringStringEntryProto};

    #[test]
    fn a_module_is_the_innermost_around_the_node() {
        let found = |scopes: &str| {
            let note = StringStringEntryProto {
                key: Some(SCOPES.to_owned()),
                value: Some(scopes.to_owned()),
            };
            let node = NodeProto {
                metadata_props: vec![note],
                ..Default::default()
            };
            let graph = GraphProto {
                node: vec![node],
                ..Default::default()
            };
            let proto = ModelProto {
                graph: Some(graph),
                ..Default::default()
            };
            module(&Model { proto }, NodeId::from(0))
        };
        let inner = found("['', 'features', 'features.0', 'conv2d']");
        assert_eq!(inner.as_deref(), Some("features.0"));
        assert_eq!(found("['', 'add']").as_deref(), Some(""));
        assert_eq!(found("['add']"), None);
        assert_eq!(found(""), None);
    }
}
