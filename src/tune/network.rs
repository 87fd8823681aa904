//! The smaller model with its error and the gradients of its weights as outputs.

use crate::graph::Graph;
use crate::groups::BackwardGraph;
use crate::onnx::{DataType, Model, Names};
use crate::ops;
use crate::runtime::{Runtime, RuntimeError, Session};
use crate::tune::adam::Learner;
use crate::tune::differentiate::differentiate;
use crate::tune::targets::Target;

/// What the outputs together weigh beside what is inside.
const OUTPUTS: f64 = 1.0;
const LOSS: &str = "onnx-mipp/loss";

/// A model that learns.
pub(super) struct Network {
    pub session: Session,
    pub learners: Vec<Learner>,
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
    let mut made = BackwardGraph::new(Names::of_values(&pruned.proto));
    let mut found = Vec::new();
    for (place, target) in targets.iter().enumerate() {
        let same = graph
            .find(&target.name)
            .filter(|&value| graph.values[value].shape.as_ref() == Some(&target.shape));
        let same = same.filter(|_| target.variance() > 0.0);
        found.extend(same.map(|value| (place, value, target)));
    }
    let outputs = found
        .iter()
        .filter(|(_, _, target)| target.is_output)
        .count();
    let (mut errors, mut seeds) = (Vec::new(), Vec::new());
    for &(_, value, target) in &found {
        let weight = if target.is_output {
            OUTPUTS / outputs as f64
        } else {
            1.0 / (found.len() - outputs) as f64
        };
        let count = target.shape.iter().product();
        let (error, gradient) = ops::build::squared_error(
            &mut made,
            (&target.name, &target.made()),
            weight / target.variance(),
            count,
        );
        errors.push(error);
        seeds.push((value, gradient));
    }
    let may_learn = |value| {
        let known = &graph.values[value];
        known.producer.is_none() && known.dtype == Some(DataType::Float) && {
            let tensor = known.constant.as_ref();
            tensor.is_some_and(|tensor| tensor.len() > 1) && !known.is_output
        }
    };
    let gradients = differentiate(graph, seeds, &may_learn, &mut made);
    let Some(error) = ops::build::sum(&mut made, &errors).filter(|_| !gradients.is_empty()) else {
        return Ok(None);
    };
    let mut learners = Vec::new();
    let mut outputs = vec![LOSS.to_owned()];
    for (value, gradient) in gradients {
        let known = &graph.values[value];
        let Some(Ok(values)) = known.constant.as_ref().map(|tensor| tensor.as_f32()) else {
            continue;
        };
        let shape = known.shape.clone().unwrap_or_default();
        learners.push(Learner::new(known.name.clone(), shape, values.into_owned()));
        outputs.push(gradient);
    }
    let model = learning(pruned, made, (&error, &outputs), &learners, &found);
    if let Ok(p) = std::env::var("MIPP_DUMP") { use prost::Message; let _ = std::fs::write(p, model.proto.encode_to_vec()); }
    Ok(Some(Network {
        session: runtime.session(&model)?,
        learners,
        targets: found.iter().map(|&(place, ..)| place).collect(),
        outputs,
    }))
}

/// The smaller model with what learns and what it is drawn to as inputs.
fn learning(
    pruned: &Model,
    made: BackwardGraph,
    (error, outputs): (&str, &[String]),
    learners: &[Learner],
    found: &[(usize, crate::graph::ValueId, &Target)],
) -> Model {
    const FREE_INITIALIZERS: i64 = 4;
    let mut model = pruned.clone();
    let version = model.proto.ir_version().max(FREE_INITIALIZERS);
    model.proto.ir_version = Some(version);
    let Some(main) = model.proto.graph.as_mut() else {
        return model;
    };
    let float = |name: &str, shape: &[usize]| {
        let shape: Vec<Option<i64>> = shape
            .iter()
            .map(|&length| i64::try_from(length).ok())
            .collect();
        ops::build::tensor_input(name, DataType::Float.code(), Some(&shape))
    };
    let learns = |name: &str| learners.iter().any(|learner| learner.name == name);
    main.initializer.retain(|tensor| !learns(tensor.name()));
    main.input.retain(|input| !learns(input.name()));
    let learning = learners
        .iter()
        .map(|learner| float(&learner.name, &learner.shape));
    main.input.extend(learning);
    let drawn = found
        .iter()
        .map(|(_, _, target)| float(&target.made(), &target.shape));
    main.input.extend(drawn);
    // What the file says of shapes may hold for other batches.
    main.value_info.clear();
    let constants = made.constants.iter();
    main.initializer
        .extend(constants.map(|(name, tensor)| tensor.to_proto(name)));
    main.node.extend(made.nodes);
    main.node.push(ops::build::identity_node(error, LOSS));
    main.output = outputs
        .iter()
        .map(|name| ops::build::bare_output(name))
        .collect();
    model
}
