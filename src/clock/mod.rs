//! The time of a run as a function of the widths, measured: kernels work on blocks of channels, so
//! it goes in steps.
//!
//! The original is profiled, and in turns with it models in which some groups are narrower, so that
//! a machine that gets slower does not make them seem so. Groups of which no two
//! make a difference to the same part of the run are narrowed together, so that of every part it is
//! known which group its time changed with. Where two groups make a difference to a part, its time
//! at both narrower is taken to be the product of both shares, as its multiply-accumulates are.

use std::collections::BTreeMap;

use crate::graph::{Graph, GroupId};
use crate::groups::{Groups, Widths};
use crate::onnx::{Model, Tensor};
use crate::runtime::{self, Runtime, RuntimeError};
use crate::select::{CostModel, Curve, Goes, Limits, spent};
use crate::surgery::{self, SurgeryError};

/// Seconds for the profile of the original.
const WHOLE: f64 = 4.0;
/// For that of a narrower model.
const NARROWER: f64 = 0.5;
/// So many widths of a group are measured at most.
const MOST_WIDTHS: usize = 8;
/// What takes less than this share of the time is not worth measuring.
const LEAST: f64 = 0.002;

/// How much of a curve goes with the width, whatever was measured: what is too short to be told
/// from noise still has an order.
const BY_WIDTH: f64 = 0.05;

/// What is profiled.
#[derive(Clone, Copy)]
pub struct ClockRequest<'a> {
    /// The original.
    pub model: &'a Model,
    /// Its graph.
    pub graph: &'a Graph,
    /// Its groups.
    pub groups: &'a Groups,
    /// Limits on the widths.
    pub limits: &'a Limits,
    /// Where it runs.
    pub runtime: &'a Runtime,
    /// What it runs on.
    pub sample: &'a [(String, Tensor)],
}

/// Why a model could not be profiled.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// It cannot be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// It cannot be cut.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub enum Progress {
    /// So many models will be profiled beside the original.
    Models(usize),
    /// One of them was.
    Done,
}

/// What profiles are made of.
struct Bench<'a> {
    request: ClockRequest<'a>,
    /// The model, with names by which its nodes are known again.
    tagged: Model,
}

/// Milliseconds by what they go with.
type Times = BTreeMap<Goes, f64>;

/// The widths at which groups are measured that are narrowed together, step by step.
type Class = BTreeMap<GroupId, Vec<usize>>;

/// Profiles the original and narrower models: the time of a run as a function of the widths.
///
/// # Errors
/// A model cannot be cut, run or profiled.
pub fn measure(
    request: ClockRequest<'_>,
    progress: &dyn Fn(Progress),
) -> Result<CostModel, ClockError> {
    let ClockRequest { graph, groups, .. } = request;
    let bench = Bench {
        request,
        tagged: runtime::tagged(request.model),
    };
    let [profile] = (request.runtime).profiles([&bench.tagged], request.sample, WHOLE)?;
    let parts = CostModel::times(graph, groups, &profile);
    let whole = groups.widths();
    let total: f64 = parts.values().map(|part| part.total(&whole)).sum();
    let is_worth = |part: &CostModel| part.total(&whole) >= LEAST * total;
    let worth: BTreeMap<Goes, &CostModel> = parts
        .iter()
        .filter(|(_, part)| is_worth(part))
        .map(|(goes, part)| (*goes, part))
        .collect();
    let curves = bench.curves(&worth, classes(request, &worth), progress)?;
    let model = parts.iter().map(|(goes, part)| match curves.get(goes) {
        Some(curves) => CostModel::measured(part.total(&whole), curves.iter().cloned()),
        None => part.clone(),
    });
    Ok(CostModel::sum(model))
}

