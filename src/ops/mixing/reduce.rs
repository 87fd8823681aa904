//! Operators that reduce some axes to one value.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{Backward, Operator, Size, Walk};
use crate::ops::backward::{repeated, reshaped, scaled, shape};
use crate::ops::{Entry, sizes};

const CHANNELS: &str = "\
    channels on other axes pass; those that it reduces over stay. With `--prune-normalized`, \
    a ReduceMean over channels that keeps the axis, as in a norm in pieces, runs over those that \
    are left";

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["ReduceMean"], &Reduce(Kind::Mean), CHANNELS),
    Entry::standard(
        &[
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMin",
            "ReduceSumSquare",
        ],
        &Reduce(Kind::Other),
        CHANNELS,
    ),
    Entry::standard(&["ReduceSum"], &Reduce(Kind::Sum), CHANNELS),
    Entry::standard(&["ReduceProd"], &Reduce(Kind::Product), CHANNELS),
    Entry::standard(&["ArgMax", "ArgMin"], &Reduce(Kind::Place), CHANNELS),
];

#[derive(PartialEq, Eq)]
enum Kind {
    Mean,
    Sum,
    /// With which exporters compute sizes, too.
    Product,
    /// The place of one element, along one axis.
    Place,
    Other,
}

struct Reduce(Kind);

impl Operator for Reduce {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let rank = view.shape(input)?.len();
        let reduced = self.axes(view, rank)?;
        let keeps = view.node.int("keepdims", 1) != 0;
        // A mean that keeps its axis meets the channels again: a norm in pieces.
        let is_part_of_norm = self.0 == Kind::Mean && keeps;
        let text = if is_part_of_norm {
            "it reduces over the channels (`normalized` lets them leave)"
        } else {
            "it reduces over the channels"
        };
        let mut axes = Vec::new();
        for (axis, map) in walk.axes(input).into_iter().enumerate() {
            if reduced.contains(&axis) {
                if !is_part_of_norm || !walk.scope().normalized {
                    walk.freeze_axis(input, axis, view.id, text);
                }
                if keeps {
                    axes.push(None);
                }
            } else {
                axes.push(map);
            }
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let whole = shape(view, 0)?;
        let reduced = self.axes(view, whole.len()).ok()?;
        let count: usize = reduced.iter().filter_map(|&axis| whole.get(axis)).product();
        let factor = match self.0 {
            Kind::Mean => 1.0 / count.max(1) as f64,
            Kind::Sum => 1.0,
            Kind::Product | Kind::Place | Kind::Other => return None,
        };
        let kept = whole.iter().enumerate();
        let kept = kept.map(|(axis, &length)| if reduced.contains(&axis) { 1 } else { length });
        let found = scaled(back, back.output()?, factor);
        let found = reshaped(back, &found, &kept.collect::<Vec<_>>())?;
        let found = repeated(back, &found, whole)?;
        back.give(0, found);
        Some(())
    }

    fn computes_sizes(&self) -> bool {
        self.0 == Kind::Product
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        self.computes_sizes()
            .then(|| sizes::computed(view, walk))
            .flatten()
    }
}

impl Reduce {
    fn axes(&self, view: NodeView<'_>, rank: usize) -> Result<Vec<usize>, Freeze> {
        if self.0 == Kind::Place {
            return Ok(vec![normalize_axis(view.node.int("axis", 0), rank)?]);
        }
        match view.ints("axes", 1)? {
            Some(axes) if !axes.is_empty() => axes
                .into_iter()
                .map(|axis| normalize_axis(axis, rank))
                .collect(),
            _ if view.node.int("noop_with_empty_axes", 0) != 0 => Ok(Vec::new()),
            _ => Ok((0..rank).collect()),
        }
    }
}
