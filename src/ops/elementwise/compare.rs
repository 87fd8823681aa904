//! Equal and Where, with which exporters write the target of an Expand.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Backward, Operator, Size, Walk};
use crate::ops::Entry;
use crate::ops::backward::{give_summed, input, number};
use crate::ops::elementwise::{MEET, broadcast};
use crate::ops::sizes::{self, MOST_FACTORS, filled_with};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["Equal"], &Equal, MEET),
    Entry::standard(&["Where"], &Where, MEET),
];

const EQUAL: &str = "Equal";

struct Equal;

impl Operator for Equal {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        view.input(0)?;
        if is_test_for_open(view) {
            return Some(Vec::new());
        }
        sizes::computed(view, walk)
    }
}

struct Where;

impl Operator for Where {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        sizes::computed(view, walk).or_else(|| chosen(view, walk))
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let (gradient, made) = (back.output()?, view.output_shape().ok()?);
        let (condition, zero) = (input(view, 0)?, number(back, 0.0));
        for slot in [1, 2] {
            if back.wants(slot) {
                let chosen = if slot == 1 {
                    [condition, gradient, &zero]
                } else {
                    [condition, &zero, gradient]
                };
                let found = back.graph.node("Where", &chosen, &[]);
                give_summed(back, view, slot, &found, made)?;
            }
        }
        Some(())
    }
}

/// Where(shape == -1, ones, shape), as an exporter writes the target of an Expand: the shape.
fn chosen(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    const CONDITION: usize = 0;
    const OTHERWISE: usize = 2;
    let condition = view.graph.values[view.input(CONDITION)?].producer?;
    let condition = view.graph.view(condition);
    let shape = view.input(OTHERWISE)?;
    let sizes = walk.sizes(shape)?;
    let shown = view.constant_or_count(OTHERWISE)?.to_i64().ok()?;
    if !condition.node.inputs.contains(&Some(shape)) || !is_test_for_open(condition) {
        return None;
    }
    let entry = |(size, int): (&Size, &i64)| {
        if *int == -1 {
            Size::Other
        } else {
            size.clone()
        }
    };
    Some(sizes.iter().zip(&shown).map(entry).collect())
}

/// Whether the node compares a shape with -1, which no length is.
fn is_test_for_open(view: NodeView<'_>) -> bool {
    let is_open = |slot: usize| {
        let value = view.input(slot);
        value.and_then(|value| filled_with(view.graph, value, MOST_FACTORS)) == Some(-1)
    };
    view.node.op_type == EQUAL && (is_open(0) || is_open(1))
}
