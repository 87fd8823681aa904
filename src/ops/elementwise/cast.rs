//! Cast, CastLike and Identity: the same elements, maybe of another type.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Alike, Backward, Carried, Operator, Size, Step, Told, Walk};
use crate::ops::elementwise::{KEEP, broadcast};
use crate::ops::{Entry, sizes};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["Cast"], &Cast, KEEP),
    Entry::standard(&["CastLike"], &CastLike, KEEP),
    Entry::standard(&["Identity"], &Identity, KEEP),
];

struct Cast;

impl Operator for Cast {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        sizes::passed(view, walk)
    }

    fn carried(&self, _: NodeView<'_>, made: &[usize]) -> Option<Carried> {
        Some(Carried::in_place(0, made, Step::Cast))
    }

    fn told(&self, _: NodeView<'_>, slot: usize) -> Told {
        Told::unchanged(slot)
    }
}

/// Reads a second tensor for its type alone.
struct CastLike;

impl Operator for CastLike {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::first(view, walk)
    }

    fn reads_data(&self, slot: usize) -> bool {
        slot != 1
    }

    fn carried(&self, _: NodeView<'_>, made: &[usize]) -> Option<Carried> {
        Some(Carried::in_place(0, made, Step::Cast))
    }
}

struct Identity;

impl Operator for Identity {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        sizes::passed(view, walk)
    }

    fn carried(&self, _: NodeView<'_>, made: &[usize]) -> Option<Carried> {
        Some(Carried::in_place(0, made, Step::Reshaped))
    }

    fn alike(&self, _: NodeView<'_>) -> Option<Alike> {
        Some(Alike::Adds)
    }

    fn backward(&self, _: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let gradient = back.output()?.to_owned();
        back.give(0, gradient);
        Some(())
    }

    fn told(&self, _: NodeView<'_>, slot: usize) -> Told {
        Told::unchanged(slot)
    }
}
