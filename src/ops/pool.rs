//! Pooling: works on each channel alone.

use crate::graph::{Freeze, NodeId, NodeView, ValueId};
use crate::groups::{Alike, Attribute, Backward, Operator, Walk};
use crate::ops::Entry;
use crate::ops::backward::{all_ints, input, list, number, repeated, reshaped, scaled, shape};

const CHANNELS: &str = "channels keep their place";
const MAX_UNPOOL: &str = "MaxUnpool";

pub(super) const OPERATORS: &[Entry] = &[
    Entry::standard(&["AveragePool"], &Pool(Kind::Average), CHANNELS),
    Entry::standard(&["GlobalAveragePool"], &Pool(Kind::Mean), CHANNELS),
    Entry::standard(&["MaxPool"], &Pool(Kind::Max), CHANNELS),
    Entry::standard(
        &["GlobalLpPool", "GlobalMaxPool", "LpPool"],
        &Pool(Kind::Other),
        CHANNELS,
    ),
    Entry::standard(
        &[MAX_UNPOOL],
        &MaxUnpool,
        "\
            channels leave with those of the MaxPool whose indices it reads, where it makes \
            tensors of the size that was pooled",
    ),
];

enum Kind {
    Average,
    /// The average of all positions.
    Mean,
    Max,
    Other,
}

struct Pool(Kind);

/// The output of MaxPool that says where each maximum is, counted through all channels.
const INDICES: usize = 1;

impl Operator for Pool {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        if view.output(INDICES).is_some_and(|i| !is_undone(view, i)) {
            return Err(Freeze::new(
                "its second output counts positions across all channels",
            ));
        }
        let rank = view.shape(input)?.len();
        for axis in 2..rank {
            walk.freeze_axis(input, axis, view.id, "it pools along the tracked axis");
        }
        let mut axes = vec![None; view.output_shape()?.len()];
        for (axis, slot) in axes.iter_mut().enumerate().take(2) {
            *slot = walk.axis(input, axis);
        }
        for output in view.node.outputs.iter().flatten() {
            walk.set(*output, axes.clone())?;
        }
        Ok(())
    }

    fn alike(&self, _: NodeView<'_>) -> Option<Alike> {
        matches!(self.0, Kind::Average | Kind::Mean).then_some(Alike::Adds)
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        match self.0 {
            Kind::Average => of_average(view, back),
            Kind::Mean => {
                let whole = shape(view, 0)?;
                let count: usize = whole.iter().skip(2).product();
                let found = scaled(back, back.output()?, 1.0 / count.max(1) as f64);
                let found = repeated(back, &found, whole)?;
                back.give(0, found);
                Some(())
            }
            Kind::Max => of_max(view, back),
            Kind::Other => None,
        }
    }
}

/// By a transposed convolution with a kernel of equal numbers, where windows fill what is read.
fn of_average(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let (read, made) = (shape(view, 0)?, view.output_shape().ok()?);
    let kernel = view.node.ints("kernel_shape")?;
    let strides = view
        .node
        .ints("strides")
        .map_or(vec![1; kernel.len()], <[i64]>::to_vec);
    let is_padded = view
        .node
        .ints("pads")
        .is_some_and(|pads| pads.iter().any(|&pad| pad != 0));
    let has_holes = view
        .node
        .ints("dilations")
        .is_some_and(|d| d.iter().any(|&d| d != 1));
    let spatial = read.iter().skip(2).zip(made.iter().skip(2));
    let mut fills = spatial
        .zip(kernel.iter().zip(&strides))
        .map(|((&read, &made), (&k, &s))| {
            let (read, made) = (i64::try_from(read).ok()?, i64::try_from(made).ok()?);
            Some(made.checked_sub(1)?.checked_mul(s)?.checked_add(k)? == read)
        });
    if is_padded || has_holes || !fills.all(|fills| fills == Some(true)) {
        return None;
    }
    let lengths = kernel
        .iter()
        .map(|&length| usize::try_from(length).unwrap_or(1));
    let weight: Vec<usize> = [*read.get(1)?, 1].into_iter().chain(lengths).collect();
    let one = weight.iter().skip(2).product::<usize>();
    let share = number(back, 1.0 / one.max(1) as f64);
    let weight = repeated(back, &share, &weight)?;
    let attributes = [
        Attribute::Ints("strides", &strides),
        Attribute::Int("group", i64::try_from(*read.get(1)?).ok()?),
    ];
    let found = back
        .graph
        .node("ConvTranspose", &[back.output()?, &weight], &attributes);
    back.give(0, found);
    Some(())
}

