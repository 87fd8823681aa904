//! A product of data with a constant matrix.

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{AxisMap, Bias, Consumer, Cost, Elements, Walk, WeightLayout};
use crate::ops::quantize;

/// Which slots and axes play which part.
pub(super) struct Product {
    pub data: usize,
    /// The axis of the data that is summed over.
    pub axis: usize,
    /// The axis of the output that the weight makes; the data's other axes keep their order.
    pub made_axis: usize,
    pub weight: usize,
    pub out_axis: usize,
    pub in_axis: usize,
    /// What the node multiplies the product with.
    pub gain: f64,
}

impl Product {
    /// Makes the output's atoms, which it returns.
    pub fn trace(
        &self,
        view: NodeView<'_>,
        walk: &mut Walk<'_>,
        bias: Bias,
    ) -> Result<AxisMap, Freeze> {
        let data = view.need(self.data)?;
        let shape = view.output_shape()?;
        let made = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let length = shape.get(self.made_axis).copied().unwrap_or(0);
        let rows = shape
            .iter()
            .enumerate()
            .filter(|&(axis, _)| axis != self.made_axis);
        let positions = rows.fold(1u64, |product, (_, &n)| product.saturating_mul(n as u64));
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(self.weight),
            positions: walk.per_sample(positions),
        });
        let mut axes = walk.axes(data);
        if self.axis >= axes.len() {
            return Err(Freeze::new("its data have too few axes"));
        }
        let input = axes.remove(self.axis);
        let output = walk.fresh(view.id, length);
        walk.cut((view.id, self.weight), self.out_axis, &output)?;
        if let Some(map) = &input {
            walk.cut((view.id, self.weight), self.in_axis, map)?;
            walk.consume(self.consumer(view, data, made, bias));
        }
        if self.made_axis > axes.len() {
            return Err(Freeze::new("its output has too few axes"));
        }
        axes.insert(self.made_axis, Some(output.clone()));
        walk.set(made, axes)?;
        Ok(output)
    }

    fn consumer(
        &self,
        view: NodeView<'_>,
        input: ValueId,
        output: ValueId,
        bias: Bias,
    ) -> Consumer {
        Consumer {
            node: view.id,
            input: quantize::source(view.graph, input),
            axis: self.axis,
            output,
            output_axis: self.made_axis,
            window: None,
            covered: Some(1),
            weight: self.weight,
            layout: WeightLayout {
                out_axes: vec![self.out_axis],
                in_axis: self.in_axis,
                kernel_axes: Vec::new(),
                blocks: 1,
                block_axis: self.out_axis,
            },
            bias,
            gain: self.gain,
            partner: None,
            stack: None,
        }
    }
}
