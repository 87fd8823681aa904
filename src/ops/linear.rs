//! Gemm and MatMul with a constant factor.

use crate::graph::NodeView;
use crate::groups::{AxisMap, Bias, Consumer, Cost, Walk, WeightLayout};
use crate::ops::{Freeze, Operator};

pub(super) struct Gemm;

impl Operator for Gemm {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let node = view.node;
        let (alpha, beta) = (node.float("alpha", 1.0), node.float("beta", 1.0));
        if node.int("transA", 0) != 0 {
            return Err(Freeze::new("it transposes its input (transA)"));
        }
        if view.constant(1).is_none() || (view.input(2).is_some() && view.constant(2).is_none()) {
            return Err(Freeze::new(
                "its weight or bias is computed while the model runs",
            ));
        }
        if alpha == 0.0 || beta == 0.0 {
            return Err(Freeze::new("its alpha or beta is zero"));
        }
        let (out_axis, in_axis) = if node.int("transB", 0) != 0 {
            (0, 1)
        } else {
            (1, 0)
        };
        let scale = f64::from(alpha) / f64::from(beta);
        let product = Product {
            data: 0,
            axis: 1,
            weight: 1,
            out_axis,
            in_axis,
            gain: f64::from(alpha),
        };
        let output = product.trace(view, walk, Bias::Slot { slot: 2, scale })?;
        if let Some(bias) = view.input(2) {
            let shape = view.shape(bias)?;
            if let Some(last) = shape.len().checked_sub(1)
                && shape.get(last) == Some(&output.len())
                && output.len() > 1
            {
                walk.cut((view.id, 2), last, &output)?;
            }
        }
        Ok(())
    }
}

pub(super) struct MatMul;

impl Operator for MatMul {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let rank = |slot: usize| Ok(view.shape(view.need(slot)?)?.len());
        let (left, right): (usize, usize) = (rank(0)?, rank(1)?);
        let product = match (view.constant(0), view.constant(1)) {
            (None, Some(_)) if right == 2 && left >= 2 => Product {
                data: 0,
                axis: left - 1,
                weight: 1,
                out_axis: 1,
                in_axis: 0,
                gain: 1.0,
            },
            (Some(_), None) if left == 2 && right >= 2 => Product {
                data: 1,
                axis: right - 2,
                weight: 0,
                out_axis: 0,
                in_axis: 1,
                gain: 1.0,
            },
            (None, None) => {
                return Err(Freeze::new(
                    "both factors are computed while the model runs",
                ));
            }
            _ => return Err(Freeze::new("its constant factor is not a matrix")),
        };
        product.trace(view, walk, Bias::Added).map(|_| ())
    }
}

/// A product of data with a constant matrix: which slots and axes play which part.
struct Product {
    data: usize,
    axis: usize,
    weight: usize,
    out_axis: usize,
    in_axis: usize,
    gain: f64,
}

impl Product {
    /// Makes the output's atoms, which it returns.
    fn trace(
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
        let length = shape.get(self.axis).copied().unwrap_or(0);
        let rows = shape
            .iter()
            .enumerate()
            .filter(|&(axis, _)| axis != 0 && axis != self.axis);
        let positions = rows.fold(1u64, |product, (_, &n)| product.saturating_mul(n as u64));
        walk.cost(Cost {
            node: view.id,
            weight: self.weight,
            positions,
        });
        let mut axes = walk.axes(data);
        let input = axes.get_mut(self.axis).and_then(Option::take);
        let output = walk.fresh(view.id, length);
        walk.cut((view.id, self.weight), self.out_axis, &output)?;
        if let Some(map) = &input {
            walk.cut((view.id, self.weight), self.in_axis, map)?;
            walk.consume(Consumer {
                node: view.id,
                input: data,
                axis: self.axis,
                output: made,
                output_axis: self.axis,
                window: None,
                weight: self.weight,
                layout: WeightLayout {
                    out_axes: vec![self.out_axis],
                    in_axis: self.in_axis,
                    tap_axes: Vec::new(),
                    blocks: 1,
                    block_axis: self.out_axis,
                },
                bias,
                gain: self.gain,
            });
        }
        if let Some(slot) = axes.get_mut(self.axis) {
            *slot = Some(output.clone());
        }
        walk.set(made, axes)?;
        Ok(output)
    }
}
