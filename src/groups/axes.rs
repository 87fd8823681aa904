//! Atoms, and the axes of tensors that they lie along.

use std::rc::Rc;

use crate::graph::NodeId;

/// One position along a tracked axis before positions are united.
pub type Atom = u32;
/// The atoms along one axis of a tensor, one per position.
pub type AxisMap = Rc<[Atom]>;
/// Per axis of a tensor, its atoms; `None` where the axis is not tracked and never changes.
pub type Axes = Vec<Option<AxisMap>>;
/// Where a constant is read: node and input slot.
pub type Use = (NodeId, usize);
