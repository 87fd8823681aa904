//! What every value is, as far as it can be told without a run.
//!
//! ONNX Runtime infers shapes when it opens a model. The weights have no say in that, so they stay
//! outside: as inputs of which only type and shape are known. What is computed from constants and
//! shapes alone is then run apart from the rest of the model.

use std::collections::{BTreeMap, BTreeSet};

use crate::allowance::{Allowance, OverLimit};
use crate::graph::{Graph, NodeId, NodeView, ValueId};
use crate::onnx::{Model, Tensor, proto};
use crate::ops;
use crate::runtime::{InputSpec, Runtime};

/// Initializers of up to so many elements may decide shapes.
const FEW: usize = 1024;

/// Records in `graph` what every value is when `model` gets inputs of the shapes in `inputs`.
/// Whether that is known of all values; if not, a run has to tell, and what was recorded counts for
/// nothing.
///
/// # Errors
/// The shapes that are known show that a run takes more than is allowed.
pub fn infer(
    model: &Model,
    graph: &mut Graph,
    runtime: &Runtime,
    inputs: &[InputSpec],
    allowance: Allowance,
) -> Result<bool, OverLimit> {
    let known = shapes(model, graph, runtime, inputs);
    graph.check_demand(allowance, &ops::repetitions)?;
    let known = known.and_then(|()| numbers(model, graph, runtime));
    Ok(known.is_some_and(|()| is_complete(graph)))
}

/// Refuses a run that takes more than is allowed, as far as its shapes can be told.
///
/// # Errors
/// As [`infer`].
pub fn forecast(
    model: &Model,
    graph: &Graph,
    runtime: &Runtime,
    inputs: &[InputSpec],
    allowance: Allowance,
) -> Result<(), OverLimit> {
    let mut graph = graph.clone();
    let _ = shapes(model, &mut graph, runtime, inputs);
    graph.check_demand(allowance, &ops::repetitions)
}

/// Records the shapes that ONNX Runtime infers.
fn shapes(model: &Model, graph: &mut Graph, runtime: &Runtime, inputs: &[InputSpec]) -> Option<()> {
    let weightless = weightless(model, inputs, &graph.produced())?;
    let session = runtime.session_unrun(&weightless).ok()?;
    for spec in inputs {
        graph.observe_type(&spec.name, spec.dtype);
        graph.observe_shape(
            &spec.name,
            spec.shape.iter().copied().collect::<Option<_>>()?,
        );
    }
    for (name, dtype) in session.output_dtypes() {
        graph.observe_type(&name, dtype);
    }
    for (name, shape) in session.output_shapes() {
        graph.observe_shape(&name, shape);
    }
    Some(())
}

/// The model with inputs of fixed sizes, its large initializers among them, and the named values as
/// its outputs.
fn weightless(model: &Model, inputs: &[InputSpec], names: &[String]) -> Option<Model> {
    let mut model = of_initializers(model);
    let main = model.proto.graph.as_mut()?;
    let is_large = |tensor: &proto::TensorProto| {
        let sizes = tensor
            .dims
            .iter()
            .map(|&size| usize::try_from(size).unwrap_or(0));
        sizes.fold(1_usize, usize::saturating_mul) > FEW
    };
    let (large, few) = std::mem::take(&mut main.initializer)
        .into_iter()
        .partition::<Vec<_>, _>(is_large);
    let fed = inputs.iter().map(|spec| {
        let sizes = spec
            .shape
            .iter()
            .map(|size| size.and_then(|size| i64::try_from(size).ok()));
        ops::build::tensor_input(
            &spec.name,
            spec.dtype.code(),
            Some(&sizes.collect::<Vec<_>>()),
        )
    });
    let weights = large.iter().map(|tensor| {
        let sizes: Vec<_> = tensor.dims.iter().copied().map(Some).collect();
        ops::build::tensor_input(tensor.name(), tensor.data_type(), Some(&sizes))
    });
    main.input = fed.chain(weights).collect();
    main.initializer = few;
    // What the file says of shapes may hold for other inputs.
    main.value_info.clear();
    main.output = names
        .iter()
        .map(|name| ops::build::bare_output(name))
        .collect();
    Some(model)
}

/// The model in a version of the format in which initializers need not be inputs.
fn of_initializers(model: &Model) -> Model {
    const FREE_INITIALIZERS: i64 = 4;
    let mut model = model.clone();
    let version = model.proto.ir_version().max(FREE_INITIALIZERS);
    model.proto.ir_version = Some(version);
    model
}

