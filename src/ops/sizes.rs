//! Lengths of axes as data: Shape, and how its entries travel to where they are used.

use std::ops::Range;

use crate::graph::{Freeze, Graph, Node, NodeId, NodeView, view::normalize_axis};
use crate::groups::{Operator, Size, Walk};
use crate::onnx::{DataType, Tensor};

/// Nodes that are followed to and from a list of sizes, and factors of one number.
const MOST_FOLLOWED: usize = 1024;
const MOST_FACTORS: usize = 4;

pub(super) struct Shape;

impl Operator for Shape {
    fn trace(&self, _: NodeView<'_>, _: &mut Walk<'_>) -> Result<(), Freeze> {
        Ok(())
    }
}

/// Whether the node's output holds lengths of axes, whatever it reads.
#[must_use]
pub fn starts(node: &Node) -> bool {
    node.domain.is_empty() && matches!(node.op_type.as_str(), "Shape" | "Size")
}

/// What a node that [`starts`] makes, where the shape of what it reads is known.
#[must_use]
pub fn told(view: NodeView<'_>) -> Option<Tensor> {
    let shape = view.shape(view.input(0)?).ok()?;
    let int = |size: usize| i64::try_from(size).ok();
    if view.node.op_type == "Size" {
        let product = shape.iter().try_fold(1_usize, |n, &s| n.checked_mul(s))?;
        return Tensor::from_i64(&[], &[int(product)?]).ok();
    }
    let told = shape.get(axes_told(view, shape.len()))?;
    let sizes: Vec<i64> = told.iter().map(|&size| int(size)).collect::<Option<_>>()?;
    Tensor::from_i64(&[sizes.len()], &sizes).ok()
}

/// Whether the node computes few numbers from few: where it reads lengths of axes and constants
/// only, its output is a *count*.
#[must_use]
pub fn computes(node: &Node) -> bool {
    const MOVES: &[&str] = &[
        "Cast",
        "Concat",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Squeeze",
        "Unsqueeze",
    ];
    node.domain.is_empty() && (MOVES.contains(&node.op_type.as_str()) || is_arithmetic(node))
}

fn is_arithmetic(node: &Node) -> bool {
    const NAMES: &[&str] = &[
        "Abs",
        "Add",
        "Ceil",
        "Div",
        "Equal",
        "Floor",
        "Greater",
        "Less",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Pow",
        "Reciprocal",
        "ReduceProd",
        "Round",
        "Sqrt",
        "Sub",
        "Where",
    ];
    NAMES.contains(&node.op_type.as_str())
}

