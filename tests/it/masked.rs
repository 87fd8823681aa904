//! The truth about a cut: the dense model with the removed channels multiplied by zero where
//! they are read, run in ONNX Runtime. It knows nothing of how weights are laid out or cut.

use crate::builder::open;
use onnx_mipp::allowance::Allowance;
use onnx_mipp::data::Batch;
use onnx_mipp::graph::{Graph, NodeId, ValueId};
use onnx_mipp::groups::{Consumer, Group, Groups, Kept, Scope};
use onnx_mipp::onnx::{DataType, Model, Tensor, decode, proto::*};
use onnx_mipp::ops;
use onnx_mipp::runtime::{Device, InputSpec, Runtime, RuntimeOptions};
use onnx_mipp::shapes::{infer, probe};
use onnx_mipp::surgery::{self, Repaired};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::OnceLock;

/// The largest difference that rounding may make, relative to the output's scale.
const TOLERANCE: f64 = 1e-4;
/// Batch of the run that shows the shapes, and of the comparison.
const PROBED: usize = 2;
const COMPARED: usize = 3;

pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let options = RuntimeOptions {
            device: Device::Cpu,
            threads: Some(1),
            ..Default::default()
        };
        Runtime::start(&options)
            .expect("the tests need ONNX Runtime: set ORT_DYLIB_PATH to its library")
    })
}

/// How far the outputs move, relative to their scale.
#[derive(Debug)]
pub struct Effect {
    of_inputs: f64,
    of_cut: f64,
}

impl Effect {
    /// Whether a wrong cut could be told from a right one.
    pub fn is_enough(&self, stays: &[bool]) -> bool {
        let enough = 10.0 * TOLERANCE;
        self.of_inputs > enough && (self.of_cut > enough || !stays.contains(&false))
    }
}

/// A model with what the graph stages found in it.
pub struct Found {
    pub model: Model,
    pub graph: Graph,
    pub groups: Groups,
    /// Whether all of that could be told without a run.
    pub is_inferred: bool,
}

/// Takes a model through the file format and the stages up to the groups.
pub fn find(proto: ModelProto) -> Found {
    find_with(proto, Scope::default())
}

/// The same where more may leave.
pub fn find_with(proto: ModelProto, scope: Scope) -> Found {
    let bytes = Model { proto }.encode().unwrap();
    let model = decode(bytes.into(), None).unwrap();
    let mut graph = ops::graph(&model).unwrap();
    let shown = batch(&model, PROBED, 1);
    probe(&model, &mut graph, runtime(), &shown).unwrap();
    let is_inferred = infers(&model, &graph, &shown);
    let groups = Groups::find(&graph, scope, &ops::RULES);
    Found {
        model,
        graph,
        groups,
        is_inferred,
    }
}

/// Whether all is known without a run; what is, must be what a run showed.
pub fn infers(model: &Model, probed: &Graph, shown: &Batch) -> bool {
    let specs: Vec<InputSpec> = shown.iter().map(spec_of).collect();
    let mut graph = ops::graph(model).unwrap();
    let most = Allowance::of_megabytes(4000);
    if !infer(model, &mut graph, runtime(), &specs, most).unwrap() {
        return false;
    }
    for (told, seen) in graph.values.iter().zip(&probed.values) {
        if seen.is_used() && seen.shape.is_some() {
            assert_eq!(told.shape, seen.shape, "shape of {}", seen.name);
            assert_eq!(told.dtype, seen.dtype, "type of {}", seen.name);
        }
        assert_eq!(told.constant, seen.constant, "constant {}", seen.name);
        assert_eq!(told.observed, seen.observed, "count {}", seen.name);
    }
    true
}

fn spec_of((name, tensor): &(String, Tensor)) -> InputSpec {
    InputSpec {
        name: name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.iter().copied().map(Some).collect(),
    }
}

/// Random data for the model's inputs.
pub fn batch(model: &Model, count: usize, seed: u64) -> Batch {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let session = runtime().session(model).unwrap();
    let tensor = |spec: onnx_mipp::runtime::InputSpec| {
        assert_eq!(spec.dtype, DataType::Float, "input {}", spec.name);
        let shape: Vec<usize> = spec.shape.iter().map(|s| s.unwrap_or(count)).collect();
        let values = (0..shape.iter().product()).map(|_| random.random_range(-1.7..1.7));
        let tensor = Tensor::from_f32(&shape, values.collect()).unwrap();
        (spec.name, tensor)
    };
    session.inputs().into_iter().map(tensor).collect()
}

/// All outputs, one after the other.
pub fn run(model: &Model, batch: &Batch) -> Vec<Tensor> {
    let mut session = runtime()
        .session(model)
        .unwrap_or_else(|e| panic!("ONNX Runtime refuses the model: {e}"));
    let outputs = session.outputs();
    let tensors = session.run(batch, &outputs);
    tensors.unwrap_or_else(|e| panic!("ONNX Runtime cannot run the model: {e}"))
}

