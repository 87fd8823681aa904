//! A model run in parts: from values that earlier parts left to values that are asked for.
//!
//! What later parts read waits on a shelf, in memory up to a limit and in a temporary file beyond, so
//! that no node has to run again for each part.

mod restarts;
mod schedule;
mod segment;
mod shelf;

pub(crate) use restarts::{Crossing, starts};
pub(crate) use schedule::Schedule;
pub(crate) use segment::{Open, Segment, part};
pub(crate) use shelf::Shelf;

use crate::graph::{Graph, ValueId};
use crate::runtime::RuntimeError;

/// Why a part of a model could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// ONNX Runtime refuses it.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The temporary file that holds activations.
    #[error(
        "activations between two parts of the model cannot be kept in a temporary file: {0}; make \
         room there, set TMPDIR, or raise --memory"
    )]
    Spill(#[from] std::io::Error),
}

/// One model on its way through its segments.
pub(crate) struct Track {
    pub schedule: Schedule,
    pub shelf: Shelf,
}

impl Track {
    /// `requests` are the values asked for, per segment; `memory` bytes of activations are held in
    /// memory.
    pub fn new(graph: &Graph, requests: Vec<Vec<ValueId>>, memory: u64) -> Self {
        Track {
            schedule: Schedule::new(graph, requests),
            shelf: Shelf::new(memory),
        }
    }

    /// Forgets what nobody reads after a segment.
    pub fn finish(&mut self, level: usize) {
        self.shelf.drop_values(&self.schedule.done_after(level));
    }
}
