//! Transpose: axes move.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Backward, Carried, Operator, Step, Told, Walk};
use crate::ops::Entry;
use crate::ops::backward::transposed;

pub(in crate::ops) const OPERATORS: &[Entry] =
    &[Entry::standard(&["Transpose"], &Transpose, "axes move")];

struct Transpose;

impl Operator for Transpose {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let perm: Vec<usize> = match view.node.ints("perm") {
            Some(perm) => perm
                .iter()
                .filter_map(|&axis| usize::try_from(axis).ok())
                .collect(),
            None => (0..rank).rev().collect(),
        };
        let axes = perm.iter().map(|&axis| walk.axis(input, axis)).collect();
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    fn keeps_elements(&self) -> bool {
        true
    }

    fn carried(&self, view: NodeView<'_>, made: &[usize]) -> Option<Carried> {
        let perm = match view.node.ints("perm") {
            Some(perm) => perm
                .iter()
                .map(|&axis| usize::try_from(axis).ok())
                .collect(),
            None => Some((0..made.len()).rev().collect::<Vec<_>>()),
        };
        let perm = perm?;
        Some(Carried {
            slot: 0,
            axes: perm.iter().copied().map(Some).collect(),
            step: Step::Transposed(perm),
        })
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let rank = view.output_shape().ok()?.len();
        let mut turned: Vec<usize> = (0..rank).rev().collect();
        for (to, &from) in view
            .node
            .ints("perm")
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            *turned.get_mut(usize::try_from(from).ok()?)? = to;
        }
        let found = transposed(back, back.output()?, &turned);
        back.give(0, found);
        Some(())
    }

    fn told(&self, _: NodeView<'_>, slot: usize) -> Told {
        Told::unchanged(slot)
    }
}
