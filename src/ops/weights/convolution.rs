//! What convolutions share: they consume input channels and make output channels.

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{Atom, AxisMap, Bias, Consumer, Edit, Kept, Walk, WeightLayout, Window};
use crate::ops::quantize;

pub(super) const DATA: usize = 0;
pub(super) const WEIGHT: usize = 1;
pub(super) const BIAS: usize = 2;
pub(super) const CHANNEL_AXIS: usize = 1;

/// The bias' slot, where there is a bias.
pub(super) fn bias(view: NodeView<'_>) -> Result<Option<usize>, Freeze> {
    if view.input(BIAS).is_some() && view.constant(BIAS).is_none() {
        return Err(Freeze::new("its bias is computed while the model runs"));
    }
    Ok(view.input(BIAS).map(|_| BIAS))
}

/// Channel counts of a convolution with `blocks` groups.
pub(super) struct Sizes {
    pub blocks: usize,
    inputs: usize,
    pub inputs_per_block: usize,
    outputs: usize,
    outputs_per_block: usize,
}

impl Sizes {
    /// `in_axis` is where the weight has the input channels.
    pub fn read(view: NodeView<'_>, in_axis: usize) -> Result<Self, Freeze> {
        if view.constant(WEIGHT).is_none() {
            return Err(Freeze::new("its weight is computed while the model runs"));
        }
        let channels = |shape: &[usize]| shape.get(CHANNEL_AXIS).copied().unwrap_or(0);
        let inputs = channels(view.shape(view.need(DATA)?)?);
        let outputs = channels(view.output_shape()?);
        let blocks = usize::try_from(view.node.int("group", 1)).unwrap_or(0);
        let weight = view.shape(view.need(WEIGHT)?)?;
        let expected = if in_axis == 0 {
            Some(&inputs)
        } else {
            Some(&outputs)
        };
        if blocks == 0
            || inputs % blocks != 0
            || outputs % blocks != 0
            || weight.first() != expected
        {
            return Err(Freeze::new(
                "its group attribute does not divide its channels",
            ));
        }
        if inputs == 0 || outputs == 0 {
            return Err(Freeze::new("it has no channels"));
        }
        let inputs_per_block = inputs / blocks;
        Ok(Sizes {
            blocks,
            inputs,
            inputs_per_block,
            outputs,
            outputs_per_block: outputs / blocks,
        })
    }

    fn is_depthwise(&self) -> bool {
        self.blocks > 1 && self.inputs_per_block == 1
    }
}

/// Which axes of the weight channels cut.
pub(super) struct WeightAxes {
    pub input: bool,
    pub output: Out,
    /// Another constant with an entry for each output.
    pub per_output: Option<usize>,
}

/// Whether the weight's output axis has all output channels or those of one block.
pub(super) enum Out {
    Whole,
    PerBlock,
}

pub(super) fn trace(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    sizes: &Sizes,
    axes: WeightAxes,
    consumer: &mut dyn FnMut(ValueId) -> Consumer,
) -> Result<(), Freeze> {
    let data = view.need(DATA)?;
    let input = walk.axis(data, CHANNEL_AXIS);
    let rank = view.shape(data)?.len();
    for axis in (0..rank).filter(|&axis| axis != CHANNEL_AXIS) {
        walk.freeze_axis(data, axis, view.id, "it convolves along the tracked axis");
    }
    let passes = sizes.is_depthwise() || blocks_leave(walk, sizes, input.as_ref());
    let Some(output) = output_atoms(view, walk, sizes, input.as_ref(), passes)? else {
        return Ok(());
    };
    let (in_axis, out_axis) = match axes.output {
        Out::Whole => (1, 0),
        Out::PerBlock => (0, 1),
    };
    if let Some(map) = &input {
        if axes.input && !(passes && matches!(axes.output, Out::Whole)) {
            let whole = matches!(axes.output, Out::PerBlock);
            let part: AxisMap = if whole {
                map.clone()
            } else {
                map.iter().take(sizes.inputs_per_block).copied().collect()
            };
            walk.cut((view.id, WEIGHT), in_axis, &part)?;
        }
        if !passes {
            walk.consume(consumer(data));
        }
    }
    let cuts_output = matches!(axes.output, Out::Whole) || !passes;
    if cuts_output {
        let part: AxisMap = match axes.output {
            Out::Whole => output.clone(),
            Out::PerBlock => output
                .iter()
                .take(sizes.outputs_per_block)
                .copied()
                .collect(),
        };
        walk.cut((view.id, WEIGHT), out_axis, &part)?;
    }
    if let Some(slot) = axes.per_output {
        walk.cut((view.id, slot), 0, &output)?;
    }
    let made = view
        .output(0)
        .ok_or_else(|| Freeze::new("it has no output"))?;
    let mut made_axes = vec![None; rank];
    if let Some(slot) = made_axes.get_mut(CHANNEL_AXIS) {
        *slot = Some(output);
    }
    walk.set(made, made_axes)
}

