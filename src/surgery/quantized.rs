//! Weights in few bits. Surgery cuts and repairs the floats that a node makes of them; here these
//! floats are quantised again, with the scales that they had where those still fit.

use std::collections::BTreeMap;

use ndarray::{ArrayD, Axis, IxDyn};

use crate::graph::{Graph, NodeId, view::normalize_axis};
use crate::groups::{Kept, Use};
use crate::onnx::{DataType, Tensor, TensorError};
use crate::ops::quantize;
use crate::surgery::{Changes, SurgeryError};

/// A constant in few bits: what the node that unpacks it reads.
#[derive(Debug, Clone)]
pub enum Packed {
    /// Integers with scales.
    Quantized(Quantized),
    /// Floats of fewer bits.
    Narrow(Tensor),
}

/// Integers with scales.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The numbers.
    pub data: Tensor,
    /// One scale, or one for each position along `axis`.
    pub scale: Tensor,
    /// Shaped as the scales.
    pub zero_point: Option<Tensor>,
    /// The axis of the scales; none where there is one scale.
    pub axis: Option<i64>,
}

/// Numbers that are further from whole steps than this need new scales.
const EXACT: f64 = 0.1;

/// Quantises the changed constants that were quantised before.
pub(super) fn pack(
    graph: &Graph,
    kept: &Kept<'_>,
    changes: &mut Changes,
) -> Result<(), SurgeryError> {
    let mut packed: BTreeMap<Use, Quantized> = BTreeMap::new();
    // Weights first: the scales of biases follow from theirs.
    for biases in [false, true] {
        for (&at, tensor) in &changes.inputs {
            let error = |error| SurgeryError::Tensor {
                node: graph.nodes[at.0].name.clone(),
                error,
            };
            let source = Source::of(graph, at);
            let is_bias = source.as_ref().map_or_else(
                || graph.view(at.0).input(at.1).is_none(),
                |source| source.data.dtype == DataType::Int32,
            );
            if is_bias != biases {
                continue;
            }
            let made = if is_bias {
                let scale = bias_scale(graph, &packed, at.0);
                pack_bias(source.as_ref(), kept, at, tensor, scale)
            } else if let Some(source) = &source {
                source.pack(kept, at, tensor).map(Some)
            } else {
                continue;
            };
            if let Some(made) = made.map_err(error)? {
                packed.insert(at, made);
            }
        }
    }
    let narrow = changes.inputs.iter();
    let narrow =
        narrow.filter_map(|(&at, new)| Some((at, Packed::Narrow(narrow_of(graph, at, new)?))));
    let narrow: Vec<_> = narrow.collect();
    let packed = packed.into_iter();
    changes.packed = packed
        .map(|(at, made)| (at, Packed::Quantized(made)))
        .chain(narrow)
        .collect();
    Ok(())
}

/// The constant in the type that it was cast from, where that is of fewer bits.
fn narrow_of(graph: &Graph, at: Use, tensor: &Tensor) -> Option<Tensor> {
    let value = &graph.values[graph.view(at.0).input(at.1)?];
    value.constant.as_ref()?;
    let maker = graph.view(value.producer?);
    let from = maker.constant(quantize::widened(maker.node)?)?.dtype;
    let is_narrow = matches!(from, DataType::Float16 | DataType::Bfloat16)
        && matches!(tensor.dtype, DataType::Float | DataType::Double);
    // What is too large for the type stays as it is.
    is_narrow
        .then(|| Tensor::from_f64(from, &tensor.to_f64().ok()?).ok())
        .flatten()
}

/// Where a constant comes from that is kept in few bits.
struct Source<'a> {
    data: &'a Tensor,
    scale: &'a Tensor,
    zero_point: Option<&'a Tensor>,
    /// Axis of the scales, where there are several.
    axis: Option<usize>,
}

