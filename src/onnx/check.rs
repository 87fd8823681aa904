//! Structural checks: the names and data that every later stage relies on.

use super::{
    OnnxError,
    error::MAX_IR,
    expansion,
    proto::{
        AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto,
        TensorProto,
    },
    storage,
    walk::{NodeLabel, Owner},
};
use std::collections::BTreeSet;

/// See [`super::Model::check`].
pub(super) fn check(model: &ModelProto) -> Result<(), OnnxError> {
    let ir = model.ir_version.unwrap_or(0);
    if !(1..=MAX_IR).contains(&ir) {
        return Err(fault(format!(
            "ir_version is {ir}, expected 1 to {MAX_IR}: export the model for one of these, or \
             give an ONNX file if this is none"
        )));
    }
    let Some(main) = &model.graph else {
        return Err(fault(
            "the model holds no graph: it was exported or copied incompletely, export it again",
        ));
    };
    // The imports follow the graph in the file, so their absence also betrays a truncated one.
    if ir >= 3 && model.opset_import.is_empty() {
        return Err(fault(
            "the model imports no opset, expected opset_import for at least one domain: the file \
             is truncated or was written wrongly, copy or export it again",
        ));
    }
    let scope = graph(main, None)?;
    for training in &model.training_info {
        // The training graph reads the values of the main one.
        for part in training.initialization.iter().chain(&training.algorithm) {
            graph(part, Some(&scope))?;
        }
    }
    let mut known = BTreeSet::new();
    for function in &model.functions {
        if !known.insert((function.domain(), function.name(), function.overload())) {
            return Err(fault(format!(
                "function '{}' of domain '{}' is defined twice, expected once: remove one",
                function.name(),
                function.domain()
            )));
        }
        check_function(function)?;
    }
    expansion::sizes(model).map(drop)
}

fn fault(what: impl Into<String>) -> OnnxError {
    OnnxError::Structure { what: what.into() }
}

/// The values that a graph defines, and the scope around a subgraph.
struct Scope<'m, 's> {
    place: String,
    names: BTreeSet<&'m str>,
    outer: Option<&'s Scope<'m, 's>>,
}

impl<'m> Scope<'m, '_> {
    fn knows(&self, name: &str) -> bool {
        self.names.contains(name) || self.outer.is_some_and(|outer| outer.knows(name))
    }

    /// Adds a value that `by` defines.
    fn define(&mut self, name: &'m str, by: impl FnOnce() -> String) -> Result<(), OnnxError> {
        if self.names.insert(name) {
            return Ok(());
        }
        Err(fault(format!(
            "{} in {} defines '{name}', which is defined already, expected each value to be \
             defined once: rename one of them or export again",
            by(),
            self.place
        )))
    }
}

fn label(number: usize, node: &NodeProto) -> NodeLabel<'_> {
    NodeLabel {
        number,
        name: node.name(),
        op_type: node.op_type(),
    }
}

/// Checks a graph and returns what it defines.
fn graph<'m, 's>(
    graph: &'m GraphProto,
    outer: Option<&'s Scope<'m, 's>>,
) -> Result<Scope<'m, 's>, OnnxError> {
    let place = format!("graph '{}'", graph.name());
    let mut scope = Scope {
        place,
        names: BTreeSet::new(),
        outer,
    };
    for input in &graph.input {
        scope.define(input.name(), || "the list of inputs".to_owned())?;
    }
    initializers(graph, &mut scope)?;
    nodes(&graph.node, &mut scope)?;
    for output in &graph.output {
        if !scope.knows(output.name()) {
            return Err(missing("the list of outputs", &scope.place, output.name()));
        }
    }
    Ok(scope)
}

fn initializers<'m>(graph: &'m GraphProto, scope: &mut Scope<'m, '_>) -> Result<(), OnnxError> {
    let mut seen = BTreeSet::new();
    let owner = Owner::Initializer(graph.name());
    for initializer in &graph.initializer {
        tensor(owner, initializer)?;
    }
    for sparse in &graph.sparse_initializer {
        check_sparse(Owner::Sparse(graph.name()), sparse)?;
    }
    let sparse = graph
        .sparse_initializer
        .iter()
        .filter_map(|s| s.values.as_ref());
    for name in graph
        .initializer
        .iter()
        .chain(sparse)
        .map(TensorProto::name)
    {
        if name.is_empty() {
            return Err(fault(format!(
                "an initializer of {} has no name, expected one by which nodes read it: export \
                 the model again",
                scope.place
            )));
        }
        if !seen.insert(name) {
            return Err(fault(format!(
                "initializer '{name}' of {} is given twice, expected once: remove one",
                scope.place
            )));
        }
        // An initializer may share an input's name: it is the input's default.
        scope.names.insert(name);
    }
    Ok(())
}

/// Checks nodes, in any order, and adds their outputs to the scope.
fn nodes<'m>(nodes: &'m [NodeProto], scope: &mut Scope<'m, '_>) -> Result<(), OnnxError> {
    for (number, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            scope.define(output, || label(number, node).to_string())?;
        }
    }
    for (number, node) in nodes.iter().enumerate() {
        let label = label(number, node);
        let mut inputs = node.input.iter().filter(|name| !name.is_empty());
        if let Some(name) = inputs.find(|name| !scope.knows(name)) {
            return Err(missing(label, &scope.place, name));
        }
        for attribute in &node.attribute {
            let owner = Owner::Attribute(label, attribute.name());
            check_attribute(owner, attribute, scope)?;
        }
    }
    Ok(())
}

fn missing(by: impl std::fmt::Display, place: &str, name: &str) -> OnnxError {
    fault(format!(
        "{by} in {place} reads '{name}', which nothing defines, expected a graph input, an \
         initializer or a node's output of this name: the model is incomplete, export it again"
    ))
}

