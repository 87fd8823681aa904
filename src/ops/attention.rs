//! Attention in one node: heads leave whole, in queries, keys, values and the result together.

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{
    AxisMap, Bias, Consumer, Cost, Edit, Elements, Kept, Operator, Role, Walk, WeightLayout,
};
use crate::ops::product;

pub(super) const INSIDE: &str =
    "its heads share an axis with what is inside them, which --head-dim does not cover";

fn count(view: NodeView<'_>, name: &str) -> Result<usize, Freeze> {
    match usize::try_from(view.node.int(name, 0)) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Freeze::new(format!("it does not say its {name}"))),
    }
}

/// The first atom of each head along an axis on which heads lie one after the other, each as one.
pub(super) fn heads(walk: &mut Walk<'_>, map: &AxisMap, count: usize) -> Result<AxisMap, Freeze> {
    let inner = map.len() / count.max(1);
    if inner * count != map.len() || inner == 0 {
        return Err(Freeze::new("its heads do not divide its channels"));
    }
    let firsts: AxisMap = map.iter().step_by(inner).copied().collect();
    walk.tie(map, &repeated(&firsts, inner))?;
    Ok(firsts)
}

pub(super) fn repeated(map: &AxisMap, times: usize) -> AxisMap {
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

/// Attention of the standard domain, with heads on an axis of their own or not.
pub(super) struct Attention;

impl Attention {
    fn rank(view: NodeView<'_>) -> Result<usize, Freeze> {
        Ok(view.shape(view.need(0)?)?.len())
    }

    /// (N, positions, heads and what is inside them).
    fn flat(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<Option<AxisMap>, Freeze> {
        let numbers = (count(view, "q_num_heads")?, count(view, "kv_num_heads")?);
        let made = flat(view, walk, numbers, 3)?;
        Ok(made.map(|(made, _)| made))
    }

    /// (N, heads, positions, what is inside them).
    fn apart(
        &self,
        view: NodeView<'_>,
        walk: &mut Walk<'_>,
    ) -> Result<[Option<AxisMap>; 2], Freeze> {
        let (query, key, value) = (view.need(0)?, view.need(1)?, view.need(2)?);
        let mut made = [None, walk.axis(value, 3)];
        if view.shape(key)?.get(1) == Some(&1) && view.shape(value)?.get(1) == Some(&1) {
            // One head of keys and values serves whatever heads of queries there are.
            if let Some(queries) = walk.axis(query, 1) {
                walk.see(&queries, Role::Stack);
                mask(view, walk, 3, &queries)?;
                made[0] = Some(queries);
            }
        } else if let Some([queries, keys, values]) = three(view, walk, 1)? {
            walk.see(&queries, Role::Stack);
            walk.see(&keys, Role::Stack);
            tie_heads(walk, [&queries, &keys, &values])?;
            mask(view, walk, 3, &queries)?;
            made[0] = Some(queries);
        }
        if let Some(map) = &made[1] {
            walk.see(map, Role::Matrix);
        }
        match (walk.axis(query, 3), walk.axis(key, 3)) {
            (Some(a), Some(b)) => {
                walk.see(&a, Role::Matrix);
                walk.tie(&a, &b)?;
                walk.consume_both(
                    product::consumer(view, (0, query), 3, 2),
                    product::consumer(view, (1, key), 3, 2),
                );
            }
            (Some(map), None) | (None, Some(map)) => {
                let text = "it multiplies the channels with others that are not pruned";
                walk.freeze(&map, view.id, text);
            }
            (None, None) => {}
        }
        Ok(made)
    }
}

impl Operator for Attention {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        no_cache(view, &[4, 5])?;
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let key = view.need(1)?;
        let axes = if Attention::rank(view)? == 3 {
            let made = self.flat(view, walk)?;
            walk.set(output, vec![None, None, made])?;
            vec![(output, 0), (output, 1), (output, 2)]
        } else {
            let [heads, inner] = self.apart(view, walk)?;
            walk.set(output, vec![None, heads, None, inner])?;
            (0..4).map(|axis| (output, axis)).collect()
        };
        let positions = if axes.len() == 3 { 1 } else { 2 };
        inner_cost(view, walk, (key, positions), axes);
        Ok(())
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let mut edits = Vec::new();
        if Attention::rank(view)? == 3 {
            for (slot, name) in [(0, "q_num_heads"), (1, "kv_num_heads")] {
                edits.extend(heads_left(view, kept, (view.need(slot)?, 2), name)?);
            }
            return Ok(edits);
        }
        let query = view.need(0)?;
        let inner = view.shape(query)?.get(3).copied().unwrap_or(1);
        if kept.length(query, 3, inner) != inner && !view.node.has("scale") {
            // By default the scale comes from the length, which was another one.
            edits.push(Edit::Float("scale", 1.0 / (inner as f32).sqrt()));
        }
        Ok(edits)
    }
}

/// Queries, keys and values of three axes, the heads of each beside what is inside them: the atoms of what is
/// made, and of the heads of keys where these can leave.
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
        if walk.scope().head_dim {
            return Err(Freeze::new(INSIDE));
        }
        let query = heads(walk, &query, queries)?;
        mask(view, walk, of_scores, &query)?;
        return Ok(Some((repeated(&query, inner), None)));
    }
    let Some([query, key, value]) = three(view, walk, 2)? else {
        return Ok(None);
    };
    if walk.scope().head_dim {
        return Err(Freeze::new(INSIDE));
    }
    let query = heads(walk, &query, queries)?;
    let (key, value) = (heads(walk, &key, keys)?, heads(walk, &value, keys)?);
    tie_heads(walk, [&query, &key, &value])?;
    mask(view, walk, of_scores, &query)?;
    Ok(Some((repeated(&query, inner), Some(key))))
}

