//! What must hold after a stage, whatever the model: looked at in debug builds.

use crate::groups::Groups;
use crate::onnx::Model;
use crate::select::Selection;

/// No channel is in two groups, and none in a group twice.
pub(super) fn partition(groups: &Groups) -> Result<(), String> {
    let mut owner = vec![None; groups.channel_count];
    for group in &groups.groups {
        for &channel in &group.channels {
            let Some(owner) = owner.get_mut(channel) else {
                let count = groups.channel_count;
                return Err(format!("'{}' has channel {channel} of {count}", group.name));
            };
            if let Some(other) = owner.replace(&group.name) {
                return Err(format!(
                    "channel {channel} is of '{other}' and '{}'",
                    group.name
                ));
            }
        }
    }
    Ok(())
}

/// The selection speaks of every group, and its scores do.
pub(super) fn widths(groups: &Groups, selection: &Selection) -> Result<(), String> {
    let count = groups.groups.len();
    let (planned, scored) = (selection.plan.groups.len(), selection.scores.len());
    if planned == count && scored == count {
        Ok(())
    } else {
        Err(format!(
            "{planned} groups planned and {scored} scored of {count}"
        ))
    }
}

/// The model has the structure that its format asks for.
pub(super) fn model(model: &Model) -> Result<(), String> {
    model.check().map_err(|error| error.to_string())
}
