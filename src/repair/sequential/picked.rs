//! What of a tapped tensor goes on: channels that stay, and positions where the tensor came whole.

use crate::onnx::Tensor;

/// Some channels of a gathered tensor of three axes.
pub(super) fn channels(tensor: Tensor, channels: &[usize], is_last: bool) -> Tensor {
    let (&[samples, second, third], Some(size)) = (tensor.shape.as_slice(), tensor.dtype.size())
    else {
        return tensor;
    };
    let (all, block, shape) = if is_last {
        (third, size, vec![samples, second, channels.len()])
    } else {
        (second, third * size, vec![samples, channels.len(), third])
    };
    if channels.len() == all {
        return tensor;
    }
    let mut bytes = Vec::with_capacity(tensor.bytes.len() / all.max(1) * channels.len());
    for whole in tensor.bytes.chunks_exact((all * block).max(1)) {
        for channel in channels {
            let part = whole.get(channel * block..(channel + 1) * block);
            bytes.extend_from_slice(part.unwrap_or_default());
        }
    }
    Tensor {
        shape,
        bytes: bytes.into(),
        ..tensor
    }
}

/// Some positions and channels of a tensor of floats of three axes, of which the last are the
/// positions.
pub(super) fn positions(tensor: &Tensor, channels: &[usize], positions: &Tensor) -> Tensor {
    let (&[samples, all, length], Ok(values), Ok(positions)) =
        (tensor.shape.as_slice(), tensor.as_f32(), positions.to_i64())
    else {
        return tensor.clone();
    };
    let positions: Vec<usize> = positions
        .iter()
        .map(|&at| usize::try_from(at).unwrap_or(usize::MAX))
        .collect();
    let mut found = Vec::with_capacity(samples * channels.len() * positions.len());
    for sample in values.chunks_exact((all * length).max(1)) {
        for channel in channels {
            let row = sample.get(channel * length..(channel + 1) * length);
            let row = row.unwrap_or_default();
            found.extend(
                positions
                    .iter()
                    .map(|&at| row.get(at).copied().unwrap_or(f32::NAN)),
            );
        }
    }
    let shape = [samples, channels.len(), positions.len()];
    Tensor::from_f32(&shape, found).unwrap_or_else(|_| tensor.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn positions_are_picked_of_every_channel() {
        let values: Vec<f32> = (0..12u8).map(f32::from).collect();
        // Two samples of two channels at three positions.
        let tensor = Tensor::from_f32(&[2, 2, 3], values).unwrap();
        let places = Tensor::from_i64(&[2], &[2, 0]).unwrap();
        let all = positions(&tensor, &[0, 1], &places);
        let expected = vec![2.0, 0.0, 5.0, 3.0, 8.0, 6.0, 11.0, 9.0];
        assert_eq!(all, Tensor::from_f32(&[2, 2, 2], expected).unwrap());
        let some = positions(&tensor, &[1], &places);
        let expected = vec![5.0, 3.0, 11.0, 9.0];
        assert_eq!(some, Tensor::from_f32(&[2, 1, 2], expected).unwrap());
    }

    #[test]
    fn channels_are_picked_along_either_axis() {
        let values: Vec<f32> = (0..12u8).map(f32::from).collect();
        let tensor = |shape: &[usize]| Tensor::from_f32(shape, values.clone()).unwrap();
        let picked = |tensor, channels: &[usize], is_last| {
            let found = super::channels(tensor, channels, is_last);
            (
                found.shape.clone(),
                found.to_f32().unwrap().into_raw_vec_and_offset().0,
            )
        };
        // Two samples of three channels at two positions.
        let expected = vec![4.0, 5.0, 0.0, 1.0, 10.0, 11.0, 6.0, 7.0];
        let found = picked(tensor(&[2, 3, 2]), &[2, 0], false);
        assert_eq!(found, (vec![2, 2, 2], expected));
        // Two samples of two positions with three channels.
        let found = picked(tensor(&[2, 2, 3]), &[1], true);
        assert_eq!(found, (vec![2, 2, 1], vec![1.0, 4.0, 7.0, 10.0]));
        let found = picked(tensor(&[1, 4, 3]), &[0, 1, 2], true);
        assert_eq!(found, (vec![1, 4, 3], values.clone()));
    }
}
