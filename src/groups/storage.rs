//! Where a constant that a node reads is stored.

use crate::graph::{Graph, NodeId, NodeView, ValueId, view::normalize_axis};
use crate::groups::Rules;

/// Input slots of a node that stores a tensor in few bits, and the axis along which its scales lie
/// where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dequantizer {
    /// The quantised numbers.
    pub data: usize,
    /// Their scales.
    pub scale: usize,
    /// Their zero points; the slot may be empty.
    pub zero_point: usize,
    /// As the attribute has it.
    pub axis: i64,
}

impl Dequantizer {
    /// The axis of the scales, of a constant of `rank` axes.
    #[must_use]
    pub fn scale_axis(&self, rank: usize) -> Option<usize> {
        normalize_axis(self.axis, rank).ok()
    }
}

/// What a node does to the elements of the constant that it hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It lays them out in another shape, in the same order.
    Reshaped,
    /// It gives them another type.
    Cast,
    /// It moves axes: output axis `i` is input axis `perm[i]`.
    Transposed(Vec<usize>),
    /// It multiplies them with the constant in a slot, or divides by it.
    Scaled {
        /// The slot.
        by: usize,
        /// Whether it divides.
        divides: bool,
    },
    /// It adds the constant in a slot, or subtracts it.
    Moved {
        /// The slot.
        by: usize,
        /// Whether it subtracts.
        subtracts: bool,
    },
    /// They are integers with scales and zero points.
    Dequantized(Dequantizer),
    /// They are places in a short table, whose entries it gives.
    LookedUp,
}

/// A constant that is made of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The input slot of the other one.
    pub slot: usize,
    /// Per axis of the output, the axis of the other one that it is; `None` where it is none of
    /// them.
    pub axes: Vec<Option<usize>>,
    /// What is done to its elements.
    pub step: Step,
}

impl Carried {
    /// How the node makes its constant of one that is stored; `None` where it does not, or in
    /// another way.
    #[must_use]
    pub fn of(view: NodeView<'_>, rules: &dyn Rules) -> Option<Self> {
        let values = &view.graph.values;
        let made = values[view.output(0)?].shape.as_deref()?;
        let mut outputs = view.node.outputs.iter().flatten();
        let is_constant = outputs.all(|&value| values[value].is_constant);
        is_constant
            .then(|| rules.of(view.node).carried(view, made))
            .flatten()
    }

    /// A constant of the shape `made` whose axes are those of the one in a slot.
    #[must_use]
    pub fn in_place(slot: usize, made: &[usize], step: Step) -> Self {
        Carried {
            slot,
            axes: (0..made.len()).map(Some).collect(),
            step,
        }
    }
}

/// Exporters write a few nodes between a weight and its reader. What is made of more counts as
/// stored where the walk ends, so that a chain that a file makes as long as it likes is not walked
/// from each of its nodes.
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
    pub fn of(graph: &Graph, value: ValueId, rules: &dyn Rules) -> Self {
        let rank = graph.values[value].shape.as_ref().map_or(0, Vec::len);
        let mut stored = Stored {
            root: value,
            chain: Vec::new(),
            axes: (0..rank).map(Some).collect(),
        };
        while let Some((node, carried)) = step(graph, stored.root, rules) {
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
fn step(graph: &Graph, value: ValueId, rules: &dyn Rules) -> Option<(NodeId, Carried)> {
    let node = graph.values[value].producer?;
    Some((node, Carried::of(graph.view(node), rules)?))
}
