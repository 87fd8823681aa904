//! What image models are made of: blocks of space, chunks by computed bounds, group norms, whole
//! groups of convolutions.

use super::*;
use crate::builder::{int, text};

#[test]
fn depth_to_space_ties_what_one_channel_is_laid_out_from() {
    for mode in ["DCR", "CRD"] {
        let mut b = Builder::new(17);
        let made = stem(&mut b, 24);
        let attributes = vec![int("blocksize", 2), text("mode", mode)];
        let made = b.node("DepthToSpace", &[&made], attributes);
        let found = head(b, &made, 6);
        assert_eq!(found.free(), [6], "{mode}");
        found.check();
    }
}

#[test]
fn space_to_depth_repeats_channels_at_every_place() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let made = b.node("SpaceToDepth", &[&made], vec![int("blocksize", 3)]);
    let found = head(b, &made, 54);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn slices_in_steps_along_space_pass_channels() {
    // Every second row and column, four times over, joined as channels.
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let mut parts = Vec::new();
    for start in [[0, 0], [1, 0], [0, 1], [1, 1]] {
        let slots = [&start[..], &[i64::MAX, i64::MAX], &[2, 3], &[2, 2]].map(|ints| b.ints(ints));
        let inputs = [&made, &slots[0], &slots[1], &slots[2], &slots[3]].map(String::as_str);
        parts.push(b.node("Slice", &inputs, vec![]));
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let made = b.node("Concat", &parts, vec![int("axis", 1)]);
    let found = head(b, &made, 24);
    assert_eq!(found.free(), [6]);
    found.check();
}

/// The channel count of a tensor, as (1).
fn channel_count(b: &mut Builder, input: &str) -> String {
    let shape = b.node("Shape", &[input], vec![]);
    let one = b.ints(&[1]);
    b.node("Gather", &[&shape, &one], vec![])
}

#[test]
fn halves_by_computed_bounds_follow() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 10);
    let count = channel_count(&mut b, &made);
    let [zero, one, two] = [0, 1, 2].map(|int| b.ints(&[int]));
    let rounded = b.node("Add", &[&count, &one], vec![]);
    let half = b.node("Div", &[&rounded, &two], vec![]);
    let end = b.node("Mul", &[&half, &two], vec![]);
    let left = b.node("Slice", &[&made, &zero, &half, &one], vec![]);
    let right = b.node("Slice", &[&made, &half, &end, &one], vec![]);
    let right = b.pointwise(&right, 5, 4);
    let made = b.node("Concat", &[&left, &right], vec![int("axis", 1)]);
    let found = head(b, &made, 9);
    assert_eq!(found.free(), [5, 5, 4]);
    found.check();
    // Only one half gets narrower: the bounds are no halves any more.
    found.check_plan(&found.plan(|group, at| group == 0 && at > 2));
}

#[test]
fn a_shuffle_with_computed_lengths_follows() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let shape = b.node("Shape", &[&made], vec![]);
    let [zero, one, two, four] = [0, 1, 2, 4].map(|int| b.ints(&[int]));
    let batch = b.node("Gather", &[&shape, &zero], vec![]);
    let count = b.node("Gather", &[&shape, &one], vec![]);
    let space = b.node("Slice", &[&shape, &two, &four], vec![]);
    let half = b.node("Div", &[&count, &two], vec![]);
    let apart = b.node(
        "Concat",
        &[&batch, &two, &half, &space],
        vec![int("axis", 0)],
    );
    let back = b.node("Concat", &[&batch, &count, &space], vec![int("axis", 0)]);
    let made = b.node("Reshape", &[&made, &apart], vec![]);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3, 4])]);
    let made = b.node("Reshape", &[&made, &back], vec![]);
    let found = head(b, &made, 8);
    assert_eq!(found.free(), [4]);
    found.check();
}

#[test]
fn a_scale_by_the_channel_count_keeps_its_value() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 9);
    let count = channel_count(&mut b, &made);
    let count = b.node("Cast", &[&count], vec![int("to", 1)]);
    let root = b.node("Sqrt", &[&count], vec![]);
    let made = b.node("Div", &[&made, &root], vec![]);
    let found = head(b, &made, 9);
    assert_eq!(found.free(), [9]);
    found.check();
}

#[test]
fn whole_groups_leave_a_group_norm() {
    for (opset, parameters) in [(18, 4), (21, 12)] {
        let mut b = Builder::new(opset);
        let made = stem(&mut b, 12);
        let scale = b.uniform(&[parameters], 0.5, 1.5);
        let bias = b.uniform(&[parameters], -0.5, 0.5);
        let inputs = [made.as_str(), &scale, &bias];
        let made = b.node("GroupNormalization", &inputs, vec![int("num_groups", 4)]);
        let found = head(b, &made, 12);
        assert_eq!(found.free(), [4], "opset {opset}");
        let pruned = found.check();
        let norm = only(&pruned, "GroupNormalization");
        assert_eq!(attribute(norm, "num_groups"), Some(vec![2]));
    }
}

