//! Layers with weights that no group covers: named with the reason, and counted.

use onnx_mipp::onnx::{DataType, Model, Tensor};
use onnx_mipp::report::{self, Inspection};
use serde_json::Value;

use crate::builder::{Builder, int, ints};
use crate::masked::find;
use crate::program::{mipp, text};
use crate::small;

/// A matrix of 4-bit numbers in blocks of 32, as ONNX Runtime has them.
fn few_bits(b: &mut Builder, input: &str, [k, n]: [usize; 2]) -> String {
    let packed = Tensor {
        dtype: DataType::Uint8,
        shape: vec![n, k / 32, 16],
        bytes: (0..n * k / 2)
            .map(|i| (i * 37 % 251) as u8)
            .collect::<Vec<_>>()
            .into(),
    };
    let packed = b.store(&packed);
    let scales = b.uniform(&[n * k / 32], 0.01, 0.02);
    let sizes = [("K", k), ("N", n), ("bits", 4), ("block_size", 32)];
    let sizes = sizes.map(|(name, size)| int(name, size as i64));
    let made = b.node("MatMulNBits", &[input, &packed, &scales], sizes.to_vec());
    b.in_domain("com.microsoft");
    made
}

#[test]
fn an_operator_without_a_rule_is_named_where_no_channels_touch_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut b = Builder::new(17);
    b.input("x", &[6, 64]);
    let made = few_bits(&mut b, "x", [64, 128]);
    let made = few_bits(&mut b, &made, [128, 32]);
    b.output(&made, 3);
    let mut proto = b.finish();
    proto.opset_import.truncate(2);
    let [input, output, report] = ["in.onnx", "out.onnx", "report.json"].map(path);
    small::write(&Model { proto }, &input);
    let shown = mipp(["inspect", text(&input)]).done().out;
    // 6 rows through 64 x 128 and 128 x 32 weights.
    assert!(shown.contains("73.7 k MACs"), "{shown}");
    let reason = "operator com.microsoft::MatMulNBits has no rule";
    assert_eq!(shown.matches(reason).count(), 2, "{shown}");
    let told = mipp(["inspect", text(&input), "--json"]).done().out;
    let told: Value = serde_json::from_str(&told).unwrap();
    let layers = told["ungrouped"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    assert!(layers[0]["frozen"].as_str().unwrap().contains(reason));
    assert!((layers[0]["macs_share"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);

    let ends = ["--macs", "0.6", "--report", text(&report)];
    let run = mipp([[text(&input), text(&output)].as_slice(), &ends].concat()).done();
    assert!(
        run.out.contains("asked --macs 0.6, reached 1.0000"),
        "{}",
        run.out
    );
    assert!(
        run.out.contains("2 layers with weights are in no group"),
        "{}",
        run.out
    );
    assert!(run.err.contains("--macs 0.6 is not reached"), "{}", run.err);
    let told: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(told["ungrouped"].as_array().unwrap().len(), 2);
}

#[test]
fn nothing_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.onnx", "out.onnx"].map(|name| folder.path().join(name));
    let mut b = Builder::new(17);
    b.input("x", &[6]);
    let made = b.node("Relu", &["x"], vec![]);
    b.output(&made, 2);
    small::write(&Model { proto: b.finish() }, &input);
    let shown = mipp(["inspect", text(&input)]).done().out;
    assert!(shown.starts_with("0 MACs, 0 parameters; 0.0 %"), "{shown}");
    let shown = mipp([text(&input), text(&output)]).done().out;
    assert!(!shown.contains("-0"), "{shown}");
}

fn inspected(b: Builder) -> Inspection {
    let found = find(b.finish());
    report::inspect(&found.graph, &found.groups)
}

#[test]
fn filters_on_what_is_not_pruned_are_named() {
    let mut b = Builder::new(17);
    b.input("x", &[4, 6, 6]);
    let made = b.conv(
        "x",
        [4, 1, 3, 3],
        vec![int("group", 4), ints("pads", &[1; 4])],
    );
    b.output(&made, 4);
    let found = inspected(b);
    assert_eq!(found.macs, 36.0 * 36.0);
    let [layer] = found.ungrouped.as_slice() else {
        panic!("{:?}", found.ungrouped);
    };
    assert_eq!(
        layer.frozen,
        "it passes on the channels of 'x', which is not pruned"
    );
    assert_eq!(layer.macs_share, 1.0);
}

#[test]
fn weights_that_are_computed_cost_too() {
    let mut b = Builder::new(17);
    b.input("x", &[4, 6, 6]);
    let weight = b.weight(&[6, 4, 1, 1], 4);
    let one = b.node("ReduceMax", &["x"], vec![int("keepdims", 0)]);
    let weight = b.node("Mul", &[&weight, &one], vec![]);
    let made = b.node("Conv", &["x", &weight], vec![]);
    let made = b.pointwise(&made, 6, 5);
    b.output(&made, 4);
    let found = inspected(b);
    assert_eq!(found.macs, 36.0 * (6.0 * 4.0 + 6.0 * 5.0));
    let reasons: Vec<&str> = found.ungrouped.iter().map(|l| l.frozen.as_str()).collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].contains("its weight is computed while the model runs"));
}

#[test]
fn a_layer_of_a_group_is_not_named_again() {
    let found = find(small::model().proto);
    let found = report::inspect(&found.graph, &found.groups);
    assert!(found.ungrouped.is_empty(), "{:?}", found.ungrouped);
}
