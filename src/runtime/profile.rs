//! Runs a model under ONNX Runtime's profiler.

use std::time::Instant;

use super::start::open_error;
use super::{Runtime, RuntimeError};
use crate::onnx::{Model, Tensor};
use crate::outputs::Workspace;
use crate::profile::{Profile, parse_onnxruntime, tag};

impl Runtime {
    /// Runs models on `batch` in turns under ONNX Runtime's profiler, on this device and with all
    /// of ONNX Runtime's optimisations, for at most so many seconds each. Kernels are known again
    /// by the names of the nodes, which [`tagged`] makes.
    ///
    /// # Errors
    /// A model cannot be run, or a profile cannot be written to a temporary folder and read.
    pub fn profiles<const N: usize>(
        &self,
        models: [&Model; N],
        batch: &[(String, Tensor)],
        seconds: f64,
    ) -> Result<[Profile; N], RuntimeError> {
        const RUNS: usize = 1001;
        let folder = Workspace::new().map_err(|source| RuntimeError::Io {
            action: "create a temporary folder in",
            path: std::env::temp_dir(),
            source,
        })?;
        let mut sessions = Vec::with_capacity(N);
        for (index, model) in models.into_iter().enumerate() {
            let builder = self.builder().map_err(open_error)?;
            let builder = builder.with_profiling(folder.path().join(index.to_string()));
            let session = self.open(model, builder.map_err(open_error)?)?;
            let outputs = session.outputs();
            sessions.push((session, outputs));
        }
        let begin = Instant::now();
        for run in 0..RUNS {
            for (session, outputs) in &mut sessions {
                session.run(batch, outputs)?;
            }
            if run > 1 && begin.elapsed().as_secs_f64() > seconds * N as f64 {
                break;
            }
        }
        let mut profiles = std::array::from_fn(|_| Profile::default());
        for (profile, (session, _)) in profiles.iter_mut().zip(&mut sessions) {
            *profile = read(&session.end_profiling()?)?;
        }
        Ok(profiles)
    }
}

fn read(path: &str) -> Result<Profile, RuntimeError> {
    let text = std::fs::read_to_string(path).map_err(|source| RuntimeError::Io {
        action: "read ONNX Runtime's profile",
        path: path.into(),
        source,
    })?;
    parse_onnxruntime(&text).map_err(|problem| RuntimeError::Profile { problem })
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
