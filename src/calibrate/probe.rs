//! One run with all values as outputs: shapes and folded constants come from ONNX Runtime itself.

use crate::calibrate::Batch;
use crate::graph::Graph;
use crate::onnx::{Model, proto};
use crate::runtime::{Runtime, RuntimeError, Session};

/// Runs `model` on one small batch and records in `graph` what every value was.
///
/// # Errors
/// The model cannot be opened or run on the batch.
pub fn probe(
    model: &Model,
    graph: &mut Graph,
    runtime: &Runtime,
    batch: &Batch,
) -> Result<(), RuntimeError> {
    for (name, tensor) in batch {
        graph.observe(name, tensor.clone());
    }
    let names = graph.produced();
    let mut session = runtime.session(&revealing(model, &names))?;
    let fetched = match session.run(batch, &names) {
        Ok(tensors) => names.into_iter().zip(tensors).collect(),
        // Some value is no tensor (a sequence, an optional): fetch those that are.
        Err(_) => one_by_one(&mut session, batch, names)?,
    };
    for (name, tensor) in fetched {
        graph.observe(&name, tensor);
    }
    Ok(())
}

fn one_by_one(
    session: &mut Session,
    batch: &Batch,
    names: Vec<String>,
) -> Result<Vec<(String, crate::onnx::Tensor)>, RuntimeError> {
    let mut fetched = Vec::new();
    let mut failure = None;
    for name in names {
        match session.run(batch, std::slice::from_ref(&name)) {
            Ok(tensors) => fetched.extend(tensors.into_iter().map(|tensor| (name.clone(), tensor))),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if fetched.is_empty() => Err(error),
        _ => Ok(fetched),
    }
}

/// The model with the named values as its outputs.
fn revealing(model: &Model, names: &[String]) -> Model {
    let mut model = model.clone();
    if let Some(main) = model.proto.graph.as_mut() {
        let known = std::mem::take(&mut main.output);
        let output = |name: &String| {
            let declared = known.iter().find(|output| output.name() == name);
            let bare = || proto::ValueInfoProto {
                name: Some(name.clone()),
                ..Default::default()
            };
            declared.cloned().unwrap_or_else(bare)
        };
        main.output = names.iter().map(output).collect();
    }
    model
}
