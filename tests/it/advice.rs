//! What messages advise is what helps.

use std::fs;

use onnx_mipp::groups::Scope;
use onnx_mipp::onnx::{self, proto::*};
use onnx_mipp::ops;

use crate::builder::{Builder, int};
use crate::masked::{Found, find};
use crate::program::{fixture, mipp, text};
use crate::small;

#[test]
fn old_opsets_are_to_be_converted() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.onnx");
    let mut model = small::model();
    model.proto.opset_import[0].version = Some(6);
    let graph = small::graph(&mut model);
    graph.node[1] = small::node("Add", "add", &["a", "a"], "r");
    small::write(&model, &input);
    let run = mipp(["inspect", text(&input)]);
    assert!(!run.err.contains("newer ONNX Runtime"), "{}", run.err);
    run.fails(1, &["opset is older than 7", "convert_version(model, 17)"]);
}

/// A norm over six channels, which a matrix reads, and `more`.
fn normalised(more: impl FnOnce(&mut Builder, &str)) -> Found {
    let mut b = Builder::new(17);
    b.input("x", &[3, 4]);
    let weight = b.weight(&[4, 6], 4);
    let made = b.node("MatMul", &["x", &weight], vec![]);
    let (scale, bias) = (b.uniform(&[6], 0.5, 1.0), b.uniform(&[6], -1.0, 1.0));
    let inputs = [made.as_str(), &scale, &bias];
    let norm = b.node("LayerNormalization", &inputs, vec![int("axis", -1)]);
    more(&mut b, &norm);
    let weight = b.weight(&[6, 5], 6);
    let made = b.node("MatMul", &[&norm, &weight], vec![]);
    b.output(&made, 3);
    find(b.finish())
}

#[test]
fn the_way_past_a_norm_is_named_where_there_is_one() {
    const HINT: &str = "it normalises over the channels (`normalized` lets them leave)";
    let checked = |mut found: Found| {
        assert!(found.is_frozen_by(6, HINT), "{:?}", found.frozen());
        found
            .groups
            .check_hints(&found.graph, Scope::default(), &ops::RULES, (None, None));
        found
    };
    let free = checked(normalised(|_, _| {}));
    assert!(free.is_frozen_by(6, HINT), "{:?}", free.frozen());
    // Something else holds them, too.
    let held = checked(normalised(|b, norm| {
        let mixed = b.node("Softmax", &[norm], vec![int("axis", -1)]);
        b.output(&mixed, 3);
    }));
    assert!(!held.is_frozen_by(6, "`normalized`"), "{:?}", held.frozen());
    assert!(held.is_frozen_by(6, "it normalises over the channels"));
}

#[test]
fn what_holds_the_most_is_named_with_what_frees_it() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.onnx");
    let mut b = Builder::new(17);
    b.input("x", &[3, 4]);
    let weight = b.weight(&[4, 6], 4);
    let normed = b.node("MatMul", &["x", &weight], vec![]);
    let (scale, bias) = (b.uniform(&[6], 0.5, 1.0), b.uniform(&[6], -1.0, 1.0));
    let inputs = [normed.as_str(), &scale, &bias];
    let norm = b.node("LayerNormalization", &inputs, vec![int("axis", -1)]);
    let weight = b.weight(&[6, 5], 6);
    let free = b.node("MatMul", &[&norm, &weight], vec![]);
    let weight = b.weight(&[5, 40], 5);
    let last = b.node("MatMul", &[&free, &weight], vec![]);
    b.output(&last, 3);
    fs::write(&input, prost::Message::encode_to_vec(&b.finish())).unwrap();
    let run = |more: &[&str]| {
        let start = [text(&input), "--dry-run", "--ratio", "0.5", "--align", "1"];
        mipp([start.as_slice(), more].concat()).done().out
    };
    let out = run(&[]);
    // Of 4 x 6, 6 x 5 and 5 x 40 at each of 3 positions: the output's and the norm's.
    let named = [
        format!(
            "frozen, worth most: '{last}' ({:.1} % of the MACs): ",
            20000.0 / 254.0
        ),
        format!(
            "--prune-normalized would let '{normed}' ({:.1} % of the MACs) get narrower",
            5400.0 / 254.0
        ),
    ];
    for line in &named {
        assert!(out.contains(line), "no '{line}' in {out}");
    }
    assert!(out.contains("is an output of the model"), "{out}");
    let freed = run(&["--prune-normalized"]);
    assert!(
        freed.contains("frozen, worth most") && !freed.contains("would let"),
        "{freed}"
    );
    // The user knows what the user holds.
    let held = run(&["--exclude", "*"]);
    assert!(!held.contains("worth most"), "{held}");
}

