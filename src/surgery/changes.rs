//! Collecting what changes: cut constants, size entries, attributes.

use crate::graph::{Graph, NodeId, NodeView};
use crate::groups::{ChannelAxes, Edit, Kept, Use};
use crate::onnx::Tensor;
use crate::ops;
use crate::surgery::{Changes, Repaired, SurgeryError, quantized, stored};

/// All changes that the kept channels ask for at the nodes that are `wanted`.
pub(super) fn collect(
    graph: &Graph,
    kept: &Kept<'_>,
    repaired: &Repaired,
    wanted: &dyn Fn(NodeId) -> bool,
) -> Result<Changes, SurgeryError> {
    let mut changes = Changes::default();
    let groups = kept.groups();
    for (&at, axes) in groups.uses.iter().filter(|(at, _)| wanted(at.0)) {
        if let Some(tensor) = cut(graph, kept, at, axes)? {
            changes.inputs.insert(at, tensor);
        }
    }
    for (&(node, slot), maps) in &groups.counts {
        if maps.iter().all(|map| kept.count(map) == map.len()) || !wanted(node) {
            continue;
        }
        let view = graph.view(node);
        let present = view.constant_or_count(slot);
        let present = present.ok_or_else(|| failed(view, "a count is not known"))?;
        changes.inputs.insert((node, slot), present.clone());
    }
    for (&((node, slot), index), entry) in &groups.entries {
        let left = kept.count(&entry.counted);
        if left == entry.counted.len() || !wanted(node) {
            continue;
        }
        let at = (node, slot);
        let view = graph.view(node);
        let present = changes
            .inputs
            .get(&at)
            .or_else(|| view.constant_or_count(slot));
        let present = present.ok_or_else(|| failed(view, "its shape is not known"))?;
        let changed = with_entry(view, present, index, entry.open.unwrap_or(left as i64))?;
        changes.inputs.insert(at, changed);
    }
    for node in graph.nodes.ids() {
        let view = graph.view(node);
        if wanted(node) && touches(view, kept) {
            rewrite(view, kept, &mut changes)?;
        }
    }
    let cuts = changes.inputs.clone();
    let inputs = repaired.inputs.iter().filter(|(at, _)| wanted(at.0));
    changes
        .inputs
        .extend(inputs.map(|(&at, new)| (at, new.clone())));
    let added = repaired.added.iter().filter(|(node, _)| wanted(**node));
    changes
        .added
        .extend(added.map(|(&node, new)| (node, new.clone())));
    stored::write(graph, kept, &cuts, &mut changes)?;
    quantized::pack_biases(graph, kept, &mut changes)?;
    Ok(changes)
}

fn failed(view: NodeView<'_>, what: &str) -> SurgeryError {
    SurgeryError::Node {
        node: view.node.name.clone(),
        what: what.to_owned(),
    }
}

/// A constant without the positions that left; `None` where none did.
fn cut(
    graph: &Graph,
    kept: &Kept<'_>,
    (node, slot): Use,
    axes: &ChannelAxes,
) -> Result<Option<Tensor>, SurgeryError> {
    let view = graph.view(node);
    let mut tensor = None;
    for (axis, map) in axes.iter().enumerate() {
        let Some(map) = map else { continue };
        let positions = kept.positions(map);
        if positions.len() == map.len() {
            continue;
        }
        let whole = view
            .constant(slot)
            .ok_or_else(|| failed(view, "its weight is not constant"))?;
        let present = tensor.as_ref().unwrap_or(whole);
        let cut = present.take(axis, &positions);
        let error = |error| SurgeryError::Tensor {
            node: view.node.name.clone(),
            error,
        };
        tensor = Some(cut.map_err(error)?);
    }
    Ok(tensor)
}

fn with_entry(
    view: NodeView<'_>,
    tensor: &Tensor,
    index: usize,
    length: i64,
) -> Result<Tensor, SurgeryError> {
    // The entry's type stays: a Concat joins entries of one type only.
    let width = tensor.dtype.size().unwrap_or(0);
    let length = length.to_le_bytes();
    let mut bytes = tensor.bytes.to_vec();
    let place = bytes.get_mut(index * width..(index + 1) * width);
    let (Some(place), Some(entry)) = (place, length.get(..width)) else {
        return Err(failed(view, "its shape is too short"));
    };
    place.copy_from_slice(entry);
    Ok(Tensor {
        bytes: bytes.into(),
        ..tensor.clone()
    })
}

/// Whether any tensor that the node reads or makes changes its shape.
fn touches(view: NodeView<'_>, kept: &Kept<'_>) -> bool {
    let values = view.node.inputs.iter().chain(&view.node.outputs).flatten();
    values.into_iter().any(|&value| {
        let rank = view.graph.values[value].shape.as_ref().map_or(0, Vec::len);
        (0..rank).any(|axis| {
            kept.map(value, axis)
                .is_some_and(|map| map.iter().any(|&channel| !kept.has(channel)))
        })
    })
}

fn rewrite(view: NodeView<'_>, kept: &Kept<'_>, changes: &mut Changes) -> Result<(), SurgeryError> {
    let edits = ops::of(view.node)
        .rewrite(view, kept)
        .map_err(|freeze| failed(view, &freeze.0))?;
    for edit in edits {
        match edit {
            Edit::Input(slot, tensor) => {
                changes.inputs.insert((view.id, slot), tensor);
            }
            other => changes.attributes.push((view.id, other)),
        }
    }
    Ok(())
}
