//! Where a constant that a node reads is stored.

use crate::graph::{Graph, NodeId, ValueId};
use crate::ops::storage;

/// Exporters write a few nodes between a weight and its reader. What is made of more counts as stored where the
/// walk ends, so that a chain that a file makes as long as it likes is not walked from each of its nodes.
const MOST_STEPS: usize = 64;

/// The stored constant that another one is made of, element by element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The stored constant, or what is made of more than one.
    pub root: ValueId,
    /// The nodes from it to the one that is read.
    pub chain: Vec<NodeId>,
    /// Per axis of the one that is read, the axis of `root` that it is.
    pub axes: Vec<Option<usize>>,
}

impl Stored {
    /// Of a constant.
    #[must_use]
    pub fn of(graph: &Graph, value: ValueId) -> Self {
        let rank = graph.values[value].shape.as_ref().map_or(0, Vec::len);
        let mut stored = Stored {
            root: value,
            chain: Vec::new(),
            axes: (0..rank).map(Some).collect(),
        };
        while let Some((node, carried)) = step(graph, stored.root) {
            let Some(root) = graph.view(node).input(carried.slot) else {
                break;
            };
            if stored.chain.len() >= MOST_STEPS {
                break;
            }
            stored.root = root;
            stored.chain.push(node);
            for axis in &mut stored.axes {
                *axis = axis.and_then(|own| carried.axes.get(own).copied().flatten());
            }
        }
        stored.chain.reverse();
        stored
    }

    /// The axis of the constant that is read which an axis of `root` becomes.
    #[must_use]
    pub fn axis_of(&self, root_axis: usize) -> Option<usize> {
        self.axes.iter().position(|&axis| axis == Some(root_axis))
    }
}

/// The node that makes a constant of one other, and how.
fn step(graph: &Graph, value: ValueId) -> Option<(NodeId, storage::Carried)> {
    let node = graph.values[value].producer?;
    Some((node, storage::carried(graph.view(node))?))
}
