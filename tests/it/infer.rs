//! What is told of a model without a run, against what a run shows.

use onnx_mipp::onnx::load;
use onnx_mipp::ops;
use onnx_mipp::shapes::probe;

use crate::builder::Builder;
use crate::masked::{batch, find, infers, runtime};
use crate::program::root;

#[test]
fn no_fixture_needs_a_run() {
    let files = std::fs::read_dir(root().join("fixtures")).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let models = paths.filter(|path| path.extension().is_some_and(|end| end == "onnx"));
    let mut count = 0;
    for path in models {
        let model = load(&path).unwrap().inlined().in_order();
        let mut graph = ops::graph(&model).unwrap();
        let shown = batch(&model, 2, 1);
        probe(&model, &mut graph, runtime(), &shown).unwrap();
        assert!(infers(&model, &graph, &shown), "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 16);
}

#[test]
fn initializers_of_old_files_are_inputs_too() {
    let mut b = Builder::new(8);
    assert_eq!(b.ir, 3);
    b.input("x", &[4, 6, 6]);
    let made = b.pointwise("x", 4, 6);
    let shape = b.ints(&[0, 6, 36]);
    let made = b.node("Reshape", &[&made, &shape], vec![]);
    b.output(&made, 3);
    assert!(find(b.finish()).is_inferred);
}

#[test]
fn sizes_that_depend_on_data_need_a_run() {
    let mut b = Builder::new(17);
    b.input("x", &[4, 6, 6]);
    let made = b.pointwise("x", 4, 6);
    let positions = b.node("NonZero", &[&made], vec![]);
    b.output_of(&positions, 7, 2);
    assert!(!find(b.finish()).is_inferred);
}

#[test]
fn a_tensor_without_axes_needs_a_run() {
    // Nothing tells it from one of which nothing is known.
    let mut b = Builder::new(17);
    b.input("x", &[4, 6, 6]);
    let made = b.pointwise("x", 4, 6);
    let mean = b.node(
        "ReduceMean",
        &[&made],
        vec![crate::builder::int("keepdims", 0)],
    );
    b.output(&mean, 0);
    assert!(!find(b.finish()).is_inferred);
}
