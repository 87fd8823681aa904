//! Gemm: a product with a constant matrix, or of two activations.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Alike, Attribute, AxisMap, Backward, Bias, Cost, Operator, Walk};
use crate::ops::Entry;
use crate::ops::backward::{give_summed, input, scaled};
use crate::ops::cost::{self, Work};
use crate::ops::weights::activations::Activations;
use crate::ops::weights::matrix_slot;
use crate::ops::weights::product::Product;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["Gemm"],
    &Gemm,
    "\
        reads channels and makes new ones, with a constant matrix on either side; `transA`, \
        `transB`, `alpha` and `beta` are respected. Of two activations as MatMul",
)];

struct Gemm;

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

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, B, &Work::Matrix)
    }

    fn alike(&self, view: NodeView<'_>) -> Option<Alike> {
        matrix_slot(view).map(Alike::Weighs)
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let (gradient, made) = (back.output()?, view.output_shape().ok()?);
        let turns = |slot: usize| view.node.int(["transA", "transB"][slot], 0) != 0;
        let (alpha, beta) = (view.node.float("alpha", 1.0), view.node.float("beta", 1.0));
        let mut multiply = |left: (&str, bool), right: (&str, bool)| {
            let turned = [i64::from(left.1), i64::from(right.1)];
            let attributes = [
                Attribute::Int("transA", turned[0]),
                Attribute::Int("transB", turned[1]),
                Attribute::Float("alpha", alpha),
            ];
            back.graph.node("Gemm", &[left.0, right.0], &attributes)
        };
        let (left, right) = (input(view, A)?, input(view, B)?);
        let of_left = if turns(A) {
            multiply((right, turns(B)), (gradient, true))
        } else {
            multiply((gradient, false), (right, !turns(B)))
        };
        let of_right = if turns(B) {
            multiply((gradient, true), (left, turns(A)))
        } else {
            multiply((left, !turns(A)), (gradient, false))
        };
        for (slot, found) in [(A, of_left), (B, of_right)] {
            if back.wants(slot) {
                back.give(slot, found);
            }
        }
        if back.wants(C) {
            let found = scaled(back, gradient, f64::from(beta));
            give_summed(back, view, C, &found, made)?;
        }
        Some(())
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
