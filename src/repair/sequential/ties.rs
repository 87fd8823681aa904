//! Weights that several consumers share are fitted once, to the rows of all of them together.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, NodeId, Table, ValueId};
use crate::groups::{Groups, Sharing};
use crate::repair::sequential::job::{Job, Target};
use crate::repair::sequential::rectified::{Before, Share};
use crate::statistics::Moments;

/// The fit of a weight that several consumers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tie {
    /// The first of the consumers.
    pub first: usize,
    /// Whether the job has the sums of all of them.
    pub leads: bool,
}

/// Per consumer, whether it can be fitted: by itself, and with all that share its weight. These
/// must have one bias, and none of them may stand behind another: then its inputs would depend on
/// the fit.
pub(super) fn fittable(graph: &Graph, groups: &Groups, alone: &dyn Fn(usize) -> bool) -> Vec<bool> {
    let mut of_node = Table::from(vec![0; graph.nodes.len()]);
    for consumer in &groups.consumers {
        of_node[consumer.node] += 1;
    }
    let alone = |&index: &usize| of_node[groups.consumers[index].node] == 1 && alone(index);
    let mut rows: BTreeMap<usize, bool> = BTreeMap::new();
    let mut can_be = |index: usize| match &groups.sharing[index] {
        Sharing::Alone => alone(&index),
        Sharing::Fixed => false,
        Sharing::Together {
            consumers,
            one_bias,
        } => {
            let gain = |index: &usize| groups.consumers[*index].gain;
            let first = consumers.first().copied().unwrap_or(index);
            *one_bias
                && consumers.iter().all(alone)
                && consumers.iter().all(|other| gain(other) == gain(&index))
                && !*rows
                    .entry(first)
                    .or_insert_with(|| are_in_a_row(graph, groups, consumers))
        }
    };
    (0..groups.consumers.len()).map(&mut can_be).collect()
}

/// Whether one of the consumers stands behind another.
fn are_in_a_row(graph: &Graph, groups: &Groups, consumers: &[usize]) -> bool {
    let own: BTreeSet<NodeId> = consumers
        .iter()
        .map(|&index| groups.consumers[index].node)
        .collect();
    let mut behind = Table::from(vec![false; graph.values.len()]);
    for &id in &graph.order {
        let node = &graph.nodes[id];
        let mut read = node.inputs.iter().flatten().chain(&node.captured);
        let is_behind = read.any(|&value| behind[value]);
        if own.contains(&id) && is_behind {
            return true;
        }
        if own.contains(&id) || is_behind {
            for &output in node.outputs.iter().flatten() {
                behind[output] = true;
            }
        }
    }
    false
}

/// Per consumer that shares its weight, the highest level of what all that share it read; 0 for
/// others.
pub(super) fn latest(groups: &Groups, level: impl Fn(ValueId) -> usize) -> Vec<usize> {
    let own = |index: &usize| level(groups.consumers[*index].input);
    let of = |sharing: &Sharing| match sharing {
        Sharing::Together { consumers, .. } => consumers.iter().map(own).max().unwrap_or(0),
        Sharing::Alone | Sharing::Fixed => 0,
    };
    groups.sharing.iter().map(of).collect()
}

/// The tie of a consumer that shares its weight.
pub(super) fn of(groups: &Groups, index: usize) -> Option<Tie> {
    match groups.sharing.get(index)? {
        Sharing::Together { consumers, .. } => consumers.first().map(|&first| Tie {
            first,
            leads: first == index,
        }),
        Sharing::Alone | Sharing::Fixed => None,
    }
}

/// Makes one fit of the jobs of a level that share a weight; those of a weight of which one cannot
/// be read go.
pub(super) fn unite(jobs: &mut Vec<Job<'_>>, groups: &Groups, samples: usize) {
    let mut found: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, job) in jobs.iter().enumerate() {
        if let Some(tie) = job.tie {
            found.entry(tie.first).or_default().push(place);
        }
    }
    let wanted = |first: usize| match groups.sharing.get(first) {
        Some(Sharing::Together { consumers, .. }) => consumers.len(),
        _ => 0,
    };
    let is_whole = |first: usize| {
        found
            .get(&first)
            .is_some_and(|jobs| jobs.len() == wanted(first))
    };
    for (&first, places) in found.iter().filter(|(first, _)| is_whole(**first)) {
        make_alike(jobs, places);
        let rows: usize = places.iter().map(|&place| jobs[place].rows * samples).sum();
        let lead = places
            .iter()
            .find(|&&place| jobs[place].tie.is_some_and(|tie| tie.leads));
        debug_assert!(lead.is_some(), "the job of consumer {first}");
        if let Some(job) = lead.and_then(|&place| jobs.get_mut(place)) {
            let inputs = job.moments.iter().map(Moments::inputs).sum();
            job.share = Share::new(rows, inputs);
            for moments in &mut job.moments {
                *moments = Moments::of_rows(moments.inputs(), rows);
            }
        }
    }
    jobs.retain(|job| job.tie.is_none_or(|tie| is_whole(tie.first)));
}

/// What is behind some of the consumers only is left out of their fit.
fn make_alike(jobs: &mut [Job<'_>], places: &[usize]) {
    let kind = |target: &Target<'_>| target.sum.as_ref().map(|sum| sum.own.is_some());
    let rectifier = |target: &Target<'_>| {
        let found = target.rectifier.as_ref()?;
        let before = match found.before {
            Before::Output => 0,
            Before::Sum => 1,
            Before::Other(_) => 2,
        };
        Some((before, found.passes.clone(), found.affine.is_some()))
    };
    let targets = || places.iter().flat_map(|&place| &jobs[place].targets);
    let sums: Vec<_> = targets().map(kind).collect();
    let rectifiers: Vec<_> = targets().map(rectifier).collect();
    let have_sums = sums.windows(2).all(|pair| pair[0] == pair[1]);
    let are_rectified = have_sums && rectifiers.windows(2).all(|pair| pair[0] == pair[1]);
    for &place in places {
        for target in &mut jobs[place].targets {
            target.sum = target.sum.take().filter(|_| have_sums);
            target.rectifier = target.rectifier.take().filter(|_| are_rectified);
        }
    }
}
