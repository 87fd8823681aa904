//! Operators that compute each element of the output from the elements of the inputs at its own
//! place.

pub(super) mod broadcast;
mod cast;
mod compare;
mod derivatives;
mod functions;
mod products;
mod rectifier;
mod sums;

use crate::ops::Entry;

pub(super) const FILES: &[&[Entry]] = &[
    sums::OPERATORS,
    products::OPERATORS,
    compare::OPERATORS,
    rectifier::OPERATORS,
    cast::OPERATORS,
    functions::OPERATORS,
];

/// What operators of several inputs mean for channels.
const MEET: &str = "\
    channels that meet are tied (a residual connection); constants are cut along with them, where \
    they are not broadcast";
/// What operators of one input mean for channels.
const KEEP: &str = "channels keep their place";
