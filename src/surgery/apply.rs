//! Applying collected changes to the file's structure.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, NodeId, ValueId};
use crate::groups::{Edit, Use};
use crate::onnx::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto, tensor_shape_proto, type_proto,
};
use crate::onnx::{Model, Names, Tensor};
use crate::ops;
use crate::surgery::Changes;
use crate::surgery::forms;

/// The model with the changes made.
pub(super) fn apply(model: &Model, graph: &Graph, changes: &Changes) -> Model {
    let mut model = model.clone();
    let must_list = model.proto.ir_version.is_some_and(|version| version < 4);
    let mut names = Names::of_values(&model.proto);
    let Some(main) = model.proto.graph.as_mut() else {
        return model;
    };
    let (in_place, behind) = forms::put(main, graph, changes, &mut names);
    let unpacking = replace_inputs(main, graph, changes, &in_place, &mut names);
    for (node, edit) in &changes.attributes {
        if let Some(node) = main.node.get_mut(node.index()) {
            edit_attribute(node, edit);
        }
    }
    let mut behind = behind;
    add_biases(main, changes, &mut behind, &mut names);
    // From the last node on, so that the indexes of those before stay right.
    for (node, new) in behind.into_iter().rev() {
        let at = node.next().index().min(main.node.len());
        main.node.splice(at..at, new);
    }
    // They read initializers only, so they may come first.
    main.node.splice(0..0, unpacking);
    sweep(main, graph);
    list_initializers(main, graph, must_list);
    model
}

/// Takes initializers that are gone off the graph's inputs and, where the file's version asks for
/// it, lists new ones there.
fn list_initializers(main: &mut GraphProto, graph: &Graph, must_list: bool) {
    let stored: BTreeSet<&str> = main.initializer.iter().map(|t| t.name()).collect();
    let was_stored = |name: &str| {
        let value = graph.find(name).map(|value| &graph.values[value]);
        value.is_some_and(|value| value.producer.is_none() && value.constant.is_some())
    };
    main.input
        .retain(|input| stored.contains(input.name()) || !was_stored(input.name()));
    if !must_list {
        return;
    }
    let listed: BTreeSet<String> = main.input.iter().map(|i| i.name().to_owned()).collect();
    let new = main
        .initializer
        .iter()
        .filter(|t| !listed.contains(t.name()));
    main.input.extend(new.map(input_of));
}