/// com.microsoft.GroupQueryAttention without a cache: heads of queries share those of keys and values.
pub(super) struct GroupQueryAttention;

impl Operator for GroupQueryAttention {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        const PAST: [usize; 2] = [3, 4];
        const SCORES: usize = 10;
        const SINKS: usize = 11;
        no_cache(view, &PAST)?;
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        if view.input(1).is_none() || view.input(2).is_none() || view.input(SINKS).is_some() {
            return Err(Freeze::new(
                "its queries, keys and values are not three tensors",
            ));
        }
        let numbers = (count(view, "num_heads")?, count(view, "kv_num_heads")?);
        let (made, keys) = flat(view, walk, numbers, SCORES)?.unzip();
        walk.set(output, vec![None, None, made])?;
        // Keys and values for later, which nothing reads.
        for present in view.node.outputs.iter().skip(1).take(2).flatten() {
            walk.set(*present, vec![None, keys.clone().flatten(), None, None])?;
        }
        let spans = (0..3).map(|axis| (output, axis)).collect();
        inner_cost(view, walk, (view.need(1)?, 1), spans);
        Ok(())
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let mut edits = Vec::new();
        for (slot, name) in [(0, "num_heads"), (1, "kv_num_heads")] {
            edits.extend(heads_left(view, kept, (view.need(slot)?, 2), name)?);
        }
        Ok(edits)
    }
}

