//! One run that shows what every value is, where [`infer`](crate::shapes::infer) cannot tell:
//! shapes and folded constants come from ONNX Runtime.
//!
//! A Shape node behind every value is fetched instead of the value itself, so that activations
//! stay where they are and are freed early; only constants and counts are fetched as data.

use crate::data::Batch;
use crate::graph::Graph;
use crate::onnx::{Model, proto};
use crate::ops;
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
    let produced = graph.produced();
    let (mut session, names) = open(model, runtime, produced.clone())?;
    for (name, dtype) in session.output_dtypes() {
        graph.observe_type(&name, dtype);
    }
    let is_tensor: std::collections::BTreeSet<&String> = names.iter().collect();
    let others = produced.iter().filter(|name| !is_tensor.contains(name));
    others.for_each(|name| graph.observe_sequence(name));
    let mut data = graph.folded();
    data.retain(|name| is_tensor.contains(name));
    let shapes = names.iter().map(|name| shape_of(name));
    let fetched: Vec<String> = shapes.chain(data.iter().cloned()).collect();
    let mut found = session.run(batch, &fetched)?;
    for (name, tensor) in data.iter().zip(found.split_off(names.len())) {
        graph.observe(name, tensor);
    }
    for (name, sizes) in names.iter().zip(&found) {
        let sizes = sizes.to_i64().unwrap_or_default();
        let shape: Result<_, _> = sizes.into_iter().map(usize::try_from).collect();
        if let Ok(shape) = shape {
            graph.observe_shape(name, shape);
        }
    }
    Ok(())
}

/// The model that shows the named values, and which of them are tensors.
fn open(
    model: &Model,
    runtime: &Runtime,
    names: Vec<String>,
) -> Result<(Session, Vec<String>), RuntimeError> {
    if let Ok(session) = runtime.session_once(&revealing(model, &names, &names)) {
        return Ok((session, names));
    }
    // Some value is no tensor (a sequence, an optional), and Shape refuses it.
    let session = runtime.session_once(&revealing(model, &names, &[]))?;
    let tensors: Vec<String> = session.output_dtypes().map(|(name, _)| name).collect();
    let session = runtime.session_once(&revealing(model, &names, &tensors))?;
    Ok((session, tensors))
}

fn shape_of(name: &str) -> String {
    format!("onnx-mipp/shape/{name}")
}

/// The model with the named values as its outputs, and the shapes of the `tensors` among them.
fn revealing(model: &Model, names: &[String], tensors: &[String]) -> Model {
    let bare = ops::build::bare_output;
    let mut model = model.clone();
    if let Some(main) = model.proto.graph.as_mut() {
        let known = std::mem::take(&mut main.output);
        let declared: std::collections::BTreeMap<&str, &proto::ValueInfoProto> =
            known.iter().map(|output| (output.name(), output)).collect();
        let output = |name: &String| match declared.get(name.as_str()) {
            Some(&output) => output.clone(),
            None => bare(name),
        };
        main.output = names.iter().map(output).collect();
        for name in tensors {
            let shape = shape_of(name);
            main.node.push(ops::build::shape_node(name, &shape));
            main.output.push(bare(&shape));
        }
    }
    model
}