#[test]
fn whole_groups_leave_a_group_norm_in_pieces() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 12);
    let shape = b.node("Shape", &[&made], vec![]);
    let apart = b.ints(&[0, 4, -1]);
    let flat = b.node("Reshape", &[&made, &apart], vec![]);
    let (scale, bias) = (b.uniform(&[4], 1.0, 1.0001), b.uniform(&[4], 0.0, 0.0001));
    let flat = b.node("InstanceNormalization", &[&flat, &scale, &bias], vec![]);
    let made = b.node("Reshape", &[&flat, &shape], vec![]);
    let scale = b.uniform(&[12, 1, 1], 0.5, 1.5);
    let made = b.node("Mul", &[&made, &scale], vec![]);
    let found = head(b, &made, 12);
    assert_eq!(found.free(), [4]);
    found.check();
}

#[test]
fn whole_blocks_leave_a_grouped_convolution_of_many() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 12);
    let made = b.conv(&made, [18, 2, 3, 3], vec![int("group", 6)]);
    let found = head(b, &made, 18);
    // Six blocks of two inputs and three outputs: each leaves with all of them.
    assert_eq!(found.free(), [6]);
    let pruned = found.check();
    let nodes = &pruned.proto.graph.as_ref().unwrap().node;
    let groups = nodes.iter().filter_map(|node| attribute(node, "group"));
    assert_eq!(groups.collect::<Vec<_>>(), [[4]]);
}

#[test]
fn whole_blocks_leave_a_grouped_transposed_convolution() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 12);
    let weight = b.weight(&[12, 3, 2, 2], 8);
    let made = b.node("ConvTranspose", &[&made, &weight], vec![int("group", 6)]);
    let found = head(b, &made, 18);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn parts_of_a_sequence_are_picked_by_number() {
    for sizes in [None, Some([3, 5])] {
        let mut b = Builder::new(17);
        let made = stem(&mut b, 8);
        let sizes = match sizes {
            Some(sizes) => b.ints(&sizes),
            None => b.index(4),
        };
        let parts = b.node("SplitToSequence", &[&made, &sizes], vec![int("axis", 1)]);
        let (first, last) = (b.index(0), b.index(-1));
        let left = b.node("SequenceAt", &[&parts, &first], vec![]);
        let right = b.node("SequenceAt", &[&parts, &last], vec![]);
        let made = b.node("Concat", &[&right, &left], vec![int("axis", 1)]);
        let found = head(b, &made, 8);
        assert_eq!(found.free().iter().sum::<usize>(), 8);
        found.check();
        found.check_plan(&found.plan(|group, at| group == 0 && at == 1));
    }
}

#[test]
fn a_sequence_read_whole_freezes() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let size = b.index(4);
    let parts = b.node("SplitToSequence", &[&made, &size], vec![int("axis", 1)]);
    let made = b.node("ConcatFromSequence", &[&parts], vec![int("axis", 1)]);
    let found = head(b, &made, 8);
    assert!(found.is_frozen_by(8, "operator ConcatFromSequence has no rule"));
}

#[test]
fn tiles_repeat_channels() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let repeats = b.ints(&[1, 2, 1, 2]);
    let made = b.node("Tile", &[&made, &repeats], vec![]);
    let found = head(b, &made, 12);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn samples_of_a_grid_pass_channels() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let grid = b.uniform(&[1, 3, 3, 2], -0.9, 0.9);
    let shape = b.node("Shape", &[&made], vec![]);
    let (zero, rest) = (b.ints(&[0]), b.ints(&[3, 3, 2]));
    let batch = b.node("Gather", &[&shape, &zero], vec![]);
    let shape = b.node("Concat", &[&batch, &rest], vec![int("axis", 0)]);
    let grid = b.node("Expand", &[&grid, &shape], vec![]);
    let made = b.node("GridSample", &[&made, &grid], vec![]);
    let found = head(b, &made, 6);
    assert_eq!(found.free(), [6]);
    found.check();
}

#[test]
fn a_mean_variance_norm_over_space_passes_channels() {
    for (axes, width) in [(&[0, 2, 3][..], 6), (&[1, 2, 3], 0)] {
        let mut b = Builder::new(13);
        let made = stem(&mut b, 6);
        let attributes = vec![ints("axes", axes)];
        let made = b.node("MeanVarianceNormalization", &[&made], attributes);
        let found = head(b, &made, 6);
        assert_eq!(found.free().iter().sum::<usize>(), width);
        if width > 0 {
            found.check();
        }
    }
}

