//! com.microsoft.EmbedLayerNormalization: without a rule, but it tells which tokens the model
//! reads.

use crate::graph::NodeView;
use crate::groups::{Operator, Told};
use crate::ops::{Entry, inputs};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::microsoft(
    &["EmbedLayerNormalization"],
    &EmbedLayerNormalization,
    "made-up tokens are rows of its table",
)];

const TABLE: usize = 2;

struct EmbedLayerNormalization;

impl Operator for EmbedLayerNormalization {
    fn is_followed(&self) -> bool {
        false
    }

    fn told(&self, view: NodeView<'_>, slot: usize) -> Told {
        match slot {
            0 => inputs::by_table(view.constant(TABLE), 0),
            _ => Told::Nothing,
        }
    }
}
