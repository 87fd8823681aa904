//! Shapes that the file states: value_info, and inputs that are defaults of initializers.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, NodeId};
use crate::groups::Kept;
use crate::onnx::Model;
use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as Length};
use crate::onnx::proto::{ValueInfoProto, type_proto};
use crate::ops;

/// Writes the lengths that are left into the stated shapes, and drops statements about values
/// that are gone, or that nodes make of constants: those are cut where they are stored.
pub(super) fn update(model: &mut Model, graph: &Graph, kept: &Kept<'_>) {
    let Some(main) = model.proto.graph.as_mut() else {
        return;
    };
    let mut named: BTreeSet<&str> = main.input.iter().map(|input| input.name()).collect();
    named.extend(main.initializer.iter().map(|stored| stored.name()));
    named.extend(
        main.node
            .iter()
            .flat_map(|node| node.output.iter().map(String::as_str)),
    );
    let gone: Vec<bool> = main
        .value_info
        .iter()
        .map(|info| !named.contains(info.name()) || is_computed(graph, info.name()))
        .collect();
    let mut flags = gone.into_iter();
    main.value_info.retain(|_| !flags.next().unwrap_or(false));
    for info in &mut main.value_info {
        let Some(value) = graph.find(info.name()) else {
            continue;
        };
        set_lengths(info, |axis, length| kept.length(value, axis, length));
        forget_names(info, |axis| {
            let map = kept.map(value, axis);
            map.is_some_and(|map| kept.count(map) < map.len())
        });
    }
    // Before IR version 4, initializers are listed as inputs too; some exporters state the shapes
    // of constants.
    let initializers = main.initializer.iter();
    let mut constants: BTreeMap<&str, &[i64]> = initializers
        .map(|stored| (stored.name(), stored.dims.as_slice()))
        .collect();
    constants.extend(main.node.iter().filter_map(ops::constant::stored_shape));
    for info in main.input.iter_mut().chain(&mut main.value_info) {
        if let Some(&dims) = constants.get(info.name()) {
            set_lengths(info, |axis, length| {
                dims.get(axis)
                    .and_then(|&dim| usize::try_from(dim).ok())
                    .unwrap_or(length)
            });
        }
    }
}

/// Whether nodes make the value of constants alone.
fn is_computed(graph: &Graph, name: &str) -> bool {
    let Some(value) = graph.find(name).map(|id| &graph.values[id]) else {
        return false;
    };
    let stores = |node: NodeId| ops::of(&graph.nodes[node]).stores_tensor();
    value.is_constant && value.producer.is_some_and(|node| !stores(node))
}

/// A length that changes has no more to do with others of the same name, such as samples times
/// heads in other layers.
fn forget_names(info: &mut ValueInfoProto, changes: impl Fn(usize) -> bool) {
    for (axis, dim) in dims(info).iter_mut().enumerate() {
        if matches!(dim.value, Some(Length::DimParam(_))) && changes(axis) {
            dim.value = None;
        }
    }
}

fn dims(info: &mut ValueInfoProto) -> &mut [Dimension] {
    let kind = info
        .r#type
        .as_mut()
        .and_then(|r#type| r#type.value.as_mut());
    match kind {
        Some(type_proto::Value::TensorType(tensor)) => match tensor.shape.as_mut() {
            Some(shape) => &mut shape.dim,
            None => &mut [],
        },
        _ => &mut [],
    }
}

fn set_lengths(info: &mut ValueInfoProto, length: impl Fn(usize, usize) -> usize) {
    for (axis, dim) in dims(info).iter_mut().enumerate() {
        if let Some(Length::DimValue(present)) = &mut dim.value {
            let before = usize::try_from(*present).unwrap_or(0);
            let after = length(axis, before);
            if after != before {
                *present = i64::try_from(after).unwrap_or(*present);
            }
        }
    }
}