/// The graph input that a tensor is the default of.
fn input_of(stored: &TensorProto) -> ValueInfoProto {
    let size = |&length: &i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(length)),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: stored.data_type,
        shape: Some(TensorShapeProto {
            dim: stored.dims.iter().map(size).collect(),
        }),
    };
    ValueInfoProto {
        name: stored.name.clone(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Puts the new constants in and returns the nodes that unpack some of them. A stored tensor that
/// all its readers want in the same new form is changed in place; otherwise each form becomes an
/// initializer of its own.
fn replace_inputs(
    main: &mut GraphProto,
    graph: &Graph,
    changes: &Changes,
    in_place: &BTreeMap<Use, Tensor>,
    names: &mut Names,
) -> Vec<NodeProto> {
    let mut unpacking = Vec::new();
    let mut by_value: BTreeMap<ValueId, Vec<(Use, &Tensor)>> = BTreeMap::new();
    let read = changes
        .inputs
        .iter()
        .filter(|(at, _)| !changes.forms.contains_key(at));
    for (&at, tensor) in read.chain(in_place) {
        match graph.view(at.0).input(at.1) {
            Some(value) => by_value.entry(value).or_default().push((at, tensor)),
            None => {
                let node = main
                    .node
                    .get(at.0.index())
                    .and_then(|node| node.output.first());
                let base = format!("{}_bias", node.map(String::as_str).unwrap_or_default());
                let name = names.fresh(&base);
                unpacking.extend(store_new(main, changes, at, tensor, &name, names));
                set_input(main, at, name);
            }
        }
    }
    for (value, uses) in by_value {
        let is_in_place = stored_alike(graph, value, &uses)
            .is_some_and(|tensor| store_in_place(main, graph, value, tensor));
        if is_in_place {
            continue;
        }
        let mut forms: Vec<(&Tensor, String)> = Vec::new();
        for (at, tensor) in uses {
            let known_form = forms.iter().find(|(form, _)| *form == tensor);
            let name = match known_form {
                Some((_, name)) => name.clone(),
                None => {
                    let name = names.fresh(&format!("{}_pruned", graph.values[value].name));
                    unpacking.extend(store_new(main, changes, at, tensor, &name, names));
                    forms.push((tensor, name.clone()));
                    name
                }
            };
            set_input(main, at, name);
        }
    }
    unpacking
}

/// The new form of a value that everything that reads it wants.
fn stored_alike<'a>(
    graph: &Graph,
    value: ValueId,
    uses: &[(Use, &'a Tensor)],
) -> Option<&'a Tensor> {
    let known = &graph.values[value];
    let captured = || {
        let mut nodes = graph.nodes.iter();
        nodes.any(|node| node.captured.contains(&value))
    };
    let all_alike = known.readers.len() == uses.len()
        && uses.windows(2).all(|pair| pair[0].1 == pair[1].1)
        && !known.is_output
        && !captured();
    uses.first()
        .filter(|_| all_alike)
        .map(|(_, tensor)| *tensor)
}

/// Adds a constant of that name: an initializer, or one in few bits with the node that unpacks it.
fn store_new(
    main: &mut GraphProto,
    changes: &Changes,
    at: Use,
    tensor: &Tensor,
    name: &str,
    names: &mut Names,
) -> Option<NodeProto> {
    let Some(packed) = changes.packed.get(&at) else {
        main.initializer.push(tensor.to_proto(name));
        return None;
    };
    let parts = [
        ("quantized", Some(&packed.data)),
        ("scale", Some(&packed.scale)),
        ("zero_point", packed.zero_point.as_ref()),
    ];
    let mut inputs = Vec::new();
    for (what, part) in parts {
        let Some(part) = part else { continue };
        let stored = names.fresh(&format!("{name}_{what}"));
        main.initializer.push(part.to_proto(&stored));
        inputs.push(stored);
    }
    Some(ops::build::dequantize_node(&inputs, name, packed.axis))
}

/// Overwrites an initializer or a Constant node; false where the value is neither.
fn store_in_place(main: &mut GraphProto, graph: &Graph, value: ValueId, tensor: &Tensor) -> bool {
    let known = &graph.values[value];
    if let Some(stored) = main
        .initializer
        .iter_mut()
        .find(|stored| stored.name() == known.name)
    {
        tensor.store(stored);
        return true;
    }
    let Some(producer) = known
        .producer
        .filter(|&id| ops::of(&graph.nodes[id]).stores_tensor())
    else {
        return false;
    };
    let Some(node) = main.node.get_mut(producer.index()) else {
        return false;
    };
    let name = known.name.clone();
    match node
        .attribute
        .iter_mut()
        .find_map(|attribute| attribute.t.as_mut())
    {
        Some(stored) => tensor.store(stored),
        None => {
            // `value_ints` and the like become the general form.
            node.attribute = vec![AttributeProto {
                name: Some("value".to_owned()),
                r#type: Some(attribute_proto::AttributeType::Tensor as i32),
                t: Some(tensor.to_proto(&name)),
                ..Default::default()
            }];
        }
    }
    true
}

pub(super) fn set_input(main: &mut GraphProto, (node, slot): Use, name: String) {
    if let Some(node) = main.node.get_mut(node.index()) {
        if node.input.len() <= slot {
            node.input.resize(slot + 1, String::new());
        }
        if let Some(input) = node.input.get_mut(slot) {
            *input = name;
        }
    }
}

fn edit_attribute(node: &mut NodeProto, edit: &Edit) {
    use attribute_proto::AttributeType;
    let mut new = AttributeProto::default();
    let (name, kind) = match edit {
        Edit::Int(name, int) => {
            new.i = Some(*int);
            (*name, AttributeType::Int)
        }
        Edit::Float(name, float) => {
            new.f = Some(*float);
            (*name, AttributeType::Float)
        }
        Edit::Ints(name, ints) => {
            new.ints.clone_from(ints);
            (*name, AttributeType::Ints)
        }
        Edit::Drop(name) => {
            node.attribute.retain(|attribute| attribute.name() != *name);
            return;
        }
        Edit::Input(..) => return,
    };
    new.name = Some(name.to_owned());
    new.r#type = Some(kind as i32);
    match node
        .attribute
        .iter_mut()
        .find(|attribute| attribute.name() == name)
    {
        Some(old) => *old = new,
        None => node.attribute.push(new),
    }
}

/// Puts an Add behind the nodes whose operator has no bias; the sum takes the output's name.
fn add_biases(
    main: &mut GraphProto,
    changes: &Changes,
    behind: &mut BTreeMap<NodeId, Vec<NodeProto>>,
    names: &mut Names,
) {
    for (&node, tensor) in &changes.added {
        let Some(output) = main
            .node
            .get_mut(node.index())
            .and_then(|node| node.output.first_mut())
        else {
            continue;
        };
        let sum = output.clone();
        let product = names.fresh(&format!("{sum}_unbiased"));
        *output = product.clone();
        let bias = names.fresh(&format!("{sum}_bias"));
        main.initializer.push(tensor.to_proto(&bias));
        let mut add = ops::build::add_node(&product, &bias, &sum);
        // ONNX Runtime refuses two nodes of one name.
        if main.node.iter().any(|node| node.name() == sum) {
            add.name = None;
        }
        behind.entry(node).or_default().push(add);
    }
}

/// Removes nodes and initializers that were read before and that nothing reads any more.
fn sweep(main: &mut GraphProto, graph: &Graph) {
    let was_read = |name: &str| {
        graph.find(name).is_some_and(|value| {
            let value = &graph.values[value];
            !value.readers.is_empty() || value.is_output
        })
    };
    loop {
        let mut read: BTreeSet<String> = main.output.iter().map(|o| o.name().to_owned()).collect();
        for node in &main.node {
            read.extend(node.input.iter().cloned());
            let subgraphs = node
                .attribute
                .iter()
                .any(|a| a.g.is_some() || !a.graphs.is_empty());
            if subgraphs {
                read.extend(captured_by(graph, node));
            }
        }
        let orphan = |name: &String| !name.is_empty() && was_read(name) && !read.contains(name);
        let (nodes, initializers) = (main.node.len(), main.initializer.len());
        main.node.retain(|node| {
            let mut outputs = node.output.iter().filter(|name| !name.is_empty());
            !(node.output.iter().any(|name| !name.is_empty()) && outputs.all(&orphan))
        });
        main.initializer
            .retain(|stored| !orphan(&stored.name().to_owned()));
        if (nodes, initializers) == (main.node.len(), main.initializer.len()) {
            return;
        }
    }
}

fn captured_by(graph: &Graph, node: &NodeProto) -> Vec<String> {
    let found = node
        .output
        .iter()
        .find_map(|output| graph.values[graph.find(output)?].producer);
    let captured = |id: NodeId| graph.nodes[id].captured.iter();
    found
        .map(|id| {
            captured(id)
                .map(|&v| graph.values[v].name.clone())
                .collect()
        })
        .unwrap_or_default()
}
