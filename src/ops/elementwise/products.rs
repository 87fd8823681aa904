//! Mul and Div.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Backward, Carried, Operator, Size, Step, Told, Walk};
use crate::ops::backward::{give_summed, input, output, product};
use crate::ops::elementwise::{MEET, broadcast};
use crate::ops::sizes::{self, is_integer};
use crate::ops::storage::of_all;
use crate::ops::{Entry, inputs};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["Mul"], &Mul { divides: false }, MEET),
    Entry::standard(&["Div"], &Mul { divides: true }, MEET),
];

/// Mul, or Div.
struct Mul {
    divides: bool,
}

impl Operator for Mul {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        let multiplied = || multiplied(view, walk).filter(|_| !self.divides);
        sizes::computed(view, walk).or_else(multiplied)
    }

    fn filled(&self, view: NodeView<'_>, depth: usize) -> Option<i64> {
        let factor = |slot| sizes::filled_with(view.graph, view.input(slot)?, depth);
        factor(0)?.checked_mul(factor(1).filter(|_| !self.divides)?)
    }

    fn carried(&self, view: NodeView<'_>, made: &[usize]) -> Option<Carried> {
        let slot = of_all(view, made)?;
        let step = Step::Scaled {
            by: 1 - slot,
            divides: self.divides,
        };
        // Of the quotient by a weight, nothing is taken back.
        (slot == 0 || !self.divides).then(|| Carried::in_place(slot, made, step))
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let (gradient, made) = (back.output()?, view.output_shape().ok()?);
        let (left, right) = (input(view, 0)?, input(view, 1)?);
        if back.wants(0) {
            let found = if self.divides {
                back.graph.node("Div", &[gradient, right], &[])
            } else {
                product(back, gradient, right)
            };
            give_summed(back, view, 0, &found, made)?;
        }
        if back.wants(1) {
            let found = if self.divides {
                let share = back.graph.node("Div", &[output(view)?, right], &[]);
                let found = product(back, gradient, &share);
                back.graph.node("Neg", &[&found], &[])
            } else {
                product(back, gradient, left)
            };
            give_summed(back, view, 1, &found, made)?;
        }
        Some(())
    }

    fn told(&self, view: NodeView<'_>, slot: usize) -> Told {
        match (self.divides, slot) {
            (false, _) => inputs::by_factor(view.constant(1 - slot.min(1)), |factor| factor),
            (true, 0) => inputs::by_factor(view.constant(1), |factor| 1.0 / factor),
            (true, _) => Told::Nothing,
        }
    }
}

/// A length times a constant, as where heads and samples share an axis.
fn multiplied(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    view.input(0)?;
    let [left, right] = *view.node.inputs.as_slice() else {
        return None;
    };
    let (length, slot) = if is_integer(view, 0) {
        (right?, 0)
    } else {
        (left?, 1)
    };
    let is_one = view.constant(slot).is_some_and(|tensor| tensor.len() == 1);
    match walk.sizes(length)? {
        [size] if is_one && is_integer(view, slot) => {
            Some(vec![Size::Product((view.id, slot), Box::new(size.clone()))])
        }
        _ => None,
    }
}
