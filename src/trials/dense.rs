//! The dense model in parts that all trials share: behind what a group narrows, they run the dense
//! model, each from other values.

use std::collections::{BTreeMap, BTreeSet};

use crate::data::{Batch, Padding};
use crate::graph::{Graph, NodeId, Table, ValueId};
use crate::onnx::Tensor;
use crate::select::{CostModel, Scene};
use crate::subgraph::{OpenSubgraph, Schedule, SpillCache, Subgraph, SubgraphError};
use crate::trials::{Made, Outputs, TrialError, TrialRequest, collect};

/// Parts of a model, at most. The more, the less of the dense model is opened again for each trial,
/// and the more values wait.
const MOST_PARTS: usize = 8;

/// Where a model is divided.
pub(super) struct Division {
    schedule: Schedule,
    count: usize,
}

impl Division {
    /// Parts of about the same work, between which little crosses.
    pub fn of(scene: Scene<'_>) -> Self {
        let graph = scene.graph;
        let cuts = cuts(&work(scene), &crossing(graph));
        let mut requests: Vec<Vec<ValueId>> = cuts.iter().map(|&cut| over(graph, cut)).collect();
        requests.push(all_outputs(graph));
        Division {
            count: requests.len(),
            schedule: Schedule::new(graph, &requests),
        }
    }

    /// The part after the last of these nodes.
    pub fn after(&self, nodes: impl Iterator<Item = NodeId>) -> usize {
        let parts = nodes.filter_map(|node| self.schedule.stage(node));
        parts.max().map_or(0, |part| part + 1)
    }

    /// Whether a node runs before a part.
    pub fn is_before(&self, node: NodeId, part: usize) -> bool {
        self.schedule.stage(node).is_some_and(|stage| stage < part)
    }

    /// Whether a value is read by a part, or one behind it.
    pub fn is_read_from(&self, value: ValueId, part: usize) -> bool {
        (part..self.count).any(|part| self.schedule.inputs(part).contains(&value))
    }
}

/// The parts, open, and the dense values that they read.
pub(super) struct DenseSubgraphs<'a> {
    parts: Vec<OpenSubgraph<'a>>,
    cache: SpillCache,
}

impl<'a> DenseSubgraphs<'a> {
    /// Opens them and runs all batches through them; returns the dense model's outputs as well.
    pub fn open(
        setting: TrialRequest<'a>,
        division: &Division,
        batches: &[Batch],
        paddings: &[Option<Padding>],
    ) -> Result<(Self, Outputs), TrialError> {
        let graph = setting.scene.graph;
        let parts = (0..division.count).map(|part| open(setting, division, part));
        let mut parts = DenseSubgraphs {
            parts: parts.collect::<Result<_, _>>()?,
            cache: SpillCache::new(setting.memory / 2),
        };
        let mut outputs = Outputs::new();
        for (number, (batch, padding)) in batches.iter().zip(paddings).enumerate() {
            for (name, tensor) in batch {
                if let Some(value) = graph.find(name) {
                    parts.put(number, value, tensor)?;
                }
            }
            for part in 0..division.count {
                let made = parts.run(part, number, &Made::new())?;
                for (&value, tensor) in &made {
                    if division.is_read_from(value, part + 1) {
                        parts.put(number, value, tensor)?;
                    }
                }
                collect(&mut outputs, graph, &made, padding.as_ref())?;
            }
        }
        Ok((parts, outputs))
    }

    /// Runs a batch from a part on, with `changed` for the values that are not the dense model's;
    /// what the parts make is added to it.
    pub fn run_from(
        &mut self,
        part: usize,
        batch: usize,
        changed: &mut Made,
    ) -> Result<(), TrialError> {
        for part in part..self.parts.len() {
            let mut inputs = self.parts[part].inputs().iter();
            if inputs.any(|value| changed.contains_key(value)) {
                let made = self.run(part, batch, changed)?;
                changed.extend(made);
            }
        }
        Ok(())
    }

    fn run(&mut self, part: usize, batch: usize, changed: &Made) -> Result<Made, TrialError> {
        let cache = &mut self.cache;
        let found = self.parts[part].compute(Batch::new(), |value| match changed.get(&value) {
            Some(tensor) => Ok(Some(tensor.clone())),
            None => cache.get(batch, value),
        })?;
        Ok(found.made)
    }

    fn put(&mut self, batch: usize, value: ValueId, tensor: &Tensor) -> Result<(), SubgraphError> {
        Ok(self.cache.put(batch, value, tensor.clone())?)
    }
}

