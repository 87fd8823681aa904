//! New biases put into constants that the next node adds anyway, such as a norm's mean: the file
//! gets no tensor and no node for them.

use ndarray::{ArrayD, IxDyn};

use crate::graph::{Graph, NodeId, ValueId};
use crate::groups::{Bias, Consumer, Groups};
use crate::onnx::Tensor;
use crate::ops;
use crate::surgery::{Changes, SurgeryError};

/// Moves every bias that the dense model has not, where the only reader of the sum takes it.
pub(super) fn absorb(
    graph: &Graph,
    groups: &Groups,
    changes: &mut Changes,
) -> Result<(), SurgeryError> {
    for consumer in &groups.consumers {
        let node = consumer.node;
        let failed = |error| SurgeryError::Tensor {
            node: graph.nodes[node].name.clone(),
            error,
        };
        let Some(shift) = new_bias(graph, consumer, changes) else {
            continue;
        };
        let Some((at, factor, axis)) = taker(graph, consumer.output) else {
            continue;
        };
        let Some(present) = direct(graph, at, changes) else {
            continue;
        };
        let rank = graph.values[consumer.output]
            .shape
            .as_ref()
            .map_or(0, Vec::len);
        // What Conv and Gemm add lies along one axis, what an Add behind the node brings ends with
        // the sum's axes.
        let along = matches!(consumer.bias, Bias::Slot { .. }).then_some(consumer.output_axis);
        let whole = spread(&shift.shape, along, rank);
        if whole.is_none() || whole != spread(&present.shape, axis, rank) {
            continue;
        }
        let moved = shift.to_f64().map_err(failed)?.into_iter();
        let values = present.to_f64().map_err(failed)?.into_iter();
        let sums: Vec<f64> = values.zip(moved).map(|(v, m)| v + factor * m).collect();
        let sums = ArrayD::from_shape_vec(IxDyn(&present.shape), sums).unwrap_or_default();
        let sums = Tensor::from_f64(present.dtype, &sums).map_err(failed)?;
        changes.inputs.insert(at, sums);
        match consumer.bias {
            Bias::Slot { slot, .. } => drop(changes.inputs.remove(&(node, slot))),
            _ => drop(changes.added.remove(&node)),
        }
    }
    Ok(())
}

/// The bias that a consumer gets and has not in the dense model.
fn new_bias(graph: &Graph, consumer: &Consumer, changes: &Changes) -> Option<Tensor> {
    match consumer.bias {
        Bias::Added => changes.added.get(&consumer.node).cloned(),
        Bias::Slot { slot, ref scale } if graph.view(consumer.node).input(slot).is_none() => {
            // What a Gemm multiplies its bias with is not in the constant behind it.
            let is_whole = scale.len() != 1 || scale.first() == Some(&consumer.gain);
            let bias = changes.inputs.get(&(consumer.node, slot)).cloned();
            bias.filter(|_| is_whole)
        }
        _ => None,
    }
}

/// The constant that takes a shift of a value, with the factor of the shift and the axis that the
/// constant lies along where its shape does not tell.
fn taker(graph: &Graph, value: ValueId) -> Option<((NodeId, usize), f64, Option<usize>)> {
    let value = &graph.values[value];
    let [(reader, slot)] = value.readers.as_slice() else {
        return None;
    };
    if value.is_output || value.is_captured {
        return None;
    }
    let view = graph.view(*reader);
    let shifted = ops::of(view.node).shifted(view, *slot)?;
    Some(((*reader, shifted.slot), shifted.factor, shifted.axis))
}

/// What a node will read in a slot, where that is stored as it is and not in fewer bits.
fn direct(graph: &Graph, at: (NodeId, usize), changes: &Changes) -> Option<Tensor> {
    let view = graph.view(at.0);
    let value = &graph.values[view.input(at.1)?];
    let is_stored = value
        .producer
        .is_none_or(|node| ops::of(&graph.nodes[node]).stores_tensor());
    if !is_stored || changes.packed.contains_key(&at) {
        return None;
    }
    let present = changes.inputs.get(&at).or_else(|| view.constant(at.1))?;
    Some(present.clone())
}

/// The shape among the `rank` axes of a sum; the last of them, unless it has one `axis`.
fn spread(shape: &[usize], axis: Option<usize>, rank: usize) -> Option<Vec<usize>> {
    let mut whole = vec![1; rank];
    match axis {
        Some(axis) => *whole.get_mut(axis)? = *shape.first().filter(|_| shape.len() == 1)?,
        None => whole
            .get_mut(rank.checked_sub(shape.len())?..)?
            .copy_from_slice(shape),
    }
    Some(whole)
}
