//! GroupNormalization: channels of whole groups leave, which changes nothing for the others.

use crate::graph::{Freeze, NodeView};
use crate::groups::{AxisMap, Edit, Kept, Operator, Walk};
use crate::ops::Entry;
use crate::ops::norm::{OVER_CHANNELS, need_constants, others, pass};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["GroupNormalization"],
    &GroupNormalization,
    "\
        whole groups leave, which changes nothing for the others, as where it is written as \
        InstanceNormalization between two Reshapes; `num_groups` and the parameters follow",
)];

struct GroupNormalization;

impl GroupNormalization {
    /// Number of groups and channels of each.
    fn sizes(view: NodeView<'_>) -> Result<(usize, usize), Freeze> {
        let shape = view.shape(view.need(0)?)?;
        let channels = shape.get(1).copied().unwrap_or(0);
        let groups = usize::try_from(view.node.int("num_groups", 0)).unwrap_or(0);
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Freeze::new("its groups do not divide its channels"));
        }
        Ok((groups, channels / groups))
    }
}

impl Operator for GroupNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let input = view.need(0)?;
        let (groups, size) = GroupNormalization::sizes(view)?;
        for axis in others(view)? {
            walk.freeze_axis(input, axis, view.id, OVER_CHANNELS);
        }
        need_constants(view, 1..3)?;
        if let Some(map) = walk.axis(input, 1) {
            if groups == 1 && !walk.scope().normalized {
                walk.freeze(&map, view.id, OVER_CHANNELS);
            }
            let firsts: AxisMap = map.iter().step_by(size.max(1)).copied().collect();
            if groups > 1 {
                let whole = firsts
                    .iter()
                    .flat_map(|&atom| std::iter::repeat_n(atom, size));
                walk.tie(&map, &whole.collect())?;
            }
            for slot in 1..3 {
                // Before opset 21, a parameter for each group.
                let length = view.shape(view.need(slot)?)?.first().copied();
                let map = if length == Some(map.len()) {
                    &map
                } else {
                    &firsts
                };
                if groups > 1 || length == Some(map.len()) {
                    walk.cut((view.id, slot), 0, map)?;
                }
            }
        }
        pass(view, walk, input)
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let (groups, size) = GroupNormalization::sizes(view)?;
        let left = kept.length(view.need(0)?, 1, groups * size);
        if groups == 1 || left == groups * size {
            return Ok(Vec::new());
        }
        let groups = i64::try_from(left / size).map_err(|_| Freeze::new("too many groups"))?;
        Ok(vec![Edit::Int("num_groups", groups)])
    }
}
