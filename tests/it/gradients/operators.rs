//! Each operator alone, in all its forms.

use onnx_mipp::onnx::proto::AttributeProto;

use crate::builder::{Builder, float, int, ints, text};
use crate::gradients::Checked;

/// Numbers that learn, and that no constants are: nothing of the model's input is added.
fn data(b: &mut Builder, shape: &[usize], range: [f32; 2]) -> String {
    let x = b.input("x", &[1, 1]);
    let one = b.node("ReduceMean", &[&x], vec![int("keepdims", 0)]);
    let zero = b.floats(&[], vec![0.0]);
    let nothing = b.node("Mul", &[&one, &zero], vec![]);
    let own = b.uniform(shape, range[0], range[1]);
    b.node("Add", &[&own, &nothing], vec![])
}

/// Adds one operator behind a tensor; returns its output.
type Make = fn(&mut Builder, &str) -> String;

/// One operator behind data that learn, and what else of it has to.
fn check(what: &str, opset: i64, data: &[usize], range: [f32; 2], weights: usize, make: Make) {
    let mut b = Builder::new(opset);
    let data = self::data(&mut b, data, range);
    let made = make(&mut b, &data);
    b.output(&made, 1);
    let checked = Checked::new(b.finish(), 2).unwrap_or_else(|| panic!("{what}: nothing learns"));
    assert_eq!(
        checked.learned().len(),
        1 + weights,
        "{what}: {:?}",
        checked.learned()
    );
    checked.check(what);
}

/// An operator of one input.
fn check_function(op: &'static str, opset: i64, range: [f32; 2], attributes: Vec<AttributeProto>) {
    let mut b = Builder::new(opset);
    let data = data(&mut b, &[2, 12], range);
    let made = b.node(op, &[&data], attributes);
    b.output(&made, 2);
    let checked = Checked::new(b.finish(), 2).unwrap_or_else(|| panic!("{op}: nothing learns"));
    checked.check(op);
}

const WIDE: [f32; 2] = [-2.0, 2.0];

#[test]
fn functions() {
    for (op, range) in [
        ("Relu", WIDE),
        ("Sigmoid", WIDE),
        ("Tanh", WIDE),
        ("Erf", WIDE),
        ("Exp", WIDE),
        ("Neg", WIDE),
        ("Abs", WIDE),
        ("Sqrt", [0.5, 2.0]),
        ("Reciprocal", [0.5, 2.0]),
        ("Identity", WIDE),
        ("Dropout", WIDE),
    ] {
        check_function(op, 17, range, vec![]);
    }
    check_function("Relu", 9, WIDE, vec![]);
    check_function("HardSwish", 14, [-4.0, 4.0], vec![]);
    check_function("Gelu", 20, WIDE, vec![]);
    check_function("HardSigmoid", 17, [-4.0, 4.0], vec![float("alpha", 0.3)]);
    check_function("LeakyRelu", 17, WIDE, vec![float("alpha", 0.2)]);
    check_function("Softmax", 13, WIDE, vec![int("axis", -1)]);
    check_function("Softmax", 11, WIDE, vec![int("axis", 1)]);
    let clip: Make = |b, x| {
        let (low, high) = (b.floats(&[], vec![-0.5]), b.floats(&[], vec![1.0]));
        b.node("Clip", &[x, &low, &high], vec![])
    };
    check("Clip", 13, &[2, 12], WIDE, 0, clip);
    let power: Make = |b, x| {
        let three = b.floats(&[], vec![3.0]);
        b.node("Pow", &[x, &three], vec![])
    };
    check("Pow", 13, &[2, 12], WIDE, 0, power);
}

