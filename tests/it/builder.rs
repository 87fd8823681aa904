//! A tiny builder of ONNX models: named nodes, seeded random weights, open batch.

use onnx_mipp::onnx::{Tensor, proto::*};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Element types of the format.
pub const FLOAT: i32 = 1;
pub const INT64: i64 = 7;

/// A model in the making. Methods that add something return its name.
pub struct Builder {
    pub opset: i64,
    pub ir: i64,
    pub graph: GraphProto,
    domains: Vec<&'static str>,
    random: ChaCha8Rng,
    next: usize,
}

impl Builder {
    pub fn new(opset: i64) -> Self {
        Builder::seeded(opset, 7)
    }

    pub fn seeded(opset: i64, seed: u64) -> Self {
        Builder {
            opset,
            ir: if opset < 9 { 3 } else { 8 },
            graph: GraphProto {
                name: Some("main".to_owned()),
                ..Default::default()
            },
            domains: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
            next: 0,
        }
    }

    /// A float input with an open batch before the axes of `shape`.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> String {
        self.input_of(name, FLOAT, shape)
    }

    pub fn input_of(&mut self, name: &str, elem_type: i32, shape: &[usize]) -> String {
        let mut info = open(name, shape.len() + 1);
        for (dim, &length) in dims(&mut info)[1..].iter_mut().zip(shape) {
            *dim = size(length);
        }
        dims(&mut info)[0].value = Some(Length::DimParam("N".to_owned()));
        tensor_type(&mut info).elem_type = Some(elem_type);
        self.graph.input.push(info);
        name.to_owned()
    }

    /// Makes a float value of that rank an output of the model.
    pub fn output(&mut self, name: &str, rank: usize) {
        self.output_of(name, FLOAT, rank);
    }

    pub fn output_of(&mut self, name: &str, elem_type: i32, rank: usize) {
        let mut info = open(name, rank);
        tensor_type(&mut info).elem_type = Some(elem_type);
        self.graph.output.push(info);
    }

    /// A node with one output, whose name is that of the node.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.nodes(op, inputs, 1, attributes).remove(0)
    }

    /// A node with `count` outputs.
    pub fn nodes(
        &mut self,
        op: &str,
        inputs: &[&str],
        count: usize,
        attributes: Vec<AttributeProto>,
    ) -> Vec<String> {
        let name = self.fresh(&op.to_lowercase());
        let outputs: Vec<String> = match count {
            1 => vec![name.clone()],
            _ => (0..count).map(|i| format!("{name}.{i}")).collect(),
        };
        self.graph.node.push(NodeProto {
            name: Some(name),
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: outputs.clone(),
            attribute: attributes,
            ..Default::default()
        });
        outputs
    }

    /// Gives the last node another domain.
    pub fn in_domain(&mut self, domain: &'static str) {
        self.last().domain = Some(domain.to_owned());
        if !self.domains.contains(&domain) {
            self.domains.push(domain);
        }
    }

    pub fn last(&mut self) -> &mut NodeProto {
        self.graph.node.last_mut().unwrap()
    }

    /// An initializer of values in `low..high`.
    pub fn uniform(&mut self, shape: &[usize], low: f32, high: f32) -> String {
        let count = shape.iter().product();
        let values = (0..count).map(|_| self.draw(low, high)).collect();
        self.floats(shape, values)
    }

    /// A value in `low..high`.
    pub fn draw(&mut self, low: f32, high: f32) -> f32 {
        self.random.random_range(low..high)
    }

    /// A weight whose sums over `fan` inputs stay of the size of the inputs.
    pub fn weight(&mut self, shape: &[usize], fan: usize) -> String {
        let bound = (3.0 / fan as f32).sqrt() * 1.3;
        self.uniform(shape, -bound, bound)
    }

    pub fn floats(&mut self, shape: &[usize], values: Vec<f32>) -> String {
        self.store(&Tensor::from_f32(shape, values).unwrap())
    }

    /// A one-dimensional int64 initializer.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.store(&Tensor::from_i64(&[values.len()], values).unwrap())
    }

    /// An int64 scalar.
    pub fn index(&mut self, value: i64) -> String {
        self.store(&Tensor::from_i64(&[], &[value]).unwrap())
    }

    pub fn store(&mut self, tensor: &Tensor) -> String {
        let name = self.fresh("c");
        self.graph.initializer.push(tensor.to_proto(&name));
        name
    }

    /// Moves an initializer into a Constant node.
    pub fn as_constant_node(&mut self, name: &str) {
        let stored = &mut self.graph.initializer;
        let at = stored.iter().position(|t| t.name() == name).unwrap();
        let tensor = stored.remove(at);
        let node = NodeProto {
            name: Some(format!("{name}_node")),
            op_type: Some("Constant".to_owned()),
            output: vec![name.to_owned()],
            attribute: vec![AttributeProto {
                name: Some("value".to_owned()),
                r#type: Some(attribute_proto::AttributeType::Tensor as i32),
                t: Some(tensor),
                ..Default::default()
            }],
            ..Default::default()
        };
        self.graph.node.insert(0, node);
    }

    /// A convolution with random weights and a bias; `attributes` may set `group`.
    pub fn conv(
        &mut self,
        input: &str,
        shape: [usize; 4],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let weight = self.weight(&shape, shape[1] * shape[2] * shape[3]);
        let bias = self.uniform(&[shape[0]], -0.3, 0.3);
        self.node("Conv", &[input, &weight, &bias], attributes)
    }

    /// A convolution of kernel 1 with a bias.
    pub fn pointwise(&mut self, input: &str, inputs: usize, outputs: usize) -> String {
        self.conv(input, [outputs, inputs, 1, 1], vec![])
    }

    pub fn finish(self) -> ModelProto {
        let import = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        let mut imports = vec![import("", self.opset)];
        imports.extend(self.domains.iter().map(|domain| import(domain, 1)));
        ModelProto {
            ir_version: Some(self.ir),
            opset_import: imports,
            graph: Some(self.graph),
            ..Default::default()
        }
    }

    fn fresh(&mut self, base: &str) -> String {
        self.next += 1;
        format!("{base}{}", self.next)
    }
}

