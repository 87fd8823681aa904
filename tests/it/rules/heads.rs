//! Channels inside the heads of an attention in bases of each head's own: which may be turned, that
//! turning changes nothing, and that the program takes them where it says so. The truth is ONNX
//! Runtime on the original model.

use std::path::Path;

use super::attention::{HEAD_DIM, HEADS, INNER, LENGTH, WIDTH, attend, finish, heads, rows};
use super::*;
use crate::builder::int;
use crate::combine::{combinable, is_same};
use crate::program::{mipp, text};
use onnx_mipp::combine;
use onnx_mipp::onnx::Tensor;
use onnx_mipp::onnx::proto::ModelProto;
use prost::Message;

/// Heads whose queries and keys, and values, are of three directions each, which lie otherwise in
/// every head.
const RANK: usize = 3;

fn is_turned(found: &Found) {
    assert_eq!(combinable(found), [INNER as usize; 2]);
    is_same(found);
}

#[test]
fn heads_of_separate_projections_may_be_turned() {
    is_turned(&super::attention::separate(HEAD_DIM));
}

#[test]
fn heads_of_one_projection_may_be_turned() {
    let split = |b: &mut Builder, all: &str| -> Vec<String> {
        let sizes = b.ints(&[WIDTH as i64; 3]);
        let parts = b.nodes("Split", &[all, &sizes], 3, vec![int("axis", -1)]);
        parts.iter().map(|part| heads(b, part, HEADS)).collect()
    };
    is_turned(&super::attention::fused(HEAD_DIM, split));
}

/// One index of queries, keys and values leaves together, in directions of each one's own.
#[test]
fn heads_of_one_projection_in_five_axes_may_be_turned() {
    let apart = |b: &mut Builder, all: &str| {
        let shape = b.ints(&[0, 0, 3, HEADS, INNER]);
        let apart = b.node("Reshape", &[all, &shape], vec![]);
        b.node("Transpose", &[&apart], vec![ints("perm", &[2, 0, 3, 1, 4])])
    };
    let gathered = |b: &mut Builder, all: &str| -> Vec<String> {
        let apart = apart(b, all);
        let part = |b: &mut Builder, index| {
            let index = b.index(index);
            b.node("Gather", &[&apart, &index], vec![int("axis", 0)])
        };
        (0..3).map(|index| part(b, index)).collect()
    };
    let sliced = |b: &mut Builder, all: &str| -> Vec<String> {
        let apart = apart(b, all);
        let part = |b: &mut Builder, index: i64| {
            let (first, end, axis) = (b.ints(&[index]), b.ints(&[index + 1]), b.ints(&[0]));
            let part = b.node("Slice", &[&apart, &first, &end, &axis], vec![]);
            b.node("Squeeze", &[&part, &axis], vec![])
        };
        (0..3).map(|index| part(b, index)).collect()
    };
    for parts in [
        &gathered as &dyn Fn(&mut Builder, &str) -> Vec<String>,
        &sliced,
    ] {
        let found = super::attention::fused(HEAD_DIM, parts);
        assert_eq!(combinable(&found), [INNER as usize]);
        is_same(&found);
    }
}

/// Heads of one number each are told apart by their scores, and no combination of them is.
#[test]
fn heads_themselves_are_not_combined() {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let parts = [(); 3].map(|()| {
        let made = rows(&mut b, "x", 8, HEADS as usize);
        heads(&mut b, &made, HEADS)
    });
    let made = attend(&mut b, &parts[0], &parts[1], &parts[2]);
    let found = finish(b, &made, HEADS as usize, Default::default());
    assert_eq!(found.free(), [HEADS as usize]);
    assert_eq!(combinable(&found), [0; 0]);
}

/// What treats the channels of a head apart rules its queries and keys out, and not its values.
#[test]
fn an_activation_inside_the_heads_is_in_the_way() {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let mut parts = Vec::new();
    for _ in 0..3 {
        let made = rows(&mut b, "x", 8, WIDTH);
        parts.push(heads(&mut b, &made, HEADS));
    }
    let query = b.node("Tanh", &[&parts[0]], vec![]);
    let made = attend(&mut b, &query, &parts[1], &parts[2]);
    let found = finish(b, &made, WIDTH, HEAD_DIM);
    let can = combine::combinable(&found.graph, &found.groups);
    assert_eq!(
        can.iter().copied().collect::<Vec<_>>(),
        [false, true, false]
    );
    is_same(&found);
}

fn drawn(b: &mut Builder, count: usize) -> Vec<f32> {
    (0..count).map(|_| b.draw(-1.0, 1.0)).collect()
}

