//! Attention of the standard domain, with heads on an axis of their own or not.

use crate::graph::{Freeze, NodeView};
use crate::groups::{AxisMap, Edit, Kept, Operator, Role, Walk};
use crate::ops::Entry;
use crate::ops::attention::{
    count, flat, heads_left, inner_cost, mask, no_cache, three, tie_heads,
};
use crate::ops::weights::activations::consumer;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["Attention"],
    &Attention,
    "\
        heads leave whole; the query heads that share a head of keys and values leave with it, and \
        each alone where there is only one. With heads on an axis of their own, `--heads inside` works \
        too and sets `scale`. A cache of keys and values freezes",
)];

struct Attention;

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
                    consumer(view, (0, query), 3, 2),
                    consumer(view, (1, key), 3, 2),
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