#[test]
fn weights_that_a_node_fills_are_cut() {
    let mut b = Builder::new(9);
    let made = stem(&mut b, 6);
    let shape = b.ints(&[5, 6, 1, 1]);
    let weight = b.node("ConstantOfShape", &[&shape], vec![]);
    let value = onnx_mipp::onnx::Tensor::from_f32(&[1], vec![0.25]).unwrap();
    let mut attribute = text("value", "");
    attribute.r#type = Some(4);
    attribute.s = None;
    attribute.t = Some(value.to_proto(""));
    b.last().attribute.push(attribute);
    let made = b.node("Conv", &[&made, &weight], vec![]);
    b.output(&made, 4);
    let found = find(b.finish());
    assert_eq!(found.free(), [6]);
    found.check();
}

/// A pooling to half the size and back, with convolutions between; `shape` gives the size as data.
pub(super) fn unpooled(shape: bool) -> Builder {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 8);
    let halves = || vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let pooled = b.nodes("MaxPool", &[&made], 2, halves());
    let small = b.pointwise(&pooled[0], 8, 8);
    let small = b.node("Relu", &[&small], vec![]);
    let mut inputs = vec![small.as_str(), &pooled[1]];
    let size = if shape {
        b.node("Shape", &[&made], vec![])
    } else {
        String::new()
    };
    if shape {
        inputs.push(&size);
    }
    let made = b.node("MaxUnpool", &inputs, halves());
    let made = b.pointwise(&made, 8, 5);
    b.output(&made, 4);
    b
}

#[test]
fn what_undoes_a_pooling_loses_channels_with_it() {
    for shape in [false, true] {
        let found = find(unpooled(shape).finish());
        assert_eq!(found.free(), [8], "{:?}", found.frozen());
        found.check();
    }
}

/// The indices count through all channels: to another size, or in another's hands, they mean
/// something else.
#[test]
fn indices_of_a_pooling_hold_its_channels_elsewhere() {
    for larger in [true, false] {
        let mut b = Builder::new(17);
        let made = stem(&mut b, 8);
        let halves = || vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
        let pooled = b.nodes("MaxPool", &[&made], 2, halves());
        let mut made = pooled[0].clone();
        if larger {
            let target = b.ints(&[2, 8, 7, 7]);
            made = b.node("MaxUnpool", &[&made, &pooled[1], &target], halves());
        } else {
            b.output_of(&pooled[1], 7, 4);
        }
        let made = b.pointwise(&made, 8, 5);
        b.output(&made, 4);
        let found = find(b.finish());
        assert!(found.free().is_empty());
        assert!(found.is_frozen_by(8, "counts positions across all channels"));
    }
}

/// A deformable convolution of `shape` behind 8 channels, with offsets that are computed from them.
pub(super) fn deformed(groups: [i64; 2], shape: [usize; 4], masked: bool) -> Builder {
    let mut b = Builder::new(19);
    let made = stem(&mut b, 8);
    let places = 9 * groups[1] as usize;
    let offset = b.conv(
        &made,
        [2 * places, 8, 3, 3],
        vec![ints("pads", &[1, 1, 1, 1])],
    );
    let (weight, bias) = (
        b.weight(&shape, shape[1] * 9),
        b.uniform(&[shape[0]], -0.3, 0.3),
    );
    let mut inputs = vec![made.as_str(), &weight, &offset, &bias];
    let mask = if masked {
        let mask = b.conv(&made, [places, 8, 3, 3], vec![ints("pads", &[1, 1, 1, 1])]);
        b.node("Sigmoid", &[&mask], vec![])
    } else {
        String::new()
    };
    if masked {
        inputs.push(&mask);
    }
    let attributes = vec![
        ints("kernel_shape", &[3, 3]),
        ints("pads", &[1, 1, 1, 1]),
        int("group", groups[0]),
        int("offset_group", groups[1]),
    ];
    let made = b.node("DeformConv", &inputs, attributes);
    let made = b.node("Relu", &[&made], vec![]);
    let made = b.pointwise(&made, shape[0], 5);
    b.output(&made, 4);
    b
}

#[test]
fn a_deformable_convolution_is_a_convolution_of_its_data() {
    let cases = [
        ([1, 1], [6, 8, 3, 3], false, vec![8, 6]),
        ([1, 1], [6, 8, 3, 3], true, vec![8, 6]),
        ([1, 2], [6, 8, 3, 3], false, vec![4, 6]),
        ([2, 1], [6, 4, 3, 3], true, vec![4, 3]),
        ([8, 1], [8, 1, 3, 3], false, vec![8]),
    ];
    for (groups, shape, masked, free) in cases {
        let found = find(deformed(groups, shape, masked).finish());
        assert_eq!(found.free(), free, "{:?}", found.frozen());
        assert!(found.is_frozen_by(18 * groups[1] as usize, "it finds its places by them"));
        found.check();
        let weight = shape.iter().product::<usize>();
        let node = found
            .graph
            .nodes
            .iter()
            .position(|n| n.op_type == "DeformConv");
        let node = node.map(onnx_mipp::graph::NodeId::from);
        let cost = found.groups.costs.iter().find(|c| Some(c.node) == node);
        assert_eq!(cost.unwrap().positions, 36.0, "for each of {weight}");
    }
}
