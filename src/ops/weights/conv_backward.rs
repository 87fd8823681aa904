//! The gradients of a convolution, by convolutions.
//!
//! With `y[n, m, o] = sum over c, k of w[m, c, k] x[n, c, s o + d k - p]`, stride `s`, dilation `d`
//! and padding `p`:
//!
//! - by `x`: the transposed convolution of the gradient with the same weight;
//! - by `w`: `sum over n, o of g[n, m, o] x[n, c, s o + d k - p]`, the convolution of `x` with the
//!   gradient where samples and channels change places, and so do stride and dilation;
//! - by the bias: the sum over samples and positions.

use crate::graph::NodeView;
use crate::groups::{Attribute, Backward, Window};
use crate::ops::backward::{
    all_ints, input, int, padded, reshaped, shape, sliced, summed, transposed,
};
use crate::ops::weights::convolution::{BIAS, DATA, WEIGHT};

pub(super) fn conv(view: NodeView<'_>, window: &Window, back: &mut Backward<'_>) -> Option<()> {
    if back.wants(DATA) {
        by_data(view, window, back)?;
    }
    if back.wants(WEIGHT) {
        by_weight(view, window, back)?;
    }
    if back.wants(BIAS) {
        let gradient = back.output()?;
        let rank = view.output_shape().ok()?.len();
        let axes: Vec<usize> = (0..rank).filter(|&axis| axis != 1).collect();
        let sum = summed(back, view.graph.opset, gradient, &axes)?;
        let sum = reshaped(back, &sum, shape(view, BIAS)?)?;
        back.give(BIAS, sum);
    }
    Some(())
}

/// Per spatial axis: input positions between the first and behind the last that a tap of the
/// kernel reads, the padding before the first among them.
fn spans(window: &Window) -> Option<Vec<usize>> {
    let axes = window.output.iter().zip(&window.strides);
    let axes = axes.zip(window.kernel.iter().zip(&window.dilations));
    let span = |((output, stride), (kernel, dilation)): ((&usize, &usize), (&usize, &usize))| {
        let outputs = output.checked_sub(1)?.checked_mul(*stride)?;
        let taps = kernel.checked_sub(1)?.checked_mul(*dilation)?;
        outputs.checked_add(taps)?.checked_add(1)
    };
    axes.map(span).collect()
}

fn by_data(view: NodeView<'_>, window: &Window, back: &mut Backward<'_>) -> Option<()> {
    let (mut after, mut unread) = (Vec::new(), Vec::new());
    let axes = spans(window)?.into_iter().zip(&window.pads);
    for ((span, &before), &length) in axes.zip(&window.input) {
        let whole = length.checked_add(before)?;
        after.push(span.saturating_sub(whole));
        unread.push(whole.saturating_sub(span));
    }
    let pads = [all_ints(&window.pads), all_ints(&after)].concat();
    let attributes = [
        Attribute::Ints("pads", &pads),
        Attribute::Ints("strides", &all_ints(&window.strides)),
        Attribute::Ints("dilations", &all_ints(&window.dilations)),
        Attribute::Int("group", view.node.int("group", 1)),
    ];
    let inputs = [back.output()?, input(view, WEIGHT)?];
    let mut found = back.graph.node("ConvTranspose", &inputs, &attributes);
    // Positions behind the last that is read: nothing depends on them.
    let behind = [&[0, 0], all_ints(&unread).as_slice()].concat();
    found = padded(
        back,
        view.graph.opset,
        &found,
        [&vec![0; behind.len()], &behind],
    )?;
    back.give(DATA, found);
    Some(())
}

fn by_weight(view: NodeView<'_>, window: &Window, back: &mut Backward<'_>) -> Option<()> {
    let (data, weight) = (shape(view, DATA)?, shape(view, WEIGHT)?);
    let made = view.output_shape().ok()?;
    let groups = usize::try_from(view.node.int("group", 1)).ok()?.max(1);
    let (&samples, &outputs, &inputs) = (data.first()?, weight.first()?, weight.get(1)?);
    let (data_name, gradient) = (input(view, DATA)?, back.output()?);
    let positions = |shape: &[usize]| shape.iter().skip(2).product::<usize>();
    let is_plain = groups == 1
        && window.kernel_positions() == 1
        && window.strides.iter().all(|&stride| stride == 1)
        && positions(data) == positions(made);
    if is_plain {
        let data = reshaped(back, data_name, &[samples, inputs, positions(data)])?;
        let data = transposed(back, &data, &[0, 2, 1]);
        let gradient = reshaped(back, gradient, &[samples, outputs, positions(made)])?;
        let all = back.graph.node("MatMul", &[&gradient, &data], &[]);
        let sum = summed(back, view.graph.opset, &all, &[0])?;
        let sum = reshaped(back, &sum, weight)?;
        back.give(WEIGHT, sum);
        return Some(());
    }
    let data_name = exchanged(back, data_name, data, groups, [2, 1, 0])?;
    let gradient = exchanged(back, gradient, made, groups, [1, 2, 0])?;
    let (mut after, mut has_room) = (Vec::new(), false);
    let axes = spans(window)?.into_iter().zip(&window.dilations);
    for ((span, &dilation), (before, length)) in axes.zip(window.pads.iter().zip(&window.input)) {
        let whole = length.checked_add(*before)?;
        after.push(span.saturating_sub(whole));
        has_room |= whole.saturating_sub(span) >= dilation;
    }
    let pads = [all_ints(&window.pads), all_ints(&after)].concat();
    let attributes = [
        Attribute::Ints("pads", &pads),
        Attribute::Ints("strides", &all_ints(&window.dilations)),
        Attribute::Ints("dilations", &all_ints(&window.strides)),
        Attribute::Int("group", int(groups)),
    ];
    let mut taps = back
        .graph
        .node("Conv", &[&data_name, &gradient], &attributes);
    if has_room {
        // Where the last positions are not read, there is room for taps that the kernel has not.
        let kernel = all_ints(&window.kernel);
        let axes: Vec<i64> = (2..int(weight.len())).collect();
        taps = sliced(
            back,
            view.graph.opset,
            &taps,
            [&vec![0; kernel.len()], &kernel, &axes],
        )?;
    }
    let rank = weight.len();
    let perm: Vec<usize> = [1, 0].into_iter().chain(2..rank).collect();
    let found = transposed(back, &taps, &perm);
    back.give(WEIGHT, found);
    Some(())
}

/// A tensor of samples, groups of channels and positions with its first three axes `order`ed anew,
/// of which the last two are merged where groups come before samples, or the first two.
fn exchanged(
    back: &mut Backward<'_>,
    value: &str,
    shape: &[usize],
    groups: usize,
    order: [usize; 3],
) -> Option<String> {
    let (&samples, &channels) = (shape.first()?, shape.get(1)?);
    let per_group = channels / groups;
    let positions = shape.get(2..)?;
    let split = [&[samples, groups, per_group], positions].concat();
    let value = reshaped(back, value, &split)?;
    let perm: Vec<usize> = order.into_iter().chain(3..split.len()).collect();
    let value = transposed(back, &value, &perm);
    let merged = if order[0] == 2 {
        [per_group, groups * samples]
    } else {
        [channels, samples]
    };
    reshaped(back, &value, &[&merged, positions].concat())
}
