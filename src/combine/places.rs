//! Where the channels of each group are.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{GroupId, NodeId, Table, ValueId};
use crate::groups::{ChannelMap, Groups};
use crate::select::group_of;

/// The tensors and constants that the channels of one group lie on, with the axis.
#[derive(Default)]
pub(super) struct Places {
    pub values: BTreeMap<ValueId, usize>,
    /// Constants, by the node and its input slot.
    pub uses: BTreeMap<(NodeId, usize), usize>,
    /// They share an axis with others, lie on it several times, or come in another order.
    pub is_mixed: bool,
    /// They lie along two axes of one tensor.
    pub is_twice: bool,
}

/// All places of every group, in one pass.
pub(super) fn places(groups: &Groups) -> Table<GroupId, Places> {
    let group_of = group_of(groups);
    let mut places: Table<GroupId, Places> =
        groups.groups.iter().map(|_| Places::default()).collect();
    let owners = |map: &ChannelMap| -> BTreeSet<GroupId> {
        let owners = map.iter().filter_map(|&channel| group_of.get(channel));
        owners.copied().collect()
    };
    let mut note = |map: &ChannelMap, put: &mut dyn FnMut(&mut Places) -> bool| {
        for owner in owners(map) {
            let (Some(places), Some(group)) = (places.get_mut(owner), groups.groups.get(owner))
            else {
                continue;
            };
            places.is_twice |= !put(places);
            places.is_mixed |= *map != group.channels;
        }
    };
    for (value, axes) in groups.values.entries() {
        for (axis, map) in axes.iter().enumerate() {
            if let Some(map) = map {
                note(map, &mut |places| {
                    places.values.insert(value, axis).is_none()
                });
            }
        }
    }
    for (&at, axes) in &groups.uses {
        for (axis, map) in axes.iter().enumerate() {
            if let Some(map) = map {
                note(map, &mut |places| places.uses.insert(at, axis).is_none());
            }
        }
    }
    places
}
