//! Conv and ConvInteger.

use std::borrow::Cow;

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{Alike, Backward, Bias, Cost, Edit, Elements, Kept, Operator, Walk, Window};
use crate::onnx::{Tensor, TensorError};
use crate::ops::cost::{self, Work};
use crate::ops::weights::convolution::{
    BIAS, DATA, Out, Sizes, WEIGHT, WeightAxes, bias, blocks_left, consumer, geometry, layout,
    rows, same_pads, trace,
};
use crate::ops::weights::{conv_backward, is_dense};
use crate::ops::{Entry, quantize};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &["Conv"],
        &Conv { of_integers: false },
        "\
            reads channels through its weight and makes new ones. Depthwise: passes its input's \
            channels on, as often as the multiplier says; `group` follows. Grouped: either the \
            same place in every block is tied, or whole blocks leave with their inputs and \
            outputs, whichever ties less; a grouped convolution is left",
    ),
    Entry::standard(
        &["ConvInteger"],
        &Conv { of_integers: true },
        super::INTEGERS,
    ),
];

struct Conv {
    of_integers: bool,
}

impl Operator for Conv {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let sizes = Sizes::read(view, 1)?;
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(WEIGHT),
            positions: walk.per_sample(rows(view.output_shape()?)),
        });
        let layout = layout(view, sizes.blocks)?;
        let axes = WeightAxes {
            input: sizes.inputs_per_block > 1 || sizes.blocks == 1,
            output: Out::Whole,
            per_output: self.per_output(view)?,
        };
        let bias = if self.of_integers {
            // Its sums are of integers, whose scale nothing tells here.
            Bias::None
        } else {
            Bias::Slot {
                slot: BIAS,
                scale: vec![1.0],
            }
        };
        let window = Some(window(view)?);
        trace(view, walk, &sizes, axes, &mut |input| {
            consumer(view, input, window.clone(), layout.clone(), bias.clone())
        })
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        blocks_left(view, kept, 1)
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, WEIGHT, &Work::Filters)
    }

    fn weight<'v>(
        &self,
        view: NodeView<'v>,
        slot: usize,
    ) -> Option<Result<Cow<'v, Tensor>, TensorError>> {
        if self.of_integers {
            return quantize::centred(view, slot);
        }
        view.constant(slot).map(|tensor| Ok(Cow::Borrowed(tensor)))
    }

    fn alike(&self, view: NodeView<'_>) -> Option<Alike> {
        (!self.of_integers && is_dense(view)).then_some(Alike::Weighs(WEIGHT))
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        conv_backward::conv(view, &self.geometry(view)?, back)
    }

    fn pointwise(&self, view: NodeView<'_>) -> Option<ValueId> {
        let window = self.geometry(view)?;
        let stays = window.kernel_positions() == 1 && window.input == window.output;
        let is_dense = window.strides.iter().all(|&stride| stride == 1);
        view.input(DATA).filter(|_| stays && is_dense)
    }
}

impl Conv {
    fn geometry(&self, view: NodeView<'_>) -> Option<Window> {
        window(view).ok().filter(|_| !self.of_integers)
    }

    /// The slot of a constant that has an entry for each output.
    fn per_output(&self, view: NodeView<'_>) -> Result<Option<usize>, Freeze> {
        if self.of_integers {
            quantize::is_readable(view, DATA)?;
            return quantize::zero_points(view);
        }
        bias(view)
    }
}

fn window(view: NodeView<'_>) -> Result<Window, Freeze> {
    geometry(view, |window, auto_pad| {
        let lengths = (window.output.as_slice(), window.input.as_slice());
        window.pads = same_pads(lengths, window, auto_pad == "SAME_LOWER");
    })
}