/// Whether whole blocks leave a grouped convolution: where that ties less than tying the same
/// place in every block does. What a block reads leaves with what it makes.
fn blocks_leave(walk: &Walk<'_>, sizes: &Sizes, input: Option<&AxisMap>) -> bool {
    let Some(map) = input.filter(|map| sizes.blocks > 1 && map.len() == sizes.inputs) else {
        return false;
    };
    let per_block = sizes.inputs_per_block;
    let with_first = |first: fn(usize, usize) -> usize| {
        let pair =
            move |(index, &atom): (usize, &Atom)| Some((atom, *map.get(first(index, per_block))?));
        walk.classes_with(map, map.iter().enumerate().filter_map(pair))
    };
    let blocks = with_first(|index, per_block| index - index % per_block);
    let places = with_first(|index, per_block| index % per_block);
    blocks > places.min(sizes.outputs_per_block)
}

/// A depthwise convolution passes its input's atoms on, each as often as the multiplier says, and
/// so does one that whole blocks leave. Otherwise the same place in every block is one atom, so
/// that what is left is again a grouped convolution.
fn output_atoms(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    sizes: &Sizes,
    input: Option<&AxisMap>,
    passes: bool,
) -> Result<Option<AxisMap>, Freeze> {
    if passes {
        let Some(map) = input else { return Ok(None) };
        let mut made = Vec::with_capacity(sizes.outputs);
        for block in map.chunks(sizes.inputs_per_block) {
            let first = block.first().copied().unwrap_or_default();
            walk.tie(&block.into(), &vec![first; block.len()].into())?;
            made.extend(std::iter::repeat_n(first, sizes.outputs_per_block));
        }
        return Ok(Some(made.into()));
    }
    if let Some(map) = input {
        if map.len() != sizes.inputs {
            return Err(Freeze::new(
                "its input has another number of channels than its weight",
            ));
        }
        let mut parts = map.chunks(sizes.inputs_per_block).map(AxisMap::from);
        if let Some(first) = parts.next() {
            for part in parts {
                walk.tie(&first, &part)?;
            }
        }
    }
    let part = walk.fresh(view.id, sizes.outputs_per_block);
    Ok(Some(
        part.iter().copied().cycle().take(sizes.outputs).collect(),
    ))
}

/// That of a weight with the output channels first, and the kernel behind the input channels.
pub(super) fn layout(view: NodeView<'_>, blocks: usize) -> Result<WeightLayout, Freeze> {
    let kernel = 2..view.shape(view.need(WEIGHT)?)?.len();
    Ok(WeightLayout {
        out_axes: vec![0],
        in_axis: 1,
        kernel_axes: kernel.collect(),
        blocks,
        block_axis: 0,
    })
}

pub(super) fn consumer(
    view: NodeView<'_>,
    input: ValueId,
    window: Option<Window>,
    layout: WeightLayout,
    bias: Bias,
) -> Consumer {
    Consumer {
        node: view.id,
        input: quantize::source(view.graph, input),
        axis: CHANNEL_AXIS,
        output: view.output(0).unwrap_or(input),
        output_axis: CHANNEL_AXIS,
        window,
        covered: Some(1),
        weight: WEIGHT,
        layout,
        bias,
        gain: 1.0,
        partner: None,
        stack: None,
    }
}

