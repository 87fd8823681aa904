//! How many samples a model runs at a time, found out where its inputs leave that open.
//!
//! The batch of some models is open in name only: a number that their exporter left inside fixes
//! it.

use std::collections::BTreeMap;

use crate::graph::Graph;
use crate::onnx::Model;
use crate::onnx::proto::tensor_shape_proto::dimension::Value as Length;
use crate::onnx::proto::{ValueInfoProto, type_proto::Value};
use crate::ops;
use crate::pipeline::calibration::Calibration;
use crate::pipeline::samples::Samples;
use crate::pipeline::{Error, sizes, states};
use crate::report::Note;
use crate::runtime::{InputSpec, RuntimeError};

/// So many numbers that a model tells are tried.
const MOST_TOLD: usize = 8;
/// No model fixes its batch at more than this.
const LARGEST: usize = 4096;

/// Opens the samples in sizes and batches that the model takes. Where made-up images of the usual
/// sizes do not run, others are tried.
///
/// # Errors
/// The data cannot be opened, or nothing that was tried runs.
pub(super) fn open<T>(
    specs: &[InputSpec],
    calibration: &Calibration,
    told: &[usize],
    mut attempt: impl FnMut(&Samples) -> Result<T, Error>,
) -> Result<(Samples, T), Error> {
    let usual = of_size(specs, calibration, told, &mut attempt);
    if !usual.as_ref().is_err_and(is_of_run) {
        return usual;
    }
    for (other, sizes) in sizes::others(specs, calibration) {
        if let Ok((mut samples, found)) = of_size(specs, &other, told, &mut attempt) {
            samples.note(Note::from(format!(
                "the model does not run with images of the usual size: it gets {sizes} (fix it with `shape`)"
            )));
            return Ok((samples, found));
        }
    }
    usual
}

/// Opens the samples in batches that the model takes: of any number, or else of the first of some
/// numbers that `attempt` has no failure of the run with. `told` are numbers that may be the batch.
///
/// # Errors
/// The data cannot be opened, or no batch runs.
fn of_size<T>(
    specs: &[InputSpec],
    calibration: &Calibration,
    told: &[usize],
    mut attempt: impl FnMut(&Samples) -> Result<T, Error>,
) -> Result<(Samples, T), Error> {
    let mut sizes = Sizes::default();
    let inside = states::batches(specs, calibration);
    if inside.is_empty() {
        let mut samples = Samples::open(specs, calibration, None)?;
        // Two samples, so that the batch is not mistaken for an axis of length one; but not as many
        // as the model may be fixed at.
        let many = (2..).find(|size| !told.contains(size)).unwrap_or(2);
        samples.probe_with(many);
        match attempt(&samples) {
            Err(error) if samples.is_open() && is_of_run(&error) => sizes.failed(many, error),
            done => return done.map(|found| (samples, found)),
        }
    }
    let why = if inside.is_empty() {
        "leaves its batch open, but runs"
    } else {
        "has states of"
    };
    let own = calibration.batch.into_iter().chain(inside).chain([1]);
    for size in own.chain(told.iter().copied()) {
        if sizes.tried.contains(&size) {
            continue;
        }
        let calibration = states::sized(specs, calibration, size);
        let mut samples = match Samples::open(specs, &calibration, Some(size)) {
            Ok(samples) => samples,
            Err(error) => {
                sizes.lacks(size, error.into());
                continue;
            }
        };
        match attempt(&samples) {
            Ok(found) => {
                let note =
                    format!("the model {why} batches of {size} only: it gets {size} at a time");
                samples.note(note.into());
                return Ok((samples, found));
            }
            Err(error) if is_of_run(&error) => sizes.failed(size, error),
            Err(error) => return Err(error),
        }
    }
    Err(sizes.error())
}

/// Batches that were tried.
#[derive(Default)]
struct Sizes {
    tried: Vec<usize>,
    /// Of these, those that the data have too few samples for, or do not fit.
    lacking: Vec<usize>,
    first: Option<Error>,
    /// What was wrong with the data first.
    of_data: Option<Error>,
}

impl Sizes {
    fn failed(&mut self, size: usize, error: Error) {
        self.tried.push(size);
        self.first.get_or_insert(error);
    }

    fn lacks(&mut self, size: usize, error: Error) {
        self.tried.push(size);
        self.lacking.push(size);
        self.of_data.get_or_insert(error);
    }

    /// That no batch runs; where none could be tried, what is wrong with the data.
    fn error(self) -> Error {
        let text = |size: &usize| {
            if self.lacking.contains(size) {
                format!("{size}, for which the samples are too few")
            } else {
                size.to_string()
            }
        };
        let tried: Vec<String> = self.tried.iter().map(text).collect();
        match (self.first, self.of_data) {
            (None, Some(error)) => error,
            (first, _) => Error::NoBatch {
                error: Box::new(first.unwrap_or(Error::NoStatistics)),
                tried: tried.join(", "),
            },
        }
    }
}

fn is_of_run(error: &Error) -> bool {
    matches!(
        error,
        Error::NoBatch { .. } | Error::Runtime(RuntimeError::Run { .. })
    )
}

/// The numbers that may be the batch, the most frequent first: lengths of first axes in constant
/// target shapes and in the shapes that the file states.
pub(super) fn told(model: &Model, graph: &Graph) -> Vec<usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    let mut count = |first: Option<i64>| {
        let size = first.and_then(|size| usize::try_from(size).ok());
        if let Some(size) = size.filter(|size| (1..=LARGEST).contains(size)) {
            *counts.entry(size).or_default() += 1;
        }
    };
    let is_computed = |name: &str| {
        let value = graph.find(name).and_then(|id| graph.values.get(id));
        value.is_some_and(|value| !value.is_constant)
    };
    for &node in &graph.order {
        let view = graph.view(node);
        let made = view.output(0).and_then(|id| graph.values.get(id));
        let target = ops::target(view).filter(|_| made.is_some_and(|value| !value.is_constant));
        let sizes = target.and_then(|target| target.to_i64().ok());
        if let Some(&[first, _, ..]) = sizes.as_deref() {
            count(Some(first));
        }
    }
    if let Some(main) = &model.proto.graph {
        let stated = main.output.iter().chain(&main.value_info);
        stated
            .filter(|info| is_computed(info.name()))
            .for_each(|info| count(first_length(info)));
    }
    let mut sizes: Vec<(usize, usize)> = counts.into_iter().collect();
    sizes.sort_by_key(|&(size, count)| (std::cmp::Reverse(count), size));
    sizes.truncate(MOST_TOLD);
    sizes.into_iter().map(|(size, _)| size).collect()
}

/// The length that the file states of a tensor's first axis, where it has others.
fn first_length(info: &ValueInfoProto) -> Option<i64> {
    let Some(Value::TensorType(tensor)) = &info.r#type.as_ref()?.value else {
        return None;
    };
    match tensor.shape.as_ref()?.dim.as_slice() {
        [first, _, ..] => match first.value {
            Some(Length::DimValue(length)) => Some(length),
            _ => None,
        },
        _ => None,
    }
}
