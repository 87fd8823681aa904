//! What a run of the whole graph takes, from the shapes of its values: known before it runs.

use crate::allowance::{Allowance, OverLimit, spanned};
use crate::graph::{Graph, NodeId, NodeView, Table, Value, ValueId};

/// Bytes of an element whose type is not known.
const ELEMENT: usize = 4;
/// Bytes that a position of an axis takes while channels are followed: its atom, and what is known
/// of that.
const PER_POSITION: usize = 64;
const ADVICE: &str = "give inputs of smaller sizes, or allow more";

/// What a run takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Bytes of values that live at the same time, where that is most. A value lives from the node
    /// that makes it to the last that reads it; initializers, which the file has, and shapes that
    /// are not known count nothing.
    pub bytes: u64,
    /// The node where that is.
    at: Option<NodeId>,
    /// Elements that all nodes read and make.
    elements: u64,
    /// The node that most of them are due to, with its own number.
    most: Option<(NodeId, u64)>,
}

impl Graph {
    /// What a run takes, as far as shapes are known. `repetitions` says what the repetitions of a
    /// node's body are worth, in elements.
    #[must_use]
    pub fn demand(&self, repetitions: &dyn Fn(NodeView<'_>) -> u64) -> Demand {
        let ends = self.ends();
        let mut found = Demand::default();
        let sources = self.values.iter().filter(|value| value.producer.is_none());
        let mut live = sources.map(held).fold(0, u64::saturating_add);
        found.bytes = live;
        for &node in &self.order {
            let known = &self.nodes[node];
            let made = known.outputs.iter().flatten();
            let made = made.map(|&id| held(&self.values[id]));
            live = made.fold(live, u64::saturating_add);
            if live > found.bytes {
                (found.bytes, found.at) = (live, Some(node));
            }
            let touched = known.inputs.iter().chain(&known.outputs).flatten();
            let counts = touched.map(|&id| elements(&self.values[id]));
            let own = counts.fold(repetitions(self.view(node)), u64::saturating_add);
            found.elements = found.elements.saturating_add(own);
            if found.most.is_none_or(|(_, most)| own > most) {
                found.most = Some((node, own));
            }
            let freed = ends.get(node).into_iter().flatten();
            live = freed
                .map(|&id| held(&self.values[id]))
                .fold(live, u64::saturating_sub);
        }
        found
    }

    /// Bytes of all values that are made, together.
    #[must_use]
    pub fn made_bytes(&self) -> u64 {
        let made = self.values.iter().filter(|value| value.producer.is_some());
        made.map(size).fold(0, u64::saturating_add)
    }

    /// Bytes of all initializers.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        let stored = self.values.iter().filter(|value| is_stored(value));
        stored.map(size).fold(0, u64::saturating_add)
    }

