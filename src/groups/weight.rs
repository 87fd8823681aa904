//! Weights as matrices: rows of outputs, columns of inputs, one matrix per block.

use faer::Mat;
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};

use crate::groups::WeightLayout;
use crate::onnx::{DataType, Tensor, TensorError};

impl WeightLayout {
    /// The weight's matrices, one per block: `out` rows, and `taps` columns for each input channel.
    ///
    /// # Errors
    /// The tensor is not of floats.
    pub fn matrices(&self, weight: &Tensor) -> Result<Vec<Mat<f64>>, TensorError> {
        let values = weight.to_f64()?;
        Ok((0..self.blocks)
            .map(|block| self.matrix(self.part(values.view(), block)))
            .collect())
    }

    /// The tensor of `shape` that has these matrices.
    ///
    /// # Errors
    /// The element type is not of floats.
    pub fn tensor(
        &self,
        matrices: &[Mat<f64>],
        shape: &[usize],
        dtype: DataType,
    ) -> Result<Tensor, TensorError> {
        let mut values = ArrayD::<f64>::zeros(IxDyn(shape));
        let length = shape.get(self.block_axis).copied().unwrap_or(0) / self.blocks.max(1);
        for (block, matrix) in matrices.iter().enumerate() {
            let range = Slice::from(block * length..(block + 1) * length);
            let part = values.slice_axis_mut(Axis(self.block_axis), range);
            let mut ordered = part.permuted_axes(self.order(shape.len()));
            let columns = matrix.ncols().max(1);
            for (flat, value) in ordered.iter_mut().enumerate() {
                *value = matrix[(flat / columns, flat % columns)];
            }
        }
        Tensor::from_f64(dtype, &values)
    }

    /// Rows of one block's matrix that belong to one output channel.
    #[must_use]
    pub fn rows_per_output(&self, shape: &[usize]) -> usize {
        let rest = self.out_axes.get(1..).unwrap_or_default();
        rest.iter().filter_map(|&axis| shape.get(axis)).product()
    }

    /// Columns of one block's matrix that belong to one input channel.
    #[must_use]
    pub fn kernel_positions(&self, shape: &[usize]) -> usize {
        self.kernel_axes
            .iter()
            .filter_map(|&axis| shape.get(axis))
            .product()
    }

    fn order(&self, rank: usize) -> IxDyn {
        let mut order = self.out_axes.clone();
        order.push(self.in_axis);
        order.extend(&self.kernel_axes);
        // Of a stack one matrix is looked at, and a matrix may stand behind axes of length one.
        let others: Vec<usize> = (0..rank).filter(|axis| !order.contains(axis)).collect();
        order.extend(others);
        IxDyn(&order)
    }

    fn part<'a>(&self, values: ArrayViewD<'a, f64>, block: usize) -> ArrayViewD<'a, f64> {
        let length = values.len_of(Axis(self.block_axis)) / self.blocks.max(1);
        values.slice_axis_move(
            Axis(self.block_axis),
            Slice::from(block * length..(block + 1) * length),
        )
    }

    fn matrix(&self, part: ArrayViewD<'_, f64>) -> Mat<f64> {
        let rows: usize = self
            .out_axes
            .iter()
            .map(|&axis| part.len_of(Axis(axis)))
            .product();
        let rank = part.ndim();
        let ordered = part.permuted_axes(self.order(rank));
        let columns = ordered.len().checked_div(rows).unwrap_or(0);
        let values: Vec<f64> = ordered.iter().copied().collect();
        Mat::from_fn(rows, columns, |i, j| values[i * columns + j])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn numbered(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::from_f32(shape, (0..count).map(|i| i as f32).collect()).unwrap()
    }

    #[test]
    fn a_grouped_convolution_has_a_matrix_per_group() {
        let layout = WeightLayout {
            out_axes: vec![0],
            in_axis: 1,
            kernel_axes: vec![2],
            blocks: 2,
            block_axis: 0,
        };
        let weight = numbered(&[4, 3, 2]);
        let matrices = layout.matrices(&weight).unwrap();
        assert_eq!((matrices[0].nrows(), matrices[0].ncols()), (2, 6));
        // Output 3 is the second of block 1; input 2, tap 1 is column 5.
        assert_eq!(matrices[1][(1, 5)], 23.0);
        assert_eq!(
            layout
                .tensor(&matrices, &[4, 3, 2], DataType::Float)
                .unwrap(),
            weight
        );
    }

    #[test]
    fn a_matrix_behind_axes_of_length_one_is_that_matrix() {
        let layout = WeightLayout {
            out_axes: vec![3],
            in_axis: 2,
            kernel_axes: vec![],
            blocks: 1,
            block_axis: 3,
        };
        let weight = numbered(&[1, 1, 3, 5]);
        let matrices = layout.matrices(&weight).unwrap();
        assert_eq!(matrices[0][(4, 2)], 14.0);
        let again = layout.tensor(&matrices, &[1, 1, 3, 5], DataType::Float);
        assert_eq!(again.unwrap(), weight);
    }

    #[test]
    fn a_transposed_weight_and_a_transposed_convolution_come_back_as_they_were() {
        let gemm = WeightLayout {
            out_axes: vec![1],
            in_axis: 0,
            kernel_axes: vec![],
            blocks: 1,
            block_axis: 1,
        };
        let weight = numbered(&[3, 5]);
        let matrix = &gemm.matrices(&weight).unwrap()[0];
        assert_eq!(matrix[(4, 2)], 14.0);
        assert_eq!(
            gemm.tensor(std::slice::from_ref(matrix), &[3, 5], DataType::Float)
                .unwrap(),
            weight
        );
        let transposed = WeightLayout {
            out_axes: vec![1, 2],
            in_axis: 0,
            kernel_axes: vec![],
            blocks: 2,
            block_axis: 0,
        };
        let weight = numbered(&[4, 3, 2]);
        let matrices = transposed.matrices(&weight).unwrap();
        assert_eq!((matrices[0].nrows(), matrices[0].ncols()), (6, 2));
        assert_eq!(
            transposed
                .tensor(&matrices, &[4, 3, 2], DataType::Float)
                .unwrap(),
            weight
        );
        assert_eq!(transposed.rows_per_output(&[4, 3, 2]), 2);
    }
}
