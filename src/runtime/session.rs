//! Open models.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ort::session::{OutputSelector, RunOptions};
use ort::value::{Outlet, ValueType};

use super::values;
use super::{RuntimeError, Stop};
use crate::onnx::proto::{self, tensor_shape_proto::dimension::Value as Length, type_proto::Value};
use crate::onnx::{DataType, Model, Tensor};
use crate::outputs::Workspace;

/// What a model's input accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// The input's name.
    pub name: String,
    /// Its element type.
    pub dtype: DataType,
    /// The sizes of its axes; `None` where the model leaves the size open.
    pub shape: Vec<Option<usize>>,
}

impl InputSpec {
    /// What a tensor of that name is.
    #[must_use]
    pub fn of((name, tensor): &(String, Tensor)) -> InputSpec {
        InputSpec {
            name: name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.iter().copied().map(Some).collect(),
        }
    }

    /// The inputs that a model's file states; `None` where one of them is no plain tensor, so that
    /// ONNX Runtime has to say what it is.
    #[must_use]
    pub fn stated(model: &Model) -> Option<Vec<InputSpec>> {
        let graph = model.proto.graph.as_ref()?;
        let stored: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
        let inputs = graph.input.iter().filter(|i| !stored.contains(i.name()));
        inputs.map(stated).collect()
    }
}

fn stated(info: &proto::ValueInfoProto) -> Option<InputSpec> {
    let Some(Value::TensorType(tensor)) = &info.r#type.as_ref()?.value else {
        return None;
    };
    let length = |dim: &proto::tensor_shape_proto::Dimension| match dim.value {
        Some(Length::DimValue(length)) => usize::try_from(length).ok(),
        _ => None,
    };
    Some(InputSpec {
        name: info.name().to_owned(),
        dtype: Some(DataType::from_code(tensor.elem_type?))
            .filter(|dtype| !matches!(dtype, DataType::Other(_)))?,
        shape: tensor.shape.as_ref()?.dim.iter().map(length).collect(),
    })
}

/// An open model.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    inputs: Vec<InputSpec>,
    outputs: Vec<String>,
    /// The outputs' element types; `None` for what is no tensor of numbers or booleans.
    output_dtypes: Vec<Option<DataType>>,
    /// The outputs' types and shapes, as ONNX Runtime writes them.
    output_types: Vec<String>,
    /// The files of a large model, removed with the session.
    pub(super) _folder: Option<Workspace>,
    stop: Stop,
}

impl Session {
    pub(super) fn new(
        inner: ort::session::Session,
        folder: Option<Workspace>,
        stop: Stop,
    ) -> Result<Session, RuntimeError> {
        let inputs = inner.inputs().iter().map(input_spec);
        Ok(Session {
            inputs: inputs.collect::<Result<_, _>>()?,
            outputs: inner.outputs().iter().map(|o| o.name().into()).collect(),
            output_dtypes: inner.outputs().iter().map(element_type).collect(),
            output_types: inner
                .outputs()
                .iter()
                .map(|o| format!("{} {}", o.name(), o.dtype()))
                .collect(),
            inner,
            _folder: folder,
            stop,
        })
    }

    /// The model's inputs, in its order.
    pub fn inputs(&self) -> Vec<InputSpec> {
        self.inputs.clone()
    }

    /// The names of the model's outputs, in its order.
    pub fn outputs(&self) -> Vec<String> {
        self.outputs.clone()
    }

    /// Name and element type of each output that is a tensor of numbers or booleans.
    pub fn output_dtypes(&self) -> impl Iterator<Item = (String, DataType)> {
        let all = self.outputs.iter().zip(&self.output_dtypes);
        all.filter_map(|(name, dtype)| Some((name.clone(), (*dtype)?)))
    }

