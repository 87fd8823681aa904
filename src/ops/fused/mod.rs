//! Nodes that ONNX Runtime fused, as the standard operators that they stand for.
//!
//! People hand on models that ONNX Runtime optimised, or that a quantiser wrote in operators on
//! integers. A convolution with an activation inside makes nothing that is linear in what it reads,
//! and integers have their scales in other nodes. Taken apart, such models are pruned and repaired
//! as those that they were made from. ONNX Runtime fuses the result again when it loads it; others
//! run it as it is.

mod quantized;

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::canonical_domain;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto, attribute_proto::AttributeType};
use crate::onnx::{DataType, Model, Names, Tensor};
use crate::ops::registry::MICROSOFT;

/// The model in which the nodes of the main graph that can be taken apart are, and what operators
/// these were, by name.
#[must_use]
pub fn unfused(mut model: Model) -> (Model, Vec<String>) {
    let opset = model.opset("").unwrap_or(1);
    let mut found = BTreeSet::new();
    let names = Names::of_values(&model.proto);
    let Some(graph) = model.proto.graph.as_mut() else {
        return (model, Vec::new());
    };
    let mut parts = Parts {
        opset,
        names,
        constants: BTreeMap::new(),
        nodes: Vec::with_capacity(graph.node.len()),
        stored: Vec::new(),
        known: BTreeMap::new(),
    };
    let stored = graph.initializer.iter();
    parts.constants = stored.map(|tensor| (tensor.name(), tensor)).collect();
    for node in std::mem::take(&mut graph.node) {
        match parts.take_apart(&node) {
            Some(()) => drop(found.insert(node.op_type().to_owned())),
            None => parts.nodes.push(node),
        }
    }
    let Parts { nodes, stored, .. } = parts;
    graph.node = nodes;
    graph.initializer.extend(stored);
    (model, found.into_iter().collect())
}

/// What the nodes become.
struct Parts<'a> {
    opset: i64,
    names: Names,
    constants: BTreeMap<&'a str, &'a TensorProto>,
    nodes: Vec<NodeProto>,
    stored: Vec<TensorProto>,
    /// Outputs of nodes that were made here, by operator and inputs: what several read is made
    /// once.
    known: BTreeMap<(&'static str, Vec<String>), Vec<String>>,
}

