//! What reads channels linearly, and what it costs.

use crate::graph::{NodeId, ValueId};

/// A node that maps channels through a constant weight: `Y = W X + b` at every position.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// The node.
    pub node: NodeId,
    /// The tensor whose channels it reads.
    pub input: ValueId,
    /// The channel axis of that tensor.
    pub axis: usize,
    /// The tensor that it makes.
    pub output: ValueId,
    /// The channel axis of the output, or [`Consumer::INNER`].
    pub output_axis: usize,
    /// The positions that a convolution unfolds; none where each position is read alone.
    pub window: Option<Window>,
    /// Elements of the axes after the channels', at the end of the tensor, that each channel
    /// covers; 1 where there are none, nothing where they lie otherwise and cannot be observed.
    pub covered: Option<usize>,
    /// Input slot of the weight.
    pub weight: usize,
    /// How the weight's axes become a matrix.
    pub layout: WeightLayout,
    /// Where a bias is, or can be put.
    pub bias: Bias,
    /// The node makes `gain * W X` (Gemm's alpha), plus the bias.
    pub gain: f64,
    /// Where the weight is computed too: the consumer that reads it as its data.
    pub partner: Option<usize>,
    /// Where the weight is a stack of matrices, which all read and make the same channels.
    pub stack: Option<Stack>,
}

/// Where a [stack](Consumer::stack) of matrices reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stack {
    /// The axis of the input along which each matrix has its own part; none where all read the
    /// same.
    pub input: Option<usize>,
    /// The axis of the output along which each matrix makes its own part.
    pub output: usize,
}

impl Consumer {
    /// Stands for the output's axis where what the weight makes stays inside the node.
    pub const INNER: usize = usize::MAX;

    /// How many blocks of inputs can be observed.
    #[must_use]
    pub fn observed_blocks(&self) -> usize {
        match self.stack {
            Some(Stack { input: None, .. }) => 1,
            _ => self.layout.blocks,
        }
    }

    /// How many of `length` channels, of the input or the output, one block has.
    #[must_use]
    pub fn per_block(&self, length: usize) -> usize {
        match self.stack {
            Some(_) => length,
            None => length / self.layout.blocks.max(1),
        }
    }

    /// Whether every position of the kernel is told apart where the input is observed.
    #[must_use]
    pub fn tells_kernel_apart(&self) -> bool {
        self.window.is_some() || self.layout.kernel_axes.is_empty()
    }
}

/// How a weight becomes, per block, a matrix of `out` rows and `in * taps` columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightLayout {
    /// Axes of the output channels, outermost first.
    pub out_axes: Vec<usize>,
    /// Axis of the input channels.
    pub in_axis: usize,
    /// Axes of the kernel of one input channel, outermost first.
    pub kernel_axes: Vec<usize>,
    /// Number of blocks (a convolution's `group`): block `i` reads the `i`-th part of the input.
    pub blocks: usize,
    /// The axis that the blocks share out: one of the others, or that of a stack of matrices.
    pub block_axis: usize,
}

/// Where a consumer's bias is.
#[derive(Debug, Clone, PartialEq)]
pub enum Bias {
    /// In an input slot.
    Slot {
        /// The slot, which may be empty yet.
        slot: usize,
        /// Per row of an output in the weight's matrix, how far the bias moves to balance a shift
        /// of that row by one.
        scale: Vec<f64>,
    },
    /// In the input slot of a recurrent node, which may be empty yet: per direction, the biases of
    /// all rows for the weight and then for the recurrence.
    Rows {
        /// The slot.
        slot: usize,
        /// Which of the two parts is moved.
        after: usize,
    },
    /// The operator has none: an Add after the node carries it.
    Added,
    /// There is no place for one.
    None,
}

/// The unfolding of a convolution: which input position tap `k` reads for output position `o`:
/// `o * stride + k * dilation - pad` along each spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// Input lengths of the spatial axes.
    pub input: Vec<usize>,
    /// Output lengths of the spatial axes.
    pub output: Vec<usize>,
    /// Kernel lengths.
    pub kernel: Vec<usize>,
    /// Strides.
    pub strides: Vec<usize>,
    /// Dilations.
    pub dilations: Vec<usize>,
    /// Padding before the first position.
    pub pads: Vec<usize>,
}

impl Window {
    /// Number of kernel positions, the product of the kernel's lengths.
    #[must_use]
    pub fn kernel_positions(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Flat input positions that the taps read for one flat output position; `None` in the padding.
    #[must_use]
    pub fn reads(&self, output: usize) -> Vec<Option<usize>> {
        let at = unravel(output, &self.output);
        (0..self.kernel_positions())
            .map(|tap| self.read(&at, &unravel(tap, &self.kernel)))
            .collect()
    }

    fn read(&self, output: &[usize], tap: &[usize]) -> Option<usize> {
        let mut flat = 0;
        for (axis, &length) in self.input.iter().enumerate() {
            let padded = output.get(axis)? * self.strides.get(axis)?
                + tap.get(axis)? * self.dilations.get(axis)?;
            let position = padded.checked_sub(*self.pads.get(axis)?)?;
            if position >= length {
                return None;
            }
            flat = flat * length + position;
        }
        Some(flat)
    }
}

fn unravel(mut flat: usize, lengths: &[usize]) -> Vec<usize> {
    let mut at = vec![0; lengths.len()];
    for (axis, &length) in lengths.iter().enumerate().rev() {
        let length = length.max(1);
        at[axis] = flat % length;
        flat /= length;
    }
    at
}

/// What a node costs: `positions` multiply-accumulates for each of some elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// The node.
    pub node: NodeId,
    /// The elements.
    pub of: Elements,
    /// How often each of them is used for one sample of the observed shapes.
    pub positions: f64,
}

/// What a cost counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// Those of the constant weight in an input slot.
    Weight(usize),
    /// As many as these axes of computed values span.
    Axes(Vec<(ValueId, usize)>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_read_what_a_strided_padded_convolution_reads() {
        let window = Window {
            input: vec![4, 5],
            output: vec![2, 3],
            kernel: vec![3, 3],
            strides: vec![2, 2],
            dilations: vec![1, 1],
            pads: vec![1, 1],
        };
        // Output (0, 0): the first row and column of the kernel lie in the padding.
        let first = window.reads(0);
        assert_eq!(first[..4], [None, None, None, None]);
        assert_eq!(first[4..6], [Some(0), Some(1)]);
        // Output (1, 2): rows 1..=3, columns 3..=5, of which column 5 is padding.
        assert_eq!(
            window.reads(5),
            [
                Some(8),
                Some(9),
                None,
                Some(13),
                Some(14),
                None,
                Some(18),
                Some(19),
                None
            ]
        );
    }
}
