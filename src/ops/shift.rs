//! Constants that take a shift of what a node reads.

use crate::graph::NodeView;

/// Where a shift of a node's input can go instead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shifted {
    /// The slot of a constant.
    pub slot: usize,
    /// What the shift is multiplied with when it is added to the constant.
    pub factor: f64,
    /// The axis that the constant lies along; none where it ends with the input's axes.
    pub axis: Option<usize>,
}

/// The constant with which the node makes of its input in `slot` what it would make of a shifted one.
#[must_use]
pub fn shifted(view: NodeView<'_>, slot: usize) -> Option<Shifted> {
    let node = view.node;
    if !node.domain.is_empty() {
        return None;
    }
    let to = |slot, factor, axis| {
        view.constant(slot)
            .filter(|constant| super::constant::is_weight(constant.dtype))
            .map(|_| Shifted { slot, factor, axis })
    };
    match (node.op_type.as_str(), slot) {
        // It subtracts its mean.
        ("BatchNormalization", 0) if node.int("training_mode", 0) == 0 => to(3, -1.0, Some(1)),
        // In the way of opsets before 7 a constant may lie elsewhere.
        ("Add" | "Sub", _) if node.has("axis") => None,
        ("Add", 0 | 1) => to(1 - slot, 1.0, None),
        ("Sub", 0 | 1) => to(1 - slot, -1.0, None),
        _ => None,
    }
}
