//! The plan: which channels of every group stay. A plain value that can be written and read.

use serde::{Deserialize, Serialize};

use crate::groups::{Groups, Widths};
use crate::select::{PlannedInput, PlannedTensor, SelectError};

/// The channels that stay, per group that may be pruned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plan {
    /// One entry for each group of the model, in its order; frozen groups too.
    pub groups: Vec<PlannedGroup>,
    /// Inputs of the model as they were fed when shapes were observed. Only written, as the tensors
    /// are: the groups say it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<PlannedInput>,
    /// Stored tensors of the model that lose positions, once for each node that reads one. Left out
    /// where nothing leaves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<PlannedTensor>,
}

/// The channels of one group that stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedGroup {
    /// The group's name, that of the first node that makes its channels.
    pub name: String,
    /// Channels of the group in the original model.
    pub channels: usize,
    /// Channels that stay, ascending, counted from 0.
    pub kept: Vec<usize>,
    /// The channels that stay are linear combinations of the original's, the most telling first.
    /// Left out where they are not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub combined: bool,
}

impl Plan {
    /// The plan in which only the channels with `stays` are left.
    #[must_use]
    pub fn of(groups: &Groups, stays: &[bool]) -> Self {
        let planned = groups.groups.iter().map(|group| {
            let kept = (0..group.channels.len())
                .filter(|&index| stays.get(group.channels[index]).copied().unwrap_or(true));
            PlannedGroup {
                name: group.name.clone(),
                channels: group.channels.len(),
                kept: kept.collect(),
                combined: false,
            }
        });
        Plan {
            groups: planned.collect(),
            ..Plan::default()
        }
    }

    /// Whether each channel of `groups` stays.
    ///
    /// # Errors
    /// The plan was made for other groups, leaves one empty, or prunes a frozen one.
    pub fn stays(&self, groups: &Groups) -> Result<Vec<bool>, SelectError> {
        let mismatch = |group: &str, found: String| SelectError::Plan {
            group: group.to_owned(),
            found,
        };
        if self.groups.len() != groups.groups.len() {
            let found = format!(
                "{} groups in the plan, {} in the model",
                self.groups.len(),
                groups.groups.len()
            );
            return Err(mismatch("(all)", found));
        }
        let mut stays = vec![true; groups.channel_count];
        for (planned, group) in self.groups.iter().zip(&groups.groups) {
            if planned.name != group.name || planned.channels != group.channels.len() {
                let found = format!(
                    "{} channels of '{}' in the plan, {} of '{}' in the model",
                    planned.channels,
                    planned.name,
                    group.channels.len(),
                    group.name
                );
                return Err(mismatch(&planned.name, found));
            }
            if planned
                .kept
                .windows(2)
                .any(|pair| pair.first() >= pair.last())
            {
                return Err(mismatch(
                    &planned.name,
                    "kept channels that do not ascend".to_owned(),
                ));
            }
            if planned.kept.is_empty() && planned.channels > 0 {
                return Err(mismatch(
                    &planned.name,
                    "no channel kept, at least one must be".to_owned(),
                ));
            }
            if planned.kept.len() < planned.channels && !group.frozen.is_empty() {
                return Err(mismatch(&planned.name, "a frozen group pruned".to_owned()));
            }
            for &channel in &group.channels {
                stays[channel] = false;
            }
            for &kept in &planned.kept {
                let channel = group.channels.get(kept).ok_or_else(|| {
                    mismatch(
                        &planned.name,
                        format!("channel {kept} of {}", planned.channels),
                    )
                })?;
                stays[*channel] = true;
            }
        }
        Ok(stays)
    }

    /// The number of channels left in every group.
    #[must_use]
    pub fn widths(&self) -> Widths {
        self.groups.iter().map(|group| group.kept.len()).collect()
    }
}
