//! Operators that lay elements out anew, pick some of them, or repeat them.

mod blocks;
mod concat;
pub(super) mod expand;
mod gather;
mod pad;
mod reshape;
mod resize;
mod sample;
mod sequence;
mod slice;
mod split;
mod tile;
mod transpose;

use crate::graph::Freeze;
use crate::onnx::Tensor;
use crate::ops::Entry;

pub(super) const FILES: &[&[Entry]] = &[
    blocks::OPERATORS,
    sample::OPERATORS,
    tile::OPERATORS,
    concat::OPERATORS,
    split::OPERATORS,
    slice::OPERATORS,
    gather::OPERATORS,
    sequence::OPERATORS,
    reshape::OPERATORS,
    transpose::OPERATORS,
    pad::OPERATORS,
    resize::OPERATORS,
    expand::OPERATORS,
];

/// What taking parts means for channels.
const PARTS: &str = "\
    parts of the channels; sizes, bounds and indices are rewritten. A Gather from a constant table \
    by numbers (an embedding) makes channels: the table's columns";
/// What a change of shape means for channels.
const RESIZED: &str = "\
    channels keep their place; Pad with zeros along the channels makes channels that can leave; \
    the last axis of a constant that Expand repeats (a class token) can leave like channels; \
    copies that it makes of one head of keys leave with the heads that read them; target shapes \
    are rewritten";

fn to_int(length: usize) -> Result<i64, Freeze> {
    i64::try_from(length).map_err(|_| Freeze::new("an axis is too long"))
}

fn int_tensor(ints: &[i64]) -> Result<Tensor, Freeze> {
    Tensor::from_i64(&[ints.len()], ints).map_err(|error| Freeze::new(error.to_string()))
}
