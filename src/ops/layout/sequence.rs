//! SplitToSequence and SequenceAt: a split whose parts are picked by number.

use crate::graph::{Freeze, NodeView, view::normalize_axis};
use crate::groups::{AxisMap, Edit, Kept, Operator, Walk};
use crate::onnx::Tensor;
use crate::ops::Entry;

const CHANNELS: &str =
    "parts of the channels, as Split; a sequence that anything else reads freezes";

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(&["SplitToSequence"], &SplitToSequence, CHANNELS),
    Entry::standard(&["SequenceAt"], &SequenceAt, CHANNELS),
    Entry::standard(
        &["SequenceConstruct"],
        &SequenceConstruct,
        "a node that lacks one of its inputs is refused",
    ),
];

const SPLIT: usize = 1;

struct SplitToSequence;

impl SplitToSequence {
    /// The axis and the lengths of the parts.
    fn parts(view: NodeView<'_>) -> Result<(usize, Vec<usize>), Freeze> {
        let shape = view.shape(view.need(0)?)?;
        let axis = normalize_axis(view.node.int("axis", 0), shape.len())?;
        let length = shape.get(axis).copied().unwrap_or(0);
        let Some(sizes) = view.constant_ints(SPLIT)? else {
            return Err(Freeze::new("it makes a part of every position"));
        };
        let sizes: Result<Vec<usize>, _> = sizes.into_iter().map(usize::try_from).collect();
        let sizes = sizes.map_err(|_| Freeze::new("a part has a negative length"))?;
        let is_scalar = view.shape(view.need(SPLIT)?)?.is_empty();
        let parts = match sizes.first() {
            Some(&step) if is_scalar && step > 0 => (0..length)
                .step_by(step)
                .map(|start| step.min(length - start))
                .collect(),
            _ => sizes,
        };
        if parts.iter().sum::<usize>() != length {
            return Err(Freeze::new("its parts do not add up to the axis"));
        }
        Ok((axis, parts))
    }
}

impl Operator for SplitToSequence {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        if !walk.is_tracked(input) {
            return Ok(());
        }
        let (along, lengths) = SplitToSequence::parts(view)?;
        let whole = walk.axis(input, along);
        let mut start = 0;
        let mut parts = Vec::new();
        for length in lengths {
            let mut axes = walk.axes(input);
            if let (Some(slot), Some(map)) = (axes.get_mut(along), &whole) {
                *slot = map.get(start..start + length).map(AxisMap::from);
            }
            start += length;
            parts.push(axes);
        }
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set_sequence(output, parts);
        Ok(())
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let (along, lengths) = SplitToSequence::parts(view)?;
        let Some(map) = kept.map(view.need(0)?, along) else {
            return Ok(Vec::new());
        };
        let mut start = 0;
        let mut sizes = Vec::new();
        for length in lengths {
            let part = map.get(start..start + length).unwrap_or_default();
            let left = part.iter().filter(|&&channel| kept.has(channel)).count();
            sizes.push(i64::try_from(left).map_err(|_| Freeze::new("an axis is too long"))?);
            start += length;
        }
        let tensor = Tensor::from_i64(&[sizes.len()], &sizes);
        let tensor = tensor.map_err(|error| Freeze::new(error.to_string()))?;
        Ok(vec![Edit::Input(SPLIT, tensor)])
    }
}

struct SequenceAt;

impl Operator for SequenceAt {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let Some(parts) = walk.sequence(view.need(0)?) else {
            return Ok(());
        };
        let position = view.constant_ints(1)?.unwrap_or_default();
        let [position] = position.as_slice() else {
            return Err(Freeze::new("it has no position"));
        };
        let axes = parts.get(normalize_axis(*position, parts.len())?).cloned();
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes.unwrap_or_default())
    }
}

struct SequenceConstruct;

impl Operator for SequenceConstruct {
    fn is_followed(&self) -> bool {
        false
    }

    fn reads_all_slots(&self) -> bool {
        true
    }
}
