//! What a rule for gradients reads and gives: the reverse mode of automatic differentiation, with
//! nodes of the model's own format.

use crate::onnx::proto::{AttributeProto, NodeProto, attribute_proto};
use crate::onnx::{DataType, Names, Tensor};

/// What is added to a model so that it makes gradients, too.
pub struct BackwardGraph {
    /// The nodes, each after those that make its inputs.
    pub nodes: Vec<NodeProto>,
    /// Constants that they read, by name.
    pub constants: Vec<(String, Tensor)>,
    names: Names,
}

impl BackwardGraph {
    /// Nothing yet, for a model in which these names are taken.
    pub(crate) fn new(names: Names) -> Self {
        BackwardGraph {
            nodes: Vec::new(),
            constants: Vec::new(),
            names,
        }
    }

    /// Adds a node of the standard domain; returns the name of its output.
    pub fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[Attribute<'_>],
    ) -> String {
        let [made] = self.nodes_of(operator, inputs, attributes);
        made
    }

    /// The same for a node of several outputs.
    pub fn nodes_of<const N: usize>(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[Attribute<'_>],
    ) -> [String; N] {
        let made: [String; N] = std::array::from_fn(|_| self.names.fresh("onnx-mipp/backward"));
        self.nodes.push(NodeProto {
            op_type: Some(operator.to_owned()),
            name: made.first().cloned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: made.to_vec(),
            attribute: attributes
                .iter()
                .copied()
                .map(Attribute::to_proto)
                .collect(),
            ..Default::default()
        });
        made
    }

    /// Adds one number; returns its name.
    pub fn number(&mut self, value: f64) -> String {
        self.constant(Tensor {
            dtype: DataType::Float,
            shape: Vec::new(),
            bytes: (value as f32).to_le_bytes().to_vec().into(),
        })
    }

    /// Adds a constant; returns its name.
    pub fn constant(&mut self, tensor: Tensor) -> String {
        let name = self.names.fresh("onnx-mipp/backward/constant");
        self.constants.push((name.clone(), tensor));
        name
    }
}

/// An attribute of a node.
#[derive(Debug, Clone, Copy)]
pub enum Attribute<'a> {
    /// An integer.
    Int(&'a str, i64),
    /// A list of integers.
    Ints(&'a str, &'a [i64]),
    /// A number.
    Float(&'a str, f32),
    /// A text.
    Text(&'a str, &'a str),
}

impl Attribute<'_> {
    fn to_proto(self) -> AttributeProto {
        use attribute_proto::AttributeType;
        let mut made = AttributeProto::default();
        let (name, kind) = match self {
            Attribute::Int(name, int) => {
                made.i = Some(int);
                (name, AttributeType::Int)
            }
            Attribute::Ints(name, ints) => {
                made.ints = ints.to_vec();
                (name, AttributeType::Ints)
            }
            Attribute::Float(name, float) => {
                made.f = Some(float);
                (name, AttributeType::Float)
            }
            Attribute::Text(name, text) => {
                made.s = Some(text.as_bytes().to_vec().into());
                (name, AttributeType::String)
            }
        };
        made.name = Some(name.to_owned());
        made.r#type = Some(kind as i32);
        made
    }
}

/// One node on the way back: the gradients of its outputs, which of its inputs' are wanted, and
/// those that its rule gives.
pub struct Backward<'a> {
    /// Where the rule adds its nodes.
    pub graph: &'a mut BackwardGraph,
    /// Per output, the name of its gradient, where anything depends on it.
    pub outputs: &'a [Option<String>],
    wanted: &'a [bool],
    given: Vec<(usize, String)>,
}

impl<'a> Backward<'a> {
    /// For a node whose `outputs` have these gradients, of which those of the `wanted` inputs are
    /// asked for.
    pub fn new(
        graph: &'a mut BackwardGraph,
        outputs: &'a [Option<String>],
        wanted: &'a [bool],
    ) -> Self {
        Backward {
            graph,
            outputs,
            wanted,
            given: Vec::new(),
        }
    }

    /// The gradient of the first output.
    #[must_use]
    pub fn output(&self) -> Option<&'a str> {
        self.outputs.first()?.as_deref()
    }

    /// Whether the gradient of an input is asked for.
    #[must_use]
    pub fn wants(&self, slot: usize) -> bool {
        self.wanted.get(slot).copied().unwrap_or(false)
    }

    /// Gives the gradient of an input, which has the input's shape.
    pub fn give(&mut self, slot: usize, gradient: String) {
        self.given.push((slot, gradient));
    }

    /// What was given, by slot.
    #[must_use]
    pub fn given(self) -> Vec<(usize, String)> {
        self.given
    }
}
