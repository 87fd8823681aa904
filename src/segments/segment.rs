//! A part of a model as a model of its own: from the values that earlier segments left to those that
//! are asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::calibrate::Batch;
use crate::calibrate::tap::{self, Placed};
use crate::graph::{Graph, ValueId};
use crate::onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::onnx::{DataType, Model, Tensor};
use crate::ops;
use crate::runtime::{Runtime, Session};
use crate::segments::{Schedule, SegmentError, Track};

/// One segment, ready to be opened.
pub(crate) struct Segment<'a> {
    model: Model,
    graph: &'a Graph,
    /// What it is fed, and what it leaves.
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    /// Of `outputs`, those that the model itself reads.
    passed: Vec<ValueId>,
    taps: Vec<String>,
}

impl<'a> Segment<'a> {
    /// The segment of `model` at a level of its schedule, with taps.
    pub fn new(
        model: &Model,
        graph: &'a Graph,
        schedule: &Schedule,
        level: usize,
        taps: Vec<Placed>,
    ) -> Self {
        let ends = (schedule.inputs(level), schedule.outputs(level));
        Segment::between(model, graph, ends, taps)
    }

    /// The part of `model` from values that wait to values that will, with taps.
    pub fn between(
        model: &Model,
        graph: &'a Graph,
        (inputs, outputs): (&[ValueId], &[ValueId]),
        taps: Vec<Placed>,
    ) -> Self {
        let name = |value: &ValueId| graph.values[*value].name.as_str();
        let (passed, outputs): (Vec<_>, Vec<_>) = outputs
            .iter()
            .partition(|&&value| graph.values[value].producer.is_none());
        let sources = taps.iter().map(|placed| name(&placed.tap.value));
        let ends: Vec<&str> = outputs.iter().map(name).chain(sources).collect();
        let stops = inputs.iter().map(|value| (name(value), *value)).collect();
        let mut model = model.clone();
        let inputs = cut_out(&mut model, graph, &ends, &stops);
        if let Some(main) = model.proto.graph.as_mut() {
            main.output = outputs
                .iter()
                .map(|value| ops::build::bare_output(name(value)))
                .collect();
            for placed in &taps {
                tap::append(main, graph, placed);
            }
        }
        Segment {
            model,
            graph,
            inputs,
            outputs,
            passed,
            taps: taps.into_iter().map(|placed| placed.output).collect(),
        }
    }

    /// Opens it in ONNX Runtime.
    pub fn open(self, runtime: &Runtime) -> Result<Open<'a>, SegmentError> {
        let is_empty = self.outputs.is_empty() && self.taps.is_empty();
        let session = if is_empty {
            None
        } else {
            Some(runtime.session_beside(&self.model)?)
        };
        Ok(Open {
            session,
            segment: self,
        })
    }
}

/// An open segment.
pub(crate) struct Open<'a> {
    /// None where there is nothing to compute.
    session: Option<Session>,
    segment: Segment<'a>,
}

impl Open<'_> {
    /// Runs one batch, puts what later segments read on the shelf and returns what the taps gather.
    /// `batch` has the model's inputs where this is the first segment.
    pub fn run(
        &mut self,
        track: &mut Track,
        number: usize,
        batch: Option<&Batch>,
        mut feeds: Batch,
    ) -> Result<Vec<Tensor>, SegmentError> {
        let graph = self.segment.graph;
        let given = |value: ValueId| {
            let name = &graph.values[value].name;
            let found = batch?.iter().find(|(input, _)| input == name)?;
            Some(found.1.clone())
        };
        for &value in &self.segment.inputs {
            let tensor = match given(value) {
                Some(tensor) => Some(tensor),
                None => track.shelf.get(number, value)?,
            };
            // A missing one is named by the session's own error.
            feeds.extend(tensor.map(|tensor| (graph.values[value].name.clone(), tensor)));
        }
        let left = self.segment.outputs.iter();
        let mut names: Vec<String> = left.map(|&v| graph.values[v].name.clone()).collect();
        names.extend_from_slice(&self.segment.taps);
        let mut found = match &mut self.session {
            Some(session) => session.run(&feeds, &names)?,
            None => Vec::new(),
        };
        let taps = found.split_off(self.segment.outputs.len());
        track.shelf.open(number);
        for (&value, tensor) in self.segment.outputs.iter().zip(found) {
            track.shelf.put(number, value, tensor)?;
        }
        for &value in &self.segment.passed {
            if let Some(tensor) = given(value) {
                track.shelf.put(number, value, tensor)?;
            }
        }
        Ok(taps)
    }
}

/// The part of a model that makes `ends` from the values `from`, which become its inputs where it reads
/// them; returns these.
pub(crate) fn part(
    model: &mut Model,
    graph: &Graph,
    ends: &[ValueId],
    from: &[ValueId],
) -> Vec<ValueId> {
    let name = |value: &ValueId| graph.values[*value].name.as_str();
    let names: Vec<&str> = ends.iter().map(name).collect();
    let stops = from.iter().map(|value| (name(value), *value)).collect();
    let inputs = cut_out(model, graph, &names, &stops);
    if let Some(main) = model.proto.graph.as_mut() {
        main.output = names.into_iter().map(ops::build::bare_output).collect();
    }
    inputs
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

/// A graph input of the value's type and rank, of free lengths. Only counts keep theirs, the number of
/// axes that they tell of: ONNX's inference takes a list of sizes of unknown length for an empty one.
fn declared(graph: &Graph, value: ValueId) -> ValueInfoProto {
    let value = &graph.values[value];
    let code = value.dtype.map_or(0, DataType::code);
    let length = |&length: &usize| i64::try_from(length).ok().filter(|_| value.is_count);
    let shape = value.shape.as_ref();
    let shape: Option<Vec<_>> = shape.map(|shape| shape.iter().map(length).collect());
    ops::build::tensor_input(&value.name, code, shape.as_deref())
}
