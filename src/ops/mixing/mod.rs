//! Operators that mix the elements along some axes: channels there must stay, others pass.

mod along_axis;
mod reduce;

use crate::ops::Entry;

pub(super) const FILES: &[&[Entry]] = &[reduce::OPERATORS, along_axis::OPERATORS];
