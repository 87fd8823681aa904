//! What leaves of an attention where that is left open: whole heads, or channels inside them.

use std::collections::{BTreeMap, BTreeSet};

use crate::combine;
use crate::graph::{Graph, NodeId};
use crate::groups::{Groups, Heads, Scope};
use crate::ops;
use crate::pipeline::options::Options;
use crate::select::Plan;
use crate::statistics::Estimator;

/// What speaks for channels inside the heads.
#[derive(Clone, Copy)]
pub(super) enum Wish<'a> {
    /// Nothing does: no data tell how to combine them.
    Whole,
    /// They leave where they can be combined, each head's in its own way: that loses less than
    /// whole heads (docs/design/decisions/042-heads-in-their-own-bases.md). Widths are multiples of
    /// this.
    Combined(usize),
    /// This plan has them or not.
    Plan(&'a Plan),
}

impl<'a> Wish<'a> {
    pub fn of(options: &'a Options) -> Self {
        let is_told = !options.opening.calibration.judges_by_synthetic();
        match &options.plan {
            Some(plan) => Wish::Plan(plan),
            None if is_told && options.combine && options.estimator == Estimator::Gaussian => {
                Wish::Combined(options.limits.align)
            }
            None => Wish::Whole,
        }
    }
}

/// The groups of a graph, and the scope that they have.
pub(super) fn groups(graph: &Graph, scope: Scope, wish: Wish<'_>) -> (Groups, Scope) {
    let find = |heads: Heads| {
        let scope = Scope { heads, ..scope };
        (Groups::find(graph, scope, &ops::RULES), scope)
    };
    if scope.heads != Heads::Best {
        return find(scope.heads);
    }
    let whole = find(Heads::Whole);
    match wish {
        Wish::Whole => whole,
        Wish::Plan(plan) if plan.stays(&whole.0).is_ok() => whole,
        Wish::Plan(plan) => {
            let inside = find(Heads::Inside);
            // The message is that of whole heads where it fits neither.
            let fits = plan.stays(&inside.0).is_ok();
            if fits { inside } else { whole }
        }
        Wish::Combined(align) => {
            let inside = find(Heads::Inside);
            let is_better = are_combined(graph, (&whole.0, &inside.0), LEAST_WIDTHS * align.max(1));
            if is_better { inside } else { whole }
        }
    }
}

/// So many widths have heads at least of which the inside leaves: else whole ones can be fitted
/// better to a budget.
const LEAST_WIDTHS: usize = 3;

/// Whether every group that differs from those of whole heads has at least `least` channels and may
/// be combined, and no weight stays that would lose something with whole heads.
fn are_combined(graph: &Graph, (whole, inside): (&Groups, &Groups), least: usize) -> bool {
    let free = |groups: &Groups| -> BTreeMap<Vec<NodeId>, usize> {
        let free = groups.groups.iter().filter(|group| group.frozen.is_empty());
        free.map(|group| (group.producers.clone(), group.channels.len()))
            .collect()
    };
    let makers = |free: &BTreeMap<Vec<NodeId>, usize>| -> BTreeSet<NodeId> {
        free.keys().flatten().copied().collect()
    };
    let (of_whole, of_inside) = (free(whole), free(inside));
    if of_whole == of_inside || !makers(&of_whole).is_subset(&makers(&of_inside)) {
        return false;
    }
    let combinable = combine::combinable(graph, inside);
    let all = inside.groups.iter().zip(&combinable);
    let mut other = all.filter(|(group, _)| {
        let is_free = group.frozen.is_empty();
        is_free && of_whole.get(&group.producers) != Some(&group.channels.len())
    });
    other.all(|(group, &may_be)| may_be && group.channels.len() >= least)
}