impl<'a> Source<'a> {
    fn of(graph: &'a Graph, at: Use) -> Option<Self> {
        let value = &graph.values[graph.view(at.0).input(at.1)?];
        value.constant.as_ref()?;
        let maker = graph.view(value.producer?);
        let stored = quantize::stored(maker.node)?;
        let data = maker.constant(stored.data)?;
        limits(data.dtype)?;
        let scale = maker.constant(stored.scale)?;
        let several = scale.len() != 1;
        let axis = normalize_axis(stored.axis, data.shape.len()).ok();
        Some(Source {
            data,
            scale,
            zero_point: maker.constant(stored.zero_point),
            axis: if several { Some(axis?) } else { None },
        })
    }

    /// The scales and zero points of the positions that stay.
    fn left(&self, kept: &Kept<'_>, at: Use) -> Result<(Vec<f64>, Vec<f64>), TensorError> {
        let cut = kept.cut(at.0, at.1);
        let map = self.axis.and_then(|axis| cut?.get(axis)?.as_ref());
        let take = |tensor: &Tensor| -> Result<Vec<f64>, TensorError> {
            let all: Vec<f64> = tensor.to_f64()?.iter().copied().collect();
            Ok(match map {
                Some(map) if all.len() == map.len() => {
                    let positions = kept.positions(map).into_iter();
                    positions.filter_map(|at| all.get(at).copied()).collect()
                }
                _ => all,
            })
        };
        let scale = take(self.scale)?;
        let zero = match self.zero_point {
            Some(tensor) => take(tensor)?,
            None => vec![0.0; scale.len()],
        };
        Ok((scale, zero))
    }

    fn pack(&self, kept: &Kept<'_>, at: Use, tensor: &Tensor) -> Result<Quantized, TensorError> {
        let values = tensor.to_f64()?;
        let (mut scale, mut zero) = self.left(kept, at)?;
        let limits = limits(self.data.dtype).unwrap_or((0.0, 0.0));
        if !fits(&values, self.axis, &scale, &zero, limits) {
            let reach = self.reach()?;
            for index in 0..scale.len() {
                let lane = lane(&values, self.axis, index);
                let old = (scale[index], zero[index]);
                (scale[index], zero[index]) = rescaled(&lane, old, limits, reach);
            }
        }
        self.packed(&values, &scale, &zero)
    }

    /// How far the numbers are from their zero points: some quantisers leave a bit out.
    fn reach(&self) -> Result<f64, TensorError> {
        let zero = match self.zero_point {
            Some(tensor) => tensor.to_f64()?.first().copied().unwrap_or(0.0),
            None => 0.0,
        };
        let data = self.data.to_f64()?;
        Ok(data.iter().fold(1.0, |m: f64, q| m.max((q - zero).abs())))
    }

    fn packed(
        &self,
        values: &ArrayD<f64>,
        scale: &[f64],
        zero: &[f64],
    ) -> Result<Quantized, TensorError> {
        let shape: Vec<usize> = match self.axis {
            Some(_) => vec![scale.len()],
            None => self.scale.shape.clone(),
        };
        let shaped =
            |list: &[f64]| ArrayD::from_shape_vec(IxDyn(&shape), list.to_vec()).unwrap_or_default();
        let scale_tensor = Tensor::from_f64(self.scale.dtype, &shaped(scale))?;
        // The scale as it is stored, which may have fewer digits.
        let stored: Vec<f64> = scale_tensor.to_f64()?.iter().copied().collect();
        let data = quantised(values, self.axis, &stored, zero, self.data.dtype)?;
        let zero_point = match self.zero_point {
            Some(tensor) => Some(integers(tensor.dtype, &shaped(zero))?),
            None => None,
        };
        Ok(Quantized {
            data,
            scale: scale_tensor,
            zero_point,
            axis: self.axis.and_then(|axis| i64::try_from(axis).ok()),
        })
    }
}