/// A matrix of which each head's columns lie in the head's own directions.
fn of_low_rank(b: &mut Builder, directions: &[f32]) -> String {
    let inner = INNER as usize;
    let left = drawn(b, 8 * WIDTH);
    let mut all = vec![0.0; 8 * WIDTH];
    for (at, value) in all.iter_mut().enumerate() {
        let (row, head, column) = (at / WIDTH, at % WIDTH / inner, at % inner);
        let product = |k: usize| {
            let direction = directions[(head * RANK + k) * inner + column];
            left[row * WIDTH + head * inner + k] * direction
        };
        *value = (0..RANK).map(product).sum();
    }
    b.floats(&[8, WIDTH], all)
}

/// An attention of which half of the channels inside the heads say all, in the right basis.
fn redundant() -> ModelProto {
    let mut b = Builder::new(17);
    b.input("x", &[LENGTH, 8]);
    let [scores, values] = [(); 2].map(|()| drawn(&mut b, HEADS as usize * RANK * INNER as usize));
    let parts = [&scores, &scores, &values].map(|directions| {
        let weight = of_low_rank(&mut b, directions);
        let made = b.node("MatMul", &["x", &weight], vec![]);
        heads(&mut b, &made, HEADS)
    });
    let made = attend(&mut b, &parts[0], &parts[1], &parts[2]);
    finish(b, &made, WIDTH, HEAD_DIM).model.proto
}

/// The program on it: the channels of its groups before and after, and the change of the outputs.
fn pruned(folder: &Path, options: &[&str]) -> (Vec<(u64, u64)>, f64) {
    let [model, out, data] = ["in.onnx", "out.onnx", "x.pb"].map(|name| folder.join(name));
    let values: Vec<f32> = (0..256 * LENGTH * 8)
        .map(|i| ((i * i + 7 * i) % 113) as f32 / 50.0 - 1.1)
        .collect();
    let values = Tensor::from_f32(&[256, LENGTH, 8], values).unwrap();
    std::fs::write(&data, values.to_proto("x").encode_to_vec()).unwrap();
    std::fs::write(&model, redundant().encode_to_vec()).unwrap();
    let start = [
        text(&model),
        text(&out),
        "--json",
        "--quiet",
        "--align",
        "1",
    ];
    let options = options
        .iter()
        .map(|&word| if word == "DATA" { text(&data) } else { word });
    let run = mipp(start.into_iter().chain(options).collect::<Vec<_>>()).done();
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let groups = report["groups"].as_array().unwrap().iter();
    let channels =
        |group: &serde_json::Value, when: &str| group["channels"][when].as_u64().unwrap();
    let free = groups.filter(|group| group["frozen"].as_array().is_some_and(Vec::is_empty));
    let widths = free.map(|group| (channels(group, "before"), channels(group, "after")));
    let change = report["comparison"]["relative_error"].as_f64();
    (widths.collect(), change.unwrap_or(f64::NAN))
}

#[test]
fn directions_of_each_head_leave_where_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let half = ["--ratio", "0.5", "--calib", "DATA"];
    let (widths, change) = pruned(folder.path(), &half);
    assert_eq!(widths, [(6, 3), (6, 3)]);
    assert!(change < 0.03, "{change:e}");
    let (widths, change) = pruned(
        folder.path(),
        &[half.as_slice(), &["--heads", "whole"]].concat(),
    );
    assert_eq!(widths, [(4, 2)]);
    assert!(change > 0.2, "{change:e}");
    // The same indexes of all heads lose what they hold.
    let channels = ["--heads", "inside", "--no-combine"];
    let (widths, change) = pruned(folder.path(), &[half.as_slice(), &channels].concat());
    assert_eq!(widths, [(6, 3), (6, 3)]);
    assert!(change > 0.2, "{change:e}");
}

#[test]
fn whole_heads_leave_where_no_data_tell_directions() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(pruned(folder.path(), &["--ratio", "0.5"]).0, [(4, 2)]);
    let channels = ["--ratio", "0.5", "--calib", "DATA", "--no-combine"];
    assert_eq!(pruned(folder.path(), &channels).0, [(4, 2)]);
}

#[test]
fn a_plan_says_what_leaves_of_the_heads() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    for options in [
        &["--ratio", "0.5"][..],
        &["--ratio", "0.5", "--calib", "DATA"],
    ] {
        let made = pruned(
            folder.path(),
            &[options, &["--plan-out", text(&plan)]].concat(),
        );
        let again = ["--plan", text(&plan), "--calib", "DATA"];
        assert_eq!(pruned(folder.path(), &again).0, made.0);
    }
}