/// The largest difference of two runs, relative to the largest output.
pub fn distance(left: &[Tensor], right: &[Tensor]) -> f64 {
    assert_eq!(left.len(), right.len());
    let pair = |(left, right): (&Tensor, &Tensor)| {
        assert_eq!(left.shape, right.shape, "the outputs' shapes");
        let (left, right) = (left.to_f64().unwrap(), right.to_f64().unwrap());
        assert!(left.iter().chain(&right).all(|v| v.is_finite()));
        let scale = left.iter().fold(1e-30, |m: f64, v| m.max(v.abs()));
        let largest = left
            .iter()
            .zip(&right)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        largest / scale
    };
    left.iter().zip(right).map(pair).fold(0.0, f64::max)
}

impl Found {
    /// Widths of the groups that may be pruned.
    pub fn free(&self) -> Vec<usize> {
        let free = self.groups.groups.iter().filter(|g| g.frozen.is_empty());
        free.map(|g| g.channels.len()).collect()
    }

    /// Widths of the frozen groups, each with its reasons.
    pub fn frozen(&self) -> Vec<(usize, Vec<String>)> {
        let frozen = self.groups.groups.iter().filter(|g| !g.frozen.is_empty());
        let texts = |group: &Group| group.frozen.iter().map(|r| r.text.clone()).collect();
        frozen.map(|g| (g.channels.len(), texts(g))).collect()
    }

    /// Whether some group is frozen for a reason that holds this text.
    pub fn is_frozen_by(&self, width: usize, part: &str) -> bool {
        self.frozen()
            .iter()
            .any(|(w, texts)| *w == width && texts.iter().any(|text| text.contains(part)))
    }

    /// Removes the channels of each free group at the positions that `leaves` names; the first
    /// position that it would leave without a channel stays.
    pub fn plan(&self, mut leaves: impl FnMut(usize, usize) -> bool) -> Vec<bool> {
        let mut stays = vec![true; self.groups.channel_count];
        for (number, group) in self.groups.groups.iter().enumerate() {
            if !group.frozen.is_empty() {
                continue;
            }
            let kept: Vec<bool> = (0..group.channels.len())
                .map(|at| !leaves(number, at))
                .collect();
            let none = kept.iter().all(|&stays| !stays);
            for (at, &channel) in group.channels.iter().enumerate() {
                stays[channel] = kept[at] || none && at == 0;
            }
        }
        stays
    }

    /// The cut at a fixed plan: every third position leaves, beginning with the first.
    pub fn check(&self) -> Model {
        let stays = self.plan(|_, at| at % 3 == 0);
        assert!(stays.contains(&false), "the plan removes something");
        self.check_plan(&stays)
    }

    /// Cuts the model and compares it with the truth; returns it.
    pub fn check_plan(&self, stays: &[bool]) -> Model {
        let (pruned, effect) = self.compare(stays);
        assert!(effect.is_enough(stays), "nothing is tested: {effect:?}");
        pruned
    }

    /// Cuts the model without repair.
    pub fn cut(&self, stays: &[bool]) -> Model {
        let repaired = Repaired::default();
        let pruned = surgery::prune(&self.model, &self.graph, &self.groups, stays, &repaired);
        let pruned = pruned.unwrap_or_else(|error| panic!("surgery: {error}"));
        pruned.check().unwrap();
        self.check_interface(&pruned);
        self.check_shapes(&pruned, &Kept::new(&self.groups, stays));
        pruned
    }

    /// Cuts the model down to the channels `keep` of its one free group of that width and compares
    /// it with `reference`, a model that was made without the others.
    pub fn check_against(&self, width: usize, keep: &[usize], reference: ModelProto) {
        let is_it = |group: &Group| group.frozen.is_empty() && group.channels.len() == width;
        let groups = &self.groups.groups;
        let place = groups.iter().position(is_it);
        let place = place.unwrap_or_else(|| panic!("free: {:?} {:?}", self.free(), self.frozen()));
        let pruned = self.cut(&self.plan(|group, at| group == place && !keep.contains(&at)));
        let data = batch(&self.model, COMPARED, 2);
        let [dense, ours] = [&self.model, &pruned].map(|model| run(model, &data));
        let truth = run(&Model { proto: reference }, &data);
        let error = distance(&truth, &ours);
        assert!(error <= TOLERANCE, "differs from the truth by {error:e}");
        let effect = distance(&dense, &truth);
        assert!(effect > 10.0 * TOLERANCE, "nothing is tested: {effect:e}");
    }

    /// Cuts the model and compares it with the truth; tells what that comparison is worth.
    pub fn compare(&self, stays: &[bool]) -> (Model, Effect) {
        let pruned = self.cut(stays);
        let kept = Kept::new(&self.groups, stays);
        let data = batch(&self.model, COMPARED, 2);
        let dense = run(&self.model, &data);
        let other = run(&self.model, &batch(&self.model, COMPARED, 3));
        let truth = run(&self.masked(&kept), &data);
        let ours = run(&pruned, &data);
        let error = distance(&truth, &ours);
        assert!(error <= TOLERANCE, "differs from the truth by {error:e}");
        if stays.contains(&false) {
            assert!(
                elements(&pruned) < elements(&self.model),
                "nothing got smaller"
            );
        } else {
            assert_eq!(pruned, self.model, "nothing left, so nothing changes");
        }
        let effect = Effect {
            of_inputs: distance(&dense, &other),
            of_cut: distance(&dense, &truth),
        };
        (pruned, effect)
    }

