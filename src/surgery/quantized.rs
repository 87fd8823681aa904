//! Numbers in few bits: scales for integers, and biases in the scale of the product that they are
//! added to.

use std::collections::BTreeMap;

use ndarray::{ArrayD, Axis, IxDyn};

use crate::graph::Graph;
use crate::groups::{Kept, Use};
use crate::onnx::{DataType, Tensor, TensorError};
use crate::ops::quantize;
use crate::surgery::stored::{self, Form};
use crate::surgery::{Changes, SurgeryError};

/// A constant in few bits: what the node that unpacks it reads.
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

/// Quantises the changed biases that were quantised before, or are new beside a quantised weight.
pub(super) fn pack_biases(
    graph: &Graph,
    kept: &Kept<'_>,
    changes: &mut Changes,
) -> Result<(), SurgeryError> {
    for (&at, tensor) in &changes.inputs {
        let source = BiasScale::of(graph, at);
        let is_new = graph.view(at.0).input(at.1).is_none();
        if changes.forms.contains_key(&at) || source.is_none() && !is_new {
            continue;
        }
        let scale = bias_scale(graph, &changes.forms, at.0);
        let made = pack_bias(source.as_ref(), kept, at, tensor, scale);
        let made = made.map_err(|error| SurgeryError::Tensor {
            node: graph.nodes[at.0].name.clone(),
            error,
        })?;
        if let Some(made) = made {
            changes.packed.insert(at, made);
        }
    }
    Ok(())
}

/// Where a bias comes from that is kept as integers.
struct BiasScale<'a> {
    scale: &'a Tensor,
    zero_point: Option<&'a Tensor>,
    /// Axis of the scales, where there are several.
    axis: Option<usize>,
}