#[test]
fn a_run_ends_with_what_to_do_next() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.onnx");
    let (model, data) = (
        fixture("resnet_folded_torchscript.onnx"),
        fixture("calib.npz"),
    );
    let run = |options: &[&str]| {
        let start = [text(&model), text(&out), "--repair", "none"];
        mipp([start.as_slice(), options].concat()).done().out
    };
    let with = |options: &[&str]| run(&[&["--calib", text(&data)], options].concat());
    let said = |shown: &str| shown.lines().last().unwrap().to_owned();
    let few = said(&with(&["--samples", "64", "--ratio", "0.5"]));
    assert!(few.starts_with("next: give more samples"), "{few}");
    let many = said(&with(&["--ratio", "0.5"]));
    assert!(many.starts_with("next: measure the accuracy"), "{many}");
    let measured = said(&with(&["--ratio", "0.5", "--metric", "wc -c < {model}"]));
    assert!(measured.starts_with("next: quantize"), "{measured}");
    let whole = said(&with(&["--macs", "1"]));
    assert!(whole.starts_with("next: ask for a size"), "{whole}");
    let held = said(&with(&["--ratio", "0.5", "--exclude", "*"]));
    assert!(held.starts_with("next: `onnx-mipp inspect`"), "{held}");
    let unseen = said(&run(&["--ratio", "0.5"]));
    assert!(
        unseen.ends_with("give --calib with a few hundred real samples"),
        "{unseen}"
    );
    for how in [
        ["--samples", "64", "--ratio", "0.5", "--quiet"],
        ["--samples", "64", "--ratio", "0.5", "--json"],
    ] {
        assert!(!with(&how).contains("next: "));
    }
}

#[test]
fn limits_are_to_be_lowered_where_that_reaches_a_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [input, output, data] = ["in.onnx", "out.onnx", "calib.npy"].map(path);
    small::write(&small::model(), &input);
    small::calibration(&data);
    let run = |options: &[&str]| {
        let start = [text(&input), text(&output), "--calib", text(&data)];
        mipp([start.as_slice(), options].concat())
    };
    let advised = ["--macs 0.3", "ask for less, lower --align, or accept"];
    run(&["--macs", "0.3", "--align", "8"]).fails(1, &advised);
    let advised = [
        "--macs 0.3",
        "ask for less, lower --min-channels, or accept",
    ];
    run(&["--macs", "0.3", "--align", "1", "--min-channels", "8"]).fails(1, &advised);
    // Nothing but asking for less.
    let advised = ["--macs 0.01", "ask for less, or accept"];
    run(&["--macs", "0.01", "--align", "8"]).fails(1, &advised);
    run(&["--macs", "0.3", "--align", "1"]).done();
    assert!(onnx::load(&output).is_ok());
}

#[test]
fn sizes_are_to_be_fixed_where_the_model_leaves_some_open() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.onnx");
    let write = |side: Option<i64>| {
        let mut model = small::model();
        let graph = small::graph(&mut model);
        graph.input = vec![small::value("x", &[None, Some(3), side, side])];
        graph.output = vec![small::value("y", &[None, Some(8), None, None])];
        // No input fits what this node adds.
        let odd = onnx::Tensor::from_f32(&[5, 7], vec![1.0; 35]).unwrap();
        graph.initializer.push(odd.to_proto("odd"));
        graph.node[1] = NodeProto {
            name: Some("sum".to_owned()),
            op_type: Some("Add".to_owned()),
            input: vec!["a".to_owned(), "odd".to_owned()],
            output: vec!["r".to_owned()],
            ..Default::default()
        };
        small::write(&model, &input);
        mipp(["inspect", text(&input)])
    };
    write(None).fails(1, &["leaves sizes open: fix them with --shape"]);
    let run = write(Some(8));
    assert_eq!(run.code, Some(1));
    assert!(!run.err.contains("--shape"), "{}", run.err);
}
