//! The groups of coupled channels alone: which channels of a model can leave together, and what
//! keeps the others. Nothing is calibrated and nothing changed:
//! `cargo run --example groups -- MODEL.onnx`

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use onnx_mipp::data::{self, ReaderOptions};
use onnx_mipp::groups::{Groups, Scope};
use onnx_mipp::onnx;
use onnx_mipp::ops;
use onnx_mipp::report::sentence;
use onnx_mipp::runtime::{Runtime, RuntimeOptions, restart_without_telemetry};
use onnx_mipp::shapes::probe;

fn main() -> Result<(), Box<dyn Error>> {
    restart_without_telemetry()?;
    let path = std::env::args_os()
        .nth(1)
        .ok_or("usage: groups MODEL.onnx")?;
    print!("{}", describe(Path::new(&path))?);
    Ok(())
}

/// A line for each group: its name, its channels, what holds it.
pub fn describe(path: &Path) -> Result<String, Box<dyn Error>> {
    // Groups are found on a model without calls of its own functions, nodes in order.
    let model = onnx::load(path)?.inlined().in_order();
    let mut graph = ops::graph(&model)?;

    // Shapes are not inferred but observed: in one run, of two samples of noise.
    let runtime = Runtime::start(&RuntimeOptions::default())?;
    let inputs = runtime.session(&model)?.inputs();
    let noise = data::synthetic(&inputs, &ReaderOptions::default())?;
    let mut batches = noise.batches(&[0, 1], 2)?;
    let batch = batches.next().ok_or("the model takes no samples")??;
    probe(&model, &mut graph, &runtime, &batch)?;

    let groups = Groups::find(&graph, Scope::default(), &ops::RULES);
    let mut text = String::new();
    for group in &groups.groups {
        let (name, channels) = (&group.name, group.channels.len());
        match group.frozen.first() {
            None => writeln!(text, "{name}: {channels} channels")?,
            Some(reason) => {
                let reason = sentence(&graph, reason);
                writeln!(text, "{name}: {channels} channels, frozen: {reason}")?;
            }
        }
    }
    Ok(text)
}
