//! RotaryEmbedding, of the standard domain and of com.microsoft: turns pairs inside each head.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Edit, Heads, Kept, Operator, Walk};
use crate::ops::Entry;
use crate::ops::attention::{INSIDE, heads, heads_left, repeated};

const CHANNELS: &str = "heads leave whole; `num_heads` follows. What is inside them stays";

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &["RotaryEmbedding"],
        &RotaryEmbedding { cosines: 1 },
        CHANNELS,
    ),
    Entry::microsoft(
        &["RotaryEmbedding"],
        &RotaryEmbedding { cosines: 2 },
        CHANNELS,
    ),
];

struct RotaryEmbedding {
    /// The input slot of the cosines.
    cosines: usize,
}

impl RotaryEmbedding {
    /// How many heads share an axis with what is inside them.
    fn count(&self, view: NodeView<'_>, width: usize) -> Result<usize, Freeze> {
        let stated = usize::try_from(view.node.int("num_heads", 0)).unwrap_or(0);
        if stated > 0 {
            return Ok(stated);
        }
        // Each cosine is for a pair.
        let cosines = view.shape(view.need(self.cosines)?)?;
        let inner = 2 * cosines.last().copied().unwrap_or(0);
        match view.node.int("rotary_embedding_dim", 0) {
            0 if inner > 0 => Ok(width / inner),
            _ => Err(Freeze::new("it does not say its num_heads")),
        }
    }
}

impl Operator for RotaryEmbedding {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let mut axes = walk.axes(input);
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        if let Some(map) = walk.axis(input, rank.saturating_sub(1)) {
            if rank == 3 {
                if walk.scope().heads == Heads::Inside {
                    return Err(Freeze::new(INSIDE));
                }
                let count = self.count(view, map.len())?;
                let firsts = heads(walk, &map, count)?;
                axes[2] = Some(repeated(&firsts, map.len() / count.max(1)));
            } else {
                walk.freeze(&map, view.id, "it turns the channels in pairs");
            }
        }
        walk.set(output, axes)
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let input = view.need(0)?;
        if view.shape(input)?.len() != 3 || view.node.int("num_heads", 0) == 0 {
            return Ok(Vec::new());
        }
        let left = heads_left(view, kept, (input, 2), "num_heads")?;
        Ok(left.into_iter().collect())
    }
}