/// What the entries of the node's output stand for, if the node makes or moves lengths of axes.
#[must_use]
pub fn flow(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    if !view.node.domain.is_empty() {
        return None;
    }
    let data = view.input(0)?;
    if is_test_for_open(view) {
        return Some(Vec::new());
    }
    if let Some(sizes) = is_arithmetic(view.node)
        .then(|| computed(view, walk))
        .flatten()
    {
        return Some(sizes);
    }
    match view.node.op_type.as_str() {
        "Shape" => Some(axes_of(view, data)),
        "Concat" => joined(view, walk),
        "Mul" => multiplied(view, walk),
        "Where" => chosen(view, walk),
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

/// Arithmetic on numbers that follow from channel counts and constants gives more of them.
fn computed(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    let inputs: Vec<_> = view.node.inputs.iter().flatten().copied().collect();
    let is_known =
        |&value: &usize| view.graph.values[value].constant.is_some() || walk.is_counted(value);
    let count = view.output_shape().ok()?.iter().product();
    (inputs.iter().all(is_known) && inputs.iter().any(|&value| walk.sizes(value).is_some()))
        .then(|| vec![Size::Count; count])
}

/// The number that leaves a length open for all that reads a size which this node joins or reads:
/// -1 in a Reshape that has none yet, 1 in an Expand.
#[must_use]
pub fn open_entry(graph: &Graph, node: NodeId) -> Option<i64> {
    open_entry_of(graph, node, &mut { MOST_FOLLOWED })
}

/// `left` nodes may be followed: joined twice again and again, few make as many ways as one likes.
fn open_entry_of(graph: &Graph, node: NodeId, left: &mut usize) -> Option<i64> {
    *left = left.checked_sub(1)?;
    let view = graph.view(node);
    if view.node.op_type != "Concat" {
        return None;
    }
    let mut found = None;
    for &(reader, slot) in &graph.values[view.output(0)?].readers {
        let reader = graph.view(reader);
        let open = match (reader.node.op_type.as_str(), slot) {
            ("Reshape", 1) => {
                let target = reader.constant_or_count(1)?.to_i64().ok()?;
                let given = entries_given(graph, reader.input(1)?, left)?;
                (!target.contains(&-1) && !given.contains(&-1)).then_some(-1)?
            }
            ("Expand", 1) => 1,
            ("Concat", _) => open_entry_of(graph, reader.id, left)?,
            _ => return None,
        };
        if *found.get_or_insert(open) != open {
            return None;
        }
    }
    found
}

/// The constants that a tensor of sizes is joined from.
fn entries_given(graph: &Graph, value: usize, left: &mut usize) -> Option<Vec<i64>> {
    *left = left.checked_sub(1)?;
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
            given.extend(entries_given(graph, input, left)?);
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
    let shown = view.constant_or_count(OTHERWISE)?.to_i64().ok()?;
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
        let value = view.input(slot);
        value.and_then(|value| filled_with(view.graph, value, MOST_FACTORS)) == Some(-1)
    };
    view.node.op_type == "Equal" && (is_open(0) || is_open(1))
}

/// The integer that all entries of a value are, where that can be seen.
fn filled_with(graph: &Graph, value: usize, depth: usize) -> Option<i64> {
    let depth = depth.checked_sub(1)?;
    let known = &graph.values[value];
    if let Some(constant) = &known.constant {
        let ints = constant.to_i64().ok()?;
        let first = *ints.first()?;
        return ints.iter().all(|&int| int == first).then_some(first);
    }
    let view = graph.view(known.producer?);
    match view.node.op_type.as_str() {
        "ConstantOfShape" => {
            let value = view
                .node
                .attributes
                .get("value")
                .and_then(|a| a.t.as_ref())?;
            let value = crate::onnx::Tensor::from_proto(value).ok()?;
            value.to_i64().ok()?.first().copied()
        }
        "Mul" => {
            let left = filled_with(graph, view.input(0)?, depth)?;
            left.checked_mul(filled_with(graph, view.input(1)?, depth)?)
        }
        _ => None,
    }
}

fn axes_of(view: NodeView<'_>, data: usize) -> Vec<Size> {
    let rank = view.shape(data).map_or(0, <[usize]>::len);
    axes_told(view, rank)
        .map(|axis| Size::Axis(data, axis))
        .collect()
}

/// The axes of a tensor of `rank` axes whose lengths the node tells: its attributes may leave some out.
fn axes_told(view: NodeView<'_>, rank: usize) -> Range<usize> {
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
    let start = bound("start", 0);
    start..bound("end", length).max(start)
}

fn joined(view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
    let inputs: Vec<_> = view.node.inputs.iter().flatten().copied().collect();
    if !inputs.iter().any(|&value| walk.sizes(value).is_some()) {
        return None;
    }
    let mut sizes = Vec::new();
    for (slot, &value) in inputs.iter().enumerate() {
        let at = (view.id, slot);
        let known = &view.graph.values[value];
        let may_replace = known.dtype.is_some_and(is_index) && known.observed.is_some();
        let alone = |size: Size| {
            if may_replace {
                Size::Seat(at, Box::new(size))
            } else {
                size
            }
        };
        let count = view.shape(value).ok()?.iter().product();
        match walk.sizes(value) {
            // Seen from here they are constants, which can be replaced one by one.
            Some(known) if known.contains(&Size::Count) => {
                sizes.extend((0..count).map(|index| Size::Constant((view.id, slot), index)));
            }
            Some([one @ (Size::Axis(..) | Size::Product(..) | Size::Other)]) => {
                sizes.push(alone(one.clone()));
            }
            Some(known) => sizes.extend_from_slice(known),
            None if is_integer(view, slot) => {
                sizes.extend((0..count).map(|index| Size::Constant((view.id, slot), index)));
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
