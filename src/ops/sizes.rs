//! Lengths of axes as data: Shape, and how its entries travel to where they are used.

use crate::graph::{Graph, NodeId, NodeView, view::normalize_axis};
use crate::groups::{Size, Walk};
use crate::onnx::DataType;
use crate::ops::{Freeze, Operator};

pub(super) struct Shape;

impl Operator for Shape {
    fn trace(&self, _: NodeView<'_>, _: &mut Walk<'_>) -> Result<(), Freeze> {
        Ok(())
    }
}

/// What the entries of the node's output stand for, if the node makes or moves lengths of axes.
#[must_use]
pub fn flow(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    if !view.node.domain.is_empty() {
        return None;
    }
    let data = view.input(0)?;
    match view.node.op_type.as_str() {
        "Shape" => Some(axes_of(view, data)),
        "Concat" => joined(view, walk),
        "Mul" => multiplied(view, walk),
        "Where" => chosen(view, walk),
        "Equal" if is_test_for_open(view) => Some(Vec::new()),
        "Gather" => {
            let sizes = walk.sizes(data)?;
            let indices = view.constant_ints(1).ok()??;
            indices
                .iter()
                .map(|&i| sizes.get(normalize_axis(i, sizes.len()).ok()?).cloned())
                .collect()
        }
        "Slice" => sliced(view, walk.sizes(data)?),
        "Squeeze" | "Unsqueeze" | "Cast" | "Identity" | "Reshape" => {
            walk.sizes(data).map(<[Size]>::to_vec)
        }
        _ => None,
    }
}

/// The number that leaves a length open for all that reads a size which this node joins or reads:
/// -1 in a Reshape that has none yet, 1 in an Expand.
#[must_use]
pub fn open_entry(graph: &Graph, node: NodeId) -> Option<i64> {
    let view = graph.view(node);
    if view.node.op_type != "Concat" {
        return None;
    }
    let mut found = None;
    for &(reader, slot) in &graph.values[view.output(0)?].readers {
        let reader = graph.view(reader);
        let open = match (reader.node.op_type.as_str(), slot) {
            ("Reshape", 1) => {
                let target = reader.observed(1)?.to_i64().ok()?;
                let given = entries_given(graph, reader.input(1)?)?;
                (!target.contains(&-1) && !given.contains(&-1)).then_some(-1)?
            }
            ("Expand", 1) => 1,
            ("Concat", _) => open_entry(graph, reader.id)?,
            _ => return None,
        };
        if *found.get_or_insert(open) != open {
            return None;
        }
    }
    found
}

/// The constants that a tensor of sizes is joined from.
fn entries_given(graph: &Graph, value: usize) -> Option<Vec<i64>> {
    let known = &graph.values[value];
    if let Some(constant) = &known.constant {
        return constant.to_i64().ok();
    }
    let Some(producer) = known.producer else {
        return Some(Vec::new());
    };
    let mut given = Vec::new();
    if graph.nodes[producer].op_type == "Concat" {
        for &input in graph.nodes[producer].inputs.iter().flatten() {
            given.extend(entries_given(graph, input)?);
        }
    }
    Some(given)
}

/// Where(shape == -1, ones, shape), as an exporter writes the target of an Expand: the shape.
fn chosen(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    const CONDITION: usize = 0;
    const OTHERWISE: usize = 2;
    let condition = view.graph.values[view.input(CONDITION)?].producer?;
    let condition = view.graph.view(condition);
    let shape = view.input(OTHERWISE)?;
    let sizes = walk.sizes(shape)?;
    let shown = view.observed(OTHERWISE)?.to_i64().ok()?;
    if !condition.node.inputs.contains(&Some(shape)) || !is_test_for_open(condition) {
        return None;
    }
    let entry = |(size, int): (&Size, &i64)| {
        if *int == -1 {
            Size::Other
        } else {
            size.clone()
        }
    };
    Some(sizes.iter().zip(&shown).map(entry).collect())
}