    fn check_interface(&self, pruned: &Model) {
        let (before, after) = (
            self.model.proto.graph.as_ref().unwrap(),
            pruned.proto.graph.as_ref().unwrap(),
        );
        assert_eq!(before.output, after.output);
        let data = |graph: &GraphProto| -> Vec<ValueInfoProto> {
            let is_data =
                |info: &&ValueInfoProto| graph.initializer.iter().all(|t| t.name() != info.name());
            graph.input.iter().filter(is_data).cloned().collect()
        };
        assert_eq!(data(before), data(after));
    }

    /// Every tensor has the shape that the groups say.
    fn check_shapes(&self, pruned: &Model, kept: &Kept<'_>) {
        let mut graph = ops::graph(pruned).unwrap();
        let shown = batch(pruned, PROBED, 1);
        probe(pruned, &mut graph, runtime(), &shown).unwrap();
        for (id, before) in self.graph.values.entries() {
            let (Some(shape), Some(after)) = (&before.shape, graph.find(&before.name)) else {
                continue;
            };
            if before.constant.is_some() {
                continue;
            }
            let expected: Vec<usize> = shape
                .iter()
                .enumerate()
                .map(|(axis, &length)| kept.length(id, axis, length))
                .collect();
            let found = graph.values[after].shape.as_ref();
            assert_eq!(found, Some(&expected), "shape of {}", before.name);
        }
    }

    /// The node that reads the value for a consumer: itself, or a quantiser before it.
    fn reader(&self, consumer: &Consumer, value: ValueId) -> NodeId {
        let reads = |node: &NodeId| self.graph.nodes[*node].inputs.contains(&Some(value));
        let inputs = self.graph.nodes[consumer.node].inputs.iter().flatten();
        let makers = inputs.filter_map(|&input| self.graph.values[input].producer);
        let mut nodes = std::iter::once(consumer.node).chain(makers);
        nodes.find(reads).unwrap()
    }

    /// The dense model with a mask before every consumer of channels that left.
    fn masked(&self, kept: &Kept<'_>) -> Model {
        let mut model = self.model.clone();
        let main = model.proto.graph.as_mut().unwrap();
        let mut masks = Vec::new();
        for (number, consumer) in self.groups.consumers.iter().enumerate() {
            let Some(map) = self.groups.read_by(consumer) else {
                continue;
            };
            // What a recurrent node reads of its own output cannot be masked, but its weight can.
            let is_own = self.graph.values[consumer.input].producer == Some(consumer.node);
            let (read, axis) = if is_own {
                let inputs = &self.graph.nodes[consumer.node].inputs;
                (inputs[consumer.weight].unwrap(), consumer.layout.in_axis)
            } else {
                (consumer.input, consumer.axis)
            };
            let value = &self.graph.values[read];
            let mut shape = vec![1; value.shape.as_ref().unwrap().len()];
            shape[axis] = map.len();
            let mask = map.iter().map(|&c| f64::from(u8::from(kept.has(c))));
            let mask = ndarray::ArrayD::from_shape_vec(shape.clone(), mask.collect()).unwrap();
            let mask = Tensor::from_f64(value.dtype.unwrap_or(DataType::Float), &mask).unwrap();
            let (left, right) = (format!("mask{number}"), format!("masked{number}"));
            main.initializer.push(mask.to_proto(&left));
            if model.proto.ir_version.unwrap() < 4 {
                main.input.push(open(&left, shape.len()));
            }
            let reader = self.reader(consumer, read);
            for input in &mut main.node[reader.index()].input {
                if *input == value.name {
                    input.clone_from(&right);
                }
            }
            let node = NodeProto {
                op_type: Some("Mul".to_owned()),
                name: Some(right.clone()),
                input: vec![value.name.clone(), left],
                output: vec![right],
                ..Default::default()
            };
            masks.push((reader, node));
        }
        masks.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        for (at, node) in masks {
            main.node.insert(at.index(), node);
        }
        model
    }
}

/// Elements of the constants that nodes read, counted once for each reading.
fn elements(model: &Model) -> i64 {
    let main = model.proto.graph.as_ref().unwrap();
    let constants = main.node.iter().flat_map(|node| {
        let tensors = node.attribute.iter().filter_map(|a| a.t.as_ref());
        tensors.map(|tensor| (node.output[0].as_str(), tensor))
    });
    let stored = main
        .initializer
        .iter()
        .map(|tensor| (tensor.name(), tensor));
    let count = |(name, tensor): (&str, &TensorProto)| {
        let inputs = main.node.iter().flat_map(|node| &node.input);
        let uses = inputs.filter(|input| *input == name).count() as i64;
        uses * tensor.dims.iter().product::<i64>()
    };
    stored.chain(constants).map(count).sum()
}