    /// Name and shape of each output that is a tensor of a shape that is known. A tensor of which
    /// not even the number of axes is known looks like a scalar: no shape is given for either.
    pub fn output_shapes(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        self.inner.outputs().iter().filter_map(|outlet| {
            let ValueType::Tensor { shape, .. } = outlet.dtype() else {
                return None;
            };
            let sizes = shape.iter().map(|size| usize::try_from(*size).ok());
            let sizes = sizes.collect::<Option<Vec<usize>>>()?;
            (!sizes.is_empty()).then(|| (outlet.name().to_owned(), sizes))
        })
    }

    /// Name, type and shape of each output, as text to compare and to show.
    pub fn output_types(&self) -> Vec<String> {
        self.output_types.clone()
    }

    /// Whether another model has these outputs: their names, element types and lengths, as far as
    /// ONNX Runtime tells these of both. A tensor of which not even the number of axes is known
    /// looks like a scalar.
    pub fn has_outputs_of(&self, other: &Session) -> bool {
        let (own, others) = (self.inner.outputs(), other.inner.outputs());
        let is_same = |(own, other): (&Outlet, &Outlet)| {
            let is_alike = match (own.dtype(), other.dtype()) {
                (
                    ValueType::Tensor { ty, shape, .. },
                    ValueType::Tensor {
                        ty: other_type,
                        shape: other_shape,
                        ..
                    },
                ) => {
                    let mut lengths = shape.iter().zip(other_shape.iter());
                    let told = !shape.is_empty() && !other_shape.is_empty();
                    let fits = lengths.all(|(own, other)| own == other || *own < 0 || *other < 0);
                    ty == other_type && (!told || shape.len() == other_shape.len() && fits)
                }
                (own, other) => own == other,
            };
            own.name() == other.name() && is_alike
        };
        own.len() == others.len() && own.iter().zip(others).all(is_same)
    }

    /// Runs the model on `inputs` (by name, any order) and returns the tensors of `outputs`, in the
    /// order asked for; only these are fetched.
    ///
    /// # Errors
    /// When a [`Stop`] was used, an input is missing, unknown or of another type, an output is
    /// unknown or no tensor, or ONNX Runtime fails.
    pub fn run(
        &mut self,
        inputs: &[(String, Tensor)],
        outputs: &[String],
    ) -> Result<Vec<Tensor>, RuntimeError> {
        let copy = |held: Tensor| Tensor {
            bytes: Bytes::copy_from_slice(&held.bytes),
            ..held
        };
        let found = self.run_held(inputs, outputs)?.into_iter();
        Ok(found.map(copy).collect())
    }

