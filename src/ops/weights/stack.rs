//! Products of data with a constant stack of matrices, such as experts: each matrix reads its own
//! part of the data, or all read the same. One place in the width that they make leaves from all of
//! them.

use crate::graph::{Freeze, NodeView};
use crate::groups::{AxisMap, Bias, Consumer, Cost, Elements, Stack, Walk, WeightLayout};
use crate::ops::layout::expand::are_copies;
use crate::ops::quantize;

/// Which slots and axes play which part. What is summed over comes last in the data.
pub(super) struct StackProduct {
    pub data: usize,
    pub weight: usize,
    /// The weight's axes: of the matrices, and in each of them of what is read and made.
    pub stack_axis: usize,
    pub in_axis: usize,
    pub out_axis: usize,
    /// The axis of the data along which each matrix has its own part; none where all read the same.
    pub own: Option<usize>,
    /// Axes of the output.
    pub made_stack: usize,
    pub made_axis: usize,
}

impl StackProduct {
    /// The product of a MatMul, where its right factor is a constant stack along one axis.
    pub fn of_matmul(view: NodeView<'_>) -> Option<Self> {
        let shape = |slot: usize| view.shape(view.input(slot)?).ok();
        let (left, right) = (shape(0)?, shape(1)?);
        let (l, r) = (left.len(), right.len());
        let stacks = right.get(..r.checked_sub(2)?)?;
        let mut long = (0..stacks.len()).filter(|&axis| right.get(axis) != Some(&1));
        let (Some(stack_axis), None) = (long.next(), long.next()) else {
            return None;
        };
        let is_weight = view.constant(1).is_some() && view.constant(0).is_none();
        let place = l.checked_sub(r)? + stack_axis;
        is_weight.then(|| StackProduct {
            data: 0,
            weight: 1,
            stack_axis,
            in_axis: r - 2,
            out_axis: r - 1,
            own: (left.get(place) == right.get(stack_axis)).then_some(place),
            made_stack: place,
            made_axis: l - 1,
        })
    }

    /// Whether the parts of the data are channels themselves, which leave with their matrices.
    pub fn has_channels_for_matrices(&self, view: NodeView<'_>, walk: &Walk<'_>) -> bool {
        let data = view.input(self.data);
        let own = data.zip(self.own);
        let map = own.and_then(|(data, axis)| walk.axis(data, axis));
        map.is_some_and(|map| !are_copies(view.graph, walk, &map))
    }

    /// Makes the output's atoms.
    pub fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let data = view.need(self.data)?;
        let shape = view.output_shape()?;
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let length = |axis: usize| shape.get(axis).copied().unwrap_or(1);
        let elements: u64 = shape.iter().map(|&n| n as u64).product();
        let shared = (length(self.made_axis) * length(self.made_stack)) as u64;
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(self.weight),
            positions: walk.per_sample(elements / shared.max(1)),
        });
        let made = walk.fresh(view.id, length(self.made_axis));
        walk.cut((view.id, self.weight), self.out_axis, &made)?;
        let mut axes = walk.axes(data);
        if let Some(slot) = self.own.and_then(|own| axes.get_mut(own))
            && let Some(copies) = slot.take()
        {
            walk.freeze(&copies, view.id, "each of its matrices reads a copy");
        }
        if let Some(map) = axes.pop().flatten() {
            self.read(view, walk, &map)?;
        }
        if self.made_axis > axes.len() {
            return Err(Freeze::new("its output has too few axes"));
        }
        axes.insert(self.made_axis, Some(made));
        walk.set(output, axes)
    }

    /// The last axis of the data, which every matrix sums over.
    pub fn read(
        &self,
        view: NodeView<'_>,
        walk: &mut Walk<'_>,
        map: &AxisMap,
    ) -> Result<(), Freeze> {
        let data = view.need(self.data)?;
        let weight = view.shape(view.need(self.weight)?)?;
        walk.cut((view.id, self.weight), self.in_axis, map)?;
        walk.consume(Consumer {
            node: view.id,
            input: quantize::source(view.graph, data),
            axis: view.shape(data)?.len().saturating_sub(1),
            output: view.output(0).unwrap_or(data),
            output_axis: self.made_axis,
            window: None,
            covered: Some(1),
            weight: self.weight,
            layout: WeightLayout {
                out_axes: vec![self.out_axis],
                in_axis: self.in_axis,
                kernel_axes: Vec::new(),
                blocks: weight.get(self.stack_axis).copied().unwrap_or(1),
                block_axis: self.stack_axis,
            },
            // A bias of its own for each matrix lies along both axes.
            bias: if self.made_stack < self.made_axis {
                Bias::Added
            } else {
                Bias::None
            },
            gain: 1.0,
            partner: None,
            stack: Some(Stack {
                input: self.own,
                output: self.made_stack,
            }),
        });
        Ok(())
    }
}