fn open<'a>(
    setting: TrialRequest<'a>,
    division: &Division,
    part: usize,
) -> Result<OpenSubgraph<'a>, SubgraphError> {
    let graph = setting.scene.graph;
    let schedule = &division.schedule;
    let is_made_here = |value: &ValueId| {
        let maker = graph.values[*value].producer;
        maker.and_then(|node| schedule.stage(node)) == Some(part)
    };
    let passed = schedule.outputs(part).iter().copied();
    let wanted: BTreeSet<ValueId> = passed.chain(all_outputs(graph)).collect();
    let ends: Vec<ValueId> = wanted.into_iter().filter(is_made_here).collect();
    let between = (schedule.inputs(part), ends.as_slice());
    Subgraph::between(setting.model.clone(), graph, between, Vec::new()).open(setting.runtime)
}

fn all_outputs(graph: &Graph) -> Vec<ValueId> {
    let all = graph.values.ids();
    all.filter(|&value| graph.values[value].is_output).collect()
}

/// What each node computes, in the order of the graph: multiply-accumulates, and the elements that
/// it makes.
fn work(scene: Scene<'_>) -> Vec<f64> {
    let Scene { graph, groups, .. } = scene;
    let whole = groups.widths();
    let mut work = Table::<NodeId, f64>::from(vec![0.0; graph.nodes.len()]);
    for (node, macs) in CostModel::macs_by_node(graph, groups) {
        work[node] = macs.total(&whole);
    }
    for (node, work) in graph.nodes.iter().zip(&mut work) {
        let made = node.outputs.iter().flatten();
        *work += made.map(|&value| elements(graph, value)).sum::<f64>();
    }
    graph.order.iter().map(|&node| work[node]).collect()
}

fn elements(graph: &Graph, value: ValueId) -> f64 {
    let shape = graph.values[value].shape.as_ref();
    shape.map_or(0.0, |shape| shape.iter().map(|&n| n as f64).product())
}

/// For each place in the order of the graph, the elements that are made before it and read from
/// there on.
fn crossing(graph: &Graph) -> Vec<f64> {
    let mut change = vec![0.0; graph.order.len() + 1];
    for (value, (made, read)) in lives(graph) {
        change[made + 1] += elements(graph, value);
        change[read + 1] -= elements(graph, value);
    }
    let sums = change.iter().scan(0.0, |sum, change| {
        *sum += change;
        Some(*sum)
    });
    sums.collect()
}

/// The values that are made before a place in the order of the graph and read from there on.
fn over(graph: &Graph, place: usize) -> Vec<ValueId> {
    let is_over = |&(_, (made, read)): &(ValueId, (usize, usize))| made < place && place <= read;
    let all = lives(graph).filter(is_over);
    all.map(|(value, _)| value).collect()
}

/// The values that nodes make while the model runs, with where each is made and where it is read
/// last.
fn lives(graph: &Graph) -> impl Iterator<Item = (ValueId, (usize, usize))> + '_ {
    let mut made = BTreeMap::new();
    let mut read = BTreeMap::new();
    for (place, &node) in graph.order.iter().enumerate() {
        let node = &graph.nodes[node];
        made.extend(node.outputs.iter().flatten().map(|&value| (value, place)));
        let reads = node.inputs.iter().flatten().chain(&node.captured);
        read.extend(reads.map(|&value| (value, place)));
    }
    made.into_iter().filter_map(move |(value, made)| {
        let runs = !graph.values[value].is_constant;
        runs.then_some((value, (made, *read.get(&value)?)))
    })
}

/// Places that divide nodes into parts of about the same work, each where least crosses nearby.
fn cuts(work: &[f64], crossing: &[f64]) -> Vec<usize> {
    let total: f64 = work.iter().sum();
    let mut least: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
    let mut done = 0.0;
    for (place, work) in work.iter().enumerate() {
        // The nearest of the places where the parts should meet.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let meeting = (done / total.max(1.0) * MOST_PARTS as f64).round() as usize;
        done += work;
        let found = (crossing[place], place);
        let best = least.entry(meeting).or_insert(found);
        if found.0 < best.0 {
            *best = found;
        }
    }
    let inner = least
        .into_iter()
        .filter(|(meeting, _)| (1..MOST_PARTS).contains(meeting));
    inner.map(|(_, (_, place))| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_meet_where_least_crosses() {
        // 16 nodes of the same work, two to a part: the parts meet at 2, 4, ... or one place
        // before.
        let work = [1.0; 16];
        let mut crossing = [9.0; 17];
        assert_eq!(cuts(&work, &crossing), [1, 3, 5, 7, 9, 11, 13]);
        for place in [2, 4, 8] {
            crossing[place] = 3.0;
        }
        assert_eq!(cuts(&work, &crossing), [2, 4, 5, 8, 9, 11, 13]);
    }

    #[test]
    fn a_node_is_not_divided() {
        // All of the work is in one node: the parts before and behind it.
        assert!(cuts(&[0.0, 8.0, 0.0], &[0.0, 5.0, 5.0, 0.0]).is_empty());
        assert!(cuts(&[], &[0.0]).is_empty());
        assert_eq!(cuts(&[1.0, 8.0, 8.0, 1.0], &[0.0, 5.0, 5.0, 5.0, 0.0]), [2]);
    }
}