impl<'a> BiasScale<'a> {
    fn of(graph: &'a Graph, at: Use) -> Option<Self> {
        let (maker, stored) = stored::unpacker(graph, at)?;
        let maker = graph.view(maker);
        let data = maker.constant(stored.data)?;
        let scale = maker.constant(stored.scale)?;
        let axis = stored.scale_axis(data.shape.len());
        (data.dtype == DataType::Int32).then_some(BiasScale {
            scale,
            zero_point: maker.constant(stored.zero_point),
            axis: if scale.len() == 1 { None } else { Some(axis?) },
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
        let zero_point = match self.zero_point {
            Some(tensor) => Some(integers(tensor.dtype, &shaped(zero))?),
            None => None,
        };
        Ok(Quantized {
            data: quantised(values, self.axis, &stored, zero, DataType::Int32)?,
            scale: scale_tensor,
            zero_point,
            axis: self.axis.and_then(|axis| i64::try_from(axis).ok()),
        })
    }
}

/// A bias in an integer convolution or product has the product of the scales of its factors.
fn bias_scale(
    graph: &Graph,
    forms: &BTreeMap<Use, Form>,
    node: crate::graph::NodeId,
) -> Option<(Tensor, Vec<f64>)> {
    let [left, right] = quantize::BIAS_FOLLOWS.map(|slot| {
        let (maker, stored) = stored::unpacker(graph, (node, slot))?;
        let form = forms.get(&(node, slot));
        let changed = form.and_then(|form| form.tensors.get(&(maker, stored.scale)));
        let scale = changed.or_else(|| graph.view(maker).constant(stored.scale))?;
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
    source: Option<&BiasScale<'_>>,
    kept: &Kept<'_>,
    at: Use,
    tensor: &Tensor,
    scale: Option<(Tensor, Vec<f64>)>,
) -> Result<Option<Quantized>, TensorError> {
    let values = tensor.to_f64()?;
    if let Some(source) = source {
        let (old, zero) = source.left(kept, at)?;
        let laid: Vec<usize> = match source.axis {
            Some(axis) => (0..values.ndim())
                .map(|own| if own == axis { old.len() } else { 1 })
                .collect(),
            None => Vec::new(),
        };
        let flat: Vec<f64> = values.iter().copied().collect();
        let numbers = lanes(values.shape(), &laid).map(|lanes| {
            let limits = (f64::from(i32::MIN), f64::from(i32::MAX));
            Numbers {
                values: &flat,
                lanes: &lanes,
                limits,
            }
            .fit(&old, &zero)
        });
        if numbers == Some(true) {
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
pub(super) fn limits(dtype: DataType) -> Option<(f64, f64)> {
    Some(match dtype {
        DataType::Int8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        DataType::Uint8 => (0.0, f64::from(u8::MAX)),
        DataType::Int16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        DataType::Uint16 => (0.0, f64::from(u16::MAX)),
        DataType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => return None,
    })
}

/// Per element of a tensor of that shape, the element of one of shape `side` that numpy's
/// broadcasting lays along it; `None` where they do not go together.
pub(super) fn lanes(shape: &[usize], side: &[usize]) -> Option<Vec<usize>> {
    let missing = shape.len().checked_sub(side.len())?;
    let mut strides = vec![0; shape.len()];
    let mut stride = 1;
    for (own, &length) in side.iter().enumerate().rev() {
        if length > 1 {
            (shape[missing + own] == length).then_some(())?;
            strides[missing + own] = stride;
        }
        stride *= length;
    }
    let mut lanes = vec![0];
    for (&length, stride) in shape.iter().zip(strides) {
        let inner = |lane: usize| (0..length).map(move |at| lane + at * stride);
        lanes = lanes.into_iter().flat_map(inner).collect();
    }
    Some(lanes)
}

/// Values and the scale that each of them has.
pub(super) struct Numbers<'a> {
    pub values: &'a [f64],
    /// Per value, the number of its scale.
    pub lanes: &'a [usize],
    /// Of the integers.
    pub limits: (f64, f64),
}

impl Numbers<'_> {
    /// Whether the values are whole steps of these scales.
    fn fit(&self, scale: &[f64], zero: &[f64]) -> bool {
        let (low, high) = self.limits;
        let mut all = self.values.iter().zip(self.lanes);
        all.all(|(value, &lane)| {
            let (Some(scale), Some(zero)) = (scale.get(lane), zero.get(lane)) else {
                return false;
            };
            let number = value / scale + zero;
            let is_step = (number - number.round()).abs() <= EXACT;
            *scale > 0.0 && is_step && number > low - 0.5 && number < high + 0.5
        })
    }

    /// Chooses new scales and zero points where the old ones do not fit. Those that share one zero
    /// point keep it; `reach` is how far numbers around the middle go.
    pub fn rescale(&self, scale: &mut [f64], zero: &mut [f64], reach: f64, is_shared: bool) {
        if self.fit(scale, zero) {
            return;
        }
        let mut ends = vec![(0.0_f64, 0.0_f64); scale.len()];
        for (value, &lane) in self.values.iter().zip(self.lanes) {
            if let Some((least, most)) = ends.get_mut(lane) {
                (*least, *most) = (least.min(*value), most.max(*value));
            }
        }
        for ((scale, zero), ends) in scale.iter_mut().zip(zero).zip(ends) {
            let old = (*scale, *zero);
            (*scale, *zero) = rescaled(ends, old, self.limits, (reach, is_shared));
        }
    }

    /// What rounding to steps takes from the values, as a share of their norm.
    pub fn error(&self, scale: &[f64], zero: &[f64]) -> f64 {
        let (low, high) = self.limits;
        let (mut lost, mut all) = (0.0, 0.0);
        for (value, &lane) in self.values.iter().zip(self.lanes) {
            let scale = scale.get(lane).copied().unwrap_or(0.0);
            let zero = zero.get(lane).copied().unwrap_or(0.0);
            let number = (value / scale + zero).round_ties_even().clamp(low, high);
            let stored = (number - zero) * scale;
            lost += (stored - value) * (stored - value);
            all += value * value;
        }
        if all > 0.0 { (lost / all).sqrt() } else { 0.0 }
    }
}

/// A scale and zero point for values between these ends, of the kind that they had: around the zero
/// point, if that was the middle of the type's numbers or is not its own, or from the least to the
/// largest value.
fn rescaled(
    (least, most): (f64, f64),
    (scale, zero): (f64, f64),
    (low, high): (f64, f64),
    (reach, is_shared): (f64, bool),
) -> (f64, f64) {
    let is_middle = (2.0 * zero - (low + high)).abs() <= 1.0;
    let (new, point) = if is_middle {
        let reach = reach.min(high - zero).max(1.0);
        (most.max(-least) / reach, zero)
    } else if is_shared {
        let side = |end: f64, room: f64| if end > 0.0 { end / room } else { 0.0 };
        (side(most, high - zero).max(side(-least, zero - low)), zero)
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
pub(super) fn integers(dtype: DataType, numbers: &ArrayD<f64>) -> Result<Tensor, TensorError> {
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
        let rescaled = |ends, old, limits, reach| rescaled(ends, old, limits, (reach, false));
        // Around zero, with seven bits as before.
        let symmetric = rescaled((-1.26, 0.3), (0.5, 0.0), (-128.0, 127.0), 63.0);
        assert_eq!(symmetric, (0.02, 0.0));
        // From the least to the largest value, zero among them.
        let (scale, zero) = rescaled((0.0, 1.275), (0.5, 3.0), (0.0, 255.0), 255.0);
        assert!((scale - 0.005).abs() < 1e-12);
        assert_eq!(zero, 0.0);
        let (scale, zero) = rescaled((-1.0, 1.55), (0.5, 3.0), (0.0, 255.0), 255.0);
        assert!((scale - 0.01).abs() < 1e-12);
        assert_eq!(zero, 100.0);
        // Nothing to measure: the scale stays.
        assert_eq!(
            rescaled((0.0, 0.0), (0.5, 0.0), (-128.0, 127.0), 63.0),
            (0.5, 0.0)
        );
        assert_eq!(
            rescaled((0.0, 0.0), (0.5, 3.0), (0.0, 255.0), 255.0),
            (0.5, 3.0)
        );
        // One zero point for several scales.
        let shared = super::rescaled((-1.0, 0.5), (0.5, 100.0), (0.0, 255.0), (255.0, true));
        assert_eq!(shared, (0.01, 100.0));
    }

    #[test]
    fn lanes_are_those_of_broadcasting() {
        assert_eq!(lanes(&[2, 3], &[]), Some(vec![0; 6]));
        assert_eq!(lanes(&[2, 3], &[3]), Some(vec![0, 1, 2, 0, 1, 2]));
        assert_eq!(lanes(&[2, 3], &[2, 1]), Some(vec![0, 0, 0, 1, 1, 1]));
        assert_eq!(lanes(&[2, 3], &[2, 3]), Some((0..6).collect()));
        assert_eq!(lanes(&[2, 3], &[2]), None);
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
