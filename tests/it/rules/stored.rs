//! Weights that nodes make of what is stored: cut and written again in the form that they had.

use super::*;
use crate::builder::int;
use crate::masked::{batch, run};
use onnx_mipp::onnx::{DataType, Tensor};
use onnx_mipp::surgery::{self, Repaired};

const TO_FLOAT: i64 = 1;
const TO_INT64: i64 = 7;

/// Ways to store a matrix of `rows` inputs and `columns` outputs.
const FORMS: [&str; 8] = [
    "cast, scale of each output",
    "cast, scale of each output, turned",
    "cast, zero point, one scale",
    "cast, divided",
    "dequantised, turned",
    "cast, in another shape",
    "half, turned",
    "looked up",
];

fn bytes(b: &mut Builder, dtype: DataType, shape: &[usize], limit: i64, middle: i64) -> String {
    let count: usize = shape.iter().product();
    let number =
        |at: usize| (at as i64 * 7919 + 31) % 1009 * (2 * limit + 1) / 1009 - limit + middle;
    let bytes: Vec<u8> = (0..count).map(|at| number(at).to_le_bytes()[0]).collect();
    b.store(&Tensor {
        dtype,
        shape: shape.to_vec(),
        bytes: bytes.into(),
    })
}

/// A matrix in one of the forms.
fn weight(b: &mut Builder, form: &str, [rows, columns]: [usize; 2]) -> String {
    let cast = |b: &mut Builder, input: &str, to| b.node("Cast", &[input], vec![int("to", to)]);
    let turn =
        |b: &mut Builder, input: &str| b.node("Transpose", &[input], vec![ints("perm", &[1, 0])]);
    let scales = |b: &mut Builder, shape: &[usize]| b.uniform(shape, 0.003, 0.006);
    match form {
        "cast, scale of each output" => {
            let made = bytes(b, DataType::Int8, &[rows, columns], 127, 0);
            let made = cast(b, &made, TO_FLOAT);
            let scale = scales(b, &[columns]);
            b.node("Mul", &[&made, &scale], vec![])
        }
        "cast, scale of each output, turned" => {
            let made = bytes(b, DataType::Int8, &[columns, rows], 127, 0);
            let made = cast(b, &made, TO_FLOAT);
            let scale = scales(b, &[columns, 1]);
            let made = b.node("Mul", &[&scale, &made], vec![]);
            turn(b, &made)
        }
        "cast, zero point, one scale" => {
            let made = bytes(b, DataType::Uint8, &[rows, columns], 110, 115);
            let made = cast(b, &made, TO_FLOAT);
            let (zero, scale) = (b.floats(&[], vec![120.0]), b.floats(&[], vec![0.004]));
            let made = b.node("Sub", &[&made, &zero], vec![]);
            b.node("Mul", &[&made, &scale], vec![])
        }
        "cast, divided" => {
            let made = bytes(b, DataType::Int8, &[rows, columns], 100, 0);
            let made = cast(b, &made, TO_FLOAT);
            let scale = b.uniform(&[1, columns], 200.0, 300.0);
            b.node("Div", &[&made, &scale], vec![])
        }
        "dequantised, turned" => {
            let made = bytes(b, DataType::Int8, &[columns, rows], 127, 0);
            let scale = scales(b, &[columns]);
            let made = b.node("DequantizeLinear", &[&made, &scale], vec![int("axis", 0)]);
            turn(b, &made)
        }
        "cast, in another shape" => {
            let made = bytes(b, DataType::Int8, &[1, rows, columns], 127, 0);
            let made = cast(b, &made, TO_FLOAT);
            let target = b.ints(&[rows as i64, columns as i64]);
            let made = b.node("Reshape", &[&made, &target], vec![]);
            let scale = scales(b, &[columns]);
            b.node("Mul", &[&made, &scale], vec![])
        }
        "half, turned" => {
            let values = (0..rows * columns).map(|at| ((at * 37 % 101) as f64 - 50.0) / 128.0);
            let values = ndarray::ArrayD::from_shape_vec(vec![columns, rows], values.collect());
            let made = b.store(&Tensor::from_f64(DataType::Float16, &values.unwrap()).unwrap());
            let made = cast(b, &made, TO_FLOAT);
            turn(b, &made)
        }
        _ => {
            let made = bytes(b, DataType::Uint8, &[rows, columns], 7, 8);
            let made = cast(b, &made, TO_INT64);
            let table = b.uniform(&[16], -0.6, 0.6);
            b.node("Gather", &[&table, &made], vec![])
        }
    }
}