    /// Refuses a graph whose [run](Graph::demand) takes more than is allowed, or one of whose
    /// tensors has axes that cannot be walked.
    ///
    /// # Errors
    /// The node that takes it, with the largest tensor that it reads or makes.
    pub fn check_demand(
        &self,
        allowance: Allowance,
        repetitions: &dyn Fn(NodeView<'_>) -> u64,
    ) -> Result<(), OverLimit> {
        for value in &self.values {
            let what = || match value.producer {
                Some(node) => format!("the axes of what {} makes,", self.blamed(node)),
                None => format!("the axes of {},", tensor(value)),
            };
            allowance.bytes(axes(value), what, ADVICE)?;
        }
        let demand = self.demand(repetitions);
        let place = |node: Option<NodeId>| match node {
            Some(node) => format!("a run of the model, at {},", self.blamed(node)),
            None => "a run of the model, for its inputs,".to_owned(),
        };
        allowance.bytes(demand.bytes, || place(demand.at), ADVICE)?;
        let most = demand.most.map(|(node, _)| node);
        allowance.work(demand.elements, || place(most), ADVICE)
    }

    /// Per node, the values that nothing reads after it. What the model hands out stays, and so do
    /// constants, which are kept once they are computed.
    fn ends(&self) -> Table<NodeId, Vec<ValueId>> {
        let mut last: Table<ValueId, Option<NodeId>> =
            self.values.iter().map(|value| value.producer).collect();
        for &node in &self.order {
            let known = &self.nodes[node];
            for &value in known.inputs.iter().flatten().chain(&known.captured) {
                if let Some(last) = last.get_mut(value) {
                    *last = Some(node);
                }
            }
        }
        let mut ends = Table::from(vec![Vec::new(); self.nodes.len()]);
        for (id, value) in self.values.entries() {
            let stays = value.is_output || value.is_constant || value.is_count;
            if let Some(last) = last[id].filter(|_| !stays) {
                ends[last].push(id);
            }
        }
        ends
    }

    /// The node, with the largest tensor that it reads or makes.
    fn blamed(&self, node: NodeId) -> String {
        let known = &self.nodes[node];
        let touched = known.inputs.iter().chain(&known.outputs).flatten();
        let largest = touched.max_by_key(|&&id| held(&self.values[id]));
        let largest = largest.map_or_else(String::new, |&id| {
            format!(" with {}", tensor(&self.values[id]))
        });
        format!("node '{}' ({}){largest}", known.name, known.op_type)
    }
}

fn tensor(value: &Value) -> String {
    let shape = value.shape.as_deref().unwrap_or_default();
    format!("tensor '{}' of shape {shape:?}", value.name)
}

fn elements(value: &Value) -> u64 {
    value.shape.as_deref().map_or(0, |shape| spanned(shape, 1))
}

/// Bytes that following channels along all axes takes. The file has the elements of initializers;
/// one without any may have axes of any length, and a rule may take several of its axes for one.
fn axes(value: &Value) -> u64 {
    let shape = value.shape.as_deref().unwrap_or_default();
    if is_stored(value) {
        return if shape.contains(&0) {
            spanned(shape, PER_POSITION)
        } else {
            0
        };
    }
    let positions = shape.iter().map(|&length| length as u64);
    let positions = positions.fold(0, u64::saturating_add);
    positions.saturating_mul(PER_POSITION as u64)
}

/// Bytes of a value while it lives.
fn held(value: &Value) -> u64 {
    if is_stored(value) { 0 } else { size(value) }
}

fn is_stored(value: &Value) -> bool {
    value.producer.is_none() && value.is_constant
}

fn size(value: &Value) -> u64 {
    let size = value
        .dtype
        .and_then(|dtype| dtype.size())
        .unwrap_or(ELEMENT);
    let shape = value.shape.as_deref();
    shape.map_or(0, |shape| spanned(shape, size))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::onnx::Model;
    use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

    /// x -> a -> b -> c -> d, and d reads a again; of shape [n] each.
    fn graph(lengths: [usize; 5]) -> Graph {
        let node = |inputs: &[&str], output: &str| NodeProto {
            name: Some(format!("make {output}")),
            op_type: Some("Relu".to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..Default::default()
        };
        let value = |name: &str| ValueInfoProto {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let main = GraphProto {
            input: vec![value("x")],
            output: vec![value("d")],
            node: vec![
                node(&["x"], "a"),
                node(&["a"], "b"),
                node(&["b"], "c"),
                node(&["c", "a"], "d"),
            ],
            ..Default::default()
        };
        let proto = ModelProto {
            graph: Some(main),
            ..Default::default()
        };
        let mut graph = Graph::unmarked(&Model { proto }).unwrap();
        for (name, length) in ["x", "a", "b", "c", "d"].iter().zip(lengths) {
            graph.observe_shape(name, vec![length]);
        }
        graph
    }

    #[test]
    fn values_live_until_they_are_read_last() {
        // At c: a, which d reads again, with b and c.
        assert_eq!(
            graph([1, 10, 20, 30, 4]).demand(&|_| 0).bytes,
            4 * (10 + 20 + 30)
        );
        // At a: x and a.
        assert_eq!(
            graph([90, 10, 20, 30, 4]).demand(&|_| 0).bytes,
            4 * (90 + 10)
        );
    }

    #[test]
    fn places_of_stored_tensors_without_elements_are_counted_together() {
        let mut graph = graph([1; 5]);
        let stored = &mut graph.values[ValueId::from(0)];
        (stored.is_constant, stored.producer) = (true, None);
        stored.shape = Some(vec![3, 5, 7]);
        assert_eq!(axes(stored), 0);
        stored.shape = Some(vec![0, 5, 7]);
        assert_eq!(axes(stored), 5 * 7 * PER_POSITION as u64);
        (stored.is_constant, stored.shape) = (false, Some(vec![0, 5, 7]));
        assert_eq!(axes(stored), (5 + 7) * PER_POSITION as u64);
    }

    #[test]
    fn what_is_too_much_is_named() {
        let most = Allowance { bytes: 24_000 };
        let large = graph([1, 10, 20, 6000, 4]);
        let text = large.check_demand(most, &|_| 0).unwrap_err().to_string();
        assert!(text.contains("'c' of shape [6000]"), "{text}");
        let allowed = Allowance { bytes: 400_000 };
        assert_eq!(large.check_demand(allowed, &|_| 0), Ok(()));
        // No element, but an axis.
        let mut empty = graph([1; 5]);
        empty.observe_shape("b", vec![0, 1 << 40]);
        let text = empty.check_demand(allowed, &|_| 0).unwrap_err().to_string();
        assert!(text.contains("'b' of shape [0, 1099511627776]"), "{text}");
        // So much that numbers of 64 bits do not hold it.
        empty.observe_shape("b", vec![usize::MAX, usize::MAX]);
        assert!(empty.check_demand(allowed, &|_| 0).is_err());
    }
}
