//! A part of a model as a model of its own: from the values that earlier subgraphs left to those
//! that are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::data::Batch;
use crate::graph::{Graph, ValueId};
use crate::onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::onnx::{DataType, Model, Tensor};
use crate::ops;
use crate::runtime::{Runtime, RuntimeError, Session};
use crate::subgraph::{Schedule, SubgraphError, Track};
use crate::taps::{self, Placed};

/// One subgraph, ready to be opened.
pub(crate) struct Subgraph<'a> {
    model: Model,
    graph: &'a Graph,
    /// What it is fed, and what it leaves.
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    /// Of `outputs`, those that the model itself reads.
    passed: Vec<ValueId>,
    taps: Vec<String>,
    expected: Vec<Expected>,
    /// Nodes before those of the taps.
    untapped: usize,
}

/// A tensor that taps read, and the shape that they count on.
struct Expected {
    value: ValueId,
    shape: Vec<usize>,
    /// The axis of the channels.
    axis: usize,
    /// The name of the output that tells its shape.
    output: String,
}

impl Expected {
    /// What taps count on, each once.
    fn of(graph: &Graph, taps: &[Placed]) -> Vec<Expected> {
        let mut all: BTreeMap<(ValueId, Vec<usize>), usize> = BTreeMap::new();
        for placed in taps {
            all.insert(placed.reads(graph), placed.tap.axis);
        }
        let expected = all.into_iter().enumerate();
        let expected = expected.map(|(number, ((value, shape), axis))| Expected {
            value,
            shape,
            axis,
            output: format!("onnx-mipp/shape{number}"),
        });
        expected.collect()
    }

    /// Whether a tensor of that shape has the channels, and all positions of rows. Where samples
    /// lie along other axes than the first, there may be more.
    fn fits(&self, found: &[usize]) -> bool {
        let axes = self.shape.iter().zip(found).enumerate().skip(1);
        let mut long_enough = axes.map(|(axis, (expected, found))| {
            if axis == self.axis {
                found == expected
            } else {
                found >= expected
            }
        });
        found.len() == self.shape.len() && long_enough.all(|is_enough| is_enough)
    }

    /// Compares it with what was found.
    fn check(&self, graph: &Graph, found: &Tensor) -> Result<(), SubgraphError> {
        let lengths = found.to_i64().unwrap_or_default();
        let lengths = lengths.iter().map(|&n| usize::try_from(n).unwrap_or(0));
        let found: Vec<usize> = lengths.collect();
        if self.fits(&found) {
            return Ok(());
        }
        let expected = self.shape.clone();
        Err(SubgraphError::shape(graph, self.value, expected, found))
    }
}

impl<'a> Subgraph<'a> {
    /// The subgraph of `model` at a level of its schedule, with taps.
    pub fn new(
        model: &Model,
        graph: &'a Graph,
        schedule: &Schedule,
        level: usize,
        taps: Vec<Placed>,
    ) -> Self {
        let ends = (schedule.inputs(level), schedule.outputs(level));
        Subgraph::between(model.clone(), graph, ends, taps)
    }

    /// The part of `model` from values that wait to values that will, with taps.
    pub fn between(
        mut model: Model,
        graph: &'a Graph,
        (inputs, outputs): (&[ValueId], &[ValueId]),
        taps: Vec<Placed>,
    ) -> Self {
        let name = |value: &ValueId| graph.values[*value].name.as_str();
        let (passed, outputs): (Vec<_>, Vec<_>) = outputs
            .iter()
            .partition(|&&value| graph.values[value].producer.is_none());
        // A tensor that waited is not made again on its positions.
        let waited = |placed: &Placed| inputs.contains(&placed.tap.value);
        let taps: Vec<Placed> = taps
            .into_iter()
            .map(|placed| Placed {
                pointwise: placed.pointwise.filter(|_| !waited(&placed)),
                ..placed
            })
            .collect();
        let expected = Expected::of(graph, &taps);
        let sources = taps.iter().map(|placed| name(&placed.tap.value));
        let ends: Vec<&str> = outputs.iter().map(name).chain(sources).collect();
        let stops = inputs.iter().map(|value| (name(value), *value)).collect();
        let inputs = cut_out(&mut model, graph, &ends, &stops);
        let mut untapped = 0;
        if let Some(main) = model.proto.graph.as_mut() {
            main.output = outputs
                .iter()
                .map(|value| ops::build::bare_output(name(value)))
                .collect();
            for told in &expected {
                let source = &graph.values[told.value].name;
                main.node.push(ops::build::shape_node(source, &told.output));
            }
            untapped = main.node.len();
            for placed in &taps {
                taps::append(main, graph, placed);
            }
            let told = expected.iter().map(|told| told.output.as_str());
            main.output.extend(told.map(ops::build::bare_output));
        }
        Subgraph {
            expected,
            untapped,
            model,
            graph,
            inputs,
            outputs,
            passed,
            taps: taps.into_iter().map(|placed| placed.output).collect(),
        }
    }