    /// The same without a copy: the tensors, as long as they live, hold this session's memory.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_held(
        &mut self,
        inputs: &[(String, Tensor)],
        outputs: &[String],
    ) -> Result<Vec<Tensor>, RuntimeError> {
        if self.stop.is_stopped() {
            return Err(RuntimeError::Stopped);
        }
        self.check(inputs, outputs)?;
        let fed = inputs
            .iter()
            .map(|(name, tensor)| Ok((name.as_str(), values::feed(name, tensor)?)))
            .collect::<Result<Vec<_>, RuntimeError>>()?;
        let mut selected = OutputSelector::no_default();
        for name in outputs {
            selected = selected.with(name);
        }
        let is_open = |spec: &InputSpec| spec.shape.iter().skip(1).any(Option::is_none);
        let advice = if self.inputs.iter().any(is_open) {
            "; the model leaves sizes open: fix them with `shape` or give `calibration`"
        } else {
            ""
        };
        let failed = |error: ort::Error| {
            let problem = error.to_string();
            let advice = if is_of_memory(&problem) {
                OUT_OF_MEMORY
            } else {
                advice
            };
            RuntimeError::Run { problem, advice }
        };
        let options = RunOptions::new().map_err(failed)?.with_outputs(selected);
        let found = self.inner.run_with_options(fed, &options).map_err(failed)?;
        found
            .into_iter()
            .map(|(name, value)| values::fetch(name, value))
            .collect()
    }

    /// Ends the profiling that this session was opened with and returns the profile's file.
    pub(super) fn end_profiling(&mut self) -> Result<String, RuntimeError> {
        let ended = self.inner.end_profiling();
        ended.map_err(|error| RuntimeError::Profile {
            problem: error.to_string(),
        })
    }

    fn check(&self, inputs: &[(String, Tensor)], outputs: &[String]) -> Result<(), RuntimeError> {
        let value = |what, name: &str, expected: String, found: String| RuntimeError::Value {
            what,
            name: name.into(),
            expected,
            found,
        };
        let given = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let given: BTreeMap<&str, &Tensor> = given.collect();
        for spec in &self.inputs {
            let Some(tensor) = given.get(spec.name.as_str()) else {
                let fed: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
                let expected = "a tensor for it".into();
                return Err(value(
                    "input",
                    &spec.name,
                    expected,
                    format!("only {fed:?}"),
                ));
            };
            let fits = tensor.dtype == spec.dtype
                && tensor.shape.len() == spec.shape.len()
                && tensor
                    .shape
                    .iter()
                    .zip(&spec.shape)
                    .all(|(n, s)| s.is_none_or(|s| s == *n));
            if !fits {
                let expected = format!("{} {}", spec.dtype, shape_text(&spec.shape));
                let found = format!("{} {:?}", tensor.dtype, tensor.shape);
                return Err(value("input", &spec.name, expected, found));
            }
        }
        let own: BTreeSet<&str> = self.inputs.iter().map(|spec| spec.name.as_str()).collect();
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !own.contains(name.as_str())) {
            let names: Vec<&str> = self.inputs.iter().map(|spec| spec.name.as_str()).collect();
            let expected = format!("one of the model's inputs {names:?}");
            return Err(value("input", name, expected, "another name".into()));
        }
        let known: BTreeSet<&String> = self.outputs.iter().collect();
        if let Some(name) = outputs.iter().find(|name| !known.contains(name)) {
            let expected = format!("one of the model's outputs {:?}", self.outputs);
            return Err(value("output", name, expected, "another name".into()));
        }
        Ok(())
    }
}

const OUT_OF_MEMORY: &str = "; this asks for more memory than the run may take (`memory_limit`, by default half \
    of the machine's memory): allow more, or run fewer samples at a time (`batch`)";

/// Whether ONNX Runtime's words are of memory that it did not get.
fn is_of_memory(problem: &str) -> bool {
    [
        "bad_alloc",
        "bad allocation",
        "Failed to allocate memory",
        "out of memory",
    ]
    .iter()
    .any(|words| problem.contains(words))
}

/// A shape as text, `[N, 3, 224, 224]` with `?` for open sizes and `N` for an open batch.
pub(crate) fn shape_text(shape: &[Option<usize>]) -> String {
    let sizes = shape.iter().enumerate().map(|(axis, size)| match size {
        Some(size) => size.to_string(),
        None if axis == 0 => "N".into(),
        None => "?".into(),
    });
    format!("[{}]", sizes.collect::<Vec<_>>().join(", "))
}

fn element_type(outlet: &Outlet) -> Option<DataType> {
    match outlet.dtype() {
        ValueType::Tensor { ty, .. } => values::data_type(*ty),
        _ => None,
    }
}

fn input_spec(outlet: &Outlet) -> Result<InputSpec, RuntimeError> {
    let unsupported = || RuntimeError::Value {
        what: "input",
        name: outlet.name().into(),
        expected: "a tensor of numbers or booleans".into(),
        found: outlet.dtype().to_string(),
    };
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(unsupported());
    };
    Ok(InputSpec {
        name: outlet.name().into(),
        dtype: values::data_type(*ty).ok_or_else(unsupported)?,
        shape: shape
            .iter()
            .map(|size| usize::try_from(*size).ok())
            .collect(),
    })
}
