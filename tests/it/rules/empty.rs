//! Axes of length zero: channels stay, and nothing breaks.

use super::*;
use crate::builder::int;
use crate::masked::runtime;
use onnx_mipp::groups::{Groups, Scope};
use onnx_mipp::onnx::Tensor;
use onnx_mipp::ops;
use onnx_mipp::shapes::probe;
use onnx_mipp::surgery::{self, Repaired};

/// Seven channels beside what `make` makes of them, which is an output; all stay or can be cut.
fn beside(rank: usize, make: impl FnOnce(&mut Builder, &str) -> String) {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 7);
    let empty = make(&mut b, &made);
    b.output(&empty, rank);
    let made = b.pointwise(&made, 7, 5);
    b.output(&made, 4);
    let model = Model { proto: b.finish() };
    let mut graph = ops::graph(&model).unwrap();
    // Without optimisation, which has trouble of its own with such axes.
    let shown = Tensor::from_f32(&[2, 4, 6, 6], vec![0.5; 288]).unwrap();
    probe(
        &model,
        &mut graph,
        runtime(),
        &vec![("x".to_owned(), shown)],
    )
    .unwrap();
    let groups = Groups::find(&graph, Scope::default(), &ops::RULES);
    let mut stays = vec![true; groups.channel_count];
    for group in groups.groups.iter().filter(|group| group.frozen.is_empty()) {
        assert_eq!(group.channels.len(), 7);
        stays[group.channels[2]] = false;
    }
    let pruned = surgery::prune(&model, &graph, &groups, &stays, &Repaired::default());
    pruned.unwrap().check().unwrap();
}

fn none(b: &mut Builder, shape: &[usize]) -> String {
    b.store(&Tensor::from_f32(shape, Vec::new()).unwrap())
}

#[test]
fn convolutions_without_channels() {
    beside(4, |b, made| {
        let weight = none(b, &[0, 7, 1, 1]);
        b.node("Conv", &[made, &weight], vec![])
    });
    for (group, transposed) in [(1, 1), (2, 7)] {
        beside(4, |b, made| {
            let (from, to, axes) = (b.ints(&[0]), b.ints(&[0]), b.ints(&[1]));
            let empty = b.node("Slice", &[made, &from, &to, &axes], vec![]);
            let weight = none(b, &[4, 0, 1, 1]);
            b.node("Conv", &[&empty, &weight], vec![int("group", group)])
        });
        beside(4, |b, made| {
            let weight = none(b, &[7, 0, 1, 1]);
            b.node(
                "ConvTranspose",
                &[made, &weight],
                vec![int("group", transposed)],
            )
        });
    }
}

#[test]
fn matrices_without_rows_or_columns() {
    beside(2, |b, made| {
        let made = pooled(b, made);
        let weight = none(b, &[7, 0]);
        b.node("MatMul", &[&made, &weight], vec![])
    });
    beside(2, |b, made| {
        let made = pooled(b, made);
        let weight = none(b, &[7, 0]);
        let made = b.node("Gemm", &[&made, &weight], vec![]);
        let weight = none(b, &[0, 3]);
        b.node("MatMul", &[&made, &weight], vec![])
    });
    beside(2, |b, made| {
        let made = pooled(b, made);
        let weight = none(b, &[0, 7]);
        let made = b.node("Gemm", &[&made, &weight], vec![int("transB", 1)]);
        let weight = none(b, &[0, 3]);
        let bias = b.uniform(&[3], -1.0, 1.0);
        b.node("Gemm", &[&made, &weight, &bias], vec![])
    });
}

#[test]
fn parts_without_channels() {
    beside(4, |b, made| {
        let sizes = b.ints(&[0, 7]);
        let parts = b.nodes("Split", &[made, &sizes], 2, vec![int("axis", 1)]);
        b.node("Concat", &[&parts[1], &parts[0]], vec![int("axis", 1)])
    });
    beside(4, |b, made| {
        let sizes = b.ints(&[7, 0]);
        let parts = b.nodes("Split", &[made, &sizes], 2, vec![int("axis", 1)]);
        b.node("Relu", &[&parts[1]], vec![])
    });
    beside(4, |b, made| {
        let empty = none(b, &[1, 0, 6, 6]);
        let (from, to) = (b.ints(&[0]), b.ints(&[1]));
        let one = b.node("Slice", &[made, &from, &to, &from], vec![]);
        b.node("Concat", &[&one, &empty], vec![int("axis", 1)])
    });
    beside(4, |b, made| {
        let indices = b.store(&Tensor::from_i64(&[0], &[]).unwrap());
        b.node("Gather", &[made, &indices], vec![int("axis", 1)])
    });
}

#[test]
fn shapes_without_elements() {
    for target in [vec![0, 0, -1, 6], vec![2, 0, 18], vec![0, 5]] {
        beside(target.len(), |b, made| {
            let (from, to, axes) = (b.ints(&[0]), b.ints(&[0]), b.ints(&[2]));
            let empty = b.node("Slice", &[made, &from, &to, &axes], vec![]);
            let last = target.len() == 4;
            let target = if last {
                b.ints(&[0, 7, 0, 6])
            } else {
                b.ints(&target)
            };
            let made = b.node(
                "Reshape",
                &[&empty, &target],
                vec![int("allowzero", 1 - i64::from(last))],
            );
            b.node("Relu", &[&made], vec![])
        });
    }
    beside(3, |b, made| {
        let (from, to, axes) = (b.ints(&[0]), b.ints(&[0]), b.ints(&[2]));
        let empty = b.node("Slice", &[made, &from, &to, &axes], vec![]);
        let target = b.ints(&[2, 7, 0]);
        let flat = b.node("Reshape", &[&empty, &target], vec![int("allowzero", 1)]);
        let turned = b.node("Transpose", &[&flat], vec![ints("perm", &[0, 2, 1])]);
        b.node("MatMul", &[&flat, &turned], vec![])
    });
}
