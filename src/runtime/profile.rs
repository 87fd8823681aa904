//! Runs a model under ONNX Runtime's profiler.

use std::time::Instant;

use super::start::open_error;
use super::{Runtime, RuntimeError};
use crate::onnx::{Model, Tensor};
use crate::outputs::Workspace;
use crate::profile::{Profile, parse_onnxruntime, tag};

impl Runtime {
    /// Runs `model` on `batch` several times under ONNX Runtime's profiler, on this device and with
    /// all of ONNX Runtime's optimisations, for at most so many seconds. Kernels are known again by
    /// the names of the nodes, which [`tagged`] makes.
    ///
    /// # Errors
    /// The model cannot be run, or the profile cannot be written to a temporary folder and read.
    pub fn profile(
        &self,
        model: &Model,
        batch: &[(String, Tensor)],
        seconds: f64,
    ) -> Result<Profile, RuntimeError> {
        const RUNS: usize = 201;
        let folder = Workspace::new().map_err(|source| RuntimeError::Io {
            action: "create a temporary folder in",
            path: std::env::temp_dir(),
            source,
        })?;
        let builder = self.builder().map_err(open_error)?;
        let builder = builder.with_profiling(folder.path().join("profile"));
        let mut session = self.open(model, builder.map_err(open_error)?)?;
        let outputs = session.outputs();
        let begin = Instant::now();
        for run in 0..RUNS {
            session.run(batch, &outputs)?;
            if run > 1 && begin.elapsed().as_secs_f64() > seconds {
                break;
            }
        }
        let path = session.end_profiling()?;
        let text = std::fs::read_to_string(&path).map_err(|source| RuntimeError::Io {
            action: "read ONNX Runtime's profile",
            path: path.into(),
            source,
        })?;
        parse_onnxruntime(&text).map_err(|problem| RuntimeError::Profile { problem })
    }
}

/// The model with names by which the kernels of its nodes are known again, also where some of these
/// are cut or leave.
#[must_use]
pub fn tagged(model: &Model) -> Model {
    let mut model = model.clone();
    let nodes = model
        .proto
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.node);
    for (id, node) in nodes.enumerate() {
        node.name = Some(tag(id));
    }
    model
}