/// A bias in an integer convolution or product has the product of the scales of its factors.
fn bias_scale(
    graph: &Graph,
    packed: &BTreeMap<Use, Quantized>,
    node: NodeId,
) -> Option<(Tensor, Vec<f64>)> {
    let [left, right] = quantize::BIAS_FOLLOWS.map(|slot| {
        let value = &graph.values[graph.view(node).input(slot)?];
        let maker = graph.view(value.producer?);
        let stored = quantize::stored(maker.node)?;
        let scale = match packed.get(&(node, slot)) {
            Some(packed) => &packed.scale,
            None => maker.constant(stored.scale)?,
        };
        let numbers: Vec<f64> = scale.to_f64().ok()?.iter().copied().collect();
        Some((scale.clone(), numbers))
    });
    let ((first, left), (second, right)) = (left?, right?);
    let (one, many) = match (left.as_slice(), right.as_slice()) {
        (&[one], _) => (one, (second, right)),
        (_, &[one]) => (one, (first, left)),
        _ => return None,
    };
    Some((many.0, many.1.iter().map(|scale| scale * one).collect()))
}

/// The bias of a node whose weight is quantised; nothing where a float serves as well.
fn pack_bias(
    source: Option<&Source<'_>>,
    kept: &Kept<'_>,
    at: Use,
    tensor: &Tensor,
    scale: Option<(Tensor, Vec<f64>)>,
) -> Result<Option<Quantized>, TensorError> {
    let values = tensor.to_f64()?;
    if let Some(source) = source {
        let (old, zero) = source.left(kept, at)?;
        let limits = (f64::from(i32::MIN), f64::from(i32::MAX));
        if fits(&values, source.axis, &old, &zero, limits) {
            return source.packed(&values, &old, &zero).map(Some);
        }
    }
    let Some((like, scale)) = scale else {
        return Ok(None);
    };
    let is_one = scale.len() == 1;
    let axis = (!is_one).then_some(0);
    let fits = values.ndim() == 1 && (is_one || scale.len() == values.len());
    if !fits || scale.iter().any(|scale| *scale <= 0.0) {
        return Ok(None);
    }
    let shaped = ArrayD::from_shape_vec(like.shape.as_slice(), scale).unwrap_or_default();
    let scale_tensor = Tensor::from_f64(like.dtype, &shaped)?;
    let stored: Vec<f64> = scale_tensor.to_f64()?.iter().copied().collect();
    if stored.iter().any(|scale| *scale <= 0.0) {
        return Ok(None);
    }
    let zero = vec![0.0; stored.len()];
    Ok(Some(Quantized {
        data: quantised(&values, axis, &stored, &zero, DataType::Int32)?,
        scale: scale_tensor,
        zero_point: None,
        axis: axis.map(|_| 0),
    }))
}

/// The least and the largest number of an integer type.
fn limits(dtype: DataType) -> Option<(f64, f64)> {
    Some(match dtype {
        DataType::Int8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        DataType::Uint8 => (0.0, f64::from(u8::MAX)),
        DataType::Int16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        DataType::Uint16 => (0.0, f64::from(u16::MAX)),
        DataType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => return None,
    })
}

/// The values that share a scale.
fn lane(values: &ArrayD<f64>, axis: Option<usize>, index: usize) -> Vec<f64> {
    match axis.filter(|&axis| axis < values.ndim() && index < values.len_of(Axis(axis))) {
        Some(axis) => values
            .index_axis(Axis(axis), index)
            .iter()
            .copied()
            .collect(),
        None => values.iter().copied().collect(),
    }
}

/// Whether the values are whole steps of these scales.
fn fits(
    values: &ArrayD<f64>,
    axis: Option<usize>,
    scale: &[f64],
    zero: &[f64],
    (low, high): (f64, f64),
) -> bool {
    scale.iter().zip(zero).enumerate().all(|(index, (s, z))| {
        let is_step = |value: &f64| {
            let number = value / s + z;
            (number - number.round()).abs() <= EXACT && number > low - 0.5 && number < high + 0.5
        };
        *s > 0.0 && lane(values, axis, index).iter().all(is_step)
    })
}

