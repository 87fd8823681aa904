//! The graph stage: a model's nodes and values with who makes and who reads what.
//!
//! [`Graph::unmarked`] turns a [`Model`] into plain tables and checks with petgraph that it has no
//! cycle. What operators mean is not known here: of constants these are the initializers. Shapes
//! and folded constants are not inferred: [`Graph::observe`] takes them from ONNX Runtime.

mod attributes;
mod demand;
mod error;
mod name;
mod table;
pub(crate) mod view;

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::toposort;
use petgraph::graph::DiGraph;

pub use demand::Demand;
pub use error::{Freeze, GraphError};
pub use name::canonical_domain;
pub use table::{GroupId, Id, NodeId, Table, ValueId};
pub use view::NodeView;

use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto};
use crate::onnx::{DataType, Model, Tensor};

/// One operator of the model.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in the file, or one made of its first output where the file gives none.
    pub name: String,
    /// Operator type, such as the field `op_type` has it.
    pub op_type: String,
    /// Operator domain; empty for the standard one.
    pub domain: String,
    /// Inputs by slot; `None` where an optional input is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs by slot.
    pub outputs: Vec<Option<ValueId>>,
    /// Values of this graph that the node's subgraphs read.
    pub captured: Vec<ValueId>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, AttributeProto>,
}

/// A named tensor of the model: an input, an initializer, or what a node makes.
#[derive(Debug, Clone, Default)]
pub struct Value {
    /// Its name in the file.
    pub name: String,
    /// The node that makes it; none for graph inputs and initializers.
    pub producer: Option<NodeId>,
    /// The nodes that read it, with the input slot, in file order.
    pub readers: Vec<(NodeId, usize)>,
    /// Its shape in the observed run.
    pub shape: Option<Vec<usize>>,
    /// Its element type, where it is known.
    pub dtype: Option<DataType>,
    /// Its data, if they do not depend on the model's inputs.
    pub constant: Option<Tensor>,
    /// Whether it is computed from shapes and constants only.
    pub is_count: bool,
    /// Its data in the observed run, for counts.
    pub observed: Option<Tensor>,
    /// Whether the data depend on nothing but initializers (known before any run).
    pub is_constant: bool,
    /// Whether it is an output of the model.
    pub is_output: bool,
    /// Whether a node's subgraph reads it.
    pub is_captured: bool,
    /// Whether the observed run showed a sequence or another value that is no tensor of numbers,
    /// which cannot pass from one run to another.
    pub is_sequence: bool,
}

impl Value {
    /// Whether a node or its subgraph reads the value or the model hands it out.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.is_output || self.is_captured || !self.readers.is_empty()
    }
}

/// The tables of nodes and values of one model's main graph.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Nodes in file order.
    pub nodes: Table<NodeId, Node>,
    /// Values: graph inputs, initializers, then node outputs in file order.
    pub values: Table<ValueId, Value>,
    /// Node indexes, every node after those that make its inputs.
    pub order: Vec<NodeId>,
    /// Version of the standard operator set.
    pub opset: i64,
    by_name: BTreeMap<String, ValueId>,
}

