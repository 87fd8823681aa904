//! What taps hand out, as matrices.

use std::borrow::Cow;

use faer::Mat;
use faer::traits::ComplexField;

use crate::onnx::Tensor;
use crate::taps::{Placed, Positions, TapError};

impl Placed {
    /// Samples as a matrix: a row per batch entry and drawn position, a column per channel and tap,
    /// from what was gathered at the positions `reads`, or from the whole tensor; `padding` names
    /// the entries that read zeros. Errors speak of the tensor as `name`.
    ///
    /// # Errors
    /// When the tensor has another shape, or holds NaN or infinities.
    pub fn unpack<T: ComplexField + Copy + From<f32> + Into<f64>>(
        &self,
        name: &str,
        tensor: &Tensor,
        (reads, padding): (&Positions, &[bool]),
    ) -> Result<Mat<T>, TapError> {
        let matrix = if self.is_whole && !self.channels_last {
            self.rows_at(tensor, &reads.at, padding)
        } else {
            self.rows_of(tensor, padding)
        };
        checked(matrix, name, tensor)
    }

    /// The same of what was picked from a tensor after the model had run: an entry for each row and
    /// no padding.
    ///
    /// # Errors
    /// As [`Placed::unpack`].
    pub fn unpack_picked(
        &self,
        name: &str,
        tensor: &Tensor,
        rows: usize,
    ) -> Result<Mat<f32>, TapError> {
        checked(self.rows_of(tensor, &vec![false; rows]), name, tensor)
    }

    /// All elements of a tensor that was gathered whole, with channels before positions.
    ///
    /// # Errors
    /// As [`Placed::unpack`].
    pub fn values<'t>(
        &self,
        name: &str,
        tensor: &'t Tensor,
        elements: usize,
    ) -> Result<Cow<'t, [f32]>, TapError> {
        let fits = matches!(tensor.shape.as_slice(), &[_, channels, found]
            if channels == self.channels && found == elements);
        let values = tensor.as_f32().ok().filter(|_| fits);
        let values = values.ok_or_else(|| TapError::Shape {
            tensor: name.to_owned(),
            shape: tensor.shape.clone(),
        })?;
        match values.iter().find(|value| !value.is_finite()) {
            Some(&value) => Err(TapError::NotFinite {
                tensor: name.to_owned(),
                value: value.into(),
            }),
            None => Ok(values),
        }
    }

    /// The rows of a gathered tensor.
    fn rows_of<T: ComplexField + Copy + From<f32>>(
        &self,
        tensor: &Tensor,
        padding: &[bool],
    ) -> Option<Mat<T>> {
        let &[first, second, third] = tensor.shape.as_slice() else {
            return None;
        };
        let (channels, entries) = if self.channels_last {
            (third, second)
        } else {
            (second, third)
        };
        if channels != self.channels || entries != padding.len() {
            return None;
        }
        let values = tensor.as_f32().ok()?;
        let kernel = self.tap.kernel_positions().max(1);
        let rows = entries / kernel;
        let (of_channel, of_entry) = if self.channels_last {
            (1, channels)
        } else {
            (entries, 1)
        };
        let mut matrix = Mat::zeros(first * rows, channels * kernel);
        for column in 0..channels * kernel {
            let (channel, position) = (column / kernel, column % kernel);
            let targets = matrix
                .col_as_slice_mut(column)
                .chunks_exact_mut(rows.max(1));
            let samples = values.chunks_exact((channels * entries).max(1));
            for (target, sample) in targets.zip(samples) {
                let first = channel * of_channel + position * of_entry;
                let found = sample.iter().skip(first).step_by(kernel * of_entry);
                let padding = padding.iter().skip(position).step_by(kernel);
                for ((to, &value), &is_padding) in target.iter_mut().zip(found).zip(padding) {
                    if !is_padding {
                        *to = T::from(value);
                    }
                }
            }
        }
        Some(matrix)
    }

    /// The rows of a whole tensor, channels before positions.
    fn rows_at<T: ComplexField + Copy + From<f32>>(
        &self,
        tensor: &Tensor,
        reads: &[usize],
        padding: &[bool],
    ) -> Option<Mat<T>> {
        let &[samples, channels, length] = tensor.shape.as_slice() else {
            return None;
        };
        let fits = channels == self.channels && reads.len() == padding.len();
        if !fits || reads.iter().any(|&at| at >= length) {
            return None;
        }
        let values = tensor.as_f32().ok()?;
        let kernel = self.tap.kernel_positions().max(1);
        let rows = reads.len() / kernel;
        let mut matrix = Mat::zeros(samples * rows, channels * kernel);
        for column in 0..channels * kernel {
            let (channel, position) = (column / kernel, column % kernel);
            let targets = matrix
                .col_as_slice_mut(column)
                .chunks_exact_mut(rows.max(1));
            let of_channel = values.chunks_exact(length.max(1)).skip(channel);
            for (target, from) in targets.zip(of_channel.step_by(channels)) {
                let entries = reads.iter().zip(padding).skip(position).step_by(kernel);
                for (to, (&at, &is_padding)) in target.iter_mut().zip(entries) {
                    if !is_padding {
                        *to = T::from(from[at]);
                    }
                }
            }
        }
        Some(matrix)
    }
}

