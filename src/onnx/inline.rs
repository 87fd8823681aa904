//! Model-local functions, put in the place of the nodes that call them.
//!
//! A function that cannot be put in place (another opset, an output that is an input, a recursion)
//! stays what it is: an operator of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::Model;
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

/// Functions call functions; a deeper nesting than this is a recursion.
const MOST_ROUNDS: usize = 32;
/// No more nodes than this: nested functions can grow without end.
const MOST_NODES: usize = 1 << 20;

type Key = (String, String, String);

impl Model {
    /// The model with the bodies of its functions in the place of the nodes of the main graph that
    /// call them; functions that nothing calls any more are gone.
    #[must_use]
    pub fn inlined(&self) -> Model {
        let mut model = self.clone();
        let functions: BTreeMap<Key, FunctionProto> = model
            .proto
            .functions
            .iter()
            .filter(|function| is_plain(function, &model.proto))
            .map(|function| (key_of(function), function.clone()))
            .collect();
        if functions.is_empty() {
            return model;
        }
        if let Some(graph) = model.proto.graph.as_mut() {
            let mut names = Names::of(graph);
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

fn key_of(function: &FunctionProto) -> Key {
    let [domain, name, overload] = [function.domain(), function.name(), function.overload()];
    (domain.to_owned(), name.to_owned(), overload.to_owned())
}

fn called(node: &NodeProto) -> Key {
    let [domain, name, overload] = [node.domain(), node.op_type(), node.overload()];
    (domain.to_owned(), name.to_owned(), overload.to_owned())
}

/// Whether the body means the same in the main graph.
fn is_plain(function: &FunctionProto, model: &ModelProto) -> bool {
    let same_opset = |domain: &str, version: i64| {
        let known = |import: &&super::proto::OperatorSetIdProto| import.domain() == domain;
        let import = model.opset_import.iter().find(known);
        import.is_some_and(|import| import.version() == version)
    };
    let imports = &function.opset_import;
    imports.iter().all(|import| {
        let used = function.node.iter().any(|n| n.domain() == import.domain());
        !used || same_opset(import.domain(), import.version())
    }) && function.output.iter().all(|o| !function.input.contains(o))
}

/// Names in use in the graph and its subgraphs, for new ones that clash with none.
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// Those of the graph and all that is inside it.
    pub(crate) fn of(graph: &GraphProto) -> Self {
        let mut names = Names(BTreeSet::new());
        names.add(graph);
        names
    }

    fn add(&mut self, graph: &GraphProto) {
        self.0
            .extend(graph.input.iter().map(|i| i.name().to_owned()));
        let stored = graph.initializer.iter().map(|t| t.name().to_owned());
        self.0.extend(stored);
        for node in &graph.node {
            self.0.extend(node.output.iter().cloned());
            for inner in subgraphs(node) {
                self.add(inner);
            }
        }
    }

    /// A name like `base` that nothing has yet.
    pub(crate) fn fresh(&mut self, base: &str) -> String {
        let numbered = (2usize..).map(|n| format!("{base}_{n}"));
        let mut candidates = std::iter::once(base.to_owned()).chain(numbered);
        let name = candidates.find(|name| !self.0.contains(name));
        let name = name.unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    let attributes = node.attribute.iter();
    attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// Whether any call was replaced.
fn inline_once(
    graph: &mut GraphProto,
    functions: &BTreeMap<Key, FunctionProto>,
    names: &mut Names,
) -> bool {
    let mut nodes = Vec::with_capacity(graph.node.len());
    let mut found = false;
    for node in std::mem::take(&mut graph.node) {
        match functions.get(&called(&node)) {
            Some(function) if nodes.len() + function.node.len() < MOST_NODES => {
                found = true;
                nodes.extend(body(function, &node, names));
            }
            _ => nodes.push(node),
        }
    }
    graph.node = nodes;
    found
}

/// The nodes of a function where a node calls it.
fn body(function: &FunctionProto, call: &NodeProto, names: &mut Names) -> Vec<NodeProto> {
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
    for output in function.node.iter().flat_map(|node| &node.output) {
        if !output.is_empty() && !renamed.contains_key(output.as_str()) {
            renamed.insert(output, names.fresh(&format!("{place}/{output}")));
        }
    }
    let attributes = Attributes { function, call };
    let inner = function.node.iter().map(|node| {
        let mut node = node.clone();
        rename(&mut node, &renamed);
        attributes.fill(&mut node);
        node.name = Some(format!("{place}/{}", node.name()));
        node
    });
    inner.collect()
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
            for output in &mut graph.output {
                if let Some(new) = output.name.as_mut() {
                    change(new);
                }
            }
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

fn drop_uncalled(model: &mut ModelProto) {
    fn calls(nodes: &[NodeProto], found: &mut BTreeSet<Key>) {
        for node in nodes {
            found.insert(called(node));
            for graph in subgraphs(node) {
                calls(&graph.node, found);
            }
        }
    }
    loop {
        let mut found = BTreeSet::new();
        if let Some(graph) = &model.graph {
            calls(&graph.node, &mut found);
        }
        for function in &model.functions {
            calls(&function.node, &mut found);
        }
        let before = model.functions.len();
        model
            .functions
            .retain(|function| found.contains(&key_of(function)));
        if model.functions.len() == before {
            return;
        }
    }
}
