//! Model-local functions, put in the place of the nodes that call them.
//!
//! A function that cannot be put in place (another opset, an output that is an input) stays what it
//! is: an operator of its own. How far they grow is checked before: `Model::check_expansion`.

use std::collections::{BTreeMap, BTreeSet};

use super::Model;
use super::names::{Names, defined, subgraphs};
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

/// Functions call functions; those of a deeper nesting than this stay what they are.
const MOST_ROUNDS: usize = 32;

pub(super) type Key = (String, String, String);

impl Model {
    /// The model with the bodies of its functions in the place of the nodes of the main graph that
    /// call them; functions that nothing calls any more are gone. See [`Model::check_expansion`]
    /// first.
    #[must_use]
    pub fn inlined(&self) -> Model {
        let mut model = self.clone();
        let imports = self.proto.opset_import.iter().rev();
        let versions = imports.map(|import| (import.domain(), import.version()));
        let versions: BTreeMap<&str, i64> = versions.collect();
        let functions: BTreeMap<Key, FunctionProto> = model
            .proto
            .functions
            .iter()
            .filter(|function| is_plain(function, &versions))
            .map(|function| (key_of(function), function.clone()))
            .collect();
        if functions.is_empty() {
            return model;
        }
        let values = Names::of_values(&model.proto);
        if let Some(graph) = model.proto.graph.as_mut() {
            let mut names = Taken {
                values,
                nodes: Names::of_nodes(graph),
            };
            for _ in 0..MOST_ROUNDS {
                if !inline_once(graph, &functions, &mut names) {
                    break;
                }
            }
        }
        drop_uncalled(&mut model.proto);
        model
    }
}

pub(super) fn key_of(function: &FunctionProto) -> Key {
    let [domain, name, overload] = [function.domain(), function.name(), function.overload()];
    (domain.to_owned(), name.to_owned(), overload.to_owned())
}

pub(super) fn called(node: &NodeProto) -> Key {
    let [domain, name, overload] = [node.domain(), node.op_type(), node.overload()];
    (domain.to_owned(), name.to_owned(), overload.to_owned())
}

/// Whether the body means the same in the main graph, which imports these versions of domains.
fn is_plain(function: &FunctionProto, versions: &BTreeMap<&str, i64>) -> bool {
    let used: BTreeSet<&str> = function.node.iter().map(NodeProto::domain).collect();
    let inputs: BTreeSet<&String> = function.input.iter().collect();
    let imports = &function.opset_import;
    imports.iter().all(|import| {
        let is_same = versions.get(import.domain()) == Some(&import.version());
        is_same || !used.contains(import.domain())
    }) && function
        .output
        .iter()
        .all(|output| !inputs.contains(output))
}

/// Names in use in the main graph.
struct Taken {
    values: Names,
    nodes: Names,
}

