//! com.microsoft.Attention: with the matrix that makes queries, keys and values.

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{
    AxisMap, Bias, Consumer, Cost, Edit, Elements, Heads, Kept, Operator, Walk, WeightLayout,
};
use crate::ops::Entry;
use crate::ops::attention::{CHANNELS, INSIDE, count, inner_cost, mask, no_cache, repeated};
use crate::ops::cost::{self, Work};

pub(in crate::ops) const OPERATORS: &[Entry] =
    &[Entry::microsoft(&["Attention"], &FusedAttention, CHANNELS)];

struct FusedAttention;

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
                kernel_axes: Vec::new(),
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
        if walk.scope().heads == Heads::Inside {
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

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, FusedAttention::WEIGHT, &Work::Rows)
    }
}
