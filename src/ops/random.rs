//! Operators that draw random numbers.

use crate::graph::canonical_domain;
use crate::onnx::proto::NodeProto;

/// Whether the node draws random numbers, or its subgraphs do. Operators without a rule draw too,
/// and of those of other domains the name alone is known.
pub(super) fn draws(node: &NodeProto) -> bool {
    const TRAINING_MODE: usize = 2;
    let name = node.op_type();
    let trains = node.input.get(TRAINING_MODE).is_some_and(|i| !i.is_empty());
    let is_standard = canonical_domain(node.domain()).is_empty();
    let drops = name.contains("Dropout") && (trains || !is_standard);
    let own = name.starts_with("Random") || drops;
    let bodies = node.attribute.iter();
    let bodies = bodies.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    own || matches!(name, "Bernoulli" | "Multinomial" | "Sampling")
        || bodies.flat_map(|body| &body.node).any(draws)
}
