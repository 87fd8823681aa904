//! Loop: without a rule, but how often it runs its body is known.

use crate::graph::NodeView;
use crate::groups::Operator;
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::ops::Entry;

pub(super) const OPERATORS: &[Entry] = &[Entry::standard(
    &["Loop"],
    &Loop,
    "how often it runs its body is weighed before a run",
)];

/// What a node of a body costs each time beside its elements, in elements: about a microsecond.
const PER_NODE: u64 = 1024;
/// The body's own condition, in its inputs.
const CONDITION: usize = 1;

struct Loop;

impl Operator for Loop {
    fn is_followed(&self) -> bool {
        false
    }

    fn repetitions(&self, view: NodeView<'_>) -> u64 {
        let Some(body) = view
            .node
            .attributes
            .get("body")
            .and_then(|body| body.g.as_ref())
        else {
            return 0;
        };
        let trips = match view.input(0) {
            Some(_) => view.constant_ints(0).ok().flatten().and_then(|trips| {
                let trips = trips.first().copied()?;
                u64::try_from(trips).ok()
            }),
            None => keeps_its_condition(body).then_some(u64::MAX),
        };
        let each = (body.node.len() as u64).saturating_mul(PER_NODE);
        trips.unwrap_or(0).saturating_mul(each)
    }
}

/// Whether a body hands its condition on as it got it: once begun, only a count ends it.
fn keeps_its_condition(body: &GraphProto) -> bool {
    let Some(given) = body.input.get(CONDITION) else {
        return false;
    };
    let mut name = body.output.first().map_or("", |output| output.name());
    // No more steps than nodes: names may run in a circle.
    for _ in 0..=body.node.len() {
        if name == given.name() {
            return true;
        }
        let made = |node: &&NodeProto| node.output.iter().any(|o| o == name);
        match body.node.iter().find(made) {
            Some(node) if node.op_type() == "Identity" => {
                name = node.input.first().map_or("", String::as_str);
            }
            _ => return false,
        }
    }
    false
}