fn check_attribute<'m>(
    owner: Owner<'_>,
    attribute: &'m AttributeProto,
    scope: &Scope<'m, '_>,
) -> Result<(), OnnxError> {
    for inner in attribute.t.iter().chain(&attribute.tensors) {
        tensor(owner, inner)?;
    }
    for sparse in attribute
        .sparse_tensor
        .iter()
        .chain(&attribute.sparse_tensors)
    {
        check_sparse(owner, sparse)?;
    }
    for body in attribute.g.iter().chain(&attribute.graphs) {
        graph(body, Some(scope))?;
    }
    Ok(())
}

fn check_function(function: &FunctionProto) -> Result<(), OnnxError> {
    let place = format!("function '{}'", function.name());
    let mut scope = Scope {
        place,
        names: BTreeSet::new(),
        outer: None,
    };
    for input in &function.input {
        scope.define(input, || "the list of inputs".to_owned())?;
    }
    nodes(&function.node, &mut scope)?;
    for attribute in &function.attribute_proto {
        let owner = Owner::Default(function.name(), attribute.name());
        check_attribute(owner, attribute, &scope)?;
    }
    match function.output.iter().find(|name| !scope.knows(name)) {
        Some(name) => Err(missing("the list of outputs", &scope.place, name)),
        None => Ok(()),
    }
}

fn check_sparse(owner: Owner<'_>, sparse: &SparseTensorProto) -> Result<(), OnnxError> {
    for part in sparse.values.iter().chain(&sparse.indices) {
        tensor(owner, part)?;
    }
    Ok(())
}

fn tensor(owner: Owner<'_>, tensor: &TensorProto) -> Result<(), OnnxError> {
    storage::check(tensor).map_err(|error| OnnxError::Tensor {
        owner: owner.describe(tensor),
        error,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Model, sample};
    use super::*;

    /// The message after `change` to the sample model.
    fn error(change: impl FnOnce(&mut Model)) -> String {
        let mut model = sample::model();
        assert!(model.check().is_ok());
        change(&mut model);
        model.check().unwrap_err().to_string()
    }

    fn main(model: &mut Model) -> &mut GraphProto {
        model.proto.graph.as_mut().unwrap()
    }

    #[test]
    fn graph_and_versions_are_needed() {
        assert!(error(|m| m.proto.graph = None).contains("no graph"));
        assert!(error(|m| m.proto.ir_version = None).contains("ir_version is 0"));
        assert!(error(|m| m.proto.ir_version = Some(15)).contains("expected 1 to 14"));
        assert!(error(|m| m.proto.opset_import.clear()).contains("imports no opset"));
    }

    #[test]
    fn missing_inputs_are_named() {
        let text = error(|m| main(m).node[0].input[0] = "gone".to_owned());
        assert!(
            text.contains("node 'Conv_1' (Conv) in graph 'main' reads 'gone'"),
            "{text}"
        );
        let text = error(|m| main(m).output.push(sample::value("gone")));
        assert!(
            text.contains("outputs in graph 'main' reads 'gone'"),
            "{text}"
        );
        // The body reads "c" of the outer graph; the outer graph does not see the body's "k".
        let text = error(|m| main(m).node[0].output[0] = "other".to_owned());
        assert!(text.contains("graph 'then_branch' reads 'c'"), "{text}");
        let text = error(|m| main(m).node[0].input[0] = "k".to_owned());
        assert!(text.contains("reads 'k'"), "{text}");
        // A function sees nothing of the graph.
        let text = error(|m| m.proto.functions[0].node[0].input[0] = "x".to_owned());
        assert!(text.contains("function 'Twice' reads 'x'"), "{text}");
    }

    #[test]
    fn a_later_node_may_define() {
        let mut model = sample::model();
        main(&mut model).node.reverse();
        assert!(model.check().is_ok());
    }

    #[test]
    fn double_definitions_are_named() {
        let text = error(|m| {
            let node = sample::node("Relu", &["x"], &["w"]);
            main(m).node.push(node);
        });
        assert!(
            text.contains("node 'Relu_1' (Relu) in graph 'main' defines 'w'"),
            "{text}"
        );
        let text = error(|m| main(m).input.push(sample::value("x")));
        assert!(text.contains("defines 'x'"), "{text}");
        let text = error(|m| {
            let again = main(m).initializer[0].clone();
            main(m).initializer.push(again);
        });
        assert!(
            text.contains("initializer 'w' of graph 'main' is given twice"),
            "{text}"
        );
        let text = error(|m| {
            let again = m.proto.functions[0].clone();
            m.proto.functions.push(again);
        });
        assert!(
            text.contains("function 'Twice' of domain 'local'"),
            "{text}"
        );
    }

    #[test]
    fn an_initializer_may_be_an_inputs_default_and_sparse_ones_count() {
        let mut model = sample::model();
        main(&mut model).input.push(sample::value("w"));
        let values = main(&mut model).initializer.remove(1);
        let indices = super::super::Tensor::from_i64(&[3], &[0, 1, 2]).unwrap();
        main(&mut model).sparse_initializer.push(SparseTensorProto {
            values: Some(values),
            indices: Some(indices.to_proto("")),
            dims: vec![3],
        });
        assert!(model.check().is_ok());
    }

    #[test]
    fn data_must_match_the_shape() {
        let text = error(|m| main(m).initializer[0].dims[0] = 4);
        assert!(text.contains("initializer 'w' of graph 'main'"), "{text}");
        assert!(
            text.contains("raw_data holds 24 entries, expected 32"),
            "{text}"
        );
        let text = error(|m| sample::constant(m).dims[0] = 2);
        assert!(
            text.contains("attribute 'value' of node 'Constant_1' (Constant)"),
            "{text}"
        );
    }
}
