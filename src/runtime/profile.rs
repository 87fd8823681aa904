//! What ONNX Runtime's profiler says about a model's nodes.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Deserialize;

use super::start::open_error;
use super::{Runtime, RuntimeError};
use crate::onnx::{Model, Tensor};
use crate::outputs::Workspace;

/// Where time goes in one run of a model, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// Median time of a whole run.
    pub run: f64,
    /// What ran, in the order of the first run: after ONNX Runtime's fusions.
    pub kernels: Vec<Kernel>,
}

/// What ONNX Runtime runs for one node, or for several that it fused.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// ONNX Runtime's name for it.
    pub name: String,
    /// Its operator type, such as `Conv` or `FusedConv`.
    pub op_type: String,
    /// Median time in a run, in milliseconds.
    pub milliseconds: f64,
}

/// What the profiler puts behind the name of a kernel.
const SUFFIX: &str = "_kernel_time";

/// What stands before the index in the names of a profiled model's nodes, with a slash behind it,
/// so that it can be told where ONNX Runtime makes longer names of them.
const TAG: &str = "onnx-mipp/node/";

impl Kernel {
    /// The node whose name ONNX Runtime kept, as an index into the main graph.
    #[must_use]
    pub fn node(&self) -> Option<usize> {
        let (_, rest) = self.name.split_once(TAG)?;
        rest.split('/').next()?.parse().ok()
    }
}

impl Runtime {
    /// Runs `model` on `batch` several times under ONNX Runtime's profiler, on this device and with
    /// all of ONNX Runtime's optimisations.
    ///
    /// # Errors
    /// The model cannot be run, or the profile cannot be written to a temporary folder and read.
    pub fn profile(
        &self,
        model: &Model,
        batch: &[(String, Tensor)],
    ) -> Result<Profile, RuntimeError> {
        const RUNS: usize = 201;
        const MOST_SECONDS: f64 = 4.0;
        let folder = Workspace::new().map_err(|source| RuntimeError::Io {
            action: "create a temporary folder in",
            path: std::env::temp_dir(),
            source,
        })?;
        let builder = self.builder().map_err(open_error)?;
        let builder = builder.with_profiling(folder.path().join("profile"));
        let mut session = self.open(&tagged(model), builder.map_err(open_error)?)?;
        let outputs = session.outputs();
        let begin = Instant::now();
        for run in 0..RUNS {
            session.run(batch, &outputs)?;
            if run > 1 && begin.elapsed().as_secs_f64() > MOST_SECONDS {
                break;
            }
        }
        let path = session.end_profiling()?;
        let text = std::fs::read_to_string(&path).map_err(|source| RuntimeError::Io {
            action: "read ONNX Runtime's profile",
            path: path.into(),
            source,
        })?;
        parse(&text)
    }
}

/// The model with names by which the profile's kernels are known again.
fn tagged(model: &Model) -> Model {
    let mut model = model.clone();
    let nodes = model
        .proto
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.node);
    for (id, node) in nodes.enumerate() {
        node.name = Some(format!("{TAG}{id}/"));
    }
    model
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    /// Microseconds.
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: BTreeMap<String, serde_json::Value>,
}

/// Reads the JSON that ONNX Runtime's profiler writes.
fn parse(text: &str) -> Result<Profile, RuntimeError> {
    let bad = |problem: String| RuntimeError::Profile { problem };
    let events: Vec<Event> = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    let mut runs = Vec::new();
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for event in &events {
        if event.cat == "Session" && event.name == "model_run" {
            runs.push(event.dur / 1000.0);
        }
        // A name without the suffix is a kernel of a device, which its node's time includes.
        let Some(name) = event.name.strip_suffix(SUFFIX) else {
            continue;
        };
        let op_type = event.args.get("op_name").and_then(|name| name.as_str());
        let known = times.entry(name).or_insert_with(|| {
            order.push((name, op_type.unwrap_or_default()));
            Vec::new()
        });
        known.push(event.dur / 1000.0);
    }
    if runs.is_empty() {
        return Err(bad(format!("no run among its {} events", events.len())));
    }
    let count = runs.len() as f64;
    let kernel = |(name, op_type): &(&str, &str)| {
        let times = times.get(name).cloned().unwrap_or_default();
        Kernel {
            name: (*name).to_owned(),
            op_type: (*op_type).to_owned(),
            // The body of a loop runs several times in a run.
            milliseconds: times.len() as f64 / count * median(times),
        }
    };
    Ok(Profile {
        kernels: order.iter().map(kernel).collect(),
        run: median(runs),
    })
}

/// The median, the upper one of two; not a number where there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_gives_medians_in_the_order_of_the_run() {
        let event = |cat: &str, name: &str, dur: u32, op: &str| {
            format!(
                r#"{{"cat": "{cat}", "pid": 1, "tid": 1, "dur": {dur}, "ts": 0, "ph": "X",
                    "name": "{name}", "args": {{"op_name": "{op}", "output_type_shape": [{{"float": [1]}}]}}}}"#
            )
        };
        let run = |conv, relu, whole| {
            [
                event("Node", "onnx-mipp/node/12/_kernel_time", conv, "Conv"),
                event("Node", "y_output_nchwc_kernel_time", relu, "Relu"),
                event("Kernel", "cudnn_something", 7, ""),
                event("Session", "model_run", whole, ""),
            ]
        };
        let events = [run(10, 4, 20), run(30, 5, 50), run(20, 900, 40)].concat();
        let begin = event("Session", "session_initialization", 1_000_000, "");
        let profile = parse(&format!("[{begin}, {}]", events.join(","))).unwrap();
        assert_eq!(profile.run, 0.04);
        let [conv, relu] = profile.kernels.as_slice() else {
            panic!("{profile:?}");
        };
        assert_eq!((conv.node(), conv.op_type.as_str()), (Some(12), "Conv"));
        assert_eq!(conv.milliseconds, 0.02);
        assert_eq!((relu.node(), relu.name.as_str()), (None, "y_output_nchwc"));
        assert_eq!(relu.milliseconds, 0.005);
    }

    #[test]
    fn what_is_no_profile_is_an_error() {
        for text in [
            "",
            "{}",
            "[]",
            r#"[{"cat": "Session", "name": "model_loading"}]"#,
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("profile"), "{error}");
        }
    }
}
