//! DeformConv: a convolution that reads at places which another input moves.

use crate::graph::{Freeze, NodeView};
use crate::groups::{AxisMap, Bias, Consumer, Cost, Edit, Elements, Kept, Operator, Walk};
use crate::ops::Entry;
use crate::ops::cost::{self, Work};
use crate::ops::weights::convolution::{self, Out, Sizes, WeightAxes};

const DATA: usize = 0;
const WEIGHT: usize = 1;
const OFFSET: usize = 2;
const BIAS: usize = 3;
const MASK: usize = 4;
const CHANNEL_AXIS: usize = 1;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["DeformConv"],
    &DeformConv,
    "\
        as Conv on its data; what its offsets and its mask come from stays. With several \
        `offset_group` the same place in each of their parts is tied. Taps are not told apart; \
        with a mask it is cut and not repaired",
)];

struct DeformConv;

impl Operator for DeformConv {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let sizes = Sizes::read(view, 1)?;
        if view.input(BIAS).is_some() && view.constant(BIAS).is_none() {
            return Err(Freeze::new("its bias is computed while the model runs"));
        }
        let positions = convolution::rows(view.output_shape()?);
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(WEIGHT),
            positions: walk.per_sample(positions),
        });
        for slot in [OFFSET, MASK] {
            let Some(value) = view.input(slot) else {
                continue;
            };
            for axis in 0..view.shape(value)?.len() {
                walk.freeze_axis(value, axis, view.id, "it finds its places by them");
            }
        }
        share_out(view, walk)?;
        let layout = convolution::layout(view, sizes.blocks)?;
        let axes = WeightAxes {
            input: sizes.inputs_per_block > 1 || sizes.blocks == 1,
            output: Out::Whole,
            per_output: view.input(BIAS).map(|_| BIAS),
        };
        // What a map between channels adds on the mean is as large as the mask, which changes.
        let bias = match view.input(MASK) {
            Some(_) => Bias::None,
            None => Bias::Slot {
                slot: BIAS,
                scale: vec![1.0],
            },
        };
        // Where a tap reads is another place in every run, so that taps are not told apart: what
        // holds between channels at each place holds between places too.
        convolution::trace(view, walk, &sizes, axes, &mut |input| Consumer {
            ..convolution::consumer(view, input, None, layout.clone(), bias.clone())
        })
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        convolution::blocks_left(view, kept, 1)
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, WEIGHT, &Work::Filters)
    }
}

/// Parts of the channels read at places of their own: as many leave from each.
fn share_out(view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
    let parts = usize::try_from(view.node.int("offset_group", 1)).unwrap_or(0);
    let Some(map) = walk.axis(view.need(DATA)?, CHANNEL_AXIS) else {
        return Ok(());
    };
    if parts == 0 || !map.len().is_multiple_of(parts) {
        return Err(Freeze::new(
            "its offset_group attribute does not divide its channels",
        ));
    }
    let mut parts = map.chunks(map.len() / parts).map(AxisMap::from);
    if let Some(first) = parts.next() {
        for part in parts {
            walk.tie(&first, &part)?;
        }
    }
    Ok(())
}