type Length = tensor_shape_proto::dimension::Value;

fn size(length: usize) -> tensor_shape_proto::Dimension {
    tensor_shape_proto::Dimension {
        value: Some(Length::DimValue(length as i64)),
        ..Default::default()
    }
}

/// A float value with `rank` open axes.
pub fn open(name: &str, rank: usize) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(FLOAT),
                shape: Some(TensorShapeProto {
                    dim: vec![Default::default(); rank],
                }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A float value of a fixed shape.
pub fn stated(name: &str, shape: &[usize]) -> ValueInfoProto {
    let mut info = open(name, shape.len());
    *dims(&mut info) = shape.iter().map(|&length| size(length)).collect();
    info
}

/// The lengths that a value states, where they are numbers.
pub fn lengths(info: &ValueInfoProto) -> Vec<Option<usize>> {
    let mut info = info.clone();
    let length = |dim: &tensor_shape_proto::Dimension| match dim.value {
        Some(Length::DimValue(length)) => usize::try_from(length).ok(),
        _ => None,
    };
    dims(&mut info).iter().map(length).collect()
}

pub fn tensor_type(info: &mut ValueInfoProto) -> &mut type_proto::Tensor {
    match info.r#type.as_mut().unwrap().value.as_mut().unwrap() {
        type_proto::Value::TensorType(tensor) => tensor,
        _ => panic!("a tensor"),
    }
}

/// The axes of a value's stated shape.
pub fn dims(info: &mut ValueInfoProto) -> &mut Vec<tensor_shape_proto::Dimension> {
    &mut tensor_type(info).shape.as_mut().unwrap().dim
}

fn attribute(name: &str, kind: attribute_proto::AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    let mut made = attribute(name, attribute_proto::AttributeType::Int);
    made.i = Some(i);
    made
}

pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let mut made = attribute(name, attribute_proto::AttributeType::Ints);
    made.ints = ints.to_vec();
    made
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    let mut made = attribute(name, attribute_proto::AttributeType::Float);
    made.f = Some(f);
    made
}

pub fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    let mut made = attribute(name, attribute_proto::AttributeType::Floats);
    made.floats = floats.to_vec();
    made
}

pub fn text(name: &str, s: &str) -> AttributeProto {
    let mut made = attribute(name, attribute_proto::AttributeType::String);
    made.s = Some(s.to_owned().into());
    made
}

pub fn subgraph(name: &str, graph: GraphProto) -> AttributeProto {
    let mut made = attribute(name, attribute_proto::AttributeType::Graph);
    made.g = Some(graph);
    made
}
