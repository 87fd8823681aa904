//! Products of two activations, such as an attention's scores: both sides' channels meet.

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{Bias, Consumer, Cost, Elements, Role, Stack, Walk, WeightLayout};
use crate::ops::elementwise::broadcast;

/// Which of the last two axes of each factor are kept and summed over: `left` is `[rows, summed]`,
/// `right` is `[summed, columns]`. The axes before are stacks of matrices.
pub(super) struct Activations {
    pub left: [usize; 2],
    pub right: [usize; 2],
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

impl Activations {
    pub fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let shape = view.output_shape()?.to_vec();
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let stacks = shape
            .len()
            .checked_sub(2)
            .ok_or_else(|| Freeze::new("its output is no matrix"))?;
        let mut axes = Vec::new();
        for axis in 0..stacks {
            let map = broadcast::trace_axis(view, walk, axis, &shape)?;
            if let Some(map) = &map {
                walk.see(map, Role::Stack);
            }
            axes.push(map);
        }
        self.sum(view, walk)?;
        for (slot, axis) in [(LEFT, self.left[0]), (RIGHT, self.right[1])] {
            let map = walk.axis(view.need(slot)?, axis);
            if let Some(map) = &map {
                walk.see(map, Role::Matrix);
            }
            axes.push(map);
        }
        self.cost(view, walk, output, stacks)?;
        walk.set(output, axes)
    }

    /// The axis that is summed over: the same channels on both sides, each side weighing the other.
    fn sum(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let (left, right) = (view.need(LEFT)?, view.need(RIGHT)?);
        let (own, other) = (self.left[1], self.right[0]);
        match (walk.axis(left, own), walk.axis(right, other)) {
            (Some(a), Some(b)) => {
                walk.see(&a, Role::Matrix);
                walk.see(&b, Role::Matrix);
                walk.tie(&a, &b)?;
                walk.consume_both(
                    consumer(view, (LEFT, left), own, self.left[0]),
                    consumer(view, (RIGHT, right), other, self.right[1]),
                );
            }
            (Some(map), None) | (None, Some(map)) => {
                walk.see(&map, Role::Matrix);
                let value = if walk.axis(left, own).is_some() {
                    right
                } else {
                    left
                };
                let name = &view.graph.values[value].name;
                let text = format!("it multiplies the channels with '{name}', which is not pruned");
                walk.freeze(&map, view.id, &text);
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn cost(
        &self,
        view: NodeView<'_>,
        walk: &mut Walk<'_>,
        output: ValueId,
        stacks: usize,
    ) -> Result<(), Freeze> {
        let left = view.need(LEFT)?;
        // Of all samples together: which axis the samples lie along is not known here.
        let mut spans = vec![(left, self.left[1]), (left, self.left[0])];
        spans.push((view.need(RIGHT)?, self.right[1]));
        spans.extend((0..stacks).map(|axis| (output, axis)));
        let all = spans.iter().map(|&(value, axis)| {
            let shape = view.graph.values[value].shape.as_deref();
            shape
                .and_then(|shape| shape.get(axis))
                .copied()
                .unwrap_or(1) as u64
        });
        let all = all.fold(1u64, u64::saturating_mul);
        walk.cost(Cost {
            node: view.id,
            of: Elements::Axes(spans),
            positions: walk.per_sample(all) / all.max(1) as f64,
        });
        Ok(())
    }
}

/// One factor as data, of which the other is the weight; its matrices have their rows along `rows`.
/// Matrices that lie along one more axis than that of the samples, such as heads, are told apart.
pub(in crate::ops) fn consumer(
    view: NodeView<'_>,
    (slot, input): (usize, ValueId),
    axis: usize,
    rows: usize,
) -> Consumer {
    let shape = view.shape(input).unwrap_or_default();
    let along = axis.min(rows).checked_sub(1).filter(|&along| along > 0);
    let matrices = along.and_then(|along| Some((along, *shape.get(along)?)));
    let stack = matrices.map(|(along, _)| Stack {
        input: Some(along),
        output: along,
    });
    Consumer {
        node: view.id,
        input,
        axis,
        output: view.output(0).unwrap_or(input),
        output_axis: Consumer::INNER,
        window: None,
        covered: Some(1),
        weight: 1 - slot,
        layout: WeightLayout {
            out_axes: vec![rows],
            in_axis: 0,
            kernel_axes: Vec::new(),
            blocks: matrices.map_or(1, |(_, count)| count),
            block_axis: 0,
        },
        bias: Bias::Added,
        gain: 1.0,
        partner: None,
        stack,
    }
}