#[test]
fn sums_and_products_that_repeat() {
    for op in ["Add", "Sub", "Mul", "Div"] {
        for (left, right) in [
            (&[3, 1][..], &[2, 1, 4][..]),
            (&[2, 3, 4], &[4]),
            (&[4], &[2, 3, 1]),
        ] {
            let mut b = Builder::new(13);
            let left = data(&mut b, left, [0.5, 1.5]);
            let right = b.uniform(right, 0.5, 1.5);
            let made = b.node(op, &[&left, &right], vec![]);
            b.output(&made, 3);
            let checked = Checked::new(b.finish(), 1).unwrap();
            assert_eq!(checked.learned().len(), 2);
            checked.check(op);
        }
    }
    let chosen: Make = |b, x| {
        let other = b.uniform(&[12], -1.0, 1.0);
        let zero = b.floats(&[], vec![0.0]);
        let above = b.node("Greater", &[x, &zero], vec![]);
        b.node("Where", &[&above, x, &other], vec![])
    };
    check("Where", 13, &[2, 12], WIDE, 1, chosen);
    let all: Make = |b, x| {
        let other = b.uniform(&[12], -1.0, 1.0);
        b.node("Sum", &[x, &other, x], vec![])
    };
    check("Sum", 13, &[2, 12], WIDE, 1, all);
}

#[test]
fn convolutions() {
    // Strides, dilations, pads before and after each axis, groups, the kernel, the data.
    type Form = ([i64; 2], [i64; 2], [i64; 4], usize, [usize; 2], [usize; 4]);
    let forms: [Form; 9] = [
        ([1, 1], [1, 1], [0; 4], 1, [1, 1], [2, 4, 3, 5]),
        ([1, 1], [1, 1], [1; 4], 1, [3, 3], [2, 4, 5, 6]),
        ([2, 2], [1, 1], [1; 4], 1, [3, 3], [2, 4, 6, 7]),
        ([2, 3], [1, 1], [0, 1, 1, 0], 1, [2, 3], [2, 4, 7, 9]),
        ([1, 2], [2, 1], [2, 0, 0, 1], 2, [3, 2], [2, 4, 7, 6]),
        ([2, 2], [1, 1], [0; 4], 1, [1, 1], [2, 4, 6, 6]),
        ([3, 3], [1, 1], [0; 4], 4, [2, 2], [1, 4, 7, 8]),
        ([1, 1], [1, 1], [1; 4], 4, [3, 3], [3, 4, 5, 5]),
        ([2, 2], [2, 2], [2; 4], 4, [3, 3], [2, 4, 8, 9]),
    ];
    for opset in [8, 13] {
        for (strides, dilations, pads, groups, kernel, read) in forms {
            let mut b = Builder::new(opset);
            let data = data(&mut b, &read, [-1.0, 1.0]);
            let weight = b.uniform(&[8, 4 / groups, kernel[0], kernel[1]], -1.0, 1.0);
            let bias = b.uniform(&[8], -1.0, 1.0);
            let attributes = vec![
                ints("strides", &strides),
                ints("dilations", &dilations),
                ints("pads", &pads),
                int("group", i64::try_from(groups).unwrap()),
            ];
            let made = b.node("Conv", &[&data, &weight, &bias], attributes);
            b.output(&made, 4);
            let checked = Checked::new(b.finish(), 1).unwrap();
            assert_eq!(checked.learned().len(), 3);
            checked.check(&format!(
                "Conv {strides:?} {dilations:?} {pads:?} {groups} {kernel:?}"
            ));
        }
    }
    let same: Make = |b, x| {
        let weight = b.uniform(&[5, 3, 4], -1.0, 1.0);
        let attributes = vec![ints("strides", &[2]), text("auto_pad", "SAME_UPPER")];
        b.node("Conv", &[x, &weight], attributes)
    };
    check("Conv of one axis", 13, &[2, 3, 9], WIDE, 1, same);
}

