//! Attention in one node: heads leave whole, in queries, keys, values and the result together.

mod fused;
mod group_query;
mod multi_head;
mod rotary;
mod standard;

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{AxisMap, Cost, Edit, Elements, Heads, Kept, Walk};
use crate::ops::Entry;

pub(super) const FILES: &[&[Entry]] = &[
    standard::OPERATORS,
    fused::OPERATORS,
    multi_head::OPERATORS,
    group_query::OPERATORS,
    rotary::OPERATORS,
];

/// What the attentions of com.microsoft mean for channels.
const CHANNELS: &str = "\
    heads leave whole; `num_heads`, `qkv_hidden_sizes`, the bias and a mask per head follow. With \
    `--heads inside` they freeze";

const INSIDE: &str =
    "its heads share an axis with what is inside them, which `heads` does not cover";

fn count(view: NodeView<'_>, name: &str) -> Result<usize, Freeze> {
    match usize::try_from(view.node.int(name, 0)) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Freeze::new(format!("it does not say its {name}"))),
    }
}

/// The first atom of each head along an axis on which heads lie one after the other, each as one.
fn heads(walk: &mut Walk<'_>, map: &AxisMap, count: usize) -> Result<AxisMap, Freeze> {
    let inner = map.len() / count.max(1);
    if inner * count != map.len() || inner == 0 {
        return Err(Freeze::new("its heads do not divide its channels"));
    }
    let firsts: AxisMap = map.iter().step_by(inner).copied().collect();
    walk.tie(map, &repeated(&firsts, inner))?;
    Ok(firsts)
}

fn repeated(map: &AxisMap, times: usize) -> AxisMap {
    let each = map
        .iter()
        .flat_map(|&atom| std::iter::repeat_n(atom, times));
    each.collect()
}

/// What the scores of `heads` are added to: one mask for all heads, or one for each.
fn mask(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    slot: usize,
    heads: &AxisMap,
) -> Result<(), Freeze> {
    let Some(value) = view.input(slot) else {
        return Ok(());
    };
    let shape = view.shape(value)?;
    let Some(axis) = shape.len().checked_sub(3) else {
        return Ok(());
    };
    if shape[axis] == 1 || shape[axis] != heads.len() {
        return Ok(());
    }
    if view.constant(slot).is_some() {
        return walk.cut((view.id, slot), axis, heads);
    }
    match walk.axis(value, axis) {
        Some(map) => walk.tie(&map, heads),
        None => {
            let name = &view.graph.values[value].name;
            let text = format!("it adds '{name}', which is not pruned, to each head");
            walk.freeze(heads, view.id, &text);
            Ok(())
        }
    }
}

fn no_cache(view: NodeView<'_>, inputs: &[usize]) -> Result<(), Freeze> {
    let has_input = inputs.iter().any(|&slot| view.input(slot).is_some());
    let outputs = view.node.outputs.iter().skip(1).flatten();
    let is_read = |&value: &ValueId| {
        let value = &view.graph.values[value];
        !value.readers.is_empty() || value.is_output
    };
    if has_input || outputs.into_iter().any(is_read) {
        return Err(Freeze::new("it keeps keys and values for later"));
    }
    Ok(())
}

/// Queries, keys and values of one axis each.
fn three(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    axis: usize,
) -> Result<Option<[AxisMap; 3]>, Freeze> {
    let inputs = [view.need(0)?, view.need(1)?, view.need(2)?];
    let found = inputs.map(|value| walk.axis(value, axis));
    if let [Some(query), Some(key), Some(value)] = &found {
        return Ok(Some([query.clone(), key.clone(), value.clone()]));
    }
    for map in found.iter().flatten() {
        let text = "it combines the channels with others that are not pruned";
        walk.freeze(map, view.id, text);
    }
    Ok(None)
}

/// Heads of queries leave with the heads of keys and values that they share.
fn tie_heads(walk: &mut Walk<'_>, [query, key, value]: [&AxisMap; 3]) -> Result<(), Freeze> {
    let shared = query.len() / key.len().max(1);
    walk.tie(query, &repeated(key, shared))?;
    walk.tie(key, value)
}

/// The products of the scores and of their values.
fn inner_cost(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    keys: (ValueId, usize),
    spans: Vec<(ValueId, usize)>,
) {
    let length = |(value, axis): (ValueId, usize)| {
        let shape = view.graph.values[value].shape.as_deref();
        shape
            .and_then(|shape| shape.get(axis))
            .copied()
            .unwrap_or(1) as u64
    };
    let all = spans
        .iter()
        .map(|&span| length(span))
        .fold(1u64, u64::saturating_mul);
    walk.cost(Cost {
        node: view.id,
        of: Elements::Axes(spans),
        positions: 2.0 * length(keys) as f64 * walk.per_sample(all) / all.max(1) as f64,
    });
}

/// Queries, keys and values of three axes, the heads of each beside what is inside them: the atoms
/// of what is made, and of the heads of keys where these can leave.
fn flat(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    (queries, keys): (usize, usize),
    of_scores: usize,
) -> Result<Option<(AxisMap, Option<AxisMap>)>, Freeze> {
    let one = [view.need(0)?, view.need(1)?, view.need(2)?];
    let inner = view.shape(one[2])?.get(2).copied().unwrap_or(0) / keys;
    if keys == 1 {
        // One head of keys and values serves whatever heads of queries there are.
        for value in [one[1], one[2]] {
            walk.freeze_axis(value, 2, view.id, "all heads of queries read them");
        }
        let Some(query) = walk.axis(one[0], 2) else {
            return Ok(None);
        };
        if walk.scope().heads == Heads::Inside {
            return Err(Freeze::new(INSIDE));
        }
        let query = heads(walk, &query, queries)?;
        mask(view, walk, of_scores, &query)?;
        return Ok(Some((repeated(&query, inner), None)));
    }
    let Some([query, key, value]) = three(view, walk, 2)? else {
        return Ok(None);
    };
    if walk.scope().heads == Heads::Inside {
        return Err(Freeze::new(INSIDE));
    }
    let query = heads(walk, &query, queries)?;
    let (key, value) = (heads(walk, &key, keys)?, heads(walk, &value, keys)?);
    tie_heads(walk, [&query, &key, &value])?;
    mask(view, walk, of_scores, &query)?;
    Ok(Some((repeated(&query, inner), Some(key))))
}

/// The number of heads left along an axis that they share with what is inside them.
fn heads_left(
    view: NodeView<'_>,
    kept: &Kept<'_>,
    (value, axis): (ValueId, usize),
    name: &'static str,
) -> Result<Option<Edit>, Freeze> {
    let whole = view.shape(value)?.get(axis).copied().unwrap_or(0);
    let left = kept.length(value, axis, whole);
    let inner = whole / count(view, name)?;
    let heads = i64::try_from(left / inner.max(1)).map_err(|_| Freeze::new("too many heads"))?;
    Ok((left != whole).then_some(Edit::Int(name, heads)))
}
