//! Solved matrices and shifts as the tensors that a consumer reads.

use faer::Mat;
use ndarray::{ArrayD, IxDyn};

use crate::graph::Graph;
use crate::groups::{Bias, Consumer, Kept};
use crate::onnx::{DataType, Tensor, TensorError};
use crate::surgery::{Repaired, SurgeryError};

/// A consumer whose weight and bias are solved anew.
#[derive(Clone, Copy)]
pub(crate) struct Refit<'a> {
    graph: &'a Graph,
    pub consumer: &'a Consumer,
    pub kept: Kept<'a>,
    /// The dense weight.
    pub weight: &'a Tensor,
}

/// What a shift of `W X` is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onto {
    /// The bias that the model has.
    Present,
    /// Nothing: the shift is all of the bias.
    Zero,
}

/// The tensors of one consumer.
pub(crate) struct Refitted {
    weight: Tensor,
    bias_slot: Option<usize>,
    bias: Tensor,
}

impl<'a> Refit<'a> {
    /// `None` where the weight is not constant or has no place for a bias.
    pub fn new(graph: &'a Graph, consumer: &'a Consumer, kept: Kept<'a>) -> Option<Self> {
        let weight = graph.view(consumer.node).constant(consumer.weight)?;
        if consumer.bias == Bias::None {
            return None;
        }
        Some(Refit {
            graph,
            consumer,
            kept,
            weight,
        })
    }