/// The number of heads left along an axis that they share with what is inside them.
pub(super) fn heads_left(
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

/// com.microsoft.MultiHeadAttention: queries, keys and values come apart.
pub(super) struct MultiHeadAttention;

impl Operator for MultiHeadAttention {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        const BIAS: usize = 3;
        const MASK: usize = 5;
        no_cache(view, &[6, 7, 8, 9])?;
        let number = count(view, "num_heads")?;
        for slot in 0..3 {
            if view.shape(view.need(slot)?)?.len() != 3 {
                return Err(Freeze::new(
                    "its queries, keys and values are not three tensors",
                ));
            }
        }
        if view.input(BIAS).is_some() && view.constant(BIAS).is_none() {
            return Err(Freeze::new("its bias is computed while the model runs"));
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let spans = (0..3).map(|axis| (output, axis)).collect();
        let Some([query, key, value]) = three(view, walk, 2)? else {
            return Ok(());
        };
        if walk.scope().head_dim {
            return Err(Freeze::new(INSIDE));
        }
        let firsts = heads(walk, &query, number)?;
        let others = [heads(walk, &key, number)?, heads(walk, &value, number)?];
        tie_heads(walk, [&firsts, &others[0], &others[1]])?;
        if view.input(BIAS).is_some() {
            let all = query.iter().chain(key.iter()).chain(value.iter());
            walk.cut((view.id, BIAS), 0, &all.copied().collect())?;
        }
        mask(view, walk, MASK, &firsts)?;
        walk.set(output, vec![None, None, Some(value)])?;
        inner_cost(view, walk, (view.need(1)?, 1), spans);
        Ok(())
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let left = heads_left(view, kept, (view.need(0)?, 2), "num_heads")?;
        Ok(left.into_iter().collect())
    }
}

/// com.microsoft.Attention: with the matrix that makes queries, keys and values.
pub(super) struct FusedAttention;

impl FusedAttention {
    const WEIGHT: usize = 1;
    const BIAS: usize = 2;

    /// Widths of queries, keys and values.
    fn widths(view: NodeView<'_>) -> Result<[usize; 3], Freeze> {
        let all = view.shape(view.need(FusedAttention::WEIGHT)?)?.get(1);
        let third = all.copied().unwrap_or(0) / 3;
        match view.node.ints("qkv_hidden_sizes") {
            Some(&[query, key, value]) => {
                let width = |int: i64| usize::try_from(int).unwrap_or(0);
                Ok([width(query), width(key), width(value)])
            }
            Some(list) if !list.is_empty() => {
                Err(Freeze::new("its qkv_hidden_sizes are not three"))
            }
            _ => Ok([third; 3]),
        }
    }

    fn consumer(view: NodeView<'_>, input: ValueId, output: ValueId) -> Consumer {
        Consumer {
            node: view.id,
            input,
            axis: 2,
            output,
            output_axis: Consumer::INNER,
            window: None,
            covered: Some(1),
            weight: FusedAttention::WEIGHT,
            layout: WeightLayout {
                out_axes: vec![1],
                in_axis: 0,
                tap_axes: Vec::new(),
                blocks: 1,
                block_axis: 1,
            },
            bias: Bias::Slot {
                slot: FusedAttention::BIAS,
                scale: vec![1.0],
            },
            gain: 1.0,
            partner: None,
            stack: None,
        }
    }
}

impl Operator for FusedAttention {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        const PAST: usize = 4;
        const MASK: usize = 5;
        let (weight, bias) = (FusedAttention::WEIGHT, FusedAttention::BIAS);
        no_cache(view, &[PAST])?;
        if walk.scope().head_dim {
            return Err(Freeze::new(INSIDE));
        }
        if view.constant(weight).is_none()
            || (view.input(bias).is_some() && view.constant(bias).is_none())
        {
            return Err(Freeze::new(
                "its weight or bias is computed while the model runs",
            ));
        }
        let input = view.need(0)?;
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let number = count(view, "num_heads")?;
        let widths = FusedAttention::widths(view)?;
        let divides = |&width: &usize| width > 0 && width.is_multiple_of(number);
        if !widths.iter().all(divides) {
            return Err(Freeze::new("its heads do not divide its channels"));
        }
        let rows = view
            .shape(output)?
            .iter()
            .take(2)
            .map(|&n| n as u64)
            .product();
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(weight),
            positions: walk.per_sample(rows),
        });
        let heads = walk.fresh(view.id, number);
        let parts = widths.map(|width| repeated(&heads, width / number));
        let all: AxisMap = parts.iter().flat_map(|part| part.iter().copied()).collect();
        walk.cut((view.id, weight), 1, &all)?;
        if view.input(bias).is_some() {
            walk.cut((view.id, bias), 0, &all)?;
        }
        mask(view, walk, MASK, &heads)?;
        if let Some(map) = walk.axis(input, 2) {
            walk.cut((view.id, weight), 0, &map)?;
            walk.consume(FusedAttention::consumer(view, input, output));
        }
        let [_, _, values] = parts;
        walk.set(output, vec![None, None, Some(values)])?;
        let spans = (0..3).map(|axis| (output, axis)).collect();
        inner_cost(view, walk, (input, 1), spans);
        Ok(())
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let whole = view.shape(output)?.get(2).copied().unwrap_or(0);
        let left = kept.length(output, 2, whole);
        if left == whole {
            return Ok(Vec::new());
        }
        let number = count(view, "num_heads")?;
        let heads = left / (whole / number).max(1);
        let int =
            |length: usize| i64::try_from(length).map_err(|_| Freeze::new("an axis is too long"));
        let widths = FusedAttention::widths(view)?.map(|width| int(width / number * heads));
        let widths = widths.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(vec![
            Edit::Int("num_heads", int(heads)?),
            Edit::Ints("qkv_hidden_sizes", widths),
        ])
    }
}
