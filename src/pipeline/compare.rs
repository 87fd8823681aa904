//! Two models side by side on the same data.

use crate::onnx::Model;
use crate::ops;
use crate::pipeline::observer::Observer;
use crate::pipeline::open::Opening;
use crate::pipeline::samples::Samples;
use crate::pipeline::{Error, batch};
use crate::report::{Compared, Note};
use crate::runtime::{InputSpec, Runtime};
use crate::shapes::forecast;
use crate::verify::{Change, Check, Runs, VerifyError};

/// Runs both models on all samples and compares outputs, sizes and latency; without data, sizes and
/// latency alone.
///
/// # Errors
/// A model or the data cannot be run, or the models differ in inputs or outputs.
pub(crate) fn compare(
    original: &Model,
    other: &Model,
    request: &Opening,
    observer: &dyn Observer,
) -> Result<Compared, Error> {
    for model in [original, other] {
        model.check_expansion(request.allowance)?;
    }
    let runtime = Runtime::start(&request.runtime)?;
    observer.stage("reading the models");
    let samples = open(original, &runtime, request)?;
    let said = runtime.notes().iter().map(Note::from);
    let notes: Vec<Note> = said.chain(samples.notes().iter().cloned()).collect();
    observer.notes(&notes);
    // Made-up inputs do not tell how close two models are, but they show that both run.
    let (stage, wanted) = if samples.is_synthetic() {
        ("running both", samples.compared())
    } else {
        ("comparing", samples.all())
    };
    observer.counting(stage, wanted.len(), "samples");
    let batches = samples.batches(wanted)?.inspect(|batch| {
        let first = batch.as_ref().ok().and_then(|batch| batch.first());
        let read = first.and_then(|(_, tensor)| tensor.shape.first().copied());
        observer.advance(read.unwrap_or(1));
    });
    let check = Check::open(original, &[other], &runtime);
    let mut check = check.map_err(VerifyError::from)?;
    let comparison = check.compare(batches)?.pop();
    observer.stage("measuring the latency");
    let latency = check.latency(&samples.one()?, Runs::MANY)?.pop();
    Ok(Compared {
        original: None,
        other: None,
        source: request.calibration.sources(),
        device: runtime.device().to_owned(),
        onnxruntime: runtime.version().to_owned(),
        comparison: comparison.filter(|_| !samples.is_synthetic()),
        bytes: Change {
            before: original.byte_size(),
            after: other.byte_size(),
        },
        latency_ms: latency.unwrap_or_default(),
        notes,
    })
}

/// The samples in batches that the model runs.
fn open(model: &Model, runtime: &Runtime, request: &Opening) -> Result<Samples, Error> {
    let specs = match InputSpec::stated(model) {
        Some(specs) => specs,
        None => runtime.session(model)?.inputs(),
    };
    let graph = ops::graph(model)?;
    let allowance = request.allowance;
    let calibration = request.calibration.told_by(&graph, allowance);
    let told = batch::told(model, &graph);
    let (samples, ()) = batch::open(&specs, &calibration, &told, |samples| {
        let specs = samples.first_specs();
        forecast(model, &graph, runtime, &specs, allowance)?;
        let mut session = runtime.session(model)?;
        let outputs = session.outputs();
        session.run(&samples.first_batch()?, &outputs)?;
        Ok(())
    })?;
    Ok(samples)
}
