//! Which groups a run combines the channels of.

use crate::combine::{self, Combined};
use crate::graph::{GroupId, Table};
use crate::pipeline::Error;
use crate::pipeline::open::Subject;
use crate::select::{Plan, SelectError};
use crate::statistics::Statistics;

/// What decides which channels are combined.
pub(super) struct Combining<'a> {
    /// The plan, which says it for each group.
    pub plan: Option<&'a Plan>,
    /// Whether real data tell the directions: noise does not show which ones matter.
    pub is_told: bool,
    /// Whether channels without a plan are to be combined; ranks know no combinations.
    pub is_wanted: bool,
}

impl Combining<'_> {
    /// Whether the plan, if any, keeps combinations.
    pub fn plans_any(&self, subject: &Subject<'_>) -> Result<bool, Error> {
        Ok(self.plan.is_some() && self.wanted(subject)?.iter().any(|&group| group))
    }

    /// Per group, whether its channels are to be combined where that can be: those of the plan, or
    /// all where data tell the directions.
    fn wanted(&self, subject: &Subject<'_>) -> Result<Table<GroupId, bool>, Error> {
        let Some(plan) = self.plan else {
            let wanted = self.is_wanted && self.is_told;
            return Ok(vec![wanted; subject.groups.groups.len()].into());
        };
        plan.stays(&subject.groups)?;
        let combined = planned(subject, plan)?;
        if combined.iter().any(|&is_combined| is_combined) && !self.is_told {
            Err(Error::UntoldCombinations)
        } else {
            Ok(combined)
        }
    }
}

/// The model in the channels that the request and the data ask for; the statistics are turned with
/// it.
///
/// # Errors
/// A plan that does not fit the model or the data, or weights that cannot be turned.
pub(super) fn combine(
    subject: &Subject<'_>,
    request: &Combining<'_>,
    statistics: &mut Statistics,
) -> Result<Option<Combined>, Error> {
    let wanted = request.wanted(subject)?;
    let wanted = |group: GroupId| wanted.get(group).copied().unwrap_or(false);
    let (model, graph, groups) = (&subject.model, &subject.graph, &subject.groups);
    Ok(combine::combine(model, graph, groups, statistics, &wanted)?)
}

/// The groups of the plan that keep combinations.
fn planned(subject: &Subject<'_>, plan: &Plan) -> Result<Table<GroupId, bool>, SelectError> {
    let combinable = combine::combinable(&subject.graph, &subject.groups);
    let planned = plan.groups.iter().zip(&combinable);
    let wanted = planned.map(|(planned, &can_be)| {
        if planned.combined && !can_be {
            Err(SelectError::Plan {
                group: planned.name.clone(),
                found: "combinations of channels that not only linear layers touch".to_owned(),
            })
        } else {
            Ok(planned.combined)
        }
    });
    wanted.collect()
}
