//! From what a node reads back to what is stored of it, step by step, with scales that hold the
//! numbers.

use ndarray::{ArrayD, IxDyn};

use crate::graph::NodeId;
use crate::groups::{Dequantizer, Step, Use};
use crate::onnx::{DataType, Tensor, TensorError};
use crate::surgery::quantized::{self, Numbers};
use crate::surgery::stored::{Form, Link};

/// The way back from what a node reads to what is stored.
pub(super) struct Back<'a> {
    pub link: &'a Link<'a>,
    pub form: Form,
    pub root: &'a Tensor,
    /// Those of the stored integers; none where floats are stored.
    pub limits: Option<(f64, f64)>,
    pub values: ArrayD<f64>,
    /// What rounding to integers takes away, as a share of the norm.
    pub error: f64,
}

impl Back<'_> {
    /// Goes back one step; false where there is no way back.
    pub fn undo(&mut self, at: usize, axes_before: &[usize]) -> Result<bool, TensorError> {
        let link = self.link;
        let Some((node, carried)) = link.steps.get(at) else {
            return Ok(false);
        };
        match &carried.step {
            Step::Cast => {}
            Step::LookedUp => return Ok(false),
            Step::Reshaped => {
                let shape = self.link.shape_before(at, axes_before);
                let flat: Vec<f64> = self.values.iter().copied().collect();
                match ArrayD::from_shape_vec(IxDyn(&shape), flat) {
                    Ok(values) => self.values = values,
                    Err(_) => return Ok(false),
                }
            }
            Step::Transposed(perm) => {
                let mut inverse = vec![0; perm.len()];
                for (to, &from) in perm.iter().enumerate() {
                    if let Some(place) = inverse.get_mut(from) {
                        *place = to;
                    }
                }
                let turned = self.values.view().permuted_axes(IxDyn(&inverse));
                self.values = turned.as_standard_layout().to_owned();
            }
            Step::Moved { by, subtracts } => {
                let Some(side) = self.beside((*node, *by), None)? else {
                    return Ok(false);
                };
                let sign = if *subtracts { 1.0 } else { -1.0 };
                self.apply(&side, |value, side| value + sign * side);
            }
            Step::Scaled { by, divides } => return self.unscale(at, (*node, *by), *divides),
            Step::Dequantized(stored) => return self.quantise(*node, *stored),
        }
        Ok(true)
    }

    /// Goes back from a product with the constant at an input, or a quotient by it.
    fn unscale(&mut self, at: usize, (node, by): Use, divides: bool) -> Result<bool, TensorError> {
        let Some(mut side) = self.beside((node, by), None)? else {
            return Ok(false);
        };
        let turn = |factor: f64| if divides { 1.0 / factor } else { factor };
        if let Some(limits) = self.limits {
            let next = self.link.steps.iter().take(at).rev();
            let next = next.map(|(node, carried)| (*node, &carried.step));
            let zero = match next.clone().find(|(_, step)| **step != Step::Cast) {
                Some((
                    node,
                    Step::Moved {
                        by,
                        subtracts: true,
                    },
                )) => Some((node, *by)),
                None => None,
                Some((_, Step::Reshaped | Step::Transposed(_)))
                    if next
                        .clone()
                        .all(|(_, step)| !matches!(step, Step::Moved { .. })) =>
                {
                    None
                }
                Some(_) => return Ok(false),
            };
            side.numbers
                .iter_mut()
                .for_each(|factor| *factor = turn(*factor));
            if !self.rescale(&mut side, zero, None, limits)? {
                return Ok(false);
            }
            side.numbers
                .iter_mut()
                .for_each(|factor| *factor = turn(*factor));
            self.put((node, by), &mut side)?;
        }
        self.apply(&side, |value, factor| value / turn(factor));
        Ok(true)
    }

    /// Goes back to integers with scales.
    fn quantise(&mut self, node: NodeId, stored: Dequantizer) -> Result<bool, TensorError> {
        let Some(limits) = self.limits else {
            return Ok(false);
        };
        let axis = stored.scale_axis(self.values.ndim());
        let Some(mut side) = self.beside((node, stored.scale), axis)? else {
            return Ok(false);
        };
        let zero = self.link.graph.view(node).input(stored.zero_point);
        let zero = zero.map(|_| (node, stored.zero_point));
        if !self.rescale(&mut side, zero, axis, limits)? {
            return Ok(false);
        }
        self.put((node, stored.scale), &mut side)?;
        self.apply(&side, |value, scale| value / scale);
        if let Some(zero) = zero.map(|at| self.beside(at, axis)).transpose()?.flatten() {
            self.apply(&zero, |value, zero| value + zero);
        }
        Ok(true)
    }

    /// The constant beside the values at an input, laid along them; `axis` is that of a list.
    fn beside(&self, at: Use, axis: Option<usize>) -> Result<Option<Beside>, TensorError> {
        let present = self.form.tensors.get(&at);
        let present = present.or_else(|| self.link.graph.view(at.0).constant(at.1));
        let Some(tensor) = present else {
            return Ok(None);
        };
        let rank = self.values.ndim();
        let laid = match axis {
            Some(axis) if tensor.len() != 1 => {
                let length = |own| if own == axis { tensor.len() } else { 1 };
                (0..rank).map(length).collect()
            }
            _ => tensor.shape.clone(),
        };
        let lanes = quantized::lanes(self.values.shape(), &laid);
        let numbers = tensor.to_f64()?.iter().copied().collect();
        Ok(lanes.map(|lanes| Beside {
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            numbers,
            lanes,
        }))
    }

    /// Puts a changed constant beside the values, and reads it as it is stored.
    fn put(&mut self, at: Use, side: &mut Beside) -> Result<(), TensorError> {
        let shaped = ArrayD::from_shape_vec(IxDyn(&side.shape), side.numbers.clone());
        let shaped = shaped.unwrap_or_default();
        let tensor = match quantized::limits(side.dtype) {
            Some(_) => quantized::integers(side.dtype, &shaped)?,
            None => Tensor::from_f64(side.dtype, &shaped)?,
        };
        side.numbers = tensor.to_f64()?.iter().copied().collect();
        self.form.tensors.insert(at, tensor);
        Ok(())
    }

    fn apply(&mut self, side: &Beside, change: impl Fn(f64, f64) -> f64) {
        for (value, &lane) in self.values.iter_mut().zip(&side.lanes) {
            let number = side.numbers.get(lane).copied().unwrap_or(f64::NAN);
            *value = change(*value, number);
        }
    }

    /// Chooses scales, and zero points where there are any, that hold the values; false where these
    /// do not go together.
    fn rescale(
        &mut self,
        scale: &mut Beside,
        zero_at: Option<Use>,
        axis: Option<usize>,
        limits: (f64, f64),
    ) -> Result<bool, TensorError> {
        let mut zero = match zero_at {
            Some(at) => match self.beside(at, axis)? {
                Some(zero) => Some(zero),
                None => return Ok(false),
            },
            None => None,
        };
        let own = zero
            .as_ref()
            .map_or(0.0, |zero| zero.numbers.first().copied().unwrap_or(0.0));
        let reach = self
            .root
            .to_f64()?
            .iter()
            .fold(1.0, |m: f64, q| m.max((q - own).abs()));
        let values: Vec<f64> = self.values.iter().copied().collect();
        let is_shared = zero
            .as_ref()
            .is_some_and(|zero| zero.numbers.len() != scale.numbers.len());
        if is_shared && zero.as_ref().is_some_and(|zero| zero.numbers.len() != 1) {
            return Ok(false);
        }
        let mut zeros = match &zero {
            Some(zero) if !is_shared => zero.numbers.clone(),
            _ => vec![own; scale.numbers.len()],
        };
        let numbers = Numbers {
            values: &values,
            lanes: &scale.lanes,
            limits,
        };
        numbers.rescale(&mut scale.numbers, &mut zeros, reach, is_shared);
        if let (Some(zero), Some(at), false) = (&mut zero, zero_at, is_shared) {
            zero.numbers.clone_from(&zeros);
            self.put(at, zero)?;
        }
        self.error = numbers.error(&scale.numbers, &zeros);
        Ok(true)
    }
}

/// A constant that is laid along others.
struct Beside {
    dtype: DataType,
    shape: Vec<usize>,
    numbers: Vec<f64>,
    /// Per value, the number that goes with it.
    lanes: Vec<usize>,
}
