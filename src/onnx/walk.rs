//! A walk over all tensors of a model: initializers, attributes, subgraphs, functions, training.

use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
};
use std::fmt;

/// A node as messages name it: by its name, or by its number in the graph when it has none.
#[derive(Clone, Copy)]
pub(super) struct NodeLabel<'a> {
    pub number: usize,
    pub name: &'a str,
    pub op_type: &'a str,
}

impl fmt::Display for NodeLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeLabel {
            number,
            name,
            op_type,
        } = self;
        if name.is_empty() {
            write!(f, "node number {number} ({op_type}, without a name)")
        } else {
            write!(f, "node '{name}' ({op_type})")
        }
    }
}

/// What holds a tensor.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    /// A graph of this name, as a dense initializer.
    Initializer(&'a str),
    /// A graph of this name, as a part of a sparse initializer.
    Sparse(&'a str),
    /// An attribute of a node.
    Attribute(NodeLabel<'a>, &'a str),
    /// The default of an attribute of a function.
    Default(&'a str, &'a str),
}

impl Owner<'_> {
    /// The tensor as messages name it.
    pub fn describe(self, tensor: &TensorProto) -> String {
        let name = tensor.name();
        match self {
            Owner::Initializer(graph) => format!("initializer '{name}' of graph '{graph}'"),
            Owner::Sparse(graph) => format!("sparse initializer '{name}' of graph '{graph}'"),
            Owner::Attribute(node, attribute) => {
                format!("tensor '{name}' in attribute '{attribute}' of {node}")
            }
            Owner::Default(function, attribute) => format!(
                "tensor '{name}' in the default of attribute '{attribute}' of function '{function}'"
            ),
        }
    }
}

/// Called with each tensor and its owner.
type Visit<'v, E> = dyn FnMut(Owner<'_>, &mut TensorProto) -> Result<(), E> + 'v;

/// Visits each tensor of the model, in the order of the file; stops at the first error.
pub(super) fn tensors<E>(model: &mut ModelProto, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let training = model.training_info.iter_mut();
    let training = training.flat_map(|t| t.initialization.iter_mut().chain(&mut t.algorithm));
    for graph in model.graph.iter_mut().chain(training) {
        in_graph(graph, visit)?;
    }
    for function in &mut model.functions {
        let name = function.name.as_deref().unwrap_or_default();
        for attribute in &mut function.attribute_proto {
            in_attribute(attribute, Holder::Function(name), visit)?;
        }
        in_nodes(&mut function.node, visit)?;
    }
    Ok(())
}

fn in_graph<E>(graph: &mut GraphProto, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let name = graph.name.as_deref().unwrap_or_default();
    for tensor in &mut graph.initializer {
        visit(Owner::Initializer(name), tensor)?;
    }
    for sparse in &mut graph.sparse_initializer {
        in_sparse(sparse, Owner::Sparse(name), visit)?;
    }
    in_nodes(&mut graph.node, visit)
}

fn in_nodes<E>(nodes: &mut [NodeProto], visit: &mut Visit<'_, E>) -> Result<(), E> {
    for (number, node) in nodes.iter_mut().enumerate() {
        let label = NodeLabel {
            number,
            name: node.name.as_deref().unwrap_or_default(),
            op_type: node.op_type.as_deref().unwrap_or_default(),
        };
        for attribute in &mut node.attribute {
            in_attribute(attribute, Holder::Node(label), visit)?;
        }
    }
    Ok(())
}

/// What an attribute belongs to.
enum Holder<'a> {
    Node(NodeLabel<'a>),
    Function(&'a str),
}

fn in_attribute<E>(
    attribute: &mut AttributeProto,
    holder: Holder<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let name = attribute.name.as_deref().unwrap_or_default();
    let owner = match holder {
        Holder::Node(node) => Owner::Attribute(node, name),
        Holder::Function(function) => Owner::Default(function, name),
    };
    for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
        visit(owner, tensor)?;
    }
    for sparse in attribute
        .sparse_tensor
        .iter_mut()
        .chain(&mut attribute.sparse_tensors)
    {
        in_sparse(sparse, owner, visit)?;
    }
    for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
        in_graph(graph, visit)?;
    }
    Ok(())
}

fn in_sparse<E>(
    sparse: &mut SparseTensorProto,
    owner: Owner<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    for tensor in sparse.values.iter_mut().chain(&mut sparse.indices) {
        visit(owner, tensor)?;
    }
    Ok(())
}