/// Three products in a row.
fn model(form: &str) -> Found {
    wide(form, [24, 30])
}

fn wide(form: &str, [first, last]: [usize; 2]) -> Found {
    let mut b = Builder::new(17);
    b.input("x", &[10]);
    let mut made = "x".to_owned();
    for shape in [[10, first], [first, last], [last, 6]] {
        let weight = weight(&mut b, form, shape);
        made = b.node("MatMul", &[&made, &weight], vec![]);
        if shape[1] != 6 {
            made = b.node("Tanh", &[&made], vec![]);
        }
    }
    b.output(&made, 2);
    find(b.finish())
}

/// Bytes of the initializers of two or more axes that are floats of 32 bits.
fn floats(model: &Model) -> usize {
    let stored = &model.proto.graph.as_ref().unwrap().initializer;
    let wide = stored
        .iter()
        .filter(|t| t.data_type() == 1 && t.dims.len() > 1 && !t.dims.contains(&1));
    wide.count()
}

fn operators(model: &Model) -> Vec<String> {
    let nodes = model.proto.graph.as_ref().unwrap().node.iter();
    nodes.map(|node| node.op_type().to_owned()).collect()
}

#[test]
fn every_form_is_cut_as_it_is() {
    for form in FORMS {
        let found = model(form);
        assert_eq!(found.free(), [24, 30], "{form}: {:?}", found.frozen());
        let pruned = found.check();
        assert_eq!(operators(&pruned), operators(&found.model), "{form}");
        assert_eq!(floats(&pruned), 0, "{form}");
        let share = pruned.byte_size() as f64 / found.model.byte_size() as f64;
        assert!(share < 0.9, "{form}: {share}");
    }
}

/// What the second product reads as its weight, as ONNX Runtime makes it.
fn second(model: &Model) -> Tensor {
    let mut model = model.clone();
    let main = model.proto.graph.as_mut().unwrap();
    let products = main.node.iter().filter(|node| node.op_type() == "MatMul");
    let name = products.map(|node| node.input[1].clone()).nth(1).unwrap();
    main.output.push(crate::builder::open(&name, 2));
    run(&model, &batch(&model, 2, 1)).pop().unwrap()
}

#[test]
fn repaired_weights_are_written_again_in_their_form() {
    for form in FORMS {
        let found = model(form);
        let products = found.graph.nodes.entries();
        let mut products = products.filter(|(_, node)| node.op_type == "MatMul");
        let (node, _) = products.nth(1).unwrap();
        let stays = found.plan(|_, at| at % 3 == 0);
        let cut = second(&found.cut(&stays));
        // Numbers that no scale of before holds.
        let moved = cut.to_f64().unwrap();
        let moved = ndarray::ArrayD::from_shape_fn(moved.raw_dim(), |at| {
            1.7 * moved[&at] + 0.04 * ((at[0] * 13 + at[1] * 7) % 11) as f64
        });
        let moved = Tensor::from_f64(DataType::Float, &moved).unwrap();
        let mut repaired = Repaired::default();
        repaired.inputs.insert((node, 1), moved.clone());
        let bias = Tensor::from_f32(&[20], vec![0.125; 20]).unwrap();
        repaired.added.insert(node, bias);
        let (model, graph, groups) = (&found.model, &found.graph, &found.groups);
        let (pruned, notes) =
            surgery::prune_noting(model, graph, groups, &stays, &repaired).unwrap();
        let again = second(&pruned);
        assert_eq!(again.shape, moved.shape, "{form}");
        let apart = |wanted: &Tensor| {
            let (a, b) = (again.to_f64().unwrap(), wanted.to_f64().unwrap());
            let squares = |values: &ndarray::ArrayD<f64>| values.mapv(|v| v * v).sum().sqrt();
            squares(&(&a - &b)) / squares(&b)
        };
        let ops = operators(&pruned);
        let adds = ops.iter().filter(|op| *op == "Add").count();
        if form == "looked up" {
            // No table is made anew: the weight and the bias are those of before.
            assert!(notes[0].contains("without repair"), "{notes:?}");
            assert_eq!((apart(&cut), adds), (0.0, 0), "{form}");
        } else {
            assert!(notes.is_empty(), "{form}: {notes:?}");
            assert!(apart(&moved) < 0.01, "{form}: {}", apart(&moved));
            assert_eq!(adds, 1, "{form}");
        }
        assert_eq!(floats(&pruned), 0, "{form}");
        assert!(pruned.byte_size() < found.model.byte_size(), "{form}");
    }
}

