//! What rules for gradients share: small pieces of the way back.

use crate::graph::NodeView;
use crate::groups::{Attribute, Backward};
use crate::onnx::{DataType, Tensor};

/// A length as ONNX writes it.
pub(super) fn int(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

pub(super) fn all_ints(lengths: &[usize]) -> Vec<i64> {
    lengths.iter().copied().map(int).collect()
}

/// One number.
pub(super) fn number(back: &mut Backward<'_>, value: f64) -> String {
    back.graph.number(value)
}

/// A list of integers.
pub(super) fn list(back: &mut Backward<'_>, ints: &[i64]) -> Option<String> {
    let tensor = Tensor::from_i64(&[ints.len()], ints).ok()?;
    Some(back.graph.constant(tensor))
}

pub(super) fn product(back: &mut Backward<'_>, left: &str, right: &str) -> String {
    back.graph.node("Mul", &[left, right], &[])
}

/// `value` times a number.
pub(super) fn scaled(back: &mut Backward<'_>, value: &str, factor: f64) -> String {
    let factor = number(back, factor);
    product(back, value, &factor)
}

/// Where `left` is greater than `right`, 1, else 0.
pub(super) fn is_greater(back: &mut Backward<'_>, left: &str, right: &str) -> String {
    let found = back.graph.node("Greater", &[left, right], &[]);
    let float = i64::from(DataType::Float.code());
    back.graph
        .node("Cast", &[&found], &[Attribute::Int("to", float)])
}

pub(super) fn reshaped(back: &mut Backward<'_>, value: &str, shape: &[usize]) -> Option<String> {
    let shape = list(back, &all_ints(shape))?;
    Some(back.graph.node("Reshape", &[value, &shape], &[]))
}

pub(super) fn transposed(back: &mut Backward<'_>, value: &str, perm: &[usize]) -> String {
    let perm = all_ints(perm);
    back.graph
        .node("Transpose", &[value], &[Attribute::Ints("perm", &perm)])
}

/// `value` repeated to a shape.
pub(super) fn repeated(back: &mut Backward<'_>, value: &str, shape: &[usize]) -> Option<String> {
    let shape = list(back, &all_ints(shape))?;
    Some(back.graph.node("Expand", &[value, &shape], &[]))
}

/// The sum of `value` over axes, which stay with length 1.
pub(super) fn summed(
    back: &mut Backward<'_>,
    opset: i64,
    value: &str,
    axes: &[usize],
) -> Option<String> {
    const AXES_ARE_AN_INPUT: i64 = 13;
    let axes = all_ints(axes);
    if axes.is_empty() {
        return Some(value.to_owned());
    }
    if opset < AXES_ARE_AN_INPUT {
        let axes = Attribute::Ints("axes", &axes);
        return Some(back.graph.node("ReduceSum", &[value], &[axes]));
    }
    let axes = list(back, &axes)?;
    Some(back.graph.node("ReduceSum", &[value, &axes], &[]))
}

/// Gives an input the gradient `value`, which has the shape `made`, summed over what the input is
/// repeated along.
pub(super) fn give_summed(
    back: &mut Backward<'_>,
    view: NodeView<'_>,
    slot: usize,
    value: &str,
    made: &[usize],
) -> Option<()> {
    let shape = view.shape(view.input(slot)?).ok()?;
    let missing = made.len().checked_sub(shape.len())?;
    let is_repeated = |axis: &usize| {
        let own = axis.checked_sub(missing).and_then(|own| shape.get(own));
        own.is_none_or(|&own| own == 1 && made.get(*axis) != Some(&1))
    };
    let axes: Vec<usize> = (0..made.len()).filter(is_repeated).collect();
    if axes.is_empty() {
        back.give(slot, value.to_owned());
        return Some(());
    }
    let sum = summed(back, view.graph.opset, value, &axes)?;
    let sum = reshaped(back, &sum, shape)?;
    back.give(slot, sum);
    Some(())
}

/// The part of `value` with the starts, ends and axes of `bounds`.
pub(super) fn sliced(
    back: &mut Backward<'_>,
    opset: i64,
    value: &str,
    bounds: [&[i64]; 3],
) -> Option<String> {
    const BOUNDS_ARE_INPUTS: i64 = 10;
    if opset < BOUNDS_ARE_INPUTS {
        let named = ["starts", "ends", "axes"];
        let attributes = [0, 1, 2].map(|part| Attribute::Ints(named[part], bounds[part]));
        return Some(back.graph.node("Slice", &[value], &attributes));
    }
    let [starts, ends, axes] = bounds;
    let (starts, ends, axes) = (list(back, starts)?, list(back, ends)?, list(back, axes)?);
    let inputs = [value, &starts, &ends, &axes];
    Some(back.graph.node("Slice", &inputs, &[]))
}

/// `value` between zeros, so many positions before and after it on each axis.
pub(super) fn padded(
    back: &mut Backward<'_>,
    opset: i64,
    value: &str,
    pads: [&[i64]; 2],
) -> Option<String> {
    const PADS_ARE_AN_INPUT: i64 = 11;
    let pads = pads.concat();
    if pads.iter().all(|&pad| pad == 0) {
        return Some(value.to_owned());
    }
    if opset < PADS_ARE_AN_INPUT {
        let pads = Attribute::Ints("pads", &pads);
        return Some(back.graph.node("Pad", &[value], &[pads]));
    }
    let pads = list(back, &pads)?;
    Some(back.graph.node("Pad", &[value, &pads], &[]))
}

/// The name of an input.
pub(super) fn input<'a>(view: NodeView<'a>, slot: usize) -> Option<&'a str> {
    Some(&view.graph.values[view.input(slot)?].name)
}

/// The name of the first output.
pub(super) fn output<'a>(view: NodeView<'a>) -> Option<&'a str> {
    Some(&view.graph.values[view.output(0)?].name)
}

/// The shape of an input.
pub(super) fn shape<'a>(view: NodeView<'a>, slot: usize) -> Option<&'a [usize]> {
    view.shape(view.input(slot)?).ok()
}