/// Records the data of what is computed from constants and shapes.
fn numbers(model: &Model, graph: &mut Graph, runtime: &Runtime) -> Option<()> {
    let wanted = graph.folded();
    let part = BackwardSlice::of(graph, &wanted)?;
    for (name, tensor) in &part.lengths {
        graph.observe(name, tensor.clone());
    }
    let lengths: BTreeSet<&String> = part.lengths.iter().map(|(name, _)| name).collect();
    // A sequence or a text has no data that count here.
    let is_tensor = |name: &String| {
        let value = graph.find(name).and_then(|id| graph.values.get(id));
        value.is_some_and(|value| value.dtype.is_some())
    };
    let computed: Vec<String> = wanted
        .into_iter()
        .filter(|name| !lengths.contains(name) && is_tensor(name))
        .collect();
    if computed.is_empty() {
        return Some(());
    }
    let mut session = runtime.session_once(&part.model(model, &computed)?).ok()?;
    let found = session.run(&[], &computed).ok()?;
    for (name, tensor) in computed.iter().zip(found) {
        graph.observe(name, tensor);
    }
    Some(())
}

/// The part of a graph that some values are computed by.
#[derive(Default)]
struct BackwardSlice {
    nodes: BTreeSet<NodeId>,
    initializers: BTreeSet<String>,
    /// Lengths of axes as data, by the name of the value.
    lengths: Vec<(String, Tensor)>,
    /// Empty tensors in the place of values of which only the element type is read.
    types: BTreeMap<String, Tensor>,
}

impl BackwardSlice {
    /// All that is needed for the named values; `None` where they need the model's inputs, or the
    /// length of an axis that is not known.
    fn of(graph: &Graph, names: &[String]) -> Option<BackwardSlice> {
        let mut part = BackwardSlice::default();
        let mut open: Vec<_> = names
            .iter()
            .map(|name| graph.find(name))
            .collect::<Option<_>>()?;
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let value = graph.values.get(id)?;
            let Some(producer) = value.producer else {
                value.constant.as_ref()?;
                part.initializers.insert(value.name.clone());
                continue;
            };
            let view = graph.view(producer);
            if ops::of(view.node).starts_sizes() {
                part.lengths
                    .push((value.name.clone(), ops::of(view.node).lengths(view)?));
            } else {
                part.nodes.insert(producer);
                open.extend(part.read_by(view)?);
                open.extend(&view.node.captured);
            }
        }
        Some(part)
    }

    /// The values whose data a node reads; of others it gets the type.
    fn read_by(&mut self, view: NodeView<'_>) -> Option<Vec<ValueId>> {
        let mut read = Vec::new();
        for (slot, &id) in view.node.inputs.iter().enumerate() {
            let Some(id) = id else { continue };
            let value = view.graph.values.get(id)?;
            if ops::of(view.node).reads_data(slot) || value.is_constant {
                read.push(id);
            } else {
                let empty = Tensor::zeros(value.dtype?, &[0]).ok()?;
                self.types.insert(value.name.clone(), empty);
            }
        }
        Some(read)
    }

    /// The part as a model that makes the named values.
    fn model(&self, whole: &Model, outputs: &[String]) -> Option<Model> {
        let mut model = of_initializers(whole);
        let main = model.proto.graph.as_mut()?;
        let nodes = std::mem::take(&mut main.node).into_iter().enumerate();
        main.node = nodes
            .filter(|&(index, _)| self.nodes.contains(&NodeId::from(index)))
            .map(|(_, node)| node)
            .collect();
        main.initializer
            .retain(|tensor| self.initializers.contains(tensor.name()));
        let lengths = self.lengths.iter().map(|(name, tensor)| (name, tensor));
        let given = lengths.chain(&self.types);
        main.initializer
            .extend(given.map(|(name, tensor)| tensor.to_proto(name)));
        main.sparse_initializer.clear();
        main.value_info.clear();
        main.input.clear();
        main.output = outputs
            .iter()
            .map(|name| ops::build::bare_output(name))
            .collect();
        Some(model)
    }
}

/// Whether the shape of every value is known that is used, and could come from a run: ONNX Runtime
/// believes a target shape as it is.
fn is_complete(graph: &Graph) -> bool {
    let mut used = graph.values.iter().filter(|value| value.is_used());
    let mut nodes = graph.order.iter().map(|&node| graph.view(node));
    used.all(|value| value.shape.is_some()) && nodes.all(ops::keeps_elements)
}
