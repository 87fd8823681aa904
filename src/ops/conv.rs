//! Conv and ConvTranspose: consume input channels, make output channels.

use crate::graph::NodeView;
use crate::groups::{AxisMap, Bias, Consumer, Cost, Elements, Kept, Walk, WeightLayout, Window};
use crate::ops::{Edit, Freeze, Operator};

const DATA: usize = 0;
const WEIGHT: usize = 1;
const BIAS: usize = 2;
const CHANNEL_AXIS: usize = 1;

pub(super) struct Conv;

impl Operator for Conv {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let sizes = Sizes::read(view, 1)?;
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(WEIGHT),
            positions: walk.per_sample(rows(view.output_shape()?)),
        });
        let taps = 2..view.shape(view.need(WEIGHT)?)?.len();
        let layout = WeightLayout {
            out_axes: vec![0],
            in_axis: 1,
            tap_axes: taps.collect(),
            blocks: sizes.blocks,
            block_axis: 0,
        };
        let axes = WeightAxes {
            input: sizes.inputs_per_block > 1 || sizes.blocks == 1,
            output: Out::Whole,
        };
        let bias = Bias::Slot {
            slot: BIAS,
            scale: 1.0,
        };
        let window = Some(window(view)?);
        trace(view, walk, &sizes, axes, &mut |input| {
            consumer(view, input, window.clone(), layout.clone(), bias.clone())
        })
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        depthwise_blocks(view, kept, 1)
    }
}

pub(super) struct ConvTranspose;

impl Operator for ConvTranspose {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let sizes = Sizes::read(view, 0)?;
        let data = view.shape(view.need(DATA)?)?.get(2..).unwrap_or_default();
        let positions = product(data);
        let made = product(view.output_shape()?.get(2..).unwrap_or_default());
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(WEIGHT),
            positions: walk.per_sample(rows(view.shape(view.need(DATA)?)?)),
        });
        let layout = WeightLayout {
            out_axes: (1..view.shape(view.need(WEIGHT)?)?.len()).collect(),
            in_axis: 0,
            tap_axes: Vec::new(),
            blocks: sizes.blocks,
            block_axis: 0,
        };
        // Each input position adds to `taps` outputs: a shift of all contributions reaches an
        // output as often as there are inputs per output.
        let bias = Bias::Slot {
            slot: BIAS,
            scale: positions as f64 / made.max(1) as f64,
        };
        let axes = WeightAxes {
            input: true,
            output: Out::PerBlock,
        };
        trace(view, walk, &sizes, axes, &mut |input| {
            consumer(view, input, None, layout.clone(), bias.clone())
        })
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        depthwise_blocks(view, kept, 0)
    }
}

/// Channel counts of a convolution with `blocks` groups.
struct Sizes {
    blocks: usize,
    inputs: usize,
    inputs_per_block: usize,
    outputs: usize,
    outputs_per_block: usize,
}

