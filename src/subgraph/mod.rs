//! A model run in parts: from values that earlier parts left to values that are asked for.
//!
//! What later parts read waits in a cache, in memory up to a limit and in a temporary file beyond,
//! so that no node has to run again for each part.

mod checkpoints;
mod extract;
mod schedule;
mod spill;

pub(crate) use checkpoints::{Crossing, starts};
pub(crate) use extract::{OpenSubgraph, Subgraph, has_all};
pub(crate) use schedule::{Schedule, tensors};
pub(crate) use spill::SpillCache;

use crate::graph::{Graph, ValueId};
use crate::runtime::RuntimeError;

/// Why a part of a model could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SubgraphError {
    /// ONNX Runtime refuses it.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The temporary file that holds activations.
    #[error(
        "activations between two parts of the model cannot be kept in a temporary file: {0}; make \
         room there, set TMPDIR, or raise `memory`"
    )]
    Spill(#[from] std::io::Error),
    /// A tensor that the model, as it was cut, does not have.
    #[error(
        "'{tensor}', which node '{node}' made before the cut, is asked for and not in the cut model any more: \
         repair with `repair` once, and report this fault of onnx-mipp with the model"
    )]
    Missing {
        /// The tensor.
        tensor: String,
        /// The node that made it.
        node: String,
    },
    /// A tensor of another shape than the widths that were chosen give it.
    #[error(
        "'{tensor}', which node '{node}' makes, has shape {found:?} where the cut leaves {expected:?} (the first \
         axis is that of the samples): repair with `repair` once, and report this fault of onnx-mipp with the model"
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// The node that makes it.
        node: String,
        /// The shape that a fit counts on.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
}

impl SubgraphError {
    /// A value that is not there.
    pub(crate) fn missing(graph: &Graph, value: ValueId) -> Self {
        let (tensor, node) = names(graph, value);
        SubgraphError::Missing { tensor, node }
    }

    /// A value of another shape than was expected.
    pub(crate) fn shape(
        graph: &Graph,
        value: ValueId,
        expected: Vec<usize>,
        found: Vec<usize>,
    ) -> Self {
        let (tensor, node) = names(graph, value);
        SubgraphError::Shape {
            tensor,
            node,
            expected,
            found,
        }
    }
}

/// The names of a value and of the node that makes it.
fn names(graph: &Graph, value: ValueId) -> (String, String) {
    let maker = graph.values[value].producer;
    let node = maker.map_or_else(String::new, |node| graph.nodes[node].name.clone());
    (graph.values[value].name.clone(), node)
}

/// One model on its way through its subgraphs.
pub(crate) struct Track {
    pub schedule: Schedule,
    pub cache: SpillCache,
}

impl Track {
    /// What waits is that of the schedule; `memory` bytes of it are held in memory.
    pub fn new(schedule: Schedule, memory: u64) -> Self {
        Track {
            schedule,
            cache: SpillCache::new(memory),
        }
    }

    /// Forgets what nobody reads after a subgraph.
    pub fn finish(&mut self, level: usize) {
        self.cache.drop_values(&self.schedule.done_after(level));
    }
}