#[test]
fn what_a_scale_cannot_hold_is_cut_without_repair() {
    let found = wide("cast, zero point, one scale", [90, 80]);
    let products = found.graph.nodes.entries();
    let mut products = products.filter(|(_, node)| node.op_type == "MatMul");
    let (node, _) = products.nth(1).unwrap();
    let stays = found.plan(|_, at| at % 3 == 0);
    let cut = second(&found.cut(&stays));
    // One number, so far from the others that the steps of its scale are as large as they are.
    let far = ndarray::ArrayD::from_shape_fn(cut.shape.as_slice(), |at| match (at[0], at[1]) {
        (0, 0) => 1.0,
        (row, column) => ((row * 13 + column * 7) % 11) as f64 / 5e3,
    });
    let mut repaired = Repaired::default();
    let far = Tensor::from_f64(DataType::Float, &far).unwrap();
    repaired.inputs.insert((node, 1), far);
    let (model, graph, groups) = (&found.model, &found.graph, &found.groups);
    let (pruned, notes) = surgery::prune_noting(model, graph, groups, &stays, &repaired).unwrap();
    let name = &graph.nodes[node].name;
    assert!(
        notes[0].starts_with(&format!("'{name}': cut without repair")),
        "{notes:?}"
    );
    assert!(notes[0].contains("% off as uint8"), "{notes:?}");
    assert_eq!(second(&pruned), cut);
}

#[test]
fn two_readers_that_differ_get_copies_of_the_nodes() {
    // One weight of equal columns does not tie its readers; they lose other outputs of it.
    let mut b = Builder::new(17);
    b.input("x", &[10]);
    let stored = b.store(&Tensor {
        dtype: DataType::Int8,
        shape: vec![10, 8],
        bytes: (0..80u8).map(|at| at / 8 * 9).collect::<Vec<u8>>().into(),
    });
    let made = b.node("Cast", &[&stored], vec![int("to", TO_FLOAT)]);
    let scale = b.floats(&[], vec![0.01]);
    let weight = b.node("Mul", &[&made, &scale], vec![]);
    for _ in 0..2 {
        let bias = b.uniform(&[8], -1.0, 1.0);
        let made = b.node("MatMul", &["x", &weight], vec![]);
        let made = b.node("Add", &[&made, &bias], vec![]);
        let made = b.node("Tanh", &[&made], vec![]);
        let last = b.weight(&[8, 40], 8);
        let made = b.node("MatMul", &[&made, &last], vec![]);
        b.output(&made, 2);
    }
    let found = find(b.finish());
    assert_eq!(found.free(), [8, 8]);
    let pruned = found.check_plan(&found.plan(|group, at| at < 2 + group));
    let casts = operators(&pruned).iter().filter(|op| *op == "Cast").count();
    assert_eq!(casts, 2);
    let narrow = pruned.proto.graph.as_ref().unwrap().initializer.iter();
    assert_eq!(narrow.filter(|t| t.data_type() == 3).count(), 2);
}

#[test]
fn weights_that_are_filled_stay_so() {
    let mut b = Builder::new(17);
    let made = stem(&mut b, 6);
    let shape = b.ints(&[7, 6, 1, 1]);
    let weight = b.node("ConstantOfShape", &[&shape], vec![]);
    let value = Tensor::from_f32(&[1], vec![0.3]).unwrap().to_proto("");
    let attribute = onnx_mipp::onnx::proto::AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(onnx_mipp::onnx::proto::attribute_proto::AttributeType::Tensor as i32),
        t: Some(value),
        ..Default::default()
    };
    b.last().attribute.push(attribute);
    let bias = b.uniform(&[7], -0.3, 0.3);
    let made = b.node("Conv", &[&made, &weight, &bias], vec![]);
    let found = head(b, &made, 7);
    assert_eq!(found.free(), [6, 7]);
    let pruned = found.check();
    assert_eq!(operators(&pruned), operators(&found.model));
    assert!(pruned.byte_size() < found.model.byte_size());
}
