//! Two models side by side on the same data.

use std::path::Path;

use crate::onnx;
use crate::ops;
use crate::pipeline::{Error, Event, Options, batch};
use crate::report::{Compared, source};
use crate::runtime::{InputSpec, Runtime};
use crate::shapes::forecast;
use crate::verify::{Change, Check, Runs, VerifyError};

/// Runs both models on all samples and compares outputs, sizes and latency; without data, sizes and latency alone.
///
/// # Errors
/// A model or the data cannot be read or run, or the models differ in inputs or outputs.
pub fn compare(
    original: &Path,
    other: &Path,
    options: &Options,
    tell: &dyn Fn(Event),
) -> Result<Compared, Error> {
    let load = |path| onnx::load_within(path, options.allowance);
    let models = [load(original)?, load(other)?];
    for model in &models {
        model.check_expansion(options.allowance)?;
    }
    let runtime = Runtime::start(&options.runtime)?;
    tell(Event::Stage("reading the models"));
    let specs = match InputSpec::stated(&models[0]) {
        Some(specs) => specs,
        None => runtime.session(&models[0])?.inputs(),
    };
    let graph = ops::graph(&models[0])?;
    let options = &options.told_by(&graph);
    let told = batch::told(&models[0], &graph);
    let (samples, ()) = batch::open(&specs, options, &told, |samples| {
        let specs = samples.first_specs();
        forecast(&models[0], &graph, &runtime, &specs, options.allowance)?;
        let mut session = runtime.session(&models[0])?;
        let outputs = session.outputs();
        session.run(&samples.first_batch()?, &outputs)?;
        Ok(())
    })?;
    let mut notes = runtime.notes().to_vec();
    notes.extend_from_slice(samples.notes());
    for note in &notes {
        tell(Event::Note(note.clone()));
    }
    // Made-up inputs do not tell how close two models are, but they show that both run.
    let (stage, all) = match samples.is_synthetic() {
        true => ("running both", samples.compared().to_vec()),
        false => ("comparing", samples.all()),
    };
    tell(Event::Counting {
        stage,
        total: all.len(),
        what: "samples",
    });
    let batches = samples.batches(&all)?.inspect(|batch| {
        let first = batch.as_ref().ok().and_then(|batch| batch.first());
        let read = first.and_then(|(_, tensor)| tensor.shape.first().copied());
        tell(Event::Advance(read.unwrap_or(1)));
    });
    let failed = |error: VerifyError| Error::Compare {
        original: original.to_owned(),
        other: other.to_owned(),
        error: Box::new(error),
    };
    let [first, second] = &models;
    let check = Check::open(first, &[second], &runtime);
    let mut check = check.map_err(|error| failed(error.into()))?;
    let comparison = check.compare(batches).map_err(&failed)?.pop();
    let comparison = comparison.filter(|_| !samples.is_synthetic());
    tell(Event::Stage("measuring the latency"));
    let one = samples.one()?;
    let latency = check.latency(&one, Runs::MANY)?.pop();
    Ok(Compared {
        original: original.to_owned(),
        other: other.to_owned(),
        source: source(&options.calibration),
        device: runtime.device().to_owned(),
        onnxruntime: runtime.version().to_owned(),
        comparison,
        bytes: Change {
            before: onnx::file_bytes(first, original)?,
            after: onnx::file_bytes(second, other)?,
        },
        latency_ms: latency.unwrap_or_default(),
        notes,
    })
}
