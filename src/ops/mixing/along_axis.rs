//! Operators whose output has the input's shape, and that mix along some axes.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{Backward, Operator, Walk};
use crate::ops::Entry;
use crate::ops::backward::{output, product, summed};

const CHANNELS: &str = "channels on axes that are not mixed pass";

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["Softmax"], &Softmax, CHANNELS),
    Entry::standard(&["LogSoftmax", "Hardmax"], &AlongAxis(of_softmax), CHANNELS),
    Entry::standard(&["LpNormalization"], &AlongAxis(last), CHANNELS),
    Entry::standard(&["LRN"], &AlongAxis(|_, _| Ok(vec![1])), CHANNELS),
    Entry::standard(&["MeanVarianceNormalization"], &AlongAxis(listed), CHANNELS),
    Entry::standard(&["CumSum"], &AlongAxis(given), CHANNELS),
    Entry::standard(
        &["Trilu"],
        &AlongAxis(|_, rank| Ok((rank.saturating_sub(2)..rank).collect())),
        CHANNELS,
    ),
];

type Mixed = Result<Vec<usize>, Freeze>;

/// With the axes that it mixes of so many.
struct AlongAxis(fn(NodeView<'_>, usize) -> Mixed);

impl Operator for AlongAxis {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let mixed = (self.0)(view, rank)?;
        // Frozen channels go on: what takes lengths or makes sums from here sees whose they are.
        let axes = walk.axes(input);
        for axis in mixed {
            walk.freeze_axis(input, axis, view.id, "it mixes the channels");
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }
}

struct Softmax;

impl Operator for Softmax {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        AlongAxis(of_softmax).trace(view, walk)
    }

    /// `y (g - sum(g y))`.
    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let axes = of_softmax(view, view.output_shape().ok()?.len()).ok()?;
        let (gradient, made) = (back.output()?, output(view)?);
        let turned = product(back, gradient, made);
        let level = summed(back, view.graph.opset, &turned, &axes)?;
        let left = back.graph.node("Sub", &[gradient, &level], &[]);
        let found = product(back, &left, made);
        back.give(0, found);
        Some(())
    }
}

fn last(view: NodeView<'_>, rank: usize) -> Mixed {
    Ok(vec![normalize_axis(view.node.int("axis", -1), rank)?])
}

/// Before opset 13, these flatten everything from the axis on.
fn of_softmax(view: NodeView<'_>, rank: usize) -> Mixed {
    if view.graph.opset < 13 {
        return Ok((normalize_axis(view.node.int("axis", 1), rank)?..rank).collect());
    }
    last(view, rank)
}

fn listed(view: NodeView<'_>, rank: usize) -> Mixed {
    let axes = view.node.ints("axes").unwrap_or(&[0, 2, 3]).iter();
    axes.map(|&axis| normalize_axis(axis, rank)).collect()
}

fn given(view: NodeView<'_>, rank: usize) -> Mixed {
    match view.constant_ints(1)?.as_deref() {
        Some(&[axis]) => Ok(vec![normalize_axis(axis, rank)?]),
        _ => Err(Freeze::new("it has no axis")),
    }
}
