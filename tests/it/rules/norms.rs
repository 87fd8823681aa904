//! Norms over channels: frozen, or run over the channels that are left where the user asks for it.
//! The truth there is the same model made without the others.

use super::*;
use crate::builder::{float, int};
use crate::masked::find_with;
use onnx_mipp::groups::{Heads, Scope};
use onnx_mipp::onnx::proto::ModelProto;

const NORMALIZED: Scope = Scope {
    heads: Heads::Whole,
    normalized: true,
};
const WIDTH: usize = 6;
const KEEP: [usize; 3] = [0, 3, 4];

/// A builder whose constants over the stream have only the entries `keep`.
struct Stream {
    b: Builder,
    keep: Vec<usize>,
}

impl Stream {
    /// Random numbers of that shape, of which `axis` lies along the stream.
    fn along(&mut self, shape: &[usize], axis: usize) -> String {
        let name = self.b.uniform(shape, -0.8, 1.2);
        let stored = self.b.graph.initializer.pop().unwrap();
        let tensor = onnx_mipp::onnx::Tensor::from_proto(&stored).unwrap();
        let cut = tensor.take(axis, &self.keep).unwrap();
        self.b.graph.initializer.push(cut.to_proto(&name));
        name
    }

    fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        self.b.node(op, inputs, vec![])
    }

    /// A branch from the stream through 7 channels and back.
    fn branch(&mut self, stream: &str) -> String {
        let down = self.along(&[WIDTH, 7], 0);
        let up = self.along(&[7, WIDTH], 1);
        let inner = self.node("MatMul", &[stream, &down]);
        let inner = self.node("Tanh", &[&inner]);
        self.node("MatMul", &[&inner, &up])
    }
}

/// A residual stream of 6 channels with `norm` before its two branches.
fn model(keep: &[usize], opset: i64, norm: impl Fn(&mut Stream, &str) -> String) -> ModelProto {
    let mut s = Stream {
        b: Builder::new(opset),
        keep: keep.to_vec(),
    };
    s.b.input("x", &[5, 8]);
    let first = s.along(&[8, WIDTH], 1);
    let mut stream = s.node("MatMul", &["x", &first]);
    for _ in 0..2 {
        let normal = norm(&mut s, &stream);
        let branch = s.branch(&normal);
        stream = s.node("Add", &[&stream, &branch]);
    }
    let normal = norm(&mut s, &stream);
    let last = s.along(&[WIDTH, 4], 0);
    let made = s.node("MatMul", &[&normal, &last]);
    s.b.output(&made, 3);
    s.b.finish()
}

/// Held by default; free when asked, and then the same as the narrower model.
fn check(opset: i64, reason: &str, norm: impl Fn(&mut Stream, &str) -> String) {
    let all: Vec<usize> = (0..WIDTH).collect();
    let found = find(model(&all, opset, &norm));
    assert!(found.free().iter().all(|&width| width == 7));
    assert!(found.is_frozen_by(WIDTH, reason), "{:?}", found.frozen());
    found.check();
    let found = find_with(model(&all, opset, &norm), NORMALIZED);
    found.check_against(WIDTH, &KEEP, model(&KEEP, opset, &norm));
}

#[test]
fn a_layer_norm_in_one_node() {
    check(17, "it normalises over the channels", |s, stream| {
        let (scale, bias) = (s.along(&[WIDTH], 0), s.along(&[WIDTH], 0));
        s.node("LayerNormalization", &[stream, &scale, &bias])
    });
}

#[test]
fn a_layer_norm_in_pieces() {
    check(13, "it reduces over the channels", |s, stream| {
        let axes = || vec![ints("axes", &[-1])];
        let mean = s.b.node("ReduceMean", &[stream], axes());
        let centred = s.node("Sub", &[stream, &mean]);
        let two = s.b.floats(&[], vec![2.0]);
        let square = s.node("Pow", &[&centred, &two]);
        let variance = s.b.node("ReduceMean", &[&square], axes());
        let tiny = s.b.floats(&[], vec![1e-5]);
        let variance = s.node("Add", &[&variance, &tiny]);
        let deviation = s.node("Sqrt", &[&variance]);
        let normal = s.node("Div", &[&centred, &deviation]);
        let (scale, bias) = (s.along(&[WIDTH], 0), s.along(&[WIDTH], 0));
        let scaled = s.node("Mul", &[&normal, &scale]);
        s.node("Add", &[&scaled, &bias])
    });
}

#[test]
fn a_root_mean_square_norm_in_one_node_and_in_pieces() {
    check(23, "it normalises over the channels", |s, stream| {
        s.b.ir = 11;
        let scale = s.along(&[WIDTH], 0);
        s.node("RMSNormalization", &[stream, &scale])
    });
    check(18, "it reduces over the channels", |s, stream| {
        let axes = s.b.ints(&[-1]);
        let square = s.node("Mul", &[stream, stream]);
        let mean = s.node("ReduceMean", &[&square, &axes]);
        let tiny = s.b.floats(&[], vec![1e-5]);
        let mean = s.node("Add", &[&mean, &tiny]);
        let root = s.node("Sqrt", &[&mean]);
        let factor = s.node("Reciprocal", &[&root]);
        let normal = s.node("Mul", &[stream, &factor]);
        let scale = s.along(&[WIDTH], 0);
        s.node("Mul", &[&normal, &scale])
    });
}