/// The gradient goes to where the maxima were, which the indices of the pooling say.
fn of_max(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    const ADDS: i64 = 16;
    if view.node.int("storage_order", 0) != 0 {
        return None;
    }
    let whole = shape(view, 0)?;
    let names = ["kernel_shape", "strides", "pads", "dilations"];
    let mut attributes: Vec<Attribute<'_>> = names
        .iter()
        .filter_map(|name| Some(Attribute::Ints(name, view.node.ints(name)?)))
        .collect();
    let padding = view.node.text("auto_pad", "NOTSET");
    attributes.push(Attribute::Text("auto_pad", &padding));
    attributes.push(Attribute::Int("ceil_mode", view.node.int("ceil_mode", 0)));
    let [_, places] = back
        .graph
        .nodes_of("MaxPool", &[input(view, 0)?], &attributes);
    if view.graph.opset < ADDS {
        return of_apart(view, &places, back);
    }
    let flat = [whole.iter().product::<usize>()];
    let made = [view.output_shape().ok()?.iter().product::<usize>()];
    let places = reshaped(back, &places, &made)?;
    let gradient = reshaped(back, back.output()?, &made)?;
    let zero = number(back, 0.0);
    let zeros = repeated(back, &zero, &flat)?;
    let attributes = [
        Attribute::Int("axis", 0),
        Attribute::Text("reduction", "add"),
    ];
    let found = back.graph.node(
        "ScatterElements",
        &[&zeros, &places, &gradient],
        &attributes,
    );
    let found = reshaped(back, &found, whole)?;
    back.give(0, found);
    Some(())
}

/// The same where no two windows share a position.
fn of_apart(view: NodeView<'_>, places: &str, back: &mut Backward<'_>) -> Option<()> {
    let kernel = view.node.ints("kernel_shape")?;
    let is_apart = view.node.ints("strides") == Some(kernel);
    let pads = view.node.ints("pads").unwrap_or_default();
    if !is_apart || pads.iter().any(|&pad| pad != 0) {
        return None;
    }
    let whole = list(back, &all_ints(shape(view, 0)?))?;
    let attributes = [
        Attribute::Ints("kernel_shape", kernel),
        Attribute::Ints("strides", kernel),
    ];
    let inputs = [back.output()?, places, &whole];
    let found = back.graph.node(MAX_UNPOOL, &inputs, &attributes);
    back.give(0, found);
    Some(())
}

/// Whether nothing reads the indices but nodes that undo the pooling, to the size that it had:
/// where channels leave, both count through fewer.
fn is_undone(view: NodeView<'_>, indices: ValueId) -> bool {
    let value = &view.graph.values[indices];
    let whole = view.input(0).and_then(|input| view.shape(input).ok());
    let undoes = |&(node, slot): &(NodeId, usize)| {
        let reader = view.graph.view(node);
        let made = reader.output_shape().ok();
        is_unpool(reader) && slot == UNPOOLED && made.is_some() && made == whole
    };
    !value.is_output && !value.is_captured && value.readers.iter().all(undoes)
}

fn is_unpool(view: NodeView<'_>) -> bool {
    view.node.domain.is_empty() && view.node.op_type == MAX_UNPOOL
}

/// Inputs of MaxUnpool: where its data go, and the shape of what it makes.
const UNPOOLED: usize = 1;
const SHAPE: usize = 2;

/// Puts data back to where a MaxPool found its maxima.
struct MaxUnpool;

impl Operator for MaxUnpool {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let (data, indices) = (view.need(0)?, view.need(UNPOOLED)?);
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let producer = view.graph.values[indices].producer;
        let pool = producer
            .map(|node| view.graph.view(node))
            .filter(|pool| pool.output(INDICES) == Some(indices) && is_undone(*pool, indices));
        if pool.is_none() {
            return Err(Freeze::new(
                "its indices are not those of a pooling of what it makes",
            ));
        }
        for axis in (0..view.shape(data)?.len()).filter(|&axis| axis != 1) {
            for value in [data, indices] {
                walk.freeze_axis(value, axis, view.id, "it lays the tracked axis out anew");
            }
        }
        let mut axes = vec![None; view.output_shape()?.len()];
        match (walk.axis(data, 1), walk.axis(indices, 1)) {
            (Some(map), Some(other)) => {
                walk.tie(&map, &other)?;
                if let Some(slot) = axes.get_mut(1) {
                    *slot = Some(map);
                }
            }
            (Some(map), None) | (None, Some(map)) => {
                let text = "it combines the channels with others that are not pruned";
                walk.freeze(&map, view.id, text);
            }
            (None, None) => {}
        }
        if view.input(SHAPE).is_some() {
            walk.follow_sizes((view.id, SHAPE), &axes, |_, _| false)?;
        }
        walk.set(output, axes)
    }

    fn reads_sizes(&self) -> bool {
        true
    }
}