/// Whether any call was replaced.
fn inline_once(
    graph: &mut GraphProto,
    functions: &BTreeMap<Key, FunctionProto>,
    names: &mut Taken,
) -> bool {
    let mut nodes = Vec::with_capacity(graph.node.len());
    let mut found = false;
    for node in std::mem::take(&mut graph.node) {
        match functions.get(&called(&node)) {
            Some(function) => {
                found = true;
                nodes.extend(body(function, &node, names));
            }
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    found
}

/// The nodes of a function where a node calls it.
fn body(function: &FunctionProto, call: &NodeProto, names: &mut Taken) -> Vec<NodeProto> {
    let mut renamed: BTreeMap<&str, String> = BTreeMap::new();
    for (slot, formal) in function.input.iter().enumerate() {
        let actual = call.input.get(slot).cloned().unwrap_or_default();
        renamed.insert(formal, actual);
    }
    for (formal, actual) in function.output.iter().zip(&call.output) {
        if !actual.is_empty() {
            renamed.insert(formal, actual.clone());
        }
    }
    let place = match (call.name(), call.output.first()) {
        ("", Some(output)) => output.as_str(),
        (name, _) => name,
    };
    let made = function.node.iter().flat_map(|node| &node.output);
    let inner = function.node.iter().flat_map(inner_names);
    for name in made.map(String::as_str).chain(inner) {
        if !name.is_empty() && !renamed.contains_key(name) {
            renamed.insert(name, names.values.fresh(&format!("{place}/{name}")));
        }
    }
    let attributes = Attributes { function, call };
    let inner = function.node.iter().map(|node| {
        let mut node = node.clone();
        rename(&mut node, &renamed);
        attributes.fill(&mut node);
        // ONNX Runtime refuses two nodes of one name, and a body's nodes may have none.
        let own = match node.name() {
            "" => node.op_type(),
            name => name,
        };
        node.name = Some(names.nodes.fresh(&format!("{place}/{own}")));
        node
    });
    inner.collect()
}

/// What the subgraphs of a node define, at any depth.
fn inner_names(node: &NodeProto) -> Vec<&str> {
    let mut names = Vec::new();
    for graph in subgraphs(node) {
        names.extend(defined(graph));
        names.extend(graph.node.iter().flat_map(inner_names));
    }
    names
}

/// Renames what the node and its subgraphs read and make, where the function defines it.
fn rename(node: &mut NodeProto, renamed: &BTreeMap<&str, String>) {
    let change = |name: &mut String| {
        if let Some(new) = renamed.get(name.as_str()) {
            name.clone_from(new);
        }
    };
    node.input.iter_mut().for_each(change);
    node.output.iter_mut().for_each(change);
    for attribute in &mut node.attribute {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            for inner in &mut graph.node {
                rename(inner, renamed);
            }
            let stated = graph.input.iter_mut().chain(&mut graph.output);
            let stated = stated.chain(&mut graph.value_info);
            stated
                .filter_map(|info| info.name.as_mut())
                .for_each(change);
            let sparse = graph.sparse_initializer.iter_mut();
            let sparse = sparse.filter_map(|stored| stored.values.as_mut());
            let stored = graph.initializer.iter_mut().chain(sparse);
            stored.filter_map(|t| t.name.as_mut()).for_each(change);
        }
    }
}

/// What attributes of a body refer to: those of the call, else the function's defaults.
struct Attributes<'a> {
    function: &'a FunctionProto,
    call: &'a NodeProto,
}

impl Attributes<'_> {
    fn fill(&self, node: &mut NodeProto) {
        node.attribute = std::mem::take(&mut node.attribute)
            .into_iter()
            .filter_map(|attribute| self.value(attribute))
            .collect();
        for attribute in &mut node.attribute {
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                graph.node.iter_mut().for_each(|inner| self.fill(inner));
            }
        }
    }

    /// The attribute's value; none where it refers to one that is not given.
    fn value(&self, attribute: AttributeProto) -> Option<AttributeProto> {
        let wanted = attribute.ref_attr_name().to_owned();
        if wanted.is_empty() {
            return Some(attribute);
        }
        let given = self.call.attribute.iter();
        let mut known = given.chain(&self.function.attribute_proto);
        let value = known.find(|known| known.name() == wanted)?;
        Some(AttributeProto {
            name: attribute.name,
            ..value.clone()
        })
    }
}

/// Keeps the functions that the main graph calls, at once or by others.
fn drop_uncalled(model: &mut ModelProto) {
    fn calls(nodes: &[NodeProto], found: &mut Vec<Key>) {
        for node in nodes {
            found.push(called(node));
            for graph in subgraphs(node) {
                calls(&graph.node, found);
            }
        }
    }
    let mut open = Vec::new();
    if let Some(graph) = &model.graph {
        calls(&graph.node, &mut open);
    }
    let functions: BTreeMap<Key, &FunctionProto> =
        model.functions.iter().map(|f| (key_of(f), f)).collect();
    let mut found = BTreeSet::new();
    while let Some(key) = open.pop() {
        if let Some(function) = functions.get(&key)
            && found.insert(key)
        {
            calls(&function.node, &mut open);
        }
    }
    model
        .functions
        .retain(|function| found.contains(&key_of(function)));
}