    /// Opens it for runs beside which other work is done.
    pub fn open_beside(self, runtime: &'a Runtime) -> Result<OpenSubgraph<'a>, SubgraphError> {
        self.open_with(runtime, Runtime::session_beside)
    }

    /// Opens it for runs that have the cores for themselves.
    pub fn open(self, runtime: &'a Runtime) -> Result<OpenSubgraph<'a>, SubgraphError> {
        self.open_with(runtime, Runtime::session)
    }

    fn open_with(
        self,
        runtime: &'a Runtime,
        session: impl Fn(&Runtime, &Model) -> Result<Session, RuntimeError>,
    ) -> Result<OpenSubgraph<'a>, SubgraphError> {
        let is_empty = self.outputs.is_empty() && self.taps.is_empty();
        let session = (!is_empty).then(|| session(runtime, &self.model));
        Ok(OpenSubgraph {
            session: session.transpose()?,
            subgraph: self,
            runtime,
        })
    }
}

impl Subgraph<'_> {
    /// Runs what taps read, without the taps, where a run failed: a tensor of another shape than
    /// they count on is the error to tell.
    fn check_shapes(&self, runtime: &Runtime, feeds: &Batch) -> Result<(), SubgraphError> {
        let mut model = self.model.clone();
        if let Some(main) = model.proto.graph.as_mut() {
            // Without optimisation all nodes run, whether they are asked for or not.
            main.node.truncate(self.untapped);
            let outputs = self.expected.iter();
            main.output = outputs
                .map(|told| ops::build::bare_output(&told.output))
                .collect();
        }
        let names: Vec<String> = self.expected.iter().map(|t| t.output.clone()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let Ok(found) = runtime
            .session_once(&model)
            .and_then(|mut session| session.run(feeds, &names))
        else {
            return Ok(());
        };
        let mut all = self.expected.iter().zip(&found);
        all.try_for_each(|(told, shape)| told.check(self.graph, shape))
    }
}

/// What a subgraph computes of a batch.
pub(crate) struct Computed {
    /// What it leaves.
    pub made: BTreeMap<ValueId, Tensor>,
    /// What its taps gather, in their order.
    pub gathered: Vec<Tensor>,
}

/// An open subgraph.
pub(crate) struct OpenSubgraph<'a> {
    /// None where there is nothing to compute.
    session: Option<Session>,
    subgraph: Subgraph<'a>,
    runtime: &'a Runtime,
}

