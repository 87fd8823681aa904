//! Add, Sub and Sum.

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{Alike, Backward, Carried, Operator, Shifted, Size, Step, Told, Walk};
use crate::ops::backward::give_summed;
use crate::ops::constant::is_weight;
use crate::ops::elementwise::{MEET, broadcast};
use crate::ops::storage::of_all;
use crate::ops::{Entry, inputs, sizes};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["Add"], &Add { subtracts: false }, MEET),
    Entry::standard(&["Sub"], &Add { subtracts: true }, MEET),
    Entry::standard(&["Sum"], &Sum, MEET),
];

/// Add, or Sub.
struct Add {
    subtracts: bool,
}

impl Operator for Add {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        sizes::computed(view, walk)
    }

    fn carried(&self, view: NodeView<'_>, made: &[usize]) -> Option<Carried> {
        let slot = of_all(view, made)?;
        let step = Step::Moved {
            by: 1 - slot,
            subtracts: self.subtracts,
        };
        // Of a difference from a weight, nothing is taken back.
        (slot == 0 || !self.subtracts).then(|| Carried::in_place(slot, made, step))
    }

    fn alike(&self, view: NodeView<'_>) -> Option<Alike> {
        (!is_old(view)).then_some(Alike::Adds)
    }

    fn shifted(&self, view: NodeView<'_>, slot: usize) -> Option<Shifted> {
        let other = 1_usize.checked_sub(slot).filter(|_| !is_old(view))?;
        let constant = view.constant(other)?;
        is_weight(constant.dtype).then_some(Shifted {
            slot: other,
            factor: if self.subtracts { -1.0 } else { 1.0 },
            axis: None,
        })
    }

    fn other_summand(&self, view: NodeView<'_>, own: ValueId) -> Option<ValueId> {
        other_summand(view, own).filter(|_| !self.subtracts)
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let gradient = back.output().filter(|_| !is_old(view))?;
        let made = view.output_shape().ok()?;
        if back.wants(0) {
            give_summed(back, view, 0, gradient, made)?;
        }
        if back.wants(1) {
            let turned = self
                .subtracts
                .then(|| back.graph.node("Neg", &[gradient], &[]));
            give_summed(back, view, 1, turned.as_deref().unwrap_or(gradient), made)?;
        }
        Some(())
    }

    fn told(&self, view: NodeView<'_>, slot: usize) -> Told {
        match (self.subtracts, slot) {
            (true, 0) => inputs::by_mean(view.constant(1)),
            _ => Told::Nothing,
        }
    }
}

/// Whether a constant may lie elsewhere, in the way of opsets before 7.
fn is_old(view: NodeView<'_>) -> bool {
    view.node.has("axis")
}

struct Sum;

impl Operator for Sum {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn reads_all_slots(&self) -> bool {
        true
    }

    fn alike(&self, _: NodeView<'_>) -> Option<Alike> {
        Some(Alike::Adds)
    }

    fn other_summand(&self, view: NodeView<'_>, own: ValueId) -> Option<ValueId> {
        other_summand(view, own)
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let (gradient, made) = (back.output()?, view.output_shape().ok()?);
        for slot in 0..view.node.inputs.len() {
            if back.wants(slot) {
                give_summed(back, view, slot, gradient, made)?;
            }
        }
        Some(())
    }
}

/// The other of the two tensors that a node adds, where it adds two that are no constants.
fn other_summand(view: NodeView<'_>, own: ValueId) -> Option<ValueId> {
    let [Some(left), Some(right)] = *view.node.inputs else {
        return None;
    };
    let constant = |value: ValueId| view.graph.values[value].constant.is_some();
    let other = if left == own { right } else { left };
    (other != own && !constant(other)).then_some(other)
}