/// The groups that make a difference to the parts, each in the first class of which no other does
/// to one of its parts.
fn classes(request: ClockRequest<'_>, parts: &BTreeMap<Goes, &CostModel>) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    let groups = request.groups.groups.entries();
    for (id, group) in groups.filter(|(_, group)| group.frozen.is_empty()) {
        let touched: Vec<&&CostModel> = parts.values().filter(|part| part.touches(id)).collect();
        let widths = spread(request.limits.widths(group).get(1..).unwrap_or_default());
        if touched.is_empty() || widths.is_empty() {
            continue;
        }
        let is_apart = |other: &GroupId| !touched.iter().any(|part| part.touches(*other));
        match classes.iter_mut().find(|class| class.keys().all(is_apart)) {
            Some(class) => {
                class.insert(id, widths);
            }
            None => classes.push(BTreeMap::from([(id, widths)])),
        }
    }
    classes
}

/// At most so many of the widths, the first and the last among them.
fn spread(widths: &[usize]) -> Vec<usize> {
    if widths.len() <= MOST_WIDTHS {
        return widths.to_vec();
    }
    let last = widths.len() - 1;
    let place = |step: usize| (step * last + (MOST_WIDTHS - 1) / 2) / (MOST_WIDTHS - 1);
    let places = (0..MOST_WIDTHS).filter_map(|step| widths.get(place(step)));
    places.copied().collect()
}

impl Bench<'_> {
    /// What the widths of each group make of the parts.
    fn curves(
        &self,
        parts: &BTreeMap<Goes, &CostModel>,
        classes: Vec<Class>,
        progress: &dyn Fn(Progress),
    ) -> Result<BTreeMap<Goes, Vec<Curve>>, ClockError> {
        let whole = self.request.groups.widths();
        let steps = |class: &Class| class.values().map(Vec::len).max().unwrap_or(0);
        progress(Progress::Models(classes.iter().map(steps).sum()));
        let mut points: BTreeMap<(Goes, GroupId), Vec<(usize, f64)>> = BTreeMap::new();
        for class in classes {
            for step in 0..steps(&class) {
                let mut widths = whole.clone();
                for (&group, narrower) in &class {
                    let width = narrower.get(step).or(narrower.last());
                    widths[group] = width.copied().unwrap_or(widths[group]);
                }
                let [dense, times] = self.times(&widths)?;
                progress(Progress::Done);
                for (&group, narrower) in class.iter().filter(|(_, all)| step < all.len()) {
                    let touched = parts.iter().filter(|(_, part)| part.touches(group));
                    for (goes, _) in touched {
                        let time = |times: &Times| times.get(goes).copied().unwrap_or(0.0);
                        let width = narrower[step];
                        let by_width = width as f64 / whole[group] as f64;
                        let measured = time(&times) / time(&dense);
                        let measured = if measured.is_finite() { measured } else { 1.0 };
                        let share = measured + BY_WIDTH * (by_width - measured);
                        points
                            .entry((*goes, group))
                            .or_default()
                            .push((width, share));
                    }
                }
            }
        }
        let mut curves: BTreeMap<Goes, Vec<Curve>> = BTreeMap::new();
        for ((goes, group), mut points) in points {
            points.push((whole[group], 1.0));
            points.sort_by_key(|(width, _)| *width);
            curves
                .entry(goes)
                .or_default()
                .push(Curve { group, points });
        }
        Ok(curves)
    }

    /// Where the time goes in the original, and at these widths.
    fn times(&self, widths: &Widths) -> Result<[Times; 2], ClockError> {
        let request = self.request;
        let (graph, groups) = (request.graph, request.groups);
        let model = surgery::at_widths(&self.tagged, graph, groups, widths)?;
        let models = [&self.tagged, &model];
        let profiles = (request.runtime).profiles(models, request.sample, NARROWER)?;
        Ok(profiles.map(|profile| {
            let mut times = Times::new();
            for part in spent(graph, groups, &profile) {
                *times.entry(part.with).or_default() += part.milliseconds;
            }
            times
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_widths_are_all_measured_and_many_from_end_to_end() {
        assert_eq!(spread(&[24, 16, 8]), [24, 16, 8]);
        let many: Vec<usize> = (1..=31).rev().map(|step| step * 8).collect();
        let found = spread(&many);
        assert_eq!((found.len(), found[0], found[7]), (MOST_WIDTHS, 248, 8));
        assert!(found.is_sorted_by(|a, b| a > b));
        assert_eq!(spread(&[]), [0; 0]);
    }
}
