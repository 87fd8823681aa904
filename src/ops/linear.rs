//! Gemm and MatMul: products with a constant matrix, or of two activations.

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{AxisMap, Bias, Consumer, Cost, Elements, Operator, Walk, WeightLayout};
use crate::ops::product::Activations;
use crate::ops::quantize;
use crate::ops::stack::StackProduct;

pub(super) struct Gemm;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

impl Operator for Gemm {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let node = view.node;
        let (alpha, beta) = (node.float("alpha", 1.0), node.float("beta", 1.0));
        let is_computed = |slot: usize| view.input(slot).is_some() && view.constant(slot).is_none();
        if is_computed(C) {
            return Err(Freeze::new("its bias is computed while the model runs"));
        }
        if alpha == 0.0 {
            return Err(Freeze::new("its alpha is zero"));
        }
        // Axes of the rows (kept) and of what is summed, in either factor.
        let pick = |turned: bool| if turned { (1, 0) } else { (0, 1) };
        let (rows, summed_a) = pick(node.int("transA", 0) != 0);
        let (summed_b, columns) = pick(node.int("transB", 0) != 0);
        let (made, made_axis) = match (is_computed(A), is_computed(B)) {
            (true, false) => {
                let bias = if beta == 0.0 {
                    Bias::Added
                } else {
                    let scale = vec![f64::from(alpha) / f64::from(beta)];
                    Bias::Slot { slot: C, scale }
                };
                let product = Product {
                    data: A,
                    axis: summed_a,
                    made_axis: 1,
                    weight: B,
                    out_axis: columns,
                    in_axis: summed_b,
                    gain: f64::from(alpha),
                };
                (product.trace(view, walk, bias)?, 1)
            }
            (false, true) => {
                let product = Product {
                    data: B,
                    axis: summed_b,
                    made_axis: 0,
                    weight: A,
                    out_axis: rows,
                    in_axis: summed_a,
                    gain: f64::from(alpha),
                };
                (product.trace(view, walk, Bias::Added)?, 0)
            }
            _ => {
                let both = Activations {
                    left: [rows, summed_a],
                    right: [summed_b, columns],
                };
                both.trace(view, walk)?;
                return cut_bias_to_output(view, walk);
            }
        };
        cut_bias(view, walk, made_axis, &made)
    }
}

/// Gemm's bias follows every axis of the output that it does not repeat along.
fn cut_bias_to_output(view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
    let Some(output) = view.output(0) else {
        return Ok(());
    };
    for (axis, map) in walk.axes(output).into_iter().enumerate() {
        if let Some(map) = map {
            cut_bias(view, walk, axis, &map)?;
        }
    }
    Ok(())
}

fn cut_bias(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    axis: usize,
    map: &AxisMap,
) -> Result<(), Freeze> {
    let Some(bias) = view.input(C) else {
        return Ok(());
    };
    let shape = view.shape(bias)?;
    let own = (axis + shape.len()).checked_sub(2);
    match own {
        Some(own) if shape.get(own) == Some(&map.len()) && map.len() > 1 => {
            walk.cut((view.id, C), own, map)
        }
        _ => Ok(()),
    }
}

pub(super) struct MatMul;

impl Operator for MatMul {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let shape = |slot: usize| view.shape(view.need(slot)?);
        let (left, right) = (shape(0)?, shape(1)?);
        let (l, r) = (left.len(), right.len());
        if l < 2 || r < 2 {
            return Err(Freeze::new("one of its factors is a vector"));
        }
        let is_matrix = |shape: &[usize]| shape.iter().rev().skip(2).all(|&length| length == 1);
        let product = match (view.constant(0), view.constant(1)) {
            (None, Some(_)) if is_matrix(right) && l >= r => Product {
                data: 0,
                axis: l - 1,
                made_axis: l - 1,
                weight: 1,
                out_axis: r - 1,
                in_axis: r - 2,
                gain: 1.0,
            },
            (Some(_), None) if is_matrix(left) && r >= l => Product {
                data: 1,
                axis: r - 2,
                made_axis: r - 2,
                weight: 0,
                out_axis: l - 2,
                in_axis: l - 1,
                gain: 1.0,
            },
            _ => {
                let stack = StackProduct::of_matmul(view)
                    .filter(|stack| !stack.has_channels_for_matrices(view, walk));
                if let Some(stack) = stack {
                    return stack.trace(view, walk);
                }
                let both = Activations {
                    left: [l - 2, l - 1],
                    right: [r - 2, r - 1],
                };
                return both.trace(view, walk);
            }
        };
        product.trace(view, walk, Bias::Added).map(|_| ())
    }
}

pub(super) struct MatMulInteger;

impl Operator for MatMulInteger {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let (data, weight) = (view.shape(view.need(A)?)?, view.shape(view.need(B)?)?);
        let &[_, _] = weight else {
            return Err(Freeze::new("its weight is no matrix"));
        };
        if view.constant(B).is_none() || data.is_empty() {
            return Err(Freeze::new("its weight is computed while the model runs"));
        }
        quantize::is_readable(view, A)?;
        let product = Product {
            data: A,
            axis: data.len() - 1,
            made_axis: data.len() - 1,
            weight: B,
            out_axis: 1,
            in_axis: 0,
            gain: 1.0,
        };
        let made = product.trace(view, walk, Bias::None)?;
        match quantize::zero_points(view)? {
            Some(slot) => walk.cut((view.id, slot), 0, &made),
            None => Ok(()),
        }
    }
}

/// A product of data with a constant matrix: which slots and axes play which part.
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
                tap_axes: Vec::new(),
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
