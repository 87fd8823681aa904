//! What a model grows to when the bodies of its functions take the place of the nodes that call
//! them, as they do here and inside ONNX Runtime: known before it is done, in one pass over the
//! functions.

use std::collections::BTreeMap;

use prost::Message;

use super::inline::{Key, called, key_of};
use super::names::subgraphs;
use super::proto::{ModelProto, NodeProto};
use super::{Model, OnnxError};
use crate::allowance::Allowance;

/// Twenty functions that call the next one twice make a million nodes of one; no exporter comes
/// near this.
const MOST_NODES: u64 = 1 << 18;
/// Calls in calls: ONNX Runtime follows them on its stack.
const DEEPEST: u64 = 256;
/// Memory of a node and its values, in all the forms that they take here and in ONNX Runtime.
const PER_NODE: u64 = 4096;
/// Copies of a node's text.
const COPIES: u64 = 8;

/// Nodes, and bytes of all that stands in them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    nodes: u64,
    bytes: u64,
    /// How deep functions call functions in it.
    depth: u64,
}

impl Size {
    fn plus(self, other: Size) -> Size {
        Size {
            depth: self.depth.max(other.depth),
            nodes: self.nodes.saturating_add(other.nodes),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// Of a body in the place of a node, whose name the names inside then start with.
    fn in_place_of(self, node: &NodeProto) -> Size {
        let output = node.output.first().map_or(0, String::len);
        let name = node.name().len().max(output) as u64;
        let names = self.nodes.saturating_mul(2).saturating_mul(name);
        self.plus(Size {
            nodes: 0,
            bytes: names,
            depth: self.depth,
        })
    }
}

/// Sizes of functions with all that they call in place.
pub(super) type Sizes = BTreeMap<Key, Size>;

impl Model {
    /// Refuses a model whose functions, in the place of the nodes that call them, make more than is
    /// allowed.
    ///
    /// # Errors
    /// [`OnnxError::OverLimit`] with the call, or [`OnnxError::Structure`] where functions call
    /// themselves.
    pub fn check_expansion(&self, allowance: Allowance) -> Result<(), OnnxError> {
        let sizes = sizes(&self.proto)?;
        let mut all = Size::default();
        for node in self.proto.graph.iter().flat_map(|graph| &graph.node) {
            all = all.plus(size(node, &sizes));
            let what = |of: &str| {
                let call = called(node);
                format!(
                    "the model with the functions in place, at node '{}' ({}), {of}",
                    node.name(),
                    call.1
                )
            };
            if all.nodes > MOST_NODES && !sizes.is_empty() {
                let nodes = all.nodes;
                let found = what(&format!("has {nodes} nodes, expected at most {MOST_NODES}"));
                return Err(OnnxError::Structure {
                    what: format!("{found}: export it without functions that call others so often"),
                });
            }
            if all.depth > DEEPEST {
                let depth = all.depth;
                let found = what(&format!(
                    "has functions that call each other {depth} deep, expected at most {DEEPEST}"
                ));
                return Err(OnnxError::Structure {
                    what: format!("{found}: export it with fewer levels"),
                });
            }
            let asked = all.nodes.saturating_mul(PER_NODE);
            let asked = asked.saturating_add(all.bytes.saturating_mul(COPIES));
            allowance.bytes(
                asked,
                || what("which takes this share of it,"),
                "shorten its names",
            )?;
        }
        Ok(())
    }
}

/// A node with the functions that it and its subgraphs call.
fn size(node: &NodeProto, sizes: &Sizes) -> Size {
    let own = Size {
        nodes: 1,
        bytes: node.encoded_len() as u64,
        depth: 0,
    };
    own.plus(bodies(node, sizes))
}

/// What takes the place of a node and of those in its subgraphs, beyond these nodes themselves.
fn bodies(node: &NodeProto, sizes: &Sizes) -> Size {
    let body = sizes.get(&called(node)).copied().unwrap_or_default();
    let mut all = body.in_place_of(node);
    for inner in subgraphs(node).flat_map(|graph| &graph.node) {
        let own = Size {
            nodes: 1,
            ..Size::default()
        };
        all = all.plus(own).plus(bodies(inner, sizes));
    }
    all
}

/// Sizes of all functions, those first that call no other.
///
/// # Errors
/// Functions that call themselves, by others or at once.
pub(super) fn sizes(model: &ModelProto) -> Result<Sizes, OnnxError> {
    let functions: BTreeMap<Key, usize> = model.functions.iter().map(key_of).zip(0..).collect();
    let mut callers: Vec<Vec<usize>> = vec![Vec::new(); model.functions.len()];
    let mut waits = vec![0_usize; model.functions.len()];
    for (caller, function) in model.functions.iter().enumerate() {
        for callee in calls(&function.node, &functions) {
            if let (Some(callers), Some(waits)) = (callers.get_mut(callee), waits.get_mut(caller)) {
                callers.push(caller);
                *waits += 1;
            }
        }
    }
    let mut sizes = Sizes::new();
    let mut ready: Vec<usize> = (0..waits.len())
        .filter(|&at| waits.get(at) == Some(&0))
        .collect();
    while let Some(at) = ready.pop() {
        let Some(function) = model.functions.get(at) else {
            continue;
        };
        let nodes = function.node.iter();
        let mut made = nodes.fold(Size::default(), |all, node| all.plus(size(node, &sizes)));
        made.depth = made.depth.saturating_add(1);
        sizes.insert(key_of(function), made);
        for &caller in callers.get(at).into_iter().flatten() {
            if let Some(waits) = waits.get_mut(caller) {
                *waits = waits.saturating_sub(1);
                if *waits == 0 {
                    ready.push(caller);
                }
            }
        }
    }
    let left = waits.iter().position(|&waits| waits > 0);
    match left.and_then(|at| model.functions.get(at)) {
        Some(function) => Err(OnnxError::Structure {
            what: format!(
                "function '{}' of domain '{}' calls itself, at once or by others, expected functions that \
                 end: export the model again",
                function.name(),
                function.domain()
            ),
        }),
        None => Ok(sizes),
    }
}

/// The functions that nodes and their subgraphs call, as often as they do.
fn calls(nodes: &[NodeProto], functions: &BTreeMap<Key, usize>) -> Vec<usize> {
    let mut found = Vec::new();
    for node in nodes {
        found.extend(functions.get(&called(node)));
        for graph in subgraphs(node) {
            found.extend(calls(&graph.node, functions));
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::onnx::proto::FunctionProto;

    /// The sample model with functions F0, F1, ... that call the next one twice, the last one none.
    fn doubling(depth: usize, name_length: usize) -> Model {
        let mut model = sample::model();
        let call = |name: &str, input: &str, output: &str| {
            let mut node = sample::node(name, &[input], &[output]);
            node.domain = Some("local".to_owned());
            node.name = Some("n".repeat(name_length));
            node
        };
        for level in 0..depth {
            let next = format!("F{}", level + 1);
            let node = if level + 1 < depth {
                vec![call(&next, "a", "t"), call(&next, "t", "b")]
            } else {
                vec![sample::node("Relu", &["a"], &["b"])]
            };
            model.proto.functions.push(FunctionProto {
                name: Some(format!("F{level}")),
                domain: Some("local".to_owned()),
                input: vec!["a".to_owned()],
                output: vec!["b".to_owned()],
                node,
                ..Default::default()
            });
        }
        let graph = model.proto.graph.as_mut().unwrap();
        graph.node.push(call("F0", "x", "made"));
        model
    }

    fn refused(model: &Model) -> String {
        let allowance = Allowance::of_megabytes(1000);
        model.check_expansion(allowance).unwrap_err().to_string()
    }

    #[test]
    fn doubling_functions_are_counted_before_they_are_put_in_place() {
        let allowance = Allowance::of_megabytes(1000);
        assert!(sample::model().check_expansion(allowance).is_ok());
        assert!(doubling(10, 1).check_expansion(allowance).is_ok());
        let text = refused(&doubling(40, 1));
        assert!(
            text.contains("(F0)") && text.contains("nodes, expected at most 262144"),
            "{text}"
        );
        // More levels than numbers of 64 bits can count nodes of.
        assert!(refused(&doubling(100, 1)).contains("(F0)"));
        // Few nodes, whose names are long.
        let text = refused(&doubling(12, 20_000));
        assert!(
            text.contains("(F0)") && text.contains("over the limit of 1.00 GB"),
            "{text}"
        );
    }

    #[test]
    fn functions_that_nest_too_deep_are_refused() {
        let mut model = doubling(300, 1);
        for function in &mut model.proto.functions {
            function.node.truncate(1);
            function.node[0].output = vec!["b".to_owned()];
        }
        let text = refused(&model);
        assert!(
            text.contains("(F0)") && text.contains("300 deep, expected at most 256"),
            "{text}"
        );
        model.proto.functions.drain(..100);
        model
            .proto
            .graph
            .as_mut()
            .unwrap()
            .node
            .last_mut()
            .unwrap()
            .op_type = Some("F100".to_owned());
        let allowance = Allowance::of_megabytes(1000);
        assert!(model.check_expansion(allowance).is_ok());
    }

    #[test]
    fn functions_that_call_themselves_are_refused() {
        let mut model = doubling(2, 1);
        let call = model
            .proto
            .functions
            .iter_mut()
            .find(|f| f.name() == "F1")
            .unwrap();
        call.node[0].op_type = Some("F0".to_owned());
        call.node[0].domain = Some("local".to_owned());
        assert!(refused(&model).contains("calls itself"));
        let text = model.check().unwrap_err().to_string();
        assert!(
            text.contains("calls itself, at once or by others"),
            "{text}"
        );
    }
}