/// The matrix, if it could be made and all in it is finite.
fn checked<T: Copy + Into<f64>>(
    matrix: Option<Mat<T>>,
    name: &str,
    tensor: &Tensor,
) -> Result<Mat<T>, TapError> {
    let matrix = matrix.ok_or_else(|| TapError::Shape {
        tensor: name.to_owned(),
        shape: tensor.shape.clone(),
    })?;
    // Whole columns first, without an end inside them.
    let is_finite = |column: &&[T]| {
        let all = column.iter();
        all.fold(true, |finite, &value| finite & value.into().is_finite())
    };
    let mut columns = (0..matrix.ncols()).map(|j| matrix.col_as_slice(j));
    let found = columns.find(|column| !is_finite(column));
    let mut values = found.into_iter().flatten().map(|&value| value.into());
    match values.find(|value: &f64| !value.is_finite()) {
        Some(value) => Err(TapError::NotFinite {
            tensor: name.to_owned(),
            value,
        }),
        None => Ok(matrix),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::graph::ValueId;
    use crate::groups::Window;
    use crate::taps::Tap;

    /// The truth is what a Gather of the same positions hands out.
    #[test]
    fn a_whole_tensor_has_the_rows_that_are_gathered_of_it() {
        let window = Window {
            input: vec![5],
            output: vec![5],
            kernel: vec![3],
            strides: vec![1],
            dilations: vec![1],
            pads: vec![1],
        };
        let tap = Tap {
            value: ValueId::from(0),
            axis: 1,
            window: Some(window),
            covered: 1,
            stack: None,
        };
        let gathered = Placed {
            tap,
            output: String::new(),
            positions: String::new(),
            shape: vec![2, 2, 5],
            channels: 2,
            places: 5,
            channels_last: false,
            pointwise: None,
            is_whole: false,
        };
        let draw = gathered.draw(3, 1, None).unwrap();
        assert_eq!(draw.places.at.len(), 3);
        let value = |at: usize| (at * at) as f32 + 1.0;
        let whole = Tensor::from_f32(&[2, 2, 5], (0..20).map(value).collect()).unwrap();
        let picked = (0..4).flat_map(|row| draw.reads.at.iter().map(move |at| value(row * 5 + at)));
        let picked = Tensor::from_f32(&[2, 2, draw.reads.at.len()], picked.collect()).unwrap();
        let entries = (&draw.reads, draw.padding.as_slice());
        let rows: Mat<f64> = gathered.unpack("x", &picked, entries).unwrap();
        assert_eq!((rows.nrows(), rows.ncols()), (6, 6));
        let placed = Placed {
            is_whole: true,
            ..gathered
        };
        assert_eq!(placed.unpack::<f64>("x", &whole, entries).unwrap(), rows);
        // Channels that the tap does not have.
        let other = Tensor::from_f32(&[1, 4, 5], (0..20).map(value).collect()).unwrap();
        assert!(placed.unpack::<f64>("x", &other, entries).is_err());
    }
}
