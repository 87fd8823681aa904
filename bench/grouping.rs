//! How the time for finding groups grows with nodes and channels, on generated graphs:
//! `cargo run --release --example grouping`. No model is run; shapes are told.

use std::time::Instant;

use onnx_mipp::groups::{Groups, Scope};
use onnx_mipp::onnx::proto::attribute_proto::AttributeType;
use onnx_mipp::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};
use onnx_mipp::onnx::{Model, Tensor};
use onnx_mipp::ops;
use onnx_mipp::report;

/// Batch, height and width of every tensor.
const SIZES: [usize; 3] = [2, 8, 8];
const OPSET: i64 = 17;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!("| nodes | channels | groups | graph (ms) | groups (ms) | report (ms) |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for (nodes, channels) in [
        (1_000, 64),
        (2_500, 64),
        (5_000, 64),
        (10_000, 64),
        (10_000, 128),
        (10_000, 256),
    ] {
        measure(nodes, channels)?;
    }
    Ok(())
}

fn measure(nodes: usize, channels: usize) -> Result<(), Failure> {
    let maker = Maker::of(nodes, channels)?;
    let count = maker.graph.node.len();
    let proto = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            version: Some(OPSET),
            ..Default::default()
        }],
        graph: Some(maker.graph),
        ..Default::default()
    };
    let model = Model { proto };
    // The best of three: other programs run, too.
    let mut best = [f64::INFINITY; 3];
    let mut found = 0;
    for _ in 0..3 {
        let began = Instant::now();
        let mut graph = ops::graph(&model)?;
        for (name, shape) in &maker.shapes {
            graph.observe_shape(name, shape.clone());
        }
        let built = began.elapsed();
        let groups = Groups::find(&graph, Scope::default(), &ops::RULES);
        let grouped = began.elapsed();
        let inspection = report::inspect(&graph, &groups);
        let times = [built, grouped - built, began.elapsed() - grouped];
        for (best, time) in best.iter_mut().zip(times) {
            *best = best.min(1e3 * time.as_secs_f64());
        }
        found = inspection.groups.len();
    }
    let [built, grouped, told] = best;
    println!("| {count} | {channels} | {found} | {built:.0} | {grouped:.0} | {told:.0} |");
    Ok(())
}

/// A graph in the making: residual blocks, squeeze and excite, depthwise convolutions, shuffles.
struct Maker {
    graph: GraphProto,
    shapes: Vec<(String, Vec<usize>)>,
    channels: usize,
}

impl Maker {
    fn of(nodes: usize, channels: usize) -> Result<Self, Failure> {
        let mut maker = Maker {
            graph: GraphProto::default(),
            shapes: Vec::new(),
            channels,
        };
        let named = |name: &str| ValueInfoProto {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        maker.graph.input.push(named("x"));
        maker.shapes.push(("x".to_owned(), maker.shape()));
        for (name, length) in [("scale", channels), ("shift", channels)] {
            maker.store(name, &[length])?;
        }
        maker.target("split", &[0, 2, channels as i64 / 2, 8, 8])?;
        maker.target("join", &[0, channels as i64, 8, 8])?;
        let mut stream = maker.conv("x", 1)?;
        while maker.graph.node.len() + 1 < nodes {
            stream = maker.block(&stream)?;
        }
        let last = maker.conv(&stream, 1)?;
        maker.graph.output.push(named(&last));
        Ok(maker)
    }

    /// Eighteen nodes; every eighth block starts a stream of its own.
    fn block(&mut self, input: &str) -> Result<String, Failure> {
        let made = self.conv(input, 1)?;
        let made = self.norm(&made)?;
        let made = self.plain("Relu", &[&made]);
        let made = self.conv(&made, self.channels)?;
        let made = self.norm(&made)?;
        let made = self.plain("Relu", &[&made]);
        let gate = self.node("GlobalAveragePool", &[&made], self.pooled(), vec![]);
        let gate = self.conv_of(&gate, 1, true)?;
        let gate = self.node("Sigmoid", &[&gate], self.pooled(), vec![]);
        let made = self.plain("Mul", &[&made, &gate]);
        let split = [SIZES[0], 2, self.channels / 2, SIZES[1], SIZES[2]].to_vec();
        let apart = self.node("Reshape", &[&made, "split"], split, vec![]);
        let turned = [SIZES[0], self.channels / 2, 2, SIZES[1], SIZES[2]].to_vec();
        let perm = ints("perm", &[0, 2, 1, 3, 4]);
        let turned = self.node("Transpose", &[&apart], turned, vec![perm]);
        let made = self.plain("Reshape", &[&turned, "join"]);
        let made = self.conv(&made, 1)?;
        let made = self.norm(&made)?;
        if self.graph.node.len() / 18 % 8 == 7 {
            return Ok(self.plain("Relu", &[&made]));
        }
        let sum = self.plain("Add", &[input, &made]);
        Ok(self.plain("Relu", &[&sum]))
    }

    fn shape(&self) -> Vec<usize> {
        vec![SIZES[0], self.channels, SIZES[1], SIZES[2]]
    }

    fn pooled(&self) -> Vec<usize> {
        vec![SIZES[0], self.channels, 1, 1]
    }

    fn store(&mut self, name: &str, shape: &[usize]) -> Result<String, Failure> {
        let tensor = Tensor::from_f32(shape, vec![0.5; shape.iter().product()])?;
        self.graph.initializer.push(tensor.to_proto(name));
        Ok(name.to_owned())
    }

    fn target(&mut self, name: &str, sizes: &[i64]) -> Result<(), Failure> {
        let tensor = Tensor::from_i64(&[sizes.len()], sizes)?;
        self.graph.initializer.push(tensor.to_proto(name));
        Ok(())
    }

    fn conv(&mut self, input: &str, group: usize) -> Result<String, Failure> {
        self.conv_of(input, group, false)
    }

    fn conv_of(&mut self, input: &str, group: usize, pooled: bool) -> Result<String, Failure> {
        let name = format!("w{}", self.graph.node.len());
        let weight = self.store(&name, &[self.channels, self.channels / group, 1, 1])?;
        let shape = if pooled { self.pooled() } else { self.shape() };
        let group = AttributeProto {
            name: Some("group".to_owned()),
            r#type: Some(AttributeType::Int as i32),
            i: Some(group as i64),
            ..Default::default()
        };
        Ok(self.node("Conv", &[input, &weight], shape, vec![group]))
    }

    fn norm(&mut self, input: &str) -> Result<String, Failure> {
        let inputs = [input, "scale", "shift", "shift", "scale"];
        Ok(self.plain("BatchNormalization", &inputs))
    }

    fn plain(&mut self, op: &str, inputs: &[&str]) -> String {
        let shape = self.shape();
        self.node(op, inputs, shape, vec![])
    }

    fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        shape: Vec<usize>,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let name = format!("v{}", self.graph.node.len());
        self.graph.node.push(NodeProto {
            name: Some(name.clone()),
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            attribute,
            ..Default::default()
        });
        self.shapes.push((name.clone(), shape));
        name
    }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints as i32),
        ints: ints.to_vec(),
        ..Default::default()
    }
}