/// Where whole blocks leave (a depthwise convolution's channels among them), fewer are left.
pub(super) fn blocks_left(
    view: NodeView<'_>,
    kept: &Kept<'_>,
    in_axis: usize,
) -> Result<Vec<Edit>, Freeze> {
    let data = view.need(DATA)?;
    let sizes = Sizes::read(view, in_axis)?;
    let left = kept.length(data, CHANNEL_AXIS, sizes.inputs);
    // The weight's second axis lies within a block.
    let cut = kept.cut(view.id, WEIGHT).and_then(|axes| axes.get(1));
    let is_cut_within = cut.is_some_and(Option::is_some);
    if sizes.blocks == 1 || is_cut_within || left == sizes.inputs {
        return Ok(Vec::new());
    }
    let blocks = left / sizes.inputs_per_block.max(1);
    let blocks = i64::try_from(blocks).map_err(|_| Freeze::new("too many channels"))?;
    Ok(vec![Edit::Int("group", blocks)])
}

/// The lengths and attributes of a convolution; `pad` sets the pads where they follow from the
/// lengths.
pub(super) fn geometry(
    view: NodeView<'_>,
    pad: impl Fn(&mut Window, &str),
) -> Result<Window, Freeze> {
    let spatial = |shape: &[usize]| shape.get(2..).unwrap_or_default().to_vec();
    let input = spatial(view.shape(view.need(DATA)?)?);
    let rank = input.len();
    let lengths = |name: &str, default: usize| -> Result<Vec<usize>, Freeze> {
        let Some(ints) = view.node.ints(name) else {
            return Ok(vec![default; rank]);
        };
        let parsed = ints.iter().map(|&int| usize::try_from(int));
        parsed
            .collect::<Result<_, _>>()
            .map_err(|_| Freeze::new(format!("its {name} are negative")))
    };
    let mut window = Window {
        input,
        output: spatial(view.output_shape()?),
        kernel: spatial(view.shape(view.need(WEIGHT)?)?),
        strides: lengths("strides", 1)?,
        dilations: lengths("dilations", 1)?,
        pads: vec![0; rank],
    };
    match view.node.text("auto_pad", "NOTSET").as_str() {
        // A transposed convolution of a given output shape does not read its pads.
        auto_pad @ ("NOTSET" | "") if view.node.ints("output_shape").is_some() => {
            pad(&mut window, auto_pad);
        }
        "NOTSET" | "" => window.pads = lengths("pads", 0)?.into_iter().take(rank).collect(),
        "VALID" => {}
        same => pad(&mut window, same),
    }
    let lists = [
        &window.output,
        &window.kernel,
        &window.strides,
        &window.dilations,
        &window.pads,
    ];
    if lists.iter().any(|list| list.len() != rank) {
        return Err(Freeze::new(
            "its attributes do not fit the number of spatial axes",
        ));
    }
    Ok(window)
}

/// Pads before the first position: half of what the kernel's way along the `short` axes passes
/// beyond the `long` ones, the odd one `before` or after.
pub(super) fn same_pads(
    (short, long): (&[usize], &[usize]),
    window: &Window,
    before: bool,
) -> Vec<usize> {
    let axis = |i: usize| {
        let span = short.get(i)?.checked_sub(1)? * window.strides.get(i)?
            + window.kernel.get(i)?.checked_sub(1)? * window.dilations.get(i)?
            + 1;
        let total = span.saturating_sub(*long.get(i)?);
        Some(if before { total - total / 2 } else { total / 2 })
    };
    (0..window.input.len())
        .map(|i| axis(i).unwrap_or(0))
        .collect()
}

/// Elements of one channel.
pub(super) fn rows(shape: &[usize]) -> u64 {
    let others = shape
        .iter()
        .enumerate()
        .filter(|(axis, _)| *axis != CHANNEL_AXIS);
    others.fold(1u64, |product, (_, &length)| {
        product.saturating_mul(length as u64)
    })
}
