//! Which groups a run combines the channels of.

use crate::combine::{self, Combined};
use crate::graph::Graph;
use crate::onnx::Model;
use crate::pipeline::work::{Evidence, Work};
use crate::pipeline::{Error, Options, options};
use crate::select::{Plan, SelectError};
use crate::statistics::{Estimator, Statistics};

impl Work {
    /// The model in the channels that the options and the data ask for; the statistics are turned with it.
    pub(super) fn combined(
        &self,
        options: &Options,
        statistics: &mut Statistics,
    ) -> Result<Option<Combined>, Error> {
        let wanted = self.to_combine(options)?;
        let wanted = |group: usize| wanted.get(group).copied().unwrap_or(false);
        let (model, graph, groups) = (&self.model, &self.graph, &self.groups);
        Ok(combine::combine(model, graph, groups, statistics, &wanted)?)
    }

    /// Per group, whether its channels are to be combined where that can be: those of the plan, or all where
    /// data tell the directions. Ranks know no combinations, and noise does not show which ones matter.
    fn to_combine(&self, options: &Options) -> Result<Vec<bool>, Error> {
        let is_told = !self.samples.is_synthetic() || !options.stats.is_empty();
        if let Some(path) = &options.plan {
            let plan: Plan = options::read_json(path)?;
            plan.stays(&self.groups)?;
            let combined = self.combined_in(&plan)?;
            return match combined.contains(&true) && !is_told {
                true => Err(Error::UntoldCombinations { path: path.clone() }),
                false => Ok(combined),
            };
        }
        let wanted = options.combine && is_told && options.estimator == Estimator::Gaussian;
        Ok(vec![wanted; self.groups.groups.len()])
    }

    /// Whether the plan that the options name, if any, keeps combinations.
    pub(super) fn plans_combinations(&self, options: &Options) -> Result<bool, Error> {
        Ok(options.plan.is_some() && self.to_combine(options)?.contains(&true))
    }

    /// The groups of the plan that keep combinations.
    fn combined_in(&self, plan: &Plan) -> Result<Vec<bool>, SelectError> {
        let combinable = combine::combinable(&self.graph, &self.groups);
        let planned = plan.groups.iter().zip(combinable);
        let wanted = planned.map(|(planned, can_be)| match planned.combined && !can_be {
            true => Err(SelectError::Plan {
                group: planned.name.clone(),
                found: "combinations of channels that not only linear layers touch".to_owned(),
            }),
            false => Ok(planned.combined),
        });
        wanted.collect()
    }

    /// The dense model that the plan's channels are those of.
    pub(super) fn dense<'a>(&'a self, evidence: &'a Evidence) -> (&'a Model, &'a Graph) {
        match &evidence.combined {
            Some(combined) => (&combined.model, &combined.graph),
            None => (&self.model, &self.graph),
        }
    }
}