impl Graph {
    /// Reads the main graph of `model`; which values are constants is not marked yet.
    ///
    /// # Errors
    /// A graph that is missing, has a cycle, or a node that reads a name nothing defines.
    pub fn unmarked(model: &Model) -> Result<Self, GraphError> {
        let proto = model.proto.graph.as_ref().ok_or(GraphError::NoGraph)?;
        let opset = model.opset("").unwrap_or(1);
        let mut graph = Graph {
            nodes: Table::default(),
            values: Table::default(),
            order: Vec::new(),
            opset,
            by_name: BTreeMap::new(),
        };
        graph.define_sources(proto)?;
        for (index, node) in proto.node.iter().enumerate() {
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                let value = graph.define(name);
                graph.values[value].producer = Some(NodeId::from(index));
            }
        }
        for node in &proto.node {
            graph.add_node(node)?;
        }
        for output in &proto.output {
            let value = graph
                .find(output.name())
                .ok_or_else(|| GraphError::MissingOutput {
                    output: output.name().to_owned(),
                })?;
            graph.values[value].is_output = true;
        }
        graph.order = graph.sort()?;
        Ok(graph)
    }

    /// The value of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.by_name.get(name).copied()
    }

    /// A node with the graph around it.
    #[must_use]
    pub fn view(&self, node: NodeId) -> NodeView<'_> {
        NodeView::new(self, node)
    }

    /// Names of all values that nodes make: what an observing run fetches.
    #[must_use]
    pub fn produced(&self) -> Vec<String> {
        let made = self.values.iter().filter(|value| value.producer.is_some());
        made.map(|value| value.name.clone()).collect()
    }

    /// Names of values whose data are worth fetching in an observing run: constants that nodes
    /// compute, and numbers that nodes compute from shapes.
    #[must_use]
    pub fn folded(&self) -> Vec<String> {
        let wanted = |value: &&Value| {
            value.producer.is_some()
                && (value.is_constant && value.constant.is_none() || value.is_count)
        };
        let values = self.values.iter().filter(wanted);
        values.map(|value| value.name.clone()).collect()
    }

    /// Records the data of one value in a run.
    pub fn observe(&mut self, name: &str, tensor: Tensor) {
        let Some(value) = self.find(name).and_then(|id| self.values.get_mut(id)) else {
            return;
        };
        value.shape = Some(tensor.shape.clone());
        value.dtype = Some(tensor.dtype);
        if value.is_constant && value.constant.is_none() {
            value.constant = Some(tensor);
        } else if value.is_count {
            value.observed = Some(tensor);
        }
    }

    /// Records the element type of one value.
    pub fn observe_type(&mut self, name: &str, dtype: DataType) {
        if let Some(id) = self.find(name) {
            self.values[id].dtype = Some(dtype);
        }
    }

    /// Records that a value is no tensor of numbers.
    pub fn observe_sequence(&mut self, name: &str) {
        if let Some(id) = self.find(name) {
            self.values[id].is_sequence = true;
        }
    }

    /// Records the shape of one value.
    pub fn observe_shape(&mut self, name: &str, shape: Vec<usize>) {
        if let Some(id) = self.find(name) {
            self.values[id].shape = Some(shape);
        }
    }

    fn define(&mut self, name: &str) -> ValueId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let id = self.values.push(Value {
            name: name.to_owned(),
            ..Value::default()
        });
        self.by_name.insert(name.to_owned(), id);
        id
    }

    fn define_sources(&mut self, proto: &GraphProto) -> Result<(), GraphError> {
        for input in &proto.input {
            self.define(input.name());
        }
        for initializer in &proto.initializer {
            let tensor = Tensor::from_proto(initializer)?;
            let id = self.define(initializer.name());
            let value = &mut self.values[id];
            value.shape = Some(tensor.shape.clone());
            value.dtype = Some(tensor.dtype);
            value.constant = Some(tensor);
            value.is_constant = true;
        }
        for sparse in &proto.sparse_initializer {
            if let Some(values) = &sparse.values {
                self.define(values.name());
            }
        }
        Ok(())
    }

    fn add_node(&mut self, proto: &NodeProto) -> Result<(), GraphError> {
        let id = NodeId::from(self.nodes.len());
        let name = node_name(proto, id);
        let mut inputs = Vec::with_capacity(proto.input.len());
        for (slot, input) in proto.input.iter().enumerate() {
            inputs.push(self.read(&name, input)?);
            if let Some(Some(value)) = inputs.last() {
                self.values[*value].readers.push((id, slot));
            }
        }
        let outputs = proto
            .output
            .iter()
            .map(|output| self.find(output))
            .collect();
        let captured: Vec<ValueId> = captured_names(proto)
            .iter()
            .filter_map(|name| self.find(name))
            .collect();
        for &value in &captured {
            self.values[value].is_captured = true;
        }
        let node = Node {
            name,
            op_type: proto.op_type().to_owned(),
            domain: canonical_domain(proto.domain()).to_owned(),
            inputs,
            outputs,
            captured,
            attributes: proto
                .attribute
                .iter()
                .map(|attribute| (attribute.name().to_owned(), attribute.clone()))
                .collect(),
        };
        self.nodes.push(node);
        Ok(())
    }

    fn read(&self, node: &str, name: &str) -> Result<Option<ValueId>, GraphError> {
        if name.is_empty() {
            return Ok(None);
        }
        let missing = || GraphError::MissingInput {
            node: node.to_owned(),
            input: name.to_owned(),
        };
        self.find(name).map(Some).ok_or_else(missing)
    }

    fn sort(&self) -> Result<Vec<NodeId>, GraphError> {
        let mut flow = DiGraph::<NodeId, ValueId>::new();
        let indexes: Table<NodeId, _> = self.nodes.ids().map(|id| flow.add_node(id)).collect();
        for (id, node) in self.nodes.entries() {
            for &value in node.inputs.iter().flatten().chain(&node.captured) {
                if let Some(producer) = self.values[value].producer {
                    flow.add_edge(indexes[producer], indexes[id], value);
                }
            }
        }
        match toposort(&flow, None) {
            // toposort's order depends on insertion only; sorting by depth keeps the file's order
            // among nodes that do not depend on each other.
            Ok(order) => Ok(by_depth(
                &flow,
                &order.iter().map(|i| flow[*i]).collect::<Vec<_>>(),
            )),
            Err(cycle) => Err(GraphError::Cycle {
                node: self.nodes[flow[cycle.node_id()]].name.clone(),
            }),
        }
    }
}

fn node_name(proto: &NodeProto, id: NodeId) -> String {
    if !proto.name().is_empty() {
        return proto.name().to_owned();
    }
    match proto.output.first() {
        Some(output) if !output.is_empty() => format!("{}:{output}", proto.op_type()),
        _ => format!("{}#{}", proto.op_type(), id.index()),
    }
}

/// Names that the node's subgraphs read and do not define themselves.
fn captured_names(node: &NodeProto) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            let mut inner: BTreeSet<&str> = graph.input.iter().map(|v| v.name()).collect();
            inner.extend(graph.initializer.iter().map(|v| v.name()));
            inner.extend(
                graph
                    .node
                    .iter()
                    .flat_map(|n| n.output.iter().map(String::as_str)),
            );
            let reads = graph.node.iter().flat_map(|n| n.input.iter().cloned());
            let nested = graph.node.iter().flat_map(captured_names);
            let results = graph.output.iter().map(|v| v.name().to_owned());
            names.extend(
                reads
                    .chain(nested)
                    .chain(results)
                    .filter(|n| !inner.contains(n.as_str())),
            );
        }
    }
    names
}

fn by_depth(flow: &DiGraph<NodeId, ValueId>, order: &[NodeId]) -> Vec<NodeId> {
    let mut depth = Table::<NodeId, usize>::from(vec![0; order.len()]);
    for &node in order {
        let index = petgraph::graph::NodeIndex::new(node.index());
        for next in flow.neighbors(index) {
            let next = flow[next];
            depth[next] = depth[next].max(depth[node] + 1);
        }
    }
    let mut sorted = order.to_vec();
    sorted.sort_by_key(|&node| (depth[node], node));
    sorted
}
