//! ConvTranspose: a convolution with its weight's axes swapped.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Alike, Bias, Cost, Edit, Elements, Kept, Operator, Walk, WeightLayout};
use crate::ops::Entry;
use crate::ops::cost::{self, Work};
use crate::ops::weights::convolution::{
    BIAS, DATA, Out, Sizes, WEIGHT, WeightAxes, bias, blocks_left, consumer, geometry, rows,
    same_pads, trace,
};
use crate::ops::weights::is_dense;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["ConvTranspose"],
    &ConvTranspose,
    "as Conv, with its weight's axes swapped",
)];

struct ConvTranspose;

impl Operator for ConvTranspose {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let sizes = Sizes::read(view, 0)?;
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(WEIGHT),
            positions: walk.per_sample(rows(view.shape(view.need(DATA)?)?)),
        });
        let layout = WeightLayout {
            out_axes: (1..view.shape(view.need(WEIGHT)?)?.len()).collect(),
            in_axis: 0,
            kernel_axes: Vec::new(),
            blocks: sizes.blocks,
            block_axis: 0,
        };
        let axes = WeightAxes {
            input: true,
            output: Out::PerBlock,
            per_output: bias(view)?,
        };
        let bias = Bias::Slot {
            slot: BIAS,
            scale: reach(view)?,
        };
        trace(view, walk, &sizes, axes, &mut |input| {
            consumer(view, input, None, layout.clone(), bias.clone())
        })
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        blocks_left(view, kept, 0)
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, WEIGHT, &Work::Transposed)
    }

    fn alike(&self, view: NodeView<'_>) -> Option<Alike> {
        is_dense(view).then_some(Alike::Weighs(WEIGHT))
    }
}

/// Per tap of a transposed convolution, the share of the outputs that it reaches: input `i` adds
/// to output `i * stride + k * dilation - pad`, unless that lies outside.
fn reach(view: NodeView<'_>) -> Result<Vec<f64>, Freeze> {
    let window = geometry(view, |window, auto_pad| {
        let lengths = (window.input.as_slice(), window.output.as_slice());
        window.pads = same_pads(lengths, window, auto_pad != "SAME_UPPER");
    })?;
    let mut shares = vec![1.0];
    for (axis, &output) in window.output.iter().enumerate() {
        let at = |list: &[usize]| list.get(axis).copied().unwrap_or(0);
        let (stride, dilation, pad) =
            (at(&window.strides), at(&window.dilations), at(&window.pads));
        let lands = |input: usize, tap: usize| {
            let padded = input * stride + tap * dilation;
            padded.checked_sub(pad).is_some_and(|place| place < output)
        };
        let share = |tap: usize| {
            let landed = (0..at(&window.input)).filter(|&input| lands(input, tap));
            landed.count() as f64 / output.max(1) as f64
        };
        let taps: Vec<f64> = (0..at(&window.kernel)).map(share).collect();
        let outer = shares.iter();
        shares = outer
            .flat_map(|outer| taps.iter().map(move |share| outer * share))
            .collect();
    }
    Ok(shares)
}
