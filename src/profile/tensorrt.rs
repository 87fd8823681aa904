//! TensorRT: `trtexec --exportProfile=FILE.json`, a list of the number of runs and of each layer.

use serde::Deserialize;
use serde_json::Value;

use super::{Kernel, Profile};

#[derive(Deserialize)]
struct Layer {
    name: String,
    /// Milliseconds of a run.
    #[serde(rename = "averageMs")]
    average: f64,
}

/// What TensorRT does itself between two layers: it handles what the layer before made.
const COPIES: &str = "Reformatting CopyNode";

/// Whether the entries are layers with times.
pub(super) fn is_profile(entries: &[Value]) -> bool {
    entries.iter().any(|entry| entry.get("averageMs").is_some())
}

/// Reads the entries; the number of runs is none of them.
pub(super) fn parse(entries: Vec<Value>) -> Result<Profile, String> {
    let layers = entries
        .into_iter()
        .filter(|entry| entry.get("name").is_some());
    let kernel = |entry: Value| {
        let layer: Layer = serde_json::from_value(entry).map_err(|error| error.to_string())?;
        let is_copy = layer.name.starts_with(COPIES);
        Ok(Kernel {
            name: if is_copy { String::new() } else { layer.name },
            op_type: String::new(),
            milliseconds: layer.average,
        })
    };
    layers
        .map(kernel)
        .collect::<Result<_, String>>()
        .map(Profile::of)
}