    /// The node's name.
    pub fn node(&self) -> &'a str {
        &self.graph.nodes[self.consumer.node].name
    }

    /// An error that names the node.
    pub fn failed(&self, error: TensorError) -> SurgeryError {
        SurgeryError::Tensor {
            node: self.node().to_owned(),
            error,
        }
    }

    /// The weight's matrices without what left: those that `repaired` has, or else the dense ones.
    pub fn present(&self, repaired: &Repaired) -> Result<Vec<Mat<f64>>, TensorError> {
        let (node, slot) = (self.consumer.node, self.consumer.weight);
        let layout = &self.consumer.layout;
        if let Some(tensor) = repaired.inputs.get(&(node, slot)) {
            return layout.matrices(tensor);
        }
        layout.matrices(&self.without_what_left(self.weight, slot)?)
    }

    /// Matrices of the kept rows and columns, one per block, and the shift of every row, as
    /// tensors.
    pub fn tensors(
        &self,
        matrices: &[Mat<f64>],
        shift: &[f64],
        onto: Onto,
    ) -> Result<Refitted, TensorError> {
        let shape = self.cut_shape(matrices);
        let dtype = self.weight.dtype;
        let (bias_slot, bias) = self.bias(shift, onto)?;
        Ok(Refitted {
            weight: self.consumer.layout.tensor(matrices, &shape, dtype)?,
            bias_slot,
            bias,
        })
    }

    /// Puts the tensors where the surgery finds them.
    pub fn put(&self, mut folded: Refitted, repaired: &mut Repaired) -> Result<(), TensorError> {
        let node = self.consumer.node;
        // Two consumers of one node may move one bias.
        if let Bias::Rows { slot, .. } = self.consumer.bias
            && let Some(known) = repaired.inputs.get(&(node, slot))
        {
            let moved = folded.bias.to_f64()? - self.present_rows(slot, &known.shape)?;
            folded.bias = Tensor::from_f64(known.dtype, &(known.to_f64()? + moved))?;
        }
        repaired
            .inputs
            .insert((node, self.consumer.weight), folded.weight);
        match folded.bias_slot {
            Some(slot) => drop(repaired.inputs.insert((node, slot), folded.bias)),
            None => drop(repaired.added.insert(node, folded.bias)),
        }
        Ok(())
    }

    /// A recurrent node's bias without what left.
    fn present_rows(&self, slot: usize, shape: &[usize]) -> Result<ArrayD<f64>, TensorError> {
        match self.graph.view(self.consumer.node).constant(slot) {
            Some(bias) => self.without_what_left(bias, slot)?.to_f64(),
            None => Ok(ArrayD::zeros(IxDyn(shape))),
        }
    }

    /// The same with a shift for each row and direction.
    fn rows(&self, slot: usize, after: usize, shift: &[f64]) -> Result<Tensor, TensorError> {
        let layout = &self.consumer.layout;
        let directions = layout.rows_per_output(&self.weight.shape).max(1);
        let rows = shift.len() / directions;
        let mut values = self.present_rows(slot, &[directions, 2 * rows])?;
        for (index, moved) in shift.iter().enumerate() {
            let place = [index % directions, after * rows + index / directions];
            if let Some(value) = values.get_mut(IxDyn(&place)) {
                *value += moved;
            }
        }
        let present = self.graph.view(self.consumer.node).constant(slot);
        Tensor::from_f64(present.unwrap_or(self.weight).dtype, &values)
    }

    fn without_what_left(&self, whole: &Tensor, slot: usize) -> Result<Tensor, TensorError> {
        let mut left = whole.clone();
        let cut = self.kept.cut(self.consumer.node, slot);
        for (axis, map) in cut.into_iter().flatten().enumerate() {
            if let Some(map) = map {
                left = left.take(axis, &self.kept.positions(map))?;
            }
        }
        Ok(left)
    }

    /// The weight's shape without what left.
    fn cut_shape(&self, matrices: &[Mat<f64>]) -> Vec<usize> {
        let layout = &self.consumer.layout;
        let mut shape = self.weight.shape.clone();
        let taps = layout.kernel_positions(&shape).max(1);
        let blocks = matrices.len();
        let per_output = layout.rows_per_output(&shape).max(1);
        let rows = matrices.first().map_or(0, Mat::nrows) / per_output;
        let columns = matrices.first().map_or(0, Mat::ncols) / taps;
        let out_axis = layout.out_axes.first().copied().unwrap_or(0);
        let whole = |axis: usize, length: usize| {
            if axis == layout.block_axis {
                length * blocks
            } else {
                length
            }
        };
        if let Some(length) = shape.get_mut(out_axis) {
            *length = whole(out_axis, rows);
        }
        if let Some(length) = shape.get_mut(layout.in_axis) {
            *length = whole(layout.in_axis, columns);
        }
        shape
    }

    /// How far the bias of one output moves for the shifts of its rows.
    fn balance(&self, rows: &[f64]) -> f64 {
        match &self.consumer.bias {
            Bias::Slot { scale, .. } => {
                rows.iter().zip(scale).map(|(row, scale)| row * scale).sum()
            }
            Bias::Added | Bias::Rows { .. } | Bias::None => rows.iter().sum(),
        }
    }

    /// The bias moved at every output channel, and the slot that it goes to.
    fn bias(&self, shift: &[f64], onto: Onto) -> Result<(Option<usize>, Tensor), TensorError> {
        let float = self.weight.dtype;
        let per_output = self
            .consumer
            .layout
            .rows_per_output(&self.weight.shape)
            .max(1);
        if let Bias::Rows { slot, after } = self.consumer.bias {
            return Ok((Some(slot), self.rows(slot, after, shift)?));
        }
        let Bias::Slot { slot, .. } = self.consumer.bias else {
            // Behind the node: along the output's channel axis and those that channels cover.
            let rank = self.graph.values[self.consumer.output]
                .shape
                .as_ref()
                .map_or(1, Vec::len);
            if let Some(stack) = self.consumer.stack {
                // For each matrix, along the axes of the matrices and of what they make.
                let blocks = self.consumer.layout.blocks;
                let mut shape = vec![1; rank.saturating_sub(stack.output).max(1)];
                let made = self.consumer.output_axis.saturating_sub(stack.output);
                for (axis, length) in [(0, blocks), (made, shift.len() / blocks.max(1))] {
                    if let Some(slot) = shape.get_mut(axis) {
                        *slot = length;
                    }
                }
                return Ok((None, tensor(float, &shape, shift.to_vec())?));
            }
            let mut shape = vec![1; rank.saturating_sub(self.consumer.output_axis).max(1)];
            let covered = self.consumer.layout.out_axes.iter().skip(1);
            let covered = covered.filter_map(|&axis| self.weight.shape.get(axis));
            for (length, &covered) in shape.iter_mut().skip(1).zip(covered) {
                *length = covered;
            }
            shape[0] = shift.len() / per_output;
            return Ok((None, tensor(float, &shape, shift.to_vec())?));
        };
        let moved: Vec<f64> = shift
            .chunks(per_output)
            .map(|rows| self.balance(rows))
            .collect();
        let view = self.graph.view(self.consumer.node);
        let present = view.constant(slot).filter(|_| onto == Onto::Present);
        let Some(present) = present else {
            return Ok((Some(slot), tensor(float, &[moved.len()], moved)?));
        };
        let present = self.without_what_left(present, slot)?;
        let values = present.to_f64()?;
        let added = ArrayD::from_shape_vec(IxDyn(&[moved.len()]), moved).unwrap_or_default();
        Ok((
            Some(slot),
            Tensor::from_f64(present.dtype, &(values + added))?,
        ))
    }
}

fn tensor(dtype: DataType, shape: &[usize], values: Vec<f64>) -> Result<Tensor, TensorError> {
    Tensor::from_f64(
        dtype,
        &ArrayD::from_shape_vec(IxDyn(shape), values).unwrap_or_default(),
    )
}
