//! What is measured of each group alone, in the model as it runs.

use crate::graph::GroupId;
use crate::graph::Table;
/// What the outputs lose when one group is narrowed and all others are whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensitivity {
    /// Channels left.
    pub width: usize,
    /// Squared change of all outputs over their variance across the batch.
    pub divergence: f64,
}

/// Per group, its sensitivities from the widest to the narrowest; empty for groups that stay whole.
#[derive(Debug, Clone)]
pub struct Sensitivities(pub Table<GroupId, Vec<Sensitivity>>);
