//! Which part of the pruned model each level runs, and from which values.

use std::collections::BTreeSet;

use crate::graph::{Graph, NodeId, ValueId};
use crate::groups::{Kept, Widths};
use crate::repair::sequential::{RepairRequest, SequentialError};
use crate::select::CostModel;
use crate::subgraph::{self, Schedule, Track};
use crate::surgery::{self, Repaired};

/// Seconds per multiply-accumulate, and per byte that a node makes, of ONNX Runtime on two cores of
/// x86-64: with them plain passes of MobileNetV2 and ResNet-50 take what they do
/// (docs/results/performance.md).
const PER_MAC: f64 = 10e-12;
const PER_BYTE: f64 = 50e-12;
/// Seconds per byte that is copied out of ONNX Runtime and put away, or fetched and copied in.
const PER_BYTE_MOVED: f64 = 1e-9;

/// The pruned model on its way.
pub(super) struct Course {
    /// Its subgraphs, one for each run of levels.
    pub track: Track,
    /// Which nodes each level needs first.
    levels: Schedule,
    /// First level of each run.
    starts: Vec<usize>,
}

impl Course {
    /// `requests` are the values asked for, per level. The choice depends on the models alone, so
    /// that nothing else changes what is computed where.
    ///
    /// # Errors
    /// A model that cannot be cut, or that lacks what its subgraphs would leave to each other.
    pub fn new(
        setting: &RepairRequest<'_>,
        kept: &Kept<'_>,
        requests: &[Vec<ValueId>],
    ) -> Result<Self, SequentialError> {
        let RepairRequest { graph, groups, .. } = *setting;
        let constants = surgery::constants(graph, kept)?;
        let levels = Schedule::cut(graph, &constants, requests);
        let bytes = |value: ValueId| {
            let known = &graph.values[value];
            // Of one sample: the first axis is left out.
            let axes = known.shape.iter().flatten().enumerate().skip(1);
            let lengths = axes.map(|(axis, &length)| kept.length(value, axis, length) as f64);
            let size = known.dtype.and_then(|dtype| dtype.size()).unwrap_or(1);
            lengths.product::<f64>() * size as f64
        };
        let left = |channels: &Vec<usize>| channels.iter().filter(|&&c| kept.has(c)).count();
        let widths: Widths = groups.groups.iter().map(|g| left(&g.channels)).collect();
        let macs = CostModel::macs_by_node(graph, groups);
        let mut work = vec![0.0; requests.len()];
        for (id, node) in graph.nodes.entries() {
            let Some(work) = levels.stage(id).and_then(|level| work.get_mut(level)) else {
                continue;
            };
            let made = node.outputs.iter().flatten();
            let made = made.map(|&value| bytes(value)).sum::<f64>();
            let macs = macs.get(&id).map_or(0.0, |macs| macs.total(&widths));
            *work += macs * PER_MAC + made * PER_BYTE;
        }
        let crossings = levels.crossings(graph, &|value| bytes(value) * PER_BYTE_MOVED);
        let starts = subgraph::starts(&work, &crossings);
        let ends = starts.iter().skip(1).copied().chain([requests.len()]);
        let runs = starts.iter().zip(ends);
        let asked: Vec<_> = runs
            .map(|(&start, end)| requests[start..end].concat())
            .collect();
        let runs = Schedule::cut(graph, &constants, &asked);
        let all = runs.waiting().chain(asked.into_iter().flatten());
        let whole = surgery::cut(setting.model, graph, kept, &Repaired::default(), &|_| true)?;
        subgraph::has_all(&whole, graph, all)?;
        Ok(Course {
            track: Track::new(runs, setting.memory / 2),
            levels,
            starts,
        })
    }

    /// The run that a level belongs to.
    fn run(&self, level: usize) -> usize {
        self.starts.partition_point(|&start| start <= level) - 1
    }

    fn ends_run(&self, level: usize) -> bool {
        self.starts.get(self.run(level) + 1) == Some(&(level + 1))
    }

    /// Whether a level runs a node.
    pub fn runs(&self, level: usize, node: NodeId) -> bool {
        let start = self.starts[self.run(level)];
        self.levels.runs(node, start..=level)
    }

    /// Values that a level may be fed, and those that it leaves to others.
    pub fn ends(&self, graph: &Graph, level: usize) -> (&[ValueId], Vec<ValueId>) {
        let run = self.run(level);
        let inputs = self.track.schedule.inputs(run);
        let outputs = self.track.schedule.outputs(run);
        let outputs: BTreeSet<ValueId> = match level {
            _ if self.ends_run(level) => outputs.iter().copied().collect(),
            // Only the first level has the model's inputs, which the next of its run reads again.
            0 => {
                let all = inputs.iter().chain(outputs).copied();
                all.filter(|&value| graph.values[value].producer.is_none())
                    .collect()
            }
            _ => BTreeSet::new(),
        };
        (inputs, outputs.into_iter().collect())
    }

    /// Forgets what nobody reads after a level.
    pub fn finish(&mut self, level: usize) {
        if self.ends_run(level) {
            self.track.finish(self.run(level));
        }
    }
}
