//! Lengths of axes as data: shapes that the model computes while it runs.

use super::*;
use crate::builder::{INT64, int, text};
use onnx_mipp::graph::GroupId;

/// Entries `index` of the shape of a tensor, as a tensor of one axis.
fn length(b: &mut Builder, of: &str, index: i64) -> String {
    let shape = b.node("Shape", &[of], vec![]);
    let index = b.index(index);
    let entry = b.node("Gather", &[&shape, &index], vec![]);
    let axes = b.ints(&[0]);
    b.node("Unsqueeze", &[&entry, &axes], vec![])
}

fn joined(b: &mut Builder, entries: &[&str]) -> String {
    b.node("Concat", entries, vec![int("axis", 0)])
}

/// A matrix from `inputs` of the last axis to the model's output.
fn last(mut b: Builder, made: &str, inputs: usize, rank: usize) -> Found {
    let weight = b.weight(&[inputs, 5], inputs);
    let made = b.node("MatMul", &[made, &weight], vec![]);
    b.output(&made, rank);
    find(b.finish())
}

#[test]
fn a_constant_entry_of_a_computed_shape_follows_the_channels() {
    // x.view(x.size(0), 6, -1) and back, as exporters write it.
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let batch = length(&mut b, &made, 0);
    let (channels, rest) = (b.ints(&[6]), b.ints(&[-1]));
    let target = joined(&mut b, &[&batch, &channels, &rest]);
    let rows = b.node("Reshape", &[&made, &target], vec![]);
    let rows = b.node("Tanh", &[&rows], vec![]);
    let side = b.ints(&[6, 6]);
    let target = joined(&mut b, &[&batch, &channels, &side]);
    let made = b.node("Reshape", &[&rows, &target], vec![]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    assert!(found.is_inferred);
    let pruned = found.check();
    // The sides, which are as long as the channels were many, stay.
    let stored = &pruned.proto.graph.as_ref().unwrap().initializer;
    assert!(stored.iter().any(|t| t.name() == side && t.dims == [2]));
}

#[test]
fn a_length_read_from_the_same_channels_follows_by_itself() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let (batch, channels) = (length(&mut b, &made, 0), length(&mut b, &made, 1));
    let rest = b.ints(&[-1]);
    let target = joined(&mut b, &[&batch, &channels, &rest]);
    let rows = b.node("Reshape", &[&made, &target], vec![]);
    let turned = b.node("Transpose", &[&rows], vec![ints("perm", &[0, 2, 1])]);
    let found = last(b, &turned, 6, 3);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn resizing_to_computed_sizes_follows() {
    // Shape -> Slice -> Concat with the target's height and width.
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let shape = b.node("Shape", &[&made], vec![]);
    let (starts, ends, axes) = (b.ints(&[0]), b.ints(&[2]), b.ints(&[0]));
    let front = b.node("Slice", &[&shape, &starts, &ends, &axes], vec![]);
    let side = b.ints(&[9, 12]);
    let sizes = joined(&mut b, &[&front, &side]);
    let attributes = vec![text("mode", "nearest")];
    let made = b.node("Resize", &[&made, "", "", &sizes], attributes);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn resizing_like_another_tensor_ties_its_channels() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let small = b.node("MaxPool", &[&made], vec![ints("kernel_shape", &[2, 2])]);
    let other = b.pointwise(&small, 6, 6);
    let sizes = b.node("Shape", &[&made], vec![]);
    let attributes = vec![text("mode", "nearest")];
    let made = b.node("Resize", &[&other, "", "", &sizes], attributes);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    assert_eq!(found.groups.groups[GroupId::from(0)].producers.len(), 2);
    found.check();
}

#[test]
fn arithmetic_with_the_channel_count_keeps_its_value() {
    // A mean over channels written out: a division by their number.
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let count = length(&mut b, &made, 1);
    let count = b.node("Cast", &[&count], vec![int("to", 1)]);
    let made = b.node("Div", &[&made, &count], vec![]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn arithmetic_with_the_channel_count_among_open_lengths() {
    // Where only the count is read, it keeps its value; the whole shape cannot.
    for is_whole in [false, true] {
        let mut b = Builder::new(13);
        let made = stem(&mut b, 6);
        let count = if is_whole {
            let shape = b.node("Shape", &[&made], vec![]);
            b.node("ReduceProd", &[&shape], vec![int("keepdims", 0)])
        } else {
            let (count, batch) = (length(&mut b, &made, 1), length(&mut b, &made, 0));
            b.node("Mul", &[&count, &batch], vec![])
        };
        let count = b.node("Cast", &[&count], vec![int("to", 1)]);
        let made = b.node("Div", &[&made, &count], vec![]);
        let found = head(b, &made, 6);
        if is_whole {
            assert!(found.free().is_empty());
            assert!(found.is_frozen_by(6, "it computes with the channel count"));
        } else {
            assert_eq!(found.free(), [6]);
            found.check();
        }
    }
}

#[test]
fn arithmetic_with_other_lengths_does_not() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let count = length(&mut b, &made, 3);
    let count = b.node("Cast", &[&count], vec![int("to", 1)]);
    let made = b.node("Div", &[&made, &count], vec![]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn a_channel_count_that_is_an_output_freezes() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let count = length(&mut b, &made, 1);
    b.output_of(&count, INT64 as i32, 1);
    let found = head(b, &made, 6);
    assert!(found.free().is_empty(), "{:?}", found.free());
    assert!(found.is_frozen_by(6, "is an output of the model"));
}

#[test]
fn a_channel_count_that_an_unknown_operator_reads_freezes() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let count = length(&mut b, &made, 1);
    let one = b.floats(&[1], vec![0.25]);
    let tiled = b.node("Expand", &[&one, &count], vec![]);
    let noise = b.node("RandomUniformLike", &[&count], vec![int("dtype", 1)]);
    let made = b.node("Add", &[&made, &noise], vec![]);
    let sum = b.node("ReduceSum", &[&tiled], vec![int("keepdims", 0)]);
    let made = b.node("Mul", &[&made, &sum], vec![]);
    let found = head(b, &made, 6);
    assert!(
        found.is_frozen_by(6, "operator RandomUniformLike has no rule"),
        "{:?}",
        found.frozen()
    );
    assert!(found.free().is_empty());
}

#[test]
fn a_constant_filled_to_the_channel_count_freezes() {
    for op in ["ConstantOfShape", "Expand"] {
        let mut b = Builder::new(13);
        let made = stem(&mut b, 6);
        let shape = b.node("Shape", &[&made], vec![]);
        let one = b.floats(&[1], vec![0.5]);
        let filled = match op {
            "Expand" => b.node(op, &[&one, &shape], vec![]),
            _ => b.node(op, &[&shape], vec![]),
        };
        let weight = b.weight(&[6, 6, 1, 1], 6);
        let mapped = b.node("Conv", &[&filled, &weight], vec![]);
        let made = b.pointwise(&made, 6, 6);
        let made = b.node("Add", &[&made, &mapped], vec![]);
        let found = head(b, &made, 6);
        // The sum may be pruned, the stem not.
        let names: Vec<_> = found
            .groups
            .groups
            .iter()
            .map(|g| g.frozen.is_empty())
            .collect();
        assert_eq!(names[..2], [false, true], "{op}: {:?}", found.frozen());
        found.check();
    }
}

#[test]
fn data_reshaped_to_the_channel_count_freeze_it() {
    // A tensor that is not pruned takes the shape of one that would be.
    let mut b = Builder::new(13);
    let made = stem(&mut b, 4);
    let shape = b.node("Shape", &[&made], vec![]);
    let turned = b.node("Transpose", &["x"], vec![ints("perm", &[0, 3, 2, 1])]);
    let turned = b.node("Reshape", &[&turned, &shape], vec![]);
    let left = b.pointwise(&turned, 4, 5);
    let right = b.pointwise(&made, 4, 5);
    let sum = b.node("Add", &[&left, &right], vec![]);
    b.output(&sum, 4);
    let found = find(b.finish());
    assert!(found.free().is_empty(), "{:?}", found.free());
    assert!(found.is_frozen_by(4, "it gives a tensor that is not pruned the same length"));
}

#[test]
fn an_entry_that_two_tensors_share_serves_both() {
    // The input has as many channels as the stem and is reshaped by the same numbers.
    let mut b = Builder::new(13);
    let made = stem(&mut b, 4);
    let batch = length(&mut b, &made, 0);
    let (channels, rest) = (b.ints(&[4]), b.ints(&[-1]));
    let target = joined(&mut b, &[&batch, &channels, &rest]);
    let mut sums = Vec::new();
    for input in ["x", &made] {
        let rows = b.node("Reshape", &[input, &target], vec![]);
        let turned = b.node("Transpose", &[&rows], vec![ints("perm", &[0, 2, 1])]);
        let weight = b.weight(&[4, 5], 4);
        sums.push(b.node("MatMul", &[&turned, &weight], vec![]));
    }
    let sum = b.node("Add", &[&sums[0], &sums[1]], vec![]);
    b.output(&sum, 3);
    let found = find(b.finish());
    assert!(found.free().is_empty());
    assert!(found.is_frozen_by(4, "it gives a tensor that is not pruned the same length"));
}

#[test]
fn entries_of_another_integer_type_keep_it() {
    const INT32: i64 = 6;
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let batch = length(&mut b, &made, 0);
    let batch = b.node("Cast", &[&batch], vec![int("to", INT32)]);
    let rest = onnx_mipp::onnx::Tensor {
        dtype: onnx_mipp::onnx::DataType::Int32,
        shape: vec![2],
        bytes: [6i32, -1].iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    let rest = b.store(&rest);
    let target = joined(&mut b, &[&batch, &rest]);
    let target = b.node("Cast", &[&target], vec![int("to", INT64)]);
    let rows = b.node("Reshape", &[&made, &target], vec![]);
    let turned = b.node("Transpose", &[&rows], vec![ints("perm", &[0, 2, 1])]);
    let found = last(b, &turned, 6, 3);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn entries_that_are_floats_on_their_way_freeze() {
    const FLOAT: i64 = 1;
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let batch = length(&mut b, &made, 0);
    let batch = b.node("Cast", &[&batch], vec![int("to", FLOAT)]);
    let rest = b.floats(&[2], vec![6.0, -1.0]);
    let target = joined(&mut b, &[&batch, &rest]);
    let target = b.node("Cast", &[&target], vec![int("to", INT64)]);
    let rows = b.node("Reshape", &[&made, &target], vec![]);
    let turned = b.node("Transpose", &[&rows], vec![ints("perm", &[0, 2, 1])]);
    let found = last(b, &turned, 6, 3);
    assert!(found.is_frozen_by(6, "its target shape is computed in a way not followed"));
    assert!(found.free().is_empty());
}

#[test]
fn a_split_by_computed_lengths_gets_numbers() {
    let mut b = Builder::new(13);
    let made = stem(&mut b, 8);
    let half = b.ints(&[4]);
    let other = b.pointwise("x", 4, 4);
    let count = length(&mut b, &other, 1);
    let sizes = joined(&mut b, &[&half, &count]);
    let parts = b.nodes("Split", &[&made, &sizes], 2, vec![int("axis", 1)]);
    let made = b.node(
        "Concat",
        &[&parts[0], &parts[1], &other],
        vec![int("axis", 1)],
    );
    let found = head(b, &made, 12);
    // The second part is as long as `other` is wide, but need not stay so.
    assert_eq!(found.free(), [4, 4, 4]);
    found.check();
}

#[test]
fn a_length_of_other_channels_that_leave_alone_becomes_a_number() {
    // x.view(*x.shape) of a tensor with as many channels, as a lambda layer writes its result.
    let mut b = Builder::new(13);
    let made = stem(&mut b, 6);
    let batch = length(&mut b, &made, 0);
    let channels = length(&mut b, &made, 1);
    let inner = b.conv(&made, [6, 6, 1, 1], vec![]);
    let rows = b.ints(&[0, 6, -1]);
    let rows = b.node("Reshape", &[&inner, &rows], vec![]);
    let side = length(&mut b, &made, 2);
    let target = joined(&mut b, &[&batch, &channels, &side, &side]);
    let made = b.node("Reshape", &[&rows, &target], vec![]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6, 6], "{:?}", found.frozen());
    found.check();
    for group in 0..2 {
        found.check_plan(&found.plan(|at, channel| at == group && channel % 2 == 0));
    }
}
