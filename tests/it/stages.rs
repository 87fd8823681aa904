//! The examples: each stage of the library used alone, on a small model.

use std::fs;

use crate::program::{fixture, mipp, runtime, text};
use crate::small;

#[path = "../../examples/groups.rs"]
#[allow(dead_code)]
mod groups;
#[path = "../../examples/plan.rs"]
#[allow(dead_code)]
mod plan;
#[path = "../../examples/statistics.rs"]
#[allow(dead_code)]
mod statistics;

#[test]
fn groups_alone() {
    // Says how to run the tests where ONNX Runtime is missing.
    runtime();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.onnx");
    small::write(&small::model(), &path);
    let found = groups::describe(&path).unwrap();
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 2, "{found}");
    assert_eq!(lines[0], "first: 16 channels");
    assert!(lines[1].starts_with("second: 8 channels, frozen: "));
    assert!(groups::describe(&folder.path().join("no.onnx")).is_err());
}

#[test]
fn statistics_alone() {
    runtime();
    let found = statistics::describe(fixture("resnet_bn_torchscript.onnx"), fixture("calib.npz"));
    let found = found.unwrap();
    assert!(found.starts_with("512 samples\n"), "{found}");
    // A 3 x 3 convolution reads nine inputs of each of 24 channels.
    let body = "/stages/stages.0/body/body.0/Conv: 216 inputs, ";
    assert!(found.contains(body), "{found}");
}

#[test]
fn a_plan_alone() {
    runtime();
    let folder = tempfile::tempdir().unwrap();
    let [input, output, written] =
        ["in.onnx", "out.onnx", "plan.json"].map(|name| folder.path().join(name));
    small::write(&small::model(), &input);
    let plan = plan::halve(&input, &output).unwrap();
    assert_eq!(plan.widths(), vec![8, 8].into());
    // The program does the same with the same plan.
    fs::write(&written, serde_json::to_vec(&plan).unwrap()).unwrap();
    let again = folder.path().join("again.onnx");
    let options = ["--plan", text(&written), "--repair", "none", "-q"];
    mipp([[text(&input), text(&again)].as_slice(), &options].concat()).done();
    assert!(fs::read(&output).unwrap() == fs::read(&again).unwrap());
}