impl OpenSubgraph<'_> {
    /// Runs it and checks the shapes of what taps read.
    fn checked(&mut self, feeds: &Batch) -> Result<Vec<Tensor>, SubgraphError> {
        let Some(session) = &mut self.session else {
            return Ok(Vec::new());
        };
        let Subgraph {
            graph, expected, ..
        } = &self.subgraph;
        let left = self.subgraph.outputs.iter();
        let mut names: Vec<String> = left.map(|&v| graph.values[v].name.clone()).collect();
        names.extend_from_slice(&self.subgraph.taps);
        let count = names.len();
        names.extend(expected.iter().map(|told| told.output.clone()));
        let mut found = match session.run(feeds, &names) {
            Ok(found) => found,
            Err(error) => {
                self.subgraph.check_shapes(self.runtime, feeds)?;
                return Err(error.into());
            }
        };
        for (told, shape) in expected.iter().zip(found.split_off(count)) {
            told.check(graph, &shape)?;
        }
        Ok(found)
    }

    /// What it makes of the values that `read` has, and what its taps gather at the positions of
    /// `feeds`.
    pub fn compute(
        &mut self,
        mut feeds: Batch,
        mut read: impl FnMut(ValueId) -> io::Result<Option<Tensor>>,
    ) -> Result<Computed, SubgraphError> {
        let graph = self.subgraph.graph;
        for &value in &self.subgraph.inputs {
            let tensor = read(value)?;
            // A missing one is named by the session's own error.
            feeds.extend(tensor.map(|tensor| (graph.values[value].name.clone(), tensor)));
        }
        let mut found = self.checked(&feeds)?;
        let gathered = found.split_off(self.subgraph.outputs.len().min(found.len()));
        let values = self.subgraph.outputs.iter().copied();
        Ok(Computed {
            made: values.zip(found).collect(),
            gathered,
        })
    }

    /// What it reads of the values that were given to it.
    pub fn inputs(&self) -> &[ValueId] {
        &self.subgraph.inputs
    }

    /// Runs one batch, puts what later subgraphs read in the cache and returns what the taps
    /// gather. `batch` has the model's inputs where this is the first subgraph.
    pub fn run(
        &mut self,
        track: &mut Track,
        number: usize,
        batch: Option<&Batch>,
        feeds: Batch,
    ) -> Result<Vec<Tensor>, SubgraphError> {
        let graph = self.subgraph.graph;
        let given = |value: ValueId| {
            let name = &graph.values[value].name;
            let found = batch?.iter().find(|(input, _)| input == name)?;
            Some(found.1.clone())
        };
        let computed = self.compute(feeds, |value| match given(value) {
            Some(tensor) => Ok(Some(tensor)),
            None => track.cache.get(number, value),
        })?;
        track.cache.open(number);
        for (value, tensor) in computed.made {
            track.cache.put(number, value, tensor)?;
        }
        for &value in &self.subgraph.passed {
            if let Some(tensor) = given(value) {
                track.cache.put(number, value, tensor)?;
            }
        }
        Ok(computed.gathered)
    }
}

/// Errs where a model lacks one of the values.
pub(crate) fn has_all(
    model: &Model,
    graph: &Graph,
    values: impl IntoIterator<Item = ValueId>,
) -> Result<(), SubgraphError> {
    let main = model.proto.graph.iter();
    let made = main.clone().flat_map(|main| &main.node);
    let made = made.flat_map(|node| &node.output).map(String::as_str);
    let given = main.flat_map(|main| &main.input).map(|input| input.name());
    let names: BTreeSet<&str> = made.chain(given).collect();
    let lacking = |value: &ValueId| !names.contains(graph.values[*value].name.as_str());
    match values.into_iter().find(lacking) {
        None => Ok(()),
        Some(value) => Err(SubgraphError::missing(graph, value)),
    }
}

fn cut_out(
    model: &mut Model,
    graph: &Graph,
    ends: &[&str],
    stops: &BTreeMap<&str, ValueId>,
) -> Vec<ValueId> {
    let Some(main) = model.proto.graph.as_mut() else {
        return Vec::new();
    };
    let inputs: Vec<ValueId> = reduce(main, ends, stops).into_iter().collect();
    main.input = inputs.iter().map(|&value| declared(graph, value)).collect();
    inputs
}

/// Leaves what `ends` need and `stops` do not give; returns the stops that are read.
fn reduce(
    main: &mut GraphProto,
    ends: &[&str],
    stops: &BTreeMap<&str, ValueId>,
) -> BTreeSet<ValueId> {
    let mut maker = BTreeMap::new();
    for (index, node) in main.node.iter().enumerate() {
        maker.extend(node.output.iter().map(|name| (name.as_str(), index)));
    }
    let mut wanted = vec![false; main.node.len()];
    let mut read = BTreeSet::new();
    let mut names: BTreeSet<String> = ends.iter().map(|&end| end.to_owned()).collect();
    let mut open: Vec<String> = names.iter().cloned().collect();
    while let Some(name) = open.pop() {
        if let Some(&value) = stops.get(name.as_str()) {
            read.insert(value);
            continue;
        }
        let Some(&index) = maker.get(name.as_str()) else {
            continue;
        };
        if !std::mem::replace(&mut wanted[index], true) {
            let mut used = Vec::new();
            names_read(&main.node[index], &mut used);
            open.extend(
                used.iter()
                    .filter(|name| names.insert((*name).clone()))
                    .cloned(),
            );
        }
    }
    let mut flags = wanted.into_iter();
    main.node.retain(|_| flags.next().unwrap_or(false));
    main.initializer
        .retain(|stored| names.contains(stored.name()));
    main.sparse_initializer.retain(|sparse| {
        let name = sparse.values.as_ref().map(|values| values.name());
        name.is_some_and(|name| names.contains(name))
    });
    main.value_info.clear();
    main.quantization_annotation.clear();
    read
}

