//! The view of a graph's tensors after some channels left.

use crate::graph::{NodeId, ValueId};
use crate::groups::{ChannelAxes, ChannelId, ChannelMap, Groups};

/// Which channels stay, and what that means for each tensor.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    groups: &'a Groups,
    stays: &'a [bool],
}

impl<'a> Kept<'a> {
    /// `stays` has one entry per channel.
    #[must_use]
    pub fn new(groups: &'a Groups, stays: &'a [bool]) -> Self {
        Kept { groups, stays }
    }

    /// The groups.
    #[must_use]
    pub fn groups(&self) -> &'a Groups {
        self.groups
    }

    /// Whether a channel stays.
    #[must_use]
    pub fn has(&self, channel: ChannelId) -> bool {
        self.stays.get(channel).copied().unwrap_or(true)
    }

    /// The positions of a map that stay.
    #[must_use]
    pub fn positions(&self, map: &ChannelMap) -> Vec<usize> {
        (0..map.len())
            .filter(|&position| self.has(map[position]))
            .collect()
    }

    /// How many positions of a map stay.
    #[must_use]
    pub fn count(&self, map: &ChannelMap) -> usize {
        map.iter().filter(|&&channel| self.has(channel)).count()
    }

    /// The channels along an axis of a value, if it is tracked.
    #[must_use]
    pub fn map(&self, value: ValueId, axis: usize) -> Option<&'a ChannelMap> {
        self.groups.values.get(value)?.get(axis)?.as_ref()
    }

    /// The length of an axis of a value that had `length` positions.
    #[must_use]
    pub fn length(&self, value: ValueId, axis: usize, length: usize) -> usize {
        self.map(value, axis).map_or(length, |map| self.count(map))
    }

    /// The axes of a constant where a node reads it, if channels cut it.
    #[must_use]
    pub fn cut(&self, node: NodeId, slot: usize) -> Option<&'a ChannelAxes> {
        self.groups.uses.get(&(node, slot))
    }
}
