//! Pooling: works on each channel alone.

use crate::graph::{Freeze, NodeId, NodeView, ValueId};
use crate::groups::{Alike, Operator, Walk};
use crate::ops::Entry;

const CHANNELS: &str = "channels keep their place";
const MAX_UNPOOL: &str = "MaxUnpool";

pub(super) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &["AveragePool", "GlobalAveragePool"],
        &Pool { averages: true },
        CHANNELS,
    ),
    Entry::standard(
        &["GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"],
        &Pool { averages: false },
        CHANNELS,
    ),
    Entry::standard(
        &[MAX_UNPOOL],
        &MaxUnpool,
        "\
            channels leave with those of the MaxPool whose indices it reads, where it makes \
            tensors of the size that was pooled",
    ),
];

struct Pool {
    averages: bool,
}

/// The output of MaxPool that says where each maximum is, counted through all channels.
const INDICES: usize = 1;

impl Operator for Pool {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        if view.output(INDICES).is_some_and(|i| !is_undone(view, i)) {
            return Err(Freeze::new(
                "its second output counts positions across all channels",
            ));
        }
        let rank = view.shape(input)?.len();
        for axis in 2..rank {
            walk.freeze_axis(input, axis, view.id, "it pools along the tracked axis");
        }
        let mut axes = vec![None; view.output_shape()?.len()];
        for (axis, slot) in axes.iter_mut().enumerate().take(2) {
            *slot = walk.axis(input, axis);
        }
        for output in view.node.outputs.iter().flatten() {
            walk.set(*output, axes.clone())?;
        }
        Ok(())
    }

    fn alike(&self, _: NodeView<'_>) -> Option<Alike> {
        self.averages.then_some(Alike::Adds)
    }
}

/// Whether nothing reads the indices but nodes that undo the pooling, to the size that it had:
/// where channels leave, both count through fewer.
fn is_undone(view: NodeView<'_>, indices: ValueId) -> bool {
    let value = &view.graph.values[indices];
    let whole = view.input(0).and_then(|input| view.shape(input).ok());
    let undoes = |&(node, slot): &(NodeId, usize)| {
        let reader = view.graph.view(node);
        let made = reader.output_shape().ok();
        is_unpool(reader) && slot == UNPOOLED && made.is_some() && made == whole
    };
    !value.is_output && !value.is_captured && value.readers.iter().all(undoes)
}

fn is_unpool(view: NodeView<'_>) -> bool {
    view.node.domain.is_empty() && view.node.op_type == MAX_UNPOOL
}

/// Inputs of MaxUnpool: where its data go, and the shape of what it makes.
const UNPOOLED: usize = 1;
const SHAPE: usize = 2;

/// Puts data back to where a MaxPool found its maxima.
struct MaxUnpool;

impl Operator for MaxUnpool {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let (data, indices) = (view.need(0)?, view.need(UNPOOLED)?);
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let producer = view.graph.values[indices].producer;
        let pool = producer
            .map(|node| view.graph.view(node))
            .filter(|pool| pool.output(INDICES) == Some(indices) && is_undone(*pool, indices));
        if pool.is_none() {
            return Err(Freeze::new(
                "its indices are not those of a pooling of what it makes",
            ));
        }
        for axis in (0..view.shape(data)?.len()).filter(|&axis| axis != 1) {
            for value in [data, indices] {
                walk.freeze_axis(value, axis, view.id, "it lays the tracked axis out anew");
            }
        }
        let mut axes = vec![None; view.output_shape()?.len()];
        match (walk.axis(data, 1), walk.axis(indices, 1)) {
            (Some(map), Some(other)) => {
                walk.tie(&map, &other)?;
                if let Some(slot) = axes.get_mut(1) {
                    *slot = Some(map);
                }
            }
            (Some(map), None) | (None, Some(map)) => {
                let text = "it combines the channels with others that are not pruned";
                walk.freeze(&map, view.id, text);
            }
            (None, None) => {}
        }
        if view.input(SHAPE).is_some() {
            walk.follow_sizes((view.id, SHAPE), &axes, |_, _| false)?;
        }
        walk.set(output, axes)
    }

    fn reads_sizes(&self) -> bool {
        true
    }
}