#[test]
fn products_of_matrices() {
    for turned in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        let mut b = Builder::new(13);
        let shape = |rows: usize, columns: usize, turned: i64| match turned {
            0 => [rows, columns],
            _ => [columns, rows],
        };
        let data = data(&mut b, &shape(3, 4, turned[0]), [-1.0, 1.0]);
        let weight = b.uniform(&shape(4, 5, turned[1]), -1.0, 1.0);
        let bias = b.uniform(&[5], -1.0, 1.0);
        let attributes = vec![
            int("transA", turned[0]),
            int("transB", turned[1]),
            float("alpha", 0.7),
            float("beta", 1.3),
        ];
        let made = b.node("Gemm", &[&data, &weight, &bias], attributes);
        b.output(&made, 2);
        let checked = Checked::new(b.finish(), 1).unwrap();
        assert_eq!(checked.learned().len(), 3);
        checked.check(&format!("Gemm {turned:?}"));
    }
    let matrix: Make = |b, x| {
        let weight = b.uniform(&[4, 5], -1.0, 1.0);
        b.node("MatMul", &[x, &weight], vec![])
    };
    check("MatMul", 13, &[2, 3, 4], WIDE, 1, matrix);
    let stack: Make = |b, x| {
        let weight = b.uniform(&[3, 1, 4, 5], -1.0, 1.0);
        b.node("MatMul", &[x, &weight], vec![])
    };
    check("MatMul of stacks", 13, &[2, 3, 4], WIDE, 1, stack);
    let left: Make = |b, x| {
        let weight = b.uniform(&[6, 3], -1.0, 1.0);
        b.node("MatMul", &[&weight, x], vec![])
    };
    check("MatMul from the left", 13, &[2, 3, 4], WIDE, 1, left);
}

#[test]
fn norms() {
    let batch: Make = |b, x| {
        let (scale, bias) = (b.uniform(&[3], 0.5, 1.5), b.uniform(&[3], -1.0, 1.0));
        let (mean, variance) = (b.uniform(&[3], -1.0, 1.0), b.uniform(&[3], 0.5, 2.0));
        let inputs = [x, &scale, &bias, &mean, &variance];
        b.node("BatchNormalization", &inputs, vec![float("epsilon", 1e-3)])
    };
    check("BatchNormalization", 15, &[2, 3, 4], WIDE, 2, batch);
    let layer: Make = |b, x| {
        let (scale, bias) = (b.uniform(&[3, 4], 0.5, 1.5), b.uniform(&[3, 4], -1.0, 1.0));
        b.node(
            "LayerNormalization",
            &[x, &scale, &bias],
            vec![int("axis", 1)],
        )
    };
    check("LayerNormalization", 17, &[2, 3, 4], WIDE, 2, layer);
    let root: Make = |b, x| {
        let scale = b.uniform(&[4], 0.5, 1.5);
        b.node("SimplifiedLayerNormalization", &[x, &scale], vec![])
    };
    check(
        "SimplifiedLayerNormalization",
        17,
        &[2, 3, 4],
        WIDE,
        1,
        root,
    );
}

#[test]
fn pools_and_means() {
    for (what, opset, make) in [
        (
            "GlobalAveragePool",
            13,
            (|b, x| b.node("GlobalAveragePool", &[x], vec![])) as Make,
        ),
        ("AveragePool", 13, |b, x| {
            let attributes = vec![ints("kernel_shape", &[2, 3]), ints("strides", &[2, 1])];
            b.node("AveragePool", &[x], attributes)
        }),
        ("MaxPool apart", 13, |b, x| {
            let attributes = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
            b.node("MaxPool", &[x], attributes)
        }),
        ("MaxPool that overlaps", 17, |b, x| {
            let pads = ints("pads", &[1, 1, 1, 1]);
            let attributes = vec![
                ints("kernel_shape", &[3, 3]),
                ints("strides", &[2, 2]),
                pads,
            ];
            b.node("MaxPool", &[x], attributes)
        }),
        ("ReduceMean", 13, |b, x| {
            b.node("ReduceMean", &[x], vec![ints("axes", &[1, -1])])
        }),
        ("ReduceSum", 13, |b, x| {
            let axes = b.ints(&[2]);
            b.node("ReduceSum", &[x, &axes], vec![int("keepdims", 0)])
        }),
    ] {
        check(what, opset, &[2, 3, 6, 7], WIDE, 0, make);
    }
}