/// All names that a node or its subgraphs read.
fn names_read(node: &NodeProto, names: &mut Vec<String>) {
    names.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            names.extend(graph.output.iter().map(|output| output.name().to_owned()));
            for node in &graph.node {
                names_read(node, names);
            }
        }
    }
}

/// A graph input of the value's type and rank, of free lengths. Only counts keep theirs, the number
/// of axes that they tell of: ONNX's inference takes a list of sizes of unknown length for an empty
/// one.
fn declared(graph: &Graph, value: ValueId) -> ValueInfoProto {
    let value = &graph.values[value];
    let code = value.dtype.map_or(0, DataType::code);
    let length = |&length: &usize| i64::try_from(length).ok().filter(|_| value.is_count);
    let shape = value.shape.as_ref();
    let shape: Option<Vec<_>> = shape.map(|shape| shape.iter().map(length).collect());
    ops::build::tensor_input(&value.name, code, shape.as_deref())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::groups::{Consumer, Groups, Scope};
    use crate::runtime::RuntimeOptions;
    use crate::shapes::probe;
    use crate::taps::Tap;

    /// What a run tells where a tap counts on so many channels more than there are, in a tensor of
    /// 16 or more.
    fn told(change: impl Fn(usize) -> usize) -> Result<Vec<Tensor>, SubgraphError> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/resnet_folded_torchscript.onnx"
        );
        let model = crate::onnx::load(path.as_ref()).unwrap();
        let mut graph = ops::graph(&model).unwrap();
        let runtime = Runtime::start(&RuntimeOptions::default()).unwrap();
        let values = (0..2 * 28 * 28).map(|i| (i % 17) as f32).collect();
        let image = Tensor::from_f32(&[2, 1, 28, 28], values).unwrap();
        let feeds = vec![("input".to_owned(), image)];
        probe(&model, &mut graph, &runtime, &feeds).unwrap();
        let groups = Groups::find(&graph, Scope::default(), &ops::RULES);
        let mut consumers = groups.consumers.iter();
        let consumer = consumers.find(|consumer| consumer.axis == 1 && consumer.window.is_some());
        let Consumer { input, .. } = *consumer.unwrap();
        let tap = Tap {
            value: input,
            axis: 1,
            window: None,
            covered: 1,
            stack: None,
        };
        let mut placed = Placed::new(&graph, tap, 0).unwrap();
        assert!(placed.channels >= 16);
        placed.channels = change(placed.channels);
        placed.shape[1] = placed.channels;
        let draw = placed.draw(3, 1, None).unwrap();
        let positions = vec![(placed.positions.clone(), draw.places.tensor)];
        let first = vec![graph.find("input").unwrap()];
        let mut track = Track::new(Schedule::new(&graph, &[vec![input]]), 0);
        let subgraph = Subgraph::between(model, &graph, (&first, &[]), vec![placed]);
        let mut open = subgraph.open(&runtime)?;
        open.run(&mut track, 0, Some(&feeds), positions)
    }

    #[test]
    fn a_tensor_of_another_shape_is_named() {
        assert_eq!(told(|channels| channels).unwrap()[0].shape[2], 3);
        // Twice and half as many divide what is there, so that a Reshape would not fail.
        for change in [|n| n - 1, |n| n / 2, |n| 2 * n] {
            let error = told(change).unwrap_err();
            let SubgraphError::Shape {
                tensor,
                node,
                expected,
                found,
            } = &error
            else {
                panic!("{error}");
            };
            assert!(!tensor.is_empty() && !node.is_empty(), "{error}");
            assert_eq!(expected[1], change(found[1]));
        }
    }
}
