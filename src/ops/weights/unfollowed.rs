//! Operators of com.microsoft that multiply with a weight and have no rule: what they cost is
//! known.

use crate::graph::NodeView;
use crate::groups::{Cost, Elements, Operator, Walk};
use crate::ops::Entry;
use crate::ops::cost::{self, Work, elements};

const CHANNELS: &str = "their multiply-accumulates are counted";

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::microsoft(
        &["FusedConv", "NhwcConv", "NhwcFusedConv"],
        &Unfollowed {
            slot: 1,
            work: Work::Filters,
        },
        CHANNELS,
    ),
    Entry::microsoft(
        &["QLinearConv"],
        &Unfollowed {
            slot: 3,
            work: Work::Filters,
        },
        CHANNELS,
    ),
    Entry::microsoft(
        &["ConvTransposeWithDynamicPads"],
        &Unfollowed {
            slot: 1,
            work: Work::Transposed,
        },
        CHANNELS,
    ),
    Entry::microsoft(
        &["QGemm"],
        &Unfollowed {
            slot: 3,
            work: Work::Matrix,
        },
        CHANNELS,
    ),
    Entry::microsoft(
        &[
            "DynamicQuantizeMatMul",
            "FusedGemm",
            "FusedMatMulActivation",
            "GemmFastGelu",
            "GemmFloat8",
            "MatMulBnb4",
            "MatMulFpQ4",
            "MatMulIntegerToFloat",
            "MatMulNBits",
            "TransposeMatMul",
        ],
        &Unfollowed {
            slot: 1,
            work: Work::Matrix,
        },
        CHANNELS,
    ),
    Entry::microsoft(
        &["QAttention"],
        &Unfollowed {
            slot: 1,
            work: Work::Rows,
        },
        CHANNELS,
    ),
    Entry::microsoft(&["MoE"], &Experts, CHANNELS),
];

struct Unfollowed {
    /// Of the weight.
    slot: usize,
    work: Work,
}

impl Operator for Unfollowed {
    fn is_followed(&self) -> bool {
        false
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        cost::of(view, walk, self.slot, &self.work)
    }
}

/// A mixture of experts.
struct Experts;

impl Operator for Experts {
    fn is_followed(&self) -> bool {
        false
    }

    fn cost(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Vec<Cost> {
        experts(view, walk).unwrap_or_default()
    }
}

/// A mixture of experts, of which each row of the data goes through `k`.
fn experts(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Cost>> {
    const WEIGHTS: [usize; 3] = [2, 4, 6];
    let data = view.shape(view.input(0)?).ok()?;
    let rows = elements(data) / data.last().copied().unwrap_or(1).max(1) as u64;
    let of_each = view.node.int("k", 1).max(1) as f64 * walk.per_sample(rows);
    let cost = |slot: usize| {
        let count = view.shape(view.input(slot)?).ok()?.first().copied()?;
        Some(Cost {
            node: view.id,
            of: Elements::Weight(slot),
            positions: of_each / count.max(1) as f64,
        })
    };
    Some(WEIGHTS.into_iter().filter_map(cost).collect())
}
