//! com.microsoft.GroupQueryAttention without a cache: heads of queries share those of keys and
//! values.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Edit, Kept, Operator, Walk};
use crate::ops::Entry;
use crate::ops::attention::{CHANNELS, count, flat, heads_left, inner_cost, no_cache};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::microsoft(
    &["GroupQueryAttention"],
    &GroupQueryAttention,
    CHANNELS,
)];

struct GroupQueryAttention;

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
