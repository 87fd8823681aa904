//! com.microsoft.FusedMatMul: a MatMul with either factor transposed and a factor.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Bias, Cost, Operator, Walk};
use crate::ops::Entry;
use crate::ops::cost::{self, Work};
use crate::ops::weights::activations::Activations;
use crate::ops::weights::matmul;
use crate::ops::weights::product::Product;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::microsoft(
    &["FusedMatMul"],
    &FusedMatMul,
    matmul::CHANNELS,
)];

struct FusedMatMul;

impl Operator for FusedMatMul {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let flag = |name: &str| view.node.int(name, 0) != 0;
        if flag("transBatchA") || flag("transBatchB") {
            return Err(Freeze::new("it transposes a stack of matrices"));
        }
        let rank = |slot: usize| Ok(view.shape(view.need(slot)?)?.len());
        let (left, right): (usize, usize) = (rank(0)?, rank(1)?);
        if left < 2 || right < 2 {
            return Err(Freeze::new("one of its factors is a vector"));
        }
        let (turn_left, turn_right) = (flag("transA"), flag("transB"));
        let pair = |rank: usize, turned: bool| {
            if turned {
                [rank - 1, rank - 2]
            } else {
                [rank - 2, rank - 1]
            }
        };
        let both = Activations {
            left: pair(left, turn_left),
            right: pair(right, turn_right),
        };
        let is_plain = right == 2 && view.constant(0).is_none() && !turn_left;
        match view.constant(1) {
            Some(_) if is_plain => {
                let product = Product {
                    data: 0,
                    axis: left - 1,
                    made_axis: left - 1,
                    weight: 1,
                    out_axis: both.right[1],
                    in_axis: both.right[0],
                    gain: f64::from(view.node.float("alpha", 1.0)),
                };
                product.trace(view, walk, Bias::Added).map(|_| ())
            }
            _ => both.trace(view, walk),
        }
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, 1, &Work::Matrix)
    }
}