#[test]
fn norms_of_the_optimisers() {
    check(17, "it normalises over the channels", |s, stream| {
        let other = s.branch(stream);
        let (scale, bias) = (s.along(&[WIDTH], 0), s.along(&[WIDTH], 0));
        let shift = s.along(&[WIDTH], 0);
        let inputs = [stream, &other, &scale, &bias, &shift];
        let made = s.node("SkipLayerNormalization", &inputs);
        s.b.in_domain("com.microsoft");
        made
    });
}

#[test]
fn a_sum_and_norm_that_hands_out_its_sum() {
    let make = |keep: &[usize]| {
        let mut s = Stream {
            b: Builder::new(17),
            keep: keep.to_vec(),
        };
        s.b.input("x", &[5, 8]);
        let first = s.along(&[8, WIDTH], 1);
        let stream = s.node("MatMul", &["x", &first]);
        let branch = s.branch(&stream);
        let scale = s.along(&[WIDTH], 0);
        let inputs = [stream.as_str(), &branch, &scale];
        let outputs =
            s.b.nodes("SkipSimplifiedLayerNormalization", &inputs, 4, vec![]);
        s.b.in_domain("com.microsoft");
        for unused in [1, 2] {
            s.b.last().output[unused] = String::new();
        }
        let branch = s.branch(&outputs[0]);
        let stream = s.node("Add", &[&outputs[3], &branch]);
        let last = s.along(&[WIDTH, 4], 0);
        let made = s.node("MatMul", &[&stream, &last]);
        s.b.output(&made, 3);
        s.b.finish()
    };
    let all: Vec<usize> = (0..WIDTH).collect();
    assert!(find(make(&all)).is_frozen_by(WIDTH, "it normalises over the channels"));
    let found = find_with(make(&all), NORMALIZED);
    found.check_against(WIDTH, &KEEP, make(&KEEP));
}

#[test]
fn a_norm_over_channels_and_space() {
    let make = |keep: &[usize]| {
        let mut s = Stream {
            b: Builder::new(17),
            keep: keep.to_vec(),
        };
        s.b.input("x", &[4, 6, 6]);
        let weight = s.along(&[WIDTH, 4, 1, 1], 0);
        let made = s.node("Conv", &["x", &weight]);
        let (scale, bias) = (s.along(&[WIDTH, 6, 6], 0), s.along(&[WIDTH, 1, 1], 0));
        let inputs = [made.as_str(), &scale, &bias];
        let made =
            s.b.node("LayerNormalization", &inputs[..2], vec![int("axis", 1)]);
        let made = s.node("Add", &[&made, &bias]);
        let weight = s.along(&[5, WIDTH, 1, 1], 1);
        let made = s.node("Conv", &[&made, &weight]);
        s.b.output(&made, 4);
        s.b.finish()
    };
    let all: Vec<usize> = (0..WIDTH).collect();
    assert!(find(make(&all)).is_frozen_by(WIDTH, "it normalises over the channels"));
    let found = find_with(make(&all), NORMALIZED);
    found.check_against(WIDTH, &KEEP, make(&KEEP));
}

#[test]
fn whole_groups_leave_a_group_norm() {
    for (opset, length) in [(18, 3), (21, 12)] {
        let mut b = Builder::new(opset);
        let made = stem(&mut b, 12);
        let (scale, bias) = (
            b.uniform(&[length], 0.5, 1.5),
            b.uniform(&[length], -1.0, 1.0),
        );
        let attributes = vec![int("num_groups", 3), float("epsilon", 1e-3)];
        let made = b.node("GroupNormalization", &[&made, &scale, &bias], attributes);
        let found = head(b, &made, 12);
        assert_eq!(found.free(), [3], "opset {opset}");
        let pruned = found.check();
        let groups = attribute(only(&pruned, "GroupNormalization"), "num_groups");
        assert_eq!(groups, Some(vec![2]));
    }
}

#[test]
fn whole_groups_leave_a_group_norm_in_pieces() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 12);
    let (apart, back) = (b.ints(&[0, 3, -1]), b.ints(&[0, 12, 6, 6]));
    let rows = b.node("Reshape", &[&made, &apart], vec![]);
    let (ones, zeros) = (b.floats(&[3], vec![1.0; 3]), b.floats(&[3], vec![0.0; 3]));
    let rows = b.node("InstanceNormalization", &[&rows, &ones, &zeros], vec![]);
    let made = b.node("Reshape", &[&rows, &back], vec![]);
    let (scale, bias) = (
        b.uniform(&[12, 1, 1], 0.5, 1.5),
        b.uniform(&[12, 1, 1], -1.0, 1.0),
    );
    let made = b.node("Mul", &[&made, &scale], vec![]);
    let made = b.node("Add", &[&made, &bias], vec![]);
    let found = head(b, &made, 12);
    assert_eq!(found.free(), [3]);
    found.check();
}

#[test]
fn one_group_of_all_channels_is_a_norm_over_them() {
    let mut b = Builder::new(21);
    let made = stem(&mut b, 6);
    let (scale, bias) = (b.uniform(&[6], 0.5, 1.5), b.uniform(&[6], -1.0, 1.0));
    let made = b.node(
        "GroupNormalization",
        &[&made, &scale, &bias],
        vec![int("num_groups", 1)],
    );
    let found = head(b, &made, 6);
    assert!(found.is_frozen_by(6, "it normalises over the channels"));
}