/// Whether the node compares a shape with -1, which no length is.
fn is_test_for_open(view: NodeView<'_>) -> bool {
    let is_open = |slot: usize| {
        let known = view.constant(slot).or_else(|| view.observed(slot));
        let ints = known.and_then(|tensor| tensor.to_i64().ok());
        ints.is_some_and(|ints| ints.iter().all(|&int| int == -1))
    };
    view.node.op_type == "Equal" && (is_open(0) || is_open(1))
}

fn axes_of(view: NodeView<'_>, data: usize) -> Vec<Size> {
    let rank = view.shape(data).map_or(0, <[usize]>::len);
    let length = i64::try_from(rank).unwrap_or(i64::MAX);
    let bound = |name: &str, default: i64| {
        let int = view.node.int(name, default);
        let int = if int < 0 {
            int.saturating_add(length)
        } else {
            int
        };
        usize::try_from(int.clamp(0, length)).unwrap_or(0)
    };
    (bound("start", 0)..bound("end", length))
        .map(|axis| Size::Axis(data, axis))
        .collect()
}

fn joined(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    let inputs: Vec<_> = view.node.inputs.iter().flatten().copied().collect();
    if !inputs.iter().any(|&value| walk.sizes(value).is_some()) {
        return None;
    }
    let mut sizes = Vec::new();
    for (slot, &value) in inputs.iter().enumerate() {
        let count = view.shape(value).ok()?.iter().product();
        let at = (view.id, slot);
        let is_length = view.graph.values[value].dtype.is_some_and(is_index);
        let alone = |size: Size| {
            if is_length {
                Size::Seat(at, Box::new(size))
            } else {
                size
            }
        };
        match walk.sizes(value) {
            Some([one @ (Size::Axis(..) | Size::Product(..) | Size::Other)]) => {
                sizes.push(alone(one.clone()));
            }
            Some(known) => sizes.extend_from_slice(known),
            None if is_integer(view, slot) => {
                sizes.extend((0..count).map(|index| Size::Constant(at, index)));
            }
            None if count == 1 => sizes.push(alone(Size::Other)),
            None => sizes.extend(std::iter::repeat_n(Size::Other, count)),
        }
    }
    Some(sizes)
}

/// A length times a constant, as where heads and samples share an axis.
fn multiplied(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    let [left, right] = *view.node.inputs.as_slice() else {
        return None;
    };
    let (length, slot) = if is_integer(view, 0) {
        (right?, 0)
    } else {
        (left?, 1)
    };
    let is_one = view.constant(slot).is_some_and(|tensor| tensor.len() == 1);
    match walk.sizes(length)? {
        [size] if is_one && is_integer(view, slot) => {
            Some(vec![Size::Product((view.id, slot), Box::new(size.clone()))])
        }
        _ => None,
    }
}

fn is_integer(view: NodeView<'_>, slot: usize) -> bool {
    let constant = view.constant(slot);
    constant.is_some_and(|tensor| is_index(tensor.dtype))
}

fn is_index(dtype: DataType) -> bool {
    matches!(dtype, DataType::Int32 | DataType::Int64)
}

fn sliced(view: NodeView<'_>, sizes: &[Size]) -> Option<Vec<Size>> {
    let length = i64::try_from(sizes.len()).ok()?;
    let first = |list: Option<Vec<i64>>, default: i64| match list {
        Some(list) => list.first().copied(),
        None => Some(default),
    };
    let clamp = |int: i64| {
        let int = if int < 0 {
            int.saturating_add(length)
        } else {
            int
        };
        usize::try_from(int.clamp(0, length)).ok()
    };
    if first(view.constant_ints(4).ok()?, 1)? != 1 {
        return None;
    }
    let start = clamp(first(view.ints("starts", 1).ok()?, 0)?)?;
    let end = clamp(first(view.ints("ends", 2).ok()?, length)?)?;
    sizes.get(start..end.max(start)).map(<[Size]>::to_vec)
}
