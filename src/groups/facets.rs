//! What the facets of a rule answer.

use crate::onnx::Tensor;

/// A change to a node that follows from the channels that left.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// Set an integer attribute.
    Int(&'static str, i64),
    /// Set a floating-point attribute.
    Float(&'static str, f32),
    /// Set a list of integers.
    Ints(&'static str, Vec<i64>),
    /// Remove an attribute.
    Drop(&'static str),
    /// Read another constant in an input slot.
    Input(usize, Tensor),
}

/// What a node does to channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alike {
    /// It sums them, or makes them of others, through the dense constant weight in a slot, and adds
    /// a bias to what it makes.
    Weighs(usize),
    /// It adds tensors, or positions of one, channel by channel.
    Adds,
    /// It scales and moves each channel on its own, by constants.
    Scales,
    /// It multiplies stacks of matrices that are both computed: the columns of the second are those
    /// of what it makes.
    Multiplies,
}

/// Consecutive indexes that an output takes from the first input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The axis.
    pub axis: usize,
    /// The first of them.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// Whether the axis goes, as there is only one.
    pub is_dropped: bool,
}

/// A node that scales channels, divided: what it scales them by, and constants with which it only
/// adds what it added.
#[derive(Debug, Clone)]
pub struct Unscaled {
    /// Factor of each channel.
    pub scale: Vec<f64>,
    /// The constants by input slot.
    pub constants: [(usize, Tensor); 4],
    /// The one of these slots that holds what is added.
    pub added: usize,
}

/// Where a shift of a node's input can go instead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shifted {
    /// The slot of a constant.
    pub slot: usize,
    /// What the shift is multiplied with when it is added to the constant.
    pub factor: f64,
    /// The axis that the constant lies along; none where it ends with the input's axes.
    pub axis: Option<usize>,
}

/// The values of an input of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Values {
    /// Rows of a table that has so many: tokens of a vocabulary.
    Rows(usize),
    /// Pixels from 0 to 255: the model scales them itself.
    Bytes,
    /// Pixels from 0 to 1: the model normalises them itself.
    Shares,
}

/// What a node tells of the values that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// These they are.
    Values(Values),
    /// The node's first output has the same values.
    Unchanged,
    /// Nothing.
    Nothing,
}

impl Told {
    /// Of a node that hands its first input on.
    #[must_use]
    pub fn unchanged(slot: usize) -> Self {
        match slot {
            0 => Told::Unchanged,
            _ => Told::Nothing,
        }
    }
}
