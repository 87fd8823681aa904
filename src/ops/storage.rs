//! Nodes that make one constant of another, element by element: how a weight comes from the form in which
//! it is stored.

use crate::graph::{NodeView, ValueId};
use crate::groups::{Carried, Step};
use crate::ops::quantize;

/// How the node makes its constant of one that is stored; `None` where it does not, or in another way.
#[must_use]
pub fn carried(view: NodeView<'_>) -> Option<Carried> {
    let node = view.node;
    let output = shape_of(view, view.output(0)?)?;
    let is_constant = |value: ValueId| view.graph.values[value].is_constant;
    if !node.domain.is_empty() || !node.outputs.iter().flatten().all(|&v| is_constant(v)) {
        return None;
    }
    let same = |slot: usize, step: Step| Carried {
        slot,
        axes: (0..output.len()).map(Some).collect(),
        step,
    };
    match node.op_type.as_str() {
        "Identity" => Some(same(0, Step::Reshaped)),
        "Cast" | "CastLike" => Some(same(0, Step::Cast)),
        "Transpose" => {
            let perm = match node.ints("perm") {
                Some(perm) => perm
                    .iter()
                    .map(|&axis| usize::try_from(axis).ok())
                    .collect(),
                None => Some((0..output.len()).rev().collect::<Vec<_>>()),
            };
            let perm = perm?;
            Some(Carried {
                slot: 0,
                axes: perm.iter().copied().map(Some).collect(),
                step: Step::Transposed(perm),
            })
        }
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" => {
            let input = shape_of(view, view.input(0)?)?;
            Some(Carried {
                slot: 0,
                axes: in_place(input, output),
                step: Step::Reshaped,
            })
        }
        "Mul" | "Div" | "Add" | "Sub" => {
            let slot = of_all(view, output)?;
            let is_first = slot == 0;
            let by = 1 - slot;
            let (divides, subtracts) = (node.op_type == "Div", node.op_type == "Sub");
            let is_product = divides || node.op_type == "Mul";
            // Of the quotient by a weight, or a difference from it, nothing is taken back.
            let is_plain = is_first || !(divides || subtracts);
            let step = match is_product {
                true => Step::Scaled { by, divides },
                false => Step::Moved { by, subtracts },
            };
            is_plain.then(|| same(slot, step))
        }
        "Gather" => looked_up(view, output),
        _ => {
            let stored = quantize::stored(node)?;
            let rest = [stored.scale, stored.zero_point];
            let are_stored = rest
                .iter()
                .all(|&slot| view.input(slot).is_none_or(|v| is_stored(view, v)));
            are_stored.then(|| same(stored.data, Step::Dequantized(stored)))
        }
    }
}

/// A Gather of single numbers from a table that is a list.
fn looked_up(view: NodeView<'_>, output: &[usize]) -> Option<Carried> {
    let (table, places) = (view.input(0)?, view.input(1)?);
    let is_list = shape_of(view, table)?.len() == 1;
    let fits = shape_of(view, places)? == output;
    (is_list && fits && is_stored(view, table)).then(|| Carried {
        slot: 1,
        axes: (0..output.len()).map(Some).collect(),
        step: Step::LookedUp,
    })
}

/// The slot of two whose constant has all elements of the output, if the other one has fewer and is stored.
fn of_all(view: NodeView<'_>, output: &[usize]) -> Option<usize> {
    let (left, right) = (view.input(0)?, view.input(1)?);
    let count = |value: ValueId| shape_of(view, value).map(|shape| shape.iter().product::<usize>());
    let is_whole = |value: ValueId| shape_of(view, value) == Some(output);
    let is_side =
        |value: ValueId| count(value) < Some(output.iter().product()) && is_stored(view, value);
    match (is_whole(left), is_whole(right)) {
        (true, false) if is_side(right) => Some(0),
        (false, true) if is_side(left) => Some(1),
        _ => None,
    }
}

/// Whether a constant is in the file as it is.
fn is_stored(view: NodeView<'_>, value: ValueId) -> bool {
    let value = &view.graph.values[value];
    let maker = value.producer.map(|node| &view.graph.nodes[node]);
    value.constant.is_some() && maker.is_none_or(super::constant::stores_tensor)
}

fn shape_of(view: NodeView<'_>, value: ValueId) -> Option<&[usize]> {
    view.graph.values[value].shape.as_deref()
}

/// Axes of a shape that are axes of another one of the same elements.
fn in_place(from: &[usize], to: &[usize]) -> Vec<Option<usize>> {
    let before = |shape: &[usize], axis: usize| shape.iter().take(axis).product::<usize>();
    let axis = |axis: usize| {
        let mut all = 0..from.len();
        all.find(|&own| {
            from[own] == to[axis] && from[own] > 1 && before(from, own) == before(to, axis)
        })
    };
    (0..to.len()).map(axis).collect()
}

/// For the axis of a `Reshaped` node's output, the entry of its target that states the length: the slot and
/// the index. `None` where no constant states it.
#[must_use]
pub fn stated_length(view: NodeView<'_>, axis: usize) -> Option<(usize, usize)> {
    let is_reshape = view.node.domain.is_empty() && view.node.op_type == "Reshape";
    let target = view.constant(1)?.to_i64().ok()?;
    (is_reshape && *target.get(axis)? > 0).then_some((1, axis))
}