impl Sizes {
    /// `in_axis` is where the weight has the input channels.
    fn read(view: NodeView<'_>, in_axis: usize) -> Result<Self, Freeze> {
        if view.constant(WEIGHT).is_none() {
            return Err(Freeze::new("its weight is computed while the model runs"));
        }
        if view.input(BIAS).is_some() && view.constant(BIAS).is_none() {
            return Err(Freeze::new("its bias is computed while the model runs"));
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
struct WeightAxes {
    input: bool,
    output: Out,
}

/// Whether the weight's output axis has all output channels or those of one block.
enum Out {
    Whole,
    PerBlock,
}

fn trace(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    sizes: &Sizes,
    axes: WeightAxes,
    consumer: &mut dyn FnMut(usize) -> Consumer,
) -> Result<(), Freeze> {
    let data = view.need(DATA)?;
    let input = walk.axis(data, CHANNEL_AXIS);
    let rank = view.shape(data)?.len();
    for axis in (0..rank).filter(|&axis| axis != CHANNEL_AXIS) {
        walk.freeze_axis(data, axis, view.id, "it convolves along the tracked axis");
    }
    let Some(output) = output_atoms(view, walk, sizes, input.as_ref())? else {
        return Ok(());
    };
    let (in_axis, out_axis) = match axes.output {
        Out::Whole => (1, 0),
        Out::PerBlock => (0, 1),
    };
    if let Some(map) = &input {
        if axes.input {
            let whole = matches!(axes.output, Out::PerBlock);
            let part: AxisMap = if whole {
                map.clone()
            } else {
                map.iter().take(sizes.inputs_per_block).copied().collect()
            };
            walk.cut((view.id, WEIGHT), in_axis, &part)?;
        }
        if !sizes.is_depthwise() {
            walk.consume(consumer(data));
        }
    }
    let cuts_output = matches!(axes.output, Out::Whole) || !sizes.is_depthwise();
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
    if view.input(BIAS).is_some() {
        walk.cut((view.id, BIAS), 0, &output)?;
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

/// A depthwise convolution passes its input's atoms on, each as often as the multiplier says.
/// With several channels per block, the same place in every block is one atom, so that what is
/// left is again a grouped convolution.
fn output_atoms(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    sizes: &Sizes,
    input: Option<&AxisMap>,
) -> Result<Option<AxisMap>, Freeze> {
    if sizes.is_depthwise() {
        let repeat = |&atom: &u32| std::iter::repeat_n(atom, sizes.outputs_per_block);
        return Ok(input.map(|map| map.iter().flat_map(repeat).collect()));
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

fn consumer(
    view: NodeView<'_>,
    input: usize,
    window: Option<Window>,
    layout: WeightLayout,
    bias: Bias,
) -> Consumer {
    Consumer {
        node: view.id,
        input,
        axis: CHANNEL_AXIS,
        output: view.output(0).unwrap_or(input),
        output_axis: CHANNEL_AXIS,
        window,
        covered: Some(1),
        weight: WEIGHT,
        layout,
        bias,
        partner: None,
    }
}

/// A depthwise convolution has as many blocks as channels left.
fn depthwise_blocks(
    view: NodeView<'_>,
    kept: &Kept<'_>,
    in_axis: usize,
) -> Result<Vec<Edit>, Freeze> {
    let data = view.need(DATA)?;
    let sizes = Sizes::read(view, in_axis)?;
    let left = kept.length(data, CHANNEL_AXIS, sizes.inputs);
    if !sizes.is_depthwise() || left == sizes.inputs {
        return Ok(Vec::new());
    }
    let blocks = i64::try_from(left).map_err(|_| Freeze::new("too many channels"))?;
    Ok(vec![Edit::Int("group", blocks)])
}

fn window(view: NodeView<'_>) -> Result<Window, Freeze> {
    let spatial = |shape: &[usize]| shape.get(2..).unwrap_or_default().to_vec();
    let input = spatial(view.shape(view.need(DATA)?)?);
    let output = spatial(view.output_shape()?);
    let kernel = spatial(view.shape(view.need(WEIGHT)?)?);
    let lengths = |name: &str, default: usize| -> Result<Vec<usize>, Freeze> {
        let Some(ints) = view.node.ints(name) else {
            return Ok(vec![default; input.len()]);
        };
        let parsed = ints.iter().map(|&int| usize::try_from(int));
        parsed
            .collect::<Result<_, _>>()
            .map_err(|_| Freeze::new(format!("its {name} are negative")))
    };
    let strides = lengths("strides", 1)?;
    let dilations = lengths("dilations", 1)?;
    let pads = match view.node.text("auto_pad", "NOTSET").as_str() {
        "NOTSET" | "" => lengths("pads", 0)?.into_iter().take(input.len()).collect(),
        "VALID" => vec![0; input.len()],
        same => same_pads(
            &input,
            &output,
            &kernel,
            &strides,
            &dilations,
            same == "SAME_LOWER",
        ),
    };
    if [&output, &kernel, &strides, &dilations, &pads]
        .iter()
        .any(|list| list.len() != input.len())
    {
        return Err(Freeze::new(
            "its attributes do not fit the number of spatial axes",
        ));
    }
    Ok(Window {
        input,
        output,
        kernel,
        strides,
        dilations,
        pads,
    })
}

fn same_pads(
    input: &[usize],
    output: &[usize],
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
    lower: bool,
) -> Vec<usize> {
    let axis = |i: usize| {
        let span = output.get(i)?.checked_sub(1)? * strides.get(i)?
            + kernel.get(i)?.checked_sub(1)? * dilations.get(i)?
            + 1;
        let total = span.saturating_sub(*input.get(i)?);
        Some(if lower { total - total / 2 } else { total / 2 })
    };
    (0..input.len()).map(|i| axis(i).unwrap_or(0)).collect()
}

/// Elements of one channel.
fn rows(shape: &[usize]) -> u64 {
    let others = shape
        .iter()
        .enumerate()
        .filter(|(axis, _)| *axis != CHANNEL_AXIS);
    others.fold(1u64, |product, (_, &length)| {
        product.saturating_mul(length as u64)
    })
}

fn product(lengths: &[usize]) -> u64 {
    lengths.iter().fold(1u64, |product, &length| {
        product.saturating_mul(length as u64)
    })
}
