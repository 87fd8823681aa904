//! The groups of coupled channels alone: which channels of a model can leave together, and what
//! keeps the others. Nothing is calibrated and nothing changed:
//! `cargo run --example groups -- MODEL.onnx`

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use onnx_mipp::stages::{Opening, open, restart_without_telemetry, sentence};
use onnx_mipp::{Model, Silent};

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
    let subject = open(Model::load(path)?, &Opening::default(), &Silent)?;
    let mut text = String::new();
    for group in &subject.groups.groups {
        let (name, channels) = (&group.name, group.channels.len());
        match group.frozen.first() {
            None => writeln!(text, "{name}: {channels} channels")?,
            Some(reason) => {
                let reason = sentence(&subject.graph, reason);
                writeln!(text, "{name}: {channels} channels, frozen: {reason}")?;
            }
        }
    }
    Ok(text)
}