impl Parts<'_> {
    /// Puts other nodes in the place of `node`; nothing is done where it returns `None`.
    fn take_apart(&mut self, node: &NodeProto) -> Option<()> {
        let is_contrib = node.domain() == MICROSOFT;
        match node.op_type() {
            "FusedConv" if is_contrib => self.fused_conv(node),
            "FusedGemm" if is_contrib => self.fused_gemm(node),
            _ if is_contrib || canonical_domain(node.domain()).is_empty() => self.quantised(node),
            _ => None,
        }
    }

    /// `activation(Conv(X, W, B) + Z)`.
    fn fused_conv(&mut self, node: &NodeProto) -> Option<()> {
        const OWN: [&str; 2] = ["activation", "activation_params"];
        const ADDED: usize = 3;
        let kind = text(node, "activation");
        let given = attribute(node, "activation_params");
        let given = given.map_or(&[][..], |given| given.floats.as_slice());
        let weight = self.constants.get(input(node, 1));
        let dtype = weight.map(|tensor| DataType::from_code(tensor.data_type()))?;
        let mut attributes = Vec::new();
        let mut limits = Vec::new();
        match (kind.as_str(), given) {
            ("" | "Relu" | "Sigmoid" | "Tanh", _) => {}
            ("LeakyRelu", &[alpha]) => attributes.push(float("alpha", alpha)),
            ("HardSigmoid", &[alpha, beta]) => {
                attributes.extend([float("alpha", alpha), float("beta", beta)]);
            }
            ("Clip", &[low, high]) if self.opset < 11 => {
                attributes.extend([float("min", low), float("max", high)]);
            }
            ("Clip", &[low, high]) => limits.extend([low, high]),
            _ => return None,
        }
        let limits: Vec<String> = limits
            .into_iter()
            .map(|limit| self.number(limit, dtype))
            .collect::<Option<_>>()?;
        let conv = without(node, &OWN);
        let read = [input(node, 0), input(node, 1), input(node, 2)];
        let added = input(node, ADDED);
        let output = output(node, 0)?;
        let steps = usize::from(!added.is_empty()) + usize::from(!kind.is_empty());
        let (mut names, name) = (self.steps(output, steps), node.name());
        let mut made = names.next()?;
        self.push(("Conv", name), &read, &made, conv);
        if !added.is_empty() {
            let sum = names.next()?;
            self.push(("Add", ""), &[&made, added], &sum, vec![]);
            made = sum;
        }
        if !kind.is_empty() {
            let limits = limits.iter().map(String::as_str);
            let read: Vec<&str> = std::iter::once(made.as_str()).chain(limits).collect();
            self.push((&kind, ""), &read, &names.next()?, attributes);
        }
        Some(())
    }

    /// `activation(Gemm(A, B, C))`; the activation's attributes have its name before theirs.
    fn fused_gemm(&mut self, node: &NodeProto) -> Option<()> {
        const KNOWN: [&str; 10] = [
            "Elu",
            "HardSigmoid",
            "LeakyRelu",
            "Relu",
            "Selu",
            "Sigmoid",
            "Softplus",
            "Softsign",
            "Tanh",
            "ThresholdedRelu",
        ];
        const PREFIX: &str = "activation_";
        let kind = text(node, "activation");
        if !KNOWN.contains(&kind.as_str()) {
            return None;
        }
        let is_own = |attribute: &&AttributeProto| !attribute.name().starts_with("activation");
        let gemm = node.attribute.iter().filter(is_own).cloned().collect();
        let renamed = |attribute: &AttributeProto| {
            Some(AttributeProto {
                name: Some(attribute.name().strip_prefix(PREFIX)?.to_owned()),
                ..attribute.clone()
            })
        };
        let attributes = node.attribute.iter().filter_map(renamed).collect();
        let output = output(node, 0)?;
        let read = [input(node, 0), input(node, 1), input(node, 2)];
        let mut names = self.steps(output, 1);
        let made = names.next()?;
        self.push(("Gemm", node.name()), &read, &made, gemm);
        self.push((&kind, ""), &[&made], output, attributes);
        Some(())
    }

    /// Names of what is made one after the other: `steps` new ones, and `output`.
    fn steps(&mut self, output: &str, steps: usize) -> impl Iterator<Item = String> + use<> {
        let fresh: Vec<String> = (0..steps)
            .map(|_| self.names.fresh(&format!("{output}/inside")))
            .collect();
        fresh.into_iter().chain([output.to_owned()])
    }

    /// A node of the standard domain with its name, which is empty where it is new: no two may be
    /// alike.
    fn push(
        &mut self,
        (op, name): (&str, &str),
        inputs: &[&str],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) {
        self.push_with((op, name), inputs, vec![output.to_owned()], attributes);
    }

    fn push_with(
        &mut self,
        (op, name): (&str, &str),
        inputs: &[&str],
        outputs: Vec<String>,
        attributes: Vec<AttributeProto>,
    ) {
        let filled = inputs.iter().rposition(|name| !name.is_empty());
        let inputs = inputs.iter().take(filled.map_or(0, |last| last + 1));
        self.nodes.push(NodeProto {
            op_type: Some(op.to_owned()),
            name: (!name.is_empty()).then(|| name.to_owned()),
            input: inputs.map(|&name| name.to_owned()).collect(),
            output: outputs,
            attribute: attributes,
            ..Default::default()
        });
    }

    /// A constant of one number.
    fn number(&mut self, value: f32, dtype: DataType) -> Option<String> {
        let key = ("Clip", vec![format!("{value} {dtype}")]);
        if let Some([known]) = self.known.get(&key).map(Vec::as_slice) {
            return Some(known.clone());
        }
        let values = ndarray::arr0(f64::from(value)).into_dyn();
        let tensor = Tensor::from_f64(dtype, &values).ok()?;
        let name = self.store("limit", &tensor);
        self.known.insert(key, vec![name.clone()]);
        Some(name)
    }

    fn store(&mut self, base: &str, tensor: &Tensor) -> String {
        let name = self.names.fresh(base);
        self.stored.push(tensor.to_proto(&name));
        name
    }
}

fn input(node: &NodeProto, slot: usize) -> &str {
    node.input.get(slot).map_or("", String::as_str)
}

fn output(node: &NodeProto, slot: usize) -> Option<&str> {
    let name = node.output.get(slot)?.as_str();
    (!name.is_empty()).then_some(name)
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name() == name)
}

fn text(node: &NodeProto, name: &str) -> String {
    let found = attribute(node, name).and_then(|a| a.s.as_ref());
    found.map_or_else(String::new, |s| String::from_utf8_lossy(s).into_owned())
}

fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).and_then(|a| a.i).unwrap_or(default)
}

/// The node's attributes but those with these names.
fn without(node: &NodeProto, names: &[&str]) -> Vec<AttributeProto> {
    let stays = |a: &&AttributeProto| !names.contains(&a.name());
    node.attribute.iter().filter(stays).cloned().collect()
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Float as i32),
        f: Some(value),
        ..Default::default()
    }
}

fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..Default::default()
    }
}