/// A scale and zero point for these values, of the kind that they had: around the zero point, if
/// that was the middle of the type's numbers, or from the least to the largest value.
fn rescaled(
    values: &[f64],
    (scale, zero): (f64, f64),
    (low, high): (f64, f64),
    reach: f64,
) -> (f64, f64) {
    let least = values.iter().fold(0.0, |m: f64, v| m.min(*v));
    let most = values.iter().fold(0.0, |m: f64, v| m.max(*v));
    let is_middle = (2.0 * zero - (low + high)).abs() <= 1.0;
    let (new, point) = if is_middle {
        let reach = reach.min(high - zero).max(1.0);
        (most.max(-least) / reach, zero)
    } else {
        let new = (most - least) / (high - low);
        (new, (low - least / new).round_ties_even())
    };
    if new.is_normal() && point.is_finite() {
        (new, point.clamp(low, high))
    } else {
        (scale, zero.clamp(low, high))
    }
}

fn quantised(
    values: &ArrayD<f64>,
    axis: Option<usize>,
    scale: &[f64],
    zero: &[f64],
    dtype: DataType,
) -> Result<Tensor, TensorError> {
    let mut numbers = values.clone();
    let step = |value: f64, index: usize| {
        let scale = scale.get(index).copied().unwrap_or(1.0);
        (value / scale).round_ties_even() + zero.get(index).copied().unwrap_or(0.0)
    };
    match axis.filter(|&axis| axis < numbers.ndim()) {
        Some(axis) => {
            for (index, mut part) in numbers.axis_iter_mut(Axis(axis)).enumerate() {
                part.mapv_inplace(|value| step(value, index));
            }
        }
        None => numbers.mapv_inplace(|value| step(value, 0)),
    }
    integers(dtype, &numbers)
}

/// Numbers as elements of an integer type, within its limits.
fn integers(dtype: DataType, numbers: &ArrayD<f64>) -> Result<Tensor, TensorError> {
    let wanted = "an integer type of 8 to 32 bits";
    let missing = TensorError::NotNumbers { dtype, wanted };
    let (Some((low, high)), Some(size)) = (limits(dtype), dtype.size()) else {
        return Err(missing);
    };
    let mut bytes = Vec::with_capacity(numbers.len().saturating_mul(size));
    for number in numbers {
        let number = number.clamp(low, high) as i64;
        bytes.extend(number.to_le_bytes().into_iter().take(size));
    }
    Ok(Tensor {
        dtype,
        shape: numbers.shape().to_vec(),
        bytes: bytes.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_of_either_kind_reach_the_ends_of_the_values() {
        // Around zero, with seven bits as before.
        let symmetric = rescaled(&[-1.26, 0.3], (0.5, 0.0), (-128.0, 127.0), 63.0);
        assert_eq!(symmetric, (0.02, 0.0));
        // From the least to the largest value, zero among them.
        let (scale, zero) = rescaled(&[0.5, 1.275], (0.5, 3.0), (0.0, 255.0), 255.0);
        assert!((scale - 0.005).abs() < 1e-12);
        assert_eq!(zero, 0.0);
        let (scale, zero) = rescaled(&[-1.0, 1.55], (0.5, 3.0), (0.0, 255.0), 255.0);
        assert!((scale - 0.01).abs() < 1e-12);
        assert_eq!(zero, 100.0);
        // Nothing to measure: the scale stays.
        assert_eq!(
            rescaled(&[0.0], (0.5, 0.0), (-128.0, 127.0), 63.0),
            (0.5, 0.0)
        );
        assert_eq!(rescaled(&[], (0.5, 3.0), (0.0, 255.0), 255.0), (0.5, 3.0));
    }

    #[test]
    fn numbers_stay_within_their_type() {
        let numbers = ndarray::arr1(&[-300.0, -1.0, 300.0]).into_dyn();
        let bytes = |dtype| integers(dtype, &numbers).map(|tensor| tensor.bytes.to_vec());
        assert_eq!(bytes(DataType::Int8), Ok(vec![128, 255, 127]));
        assert_eq!(bytes(DataType::Uint8), Ok(vec![0, 0, 255]));
        assert_eq!(bytes(DataType::Uint16), Ok(vec![0, 0, 0, 0, 44, 1]));
        assert!(bytes(DataType::Float).is_err());
    }
}
