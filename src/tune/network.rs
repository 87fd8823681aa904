//! The smaller model with its error and the gradients of its weights as outputs.

use crate::graph::{Graph, NodeId, ValueId};
use crate::groups::BackwardGraph;
use crate::onnx::{DataType, Model, Names};
use crate::ops;
use crate::runtime::{Runtime, RuntimeError, Session};
use crate::tune::adam::Learner;
use crate::tune::differentiate::differentiate;
use crate::tune::targets::Target;

/// What the outputs together weigh beside all that is inside.
const OUTPUTS: f64 = 1.0;
const LOSS: &str = "onnx-mipp/loss";

/// A value that is drawn to what an input of that name has.
pub struct Drawn {
    /// The value.
    pub value: ValueId,
    /// The name of the input.
    pub target: String,
    /// What the mean square of the difference weighs.
    pub weight: f64,
}

/// A model whose weights are inputs, which makes its error and their gradients.
pub struct Learning {
    /// The model.
    pub model: Model,
    /// The initializers that are inputs now.
    pub weights: Vec<ValueId>,
    /// The nodes where gradients end.
    pub ends: Vec<NodeId>,
    /// Names of the error and of the gradients, in the order of the weights.
    pub outputs: Vec<String>,
}

/// The learning model of `model`, whose `graph` has the shapes of one batch; `None` where no
/// weight has a gradient.
#[must_use]
pub fn learning(model: &Model, graph: &Graph, drawn: &[Drawn]) -> Option<Learning> {
    let mut made = BackwardGraph::new(Names::of_values(&model.proto));
    let (mut errors, mut seeds) = (Vec::new(), Vec::new());
    for Drawn {
        value,
        target,
        weight,
    } in drawn
    {
        let known = &graph.values[*value];
        let count = known.shape.as_ref()?.iter().product();
        let ends = (known.name.as_str(), target.as_str());
        let (error, gradient) = ops::build::squared_error(&mut made, ends, *weight, count);
        errors.push(error);
        seeds.push((*value, gradient));
    }
    let may_learn = |value: ValueId| {
        let known = &graph.values[value];
        let is_float = known.dtype == Some(DataType::Float) && !known.is_output;
        let tensor = known.constant.as_ref().filter(|_| is_float);
        known.producer.is_none() && tensor.is_some_and(|tensor| tensor.len() > 1)
    };
    let gradients = differentiate(graph, seeds, &may_learn, &mut made);
    let error = ops::build::sum(&mut made, &errors).filter(|_| !gradients.of.is_empty())?;
    made.nodes.push(ops::build::identity_node(&error, LOSS));
    let outputs = std::iter::once(LOSS.to_owned()).chain(gradients.of.values().cloned());
    let outputs: Vec<String> = outputs.collect();
    let weights: Vec<ValueId> = gradients.of.into_keys().collect();
    Some(Learning {
        model: joined(model, graph, made, (&weights, drawn, &outputs)),
        weights,
        ends: gradients.ends,
        outputs,
    })
}

/// The model with what learns and what it is drawn to as inputs.
fn joined(
    model: &Model,
    graph: &Graph,
    made: BackwardGraph,
    (weights, drawn, outputs): (&[ValueId], &[Drawn], &[String]),
) -> Model {
    const FREE_INITIALIZERS: i64 = 4;
    let mut model = model.clone();
    let version = model.proto.ir_version().max(FREE_INITIALIZERS);
    model.proto.ir_version = Some(version);
    let Some(main) = model.proto.graph.as_mut() else {
        return model;
    };
    let float = |name: &str, value: ValueId| {
        let shape = graph.values[value].shape.iter().flatten();
        let shape: Vec<Option<i64>> = shape.map(|&length| i64::try_from(length).ok()).collect();
        ops::build::tensor_input(name, DataType::Float.code(), Some(&shape))
    };
    let name = |value: ValueId| graph.values[value].name.as_str();
    let learns = |stored: &str| weights.iter().any(|&weight| name(weight) == stored);
    main.initializer.retain(|tensor| !learns(tensor.name()));
    main.input.retain(|input| !learns(input.name()));
    main.input
        .extend(weights.iter().map(|&weight| float(name(weight), weight)));
    main.input
        .extend(drawn.iter().map(|drawn| float(&drawn.target, drawn.value)));
    // What the file says of shapes may hold for other batches.
    main.value_info.clear();
    let constants = made.constants.iter();
    main.initializer
        .extend(constants.map(|(name, tensor)| tensor.to_proto(name)));
    main.node.extend(made.nodes);
    main.output = outputs
        .iter()
        .map(|name| ops::build::bare_output(name))
        .collect();
    model
}

/// A smaller model that learns.
pub(super) struct Network {
    pub session: Session,
    pub learners: Vec<Learner>,
    /// The nodes where gradients end.
    pub ends: Vec<NodeId>,
    /// The targets that it has, by their places.
    pub targets: Vec<usize>,
    /// What it makes: the error, then the gradients in the order of the learners.
    pub outputs: Vec<String>,
}

/// The network of a model whose `graph` has the shapes of one batch; `None` where nothing can
/// learn.
///
/// # Errors
/// ONNX Runtime refuses what was made.
pub(super) fn network(
    pruned: &Model,
    graph: &Graph,
    targets: &[Target],
    runtime: &Runtime,
) -> Result<Option<Network>, RuntimeError> {
    let same = |target: &Target| {
        let value = graph.find(&target.name)?;
        let is_same = graph.values[value].shape.as_ref() == Some(&target.shape);
        (is_same && target.variance() > 0.0).then_some(value)
    };
    let found: Vec<Option<ValueId>> = targets.iter().map(same).collect();
    let present = |is_output: bool| {
        let pairs = targets.iter().zip(&found);
        let counted =
            pairs.filter(|(target, value)| value.is_some() && target.is_output == is_output);
        counted.count() as f64
    };
    let shares = [1.0 / present(false), OUTPUTS / present(true)];
    let (mut drawn, mut places) = (Vec::new(), Vec::new());
    for (place, (target, value)) in targets.iter().zip(&found).enumerate() {
        let Some(value) = *value else { continue };
        let [inside, output] = shares;
        let share = if target.is_output { output } else { inside };
        places.push(place);
        drawn.push(Drawn {
            value,
            target: target.made(),
            weight: share / target.variance(),
        });
    }
    let Some(learning) = learning(pruned, graph, &drawn) else {
        return Ok(None);
    };
    let learner = |&weight: &ValueId| {
        let known = &graph.values[weight];
        let tensor = known.constant.as_ref()?;
        let values = tensor.as_f32().ok()?.into_owned();
        Some(Learner::new(
            known.name.clone(),
            tensor.shape.clone(),
            values,
        ))
    };
    let learners: Option<Vec<Learner>> = learning.weights.iter().map(learner).collect();
    let Some(learners) = learners else {
        return Ok(None);
    };
    Ok(Some(Network {
        session: runtime.session(&learning.model)?,
        learners,
        ends: learning.ends,
        targets: places,
        outputs: learning.outputs,
    }))
}