#[test]
fn layouts() {
    for (what, opset, make) in [
        (
            "Reshape",
            13,
            (|b, x| {
                let shape = b.ints(&[0, -1]);
                b.node("Reshape", &[x, &shape], vec![])
            }) as Make,
        ),
        ("Flatten", 13, |b, x| b.node("Flatten", &[x], vec![])),
        ("Unsqueeze", 13, |b, x| {
            let axes = b.ints(&[1]);
            b.node("Unsqueeze", &[x, &axes], vec![])
        }),
        ("Transpose", 13, |b, x| {
            b.node("Transpose", &[x], vec![ints("perm", &[1, 2, 0])])
        }),
        ("Transpose that turns all", 13, |b, x| {
            b.node("Transpose", &[x], vec![])
        }),
        ("Concat", 13, |b, x| {
            let turned = b.node("Neg", &[x], vec![]);
            b.node("Concat", &[x, &turned, x], vec![int("axis", 1)])
        }),
        ("Slice", 13, |b, x| {
            let (starts, ends) = (b.ints(&[1, -3]), b.ints(&[9, -1]));
            let axes = b.ints(&[1, 2]);
            b.node("Slice", &[x, &starts, &ends, &axes], vec![])
        }),
        ("Slice of an old opset", 9, |b, x| {
            let bounds = vec![ints("starts", &[1]), ints("ends", &[3]), ints("axes", &[2])];
            b.node("Slice", &[x], bounds)
        }),
        ("Pad", 13, |b, x| {
            let pads = b.ints(&[0, 1, 2, 0, 0, 3]);
            b.node("Pad", &[x, &pads], vec![])
        }),
        ("Pad of an old opset", 9, |b, x| {
            b.node("Pad", &[x], vec![ints("pads", &[0, 1, 0, 0, 0, 2])])
        }),
        ("Gather of one", 13, |b, x| {
            let first = b.index(0);
            b.node("Gather", &[x, &first], vec![int("axis", 1)])
        }),
        ("Gather in a row", 13, |b, x| {
            let positions = b.ints(&[1, 2]);
            b.node("Gather", &[x, &positions], vec![int("axis", 2)])
        }),
        ("Split", 13, |b, x| {
            let sizes = b.ints(&[1, 3]);
            let parts = b.nodes("Split", &[x, &sizes], 2, vec![int("axis", 2)]);
            b.node("Neg", &[&parts[1]], vec![])
        }),
    ] {
        check(what, opset, &[2, 3, 4], WIDE, 0, make);
    }
}

#[test]
fn sizes_that_are_whole_times() {
    for (place, rounding, scale) in [
        ("half_pixel", "round_prefer_floor", 3.0),
        ("asymmetric", "floor", 3.0),
        ("asymmetric", "round_prefer_floor", 2.0),
    ] {
        let mut b = Builder::new(13);
        let read = data(&mut b, &[2, 3, 3, 4], WIDE);
        let scales = b.floats(&[4], vec![1.0, 1.0, 2.0, scale]);
        let attributes = vec![
            text("coordinate_transformation_mode", place),
            text("nearest_mode", rounding),
        ];
        let made = b.node("Resize", &[&read, "", &scales], attributes);
        b.output(&made, 4);
        let checked = Checked::new(b.finish(), 1).unwrap();
        checked.check(&format!("Resize {place} {rounding}"));
    }
    // Rounded to the nearest, the third copy is the next position's.
    let mut b = Builder::new(13);
    let read = data(&mut b, &[1, 2, 2, 2], WIDE);
    let scales = b.floats(&[4], vec![1.0, 1.0, 3.0, 3.0]);
    let attributes = vec![text("coordinate_transformation_mode", "asymmetric")];
    let made = b.node("Resize", &[&read, "", &scales], attributes);
    b.output(&made, 4);
    assert!(Checked::new(b.finish(), 1).is_none());
}
