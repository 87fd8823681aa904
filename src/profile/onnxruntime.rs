//! ONNX Runtime's profiler: a list of events, of which each kernel has one for each run.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Kernel, Profile};

/// What the profiler puts behind the name of a kernel.
const SUFFIX: &str = "_kernel_time";

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
    args: BTreeMap<String, Value>,
}

/// Reads the JSON that ONNX Runtime's profiler writes.
///
/// # Errors
/// It is something else; the message says what is wrong.
pub fn parse(text: &str) -> Result<Profile, String> {
    read(serde_json::from_str(text).map_err(|error| error.to_string())?)
}

/// Reads its events.
pub(super) fn read(events: Vec<Value>) -> Result<Profile, String> {
    let events = events.into_iter().map(serde_json::from_value::<Event>);
    let events: Vec<Event> = events
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
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
        return Err(format!("no run among its {} events", events.len()));
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
        assert_eq!(
            (conv.name.as_str(), conv.op_type.as_str()),
            ("onnx-mipp/node/12/", "Conv")
        );
        assert_eq!(conv.milliseconds, 0.02);
        assert_eq!(relu.name, "y_output_nchwc");
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
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
