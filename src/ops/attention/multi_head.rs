//! com.microsoft.MultiHeadAttention: queries, keys and values come apart.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Edit, Heads, Kept, Operator, Walk};
use crate::ops::Entry;
use crate::ops::attention::{
    CHANNELS, INSIDE, count, heads, heads_left, inner_cost, mask, no_cache, three, tie_heads,
};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::microsoft(
    &["MultiHeadAttention"],
    &MultiHeadAttention,
    CHANNELS,
)];

struct MultiHeadAttention;

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
        if walk.scope().heads == Heads::Inside {
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
