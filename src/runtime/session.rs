//! The loaded library, the device it runs on, and open models.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider};
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{OutputSelector, RunOptions};
use ort::value::{Outlet, ValueType};
use prost::Message;

use super::RuntimeError;
use super::values;
use crate::onnx::{self, DataType, Model, Tensor, proto};

/// Models of this many bytes and more are opened from files: protobuf refuses 2 GB, and ONNX
/// Runtime reads tensors from files beside the model without that limit.
const MEMORY_LIMIT: usize = (1 << 31) - (1 << 24);

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first CUDA device when it can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this id, and an error when it cannot be used.
    Cuda(u32),
}

impl FromStr for Device {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|id| id.parse().ok())
                .filter(|id| i32::try_from(*id).is_ok())
                .map(Device::Cuda)
                .ok_or_else(|| RuntimeError::UnknownDevice { found: text.into() }),
        }
    }
}

/// How to start ONNX Runtime.
#[derive(Debug, Clone, Default)]
pub struct RuntimeOptions {
    /// The library or its folder (--onnxruntime); `None`: the usual places, see [`super::locate`].
    pub library: Option<PathBuf>,
    /// Where models run.
    pub device: Device,
    /// Threads within an operator; `None`: one per core that this process may use.
    pub threads: Option<usize>,
}

/// The loaded ONNX Runtime library and the device in use.
#[derive(Debug)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
    version: String,
    cuda: Option<u32>,
    device: String,
    threads: usize,
    notes: Vec<String>,
}

/// ONNX Runtime allows one library and one environment per process. It stays until the process ends.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

impl Runtime {
    /// Finds and loads the library and makes sure that the device works. Several runtimes may be
    /// started in one process when they use the same library.
    ///
    /// # Errors
    /// When no usable library is found, or a CUDA device is asked for and cannot be used.
    pub fn start(options: &RuntimeOptions) -> Result<Runtime, RuntimeError> {
        let library = super::locate(options.library.as_deref())?;
        let environment = load(&library)?;
        let mut runtime = Runtime {
            version: version(),
            environment,
            library,
            cuda: None,
            device: "CPU".into(),
            threads: options.threads.unwrap_or_else(|| {
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
            }),
            notes: Vec::new(),
        };
        match options.device {
            Device::Cpu => {}
            Device::Auto => match runtime.probe_cuda(0) {
                Ok(()) => runtime.use_cuda(0),
                Err(problem) => runtime.notes.push(format!("runs on the CPU: {problem}")),
            },
            Device::Cuda(id) => match runtime.probe_cuda(id) {
                Ok(()) => runtime.use_cuda(id),
                Err(problem) => {
                    return Err(RuntimeError::Cuda {
                        id,
                        library: runtime.library,
                        problem,
                    });
                }
            },
        }
        Ok(runtime)
    }

    fn use_cuda(&mut self, id: u32) {
        self.cuda = Some(id);
        self.device = format!("CUDA:{id}");
    }

    /// The device really used: "CPU" or "CUDA:0".
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What the user should know, such as why `Device::Auto` runs on the CPU.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The library's version, such as "1.31.1"; "unknown" when it does not tell.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The library's file.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Opens a model: from memory when it is smaller than 2 GB, else through a temporary folder
    /// that lives as long as the session.
    ///
    /// # Errors
    /// When ONNX Runtime refuses the model, or the temporary folder cannot be written.
    pub fn session(&self, model: &Model) -> Result<Session, RuntimeError> {
        if model.byte_size() < MEMORY_LIMIT {
            let mut builder = self.builder(self.cuda).map_err(open_error)?;
            let bytes = model.encode().map_err(open_error)?;
            let inner = builder.commit_from_memory(&bytes).map_err(open_error)?;
            return Session::new(inner, None);
        }
        self.open_from_files(model)
    }

    fn open_from_files(&self, model: &Model) -> Result<Session, RuntimeError> {
        let mut builder = self.builder(self.cuda).map_err(open_error)?;
        let folder = tempfile::tempdir().map_err(|source| RuntimeError::Io {
            action: "create a temporary folder in",
            path: std::env::temp_dir(),
            source,
        })?;
        let path = folder.path().join("model.onnx");
        onnx::save(model, &path).map_err(open_error)?;
        let inner = builder.commit_from_file(&path).map_err(open_error)?;
        Session::new(inner, Some(folder))
    }

    /// Session options: all of this process's cores within an operator, one operator at a time.
    fn builder(&self, cuda: Option<u32>) -> ort::Result<SessionBuilder> {
        let builder = ort::session::Session::builder(&self.environment)?
            .with_intra_threads(self.threads)?
            .with_inter_threads(1)?
            .with_deterministic_compute(true)?;
        let Some(id) = cuda else { return Ok(builder) };
        // TF32 has 10 bits of mantissa, too few for covariances; an exhaustive search for the
        // fastest convolution picks by time, so results would differ from run to run.
        let provider = ep::CUDA::default()
            .with_device_id(i32::try_from(id).unwrap_or(i32::MAX))
            .with_tf32(false)
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic);
        Ok(builder.with_execution_providers([provider.build().error_on_failure()])?)
    }

    /// Opens and runs a tiny model on the CUDA device; the error says what is missing.
    fn probe_cuda(&self, id: u32) -> Result<(), String> {
        if !ep::CUDA::is_available().unwrap_or(false) {
            return Err("this ONNX Runtime library is built without CUDA; run `onnx-mipp setup \
                        --cuda` and name its library with --onnxruntime"
                .into());
        }
        // ONNX Runtime logs the failures that are turned into an error or a note here.
        let quiet = std::env::var_os("ORT_LOG").is_none();
        if quiet {
            self.environment.set_log_level(LogLevel::Fatal);
        }
        let result = self.run_probe(id);
        if quiet {
            self.environment.set_log_level(LogLevel::Error);
        }
        result.map_err(|problem| cuda_advice(&self.library, &problem))
    }

    fn run_probe(&self, id: u32) -> Result<(), String> {
        let mut builder = self.builder(Some(id)).map_err(|e| e.to_string())?;
        let bytes = probe_model().encode_to_vec();
        let inner = builder
            .commit_from_memory(&bytes)
            .map_err(|e| e.to_string())?;
        let mut session = Session::new(inner, None).map_err(|e| e.to_string())?;
        let x = Tensor::from_f32(&[1], vec![1.0]).map_err(|e| e.to_string())?;
        session
            .run(&[("x".into(), x)], &["y".into()])
            .map(|_| ())
            .map_err(|e| e.to_string())
    }
}

/// Says in the user's terms why CUDA failed. The words matched are those of the system's loader
/// and of the CUDA driver.
fn cuda_advice(library: &Path, problem: &str) -> String {
    let provider = if cfg!(windows) {
        "onnxruntime_providers_cuda.dll"
    } else {
        "libonnxruntime_providers_cuda.so"
    };
    let beside = library.with_file_name(provider);
    let advice = if !beside.is_file() {
        format!(
            "{provider} is missing beside the library; run `onnx-mipp setup --cuda` and name its \
             library with --onnxruntime"
        )
    } else if problem.contains("cannot open shared object") || problem.contains("LoadLibrary") {
        "a library of CUDA or cuDNN is missing; install CUDA 13 and cuDNN 9 (for example `pip \
         install onnxruntime-gpu[cuda,cudnn]==1.31.1`) and put their folders in LD_LIBRARY_PATH \
         (PATH on Windows)"
            .into()
    } else {
        "check with `nvidia-smi` that a GPU of this id and a driver for CUDA 13 are there".into()
    };
    format!("{advice}, or use --device cpu. ONNX Runtime says: {problem}")
}

/// Loads the library once per process and makes the environment.
fn load(library: &Path) -> Result<Environment, RuntimeError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = library.canonicalize().unwrap_or_else(|_| library.into());
    if let Some((path, environment)) = loaded.as_ref() {
        if *path == key {
            return Ok(environment.clone());
        }
        return Err(RuntimeError::SecondLibrary {
            loaded: path.clone(),
            asked: key,
        });
    }
    let bad = |problem: String| RuntimeError::Load {
        path: library.into(),
        problem,
    };
    // ort asserts on what a foreign library returns; such a library must not end the process.
    let environment = std::panic::catch_unwind(|| {
        let builder = ort::init_from(library).map_err(|e| e.to_string())?;
        let builder = builder.with_name("onnx-mipp").with_telemetry(false);
        builder.build().map_err(|e| e.to_string())
    })
    .unwrap_or_else(|_| Err("it is not a working ONNX Runtime library".into()))
    .map_err(bad)?;
    *loaded = Some((key, environment.clone()));
    Ok(environment)
}

/// The version in the build information, "git-branch=rel-1.31.1, ...".
fn version() -> String {
    let info = ort::info();
    let branch = info.split("git-branch=").nth(1);
    let name = branch.and_then(|rest| rest.split(',').next());
    let numbers = name.map(|n| n.trim_start_matches(|c: char| !c.is_ascii_digit()));
    numbers
        .filter(|n| n.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or("unknown")
        .into()
}

/// y = x + x for one float: the least that makes a device compute.
fn probe_model() -> proto::ModelProto {
    let value = |name: &str| proto::ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(proto::TypeProto {
            value: Some(proto::type_proto::Value::TensorType(
                proto::type_proto::Tensor {
                    elem_type: Some(DataType::Float.code()),
                    shape: Some(proto::TensorShapeProto {
                        dim: vec![proto::tensor_shape_proto::Dimension {
                            value: Some(
                                proto::tensor_shape_proto::dimension::Value::DimValue(1),
                            ),
                            ..Default::default()
                        }],
                    }),
                },
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    proto::ModelProto {
        ir_version: Some(8),
        opset_import: vec![proto::OperatorSetIdProto {
            version: Some(17),
            ..Default::default()
        }],
        graph: Some(proto::GraphProto {
            name: Some("probe".into()),
            node: vec![proto::NodeProto {
                op_type: Some("Add".into()),
                input: vec!["x".into(), "x".into()],
                output: vec!["y".into()],
                ..Default::default()
            }],
            input: vec![value("x")],
            output: vec![value("y")],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn open_error(error: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::Open {
        problem: error.to_string(),
    }
}

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

/// An open model.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    inputs: Vec<InputSpec>,
    outputs: Vec<String>,
    /// The files of a large model, removed with the session.
    _folder: Option<tempfile::TempDir>,
}

impl Session {
    fn new(
        inner: ort::session::Session,
        folder: Option<tempfile::TempDir>,
    ) -> Result<Session, RuntimeError> {
        let inputs = inner.inputs().iter().map(input_spec);
        Ok(Session {
            inputs: inputs.collect::<Result<_, _>>()?,
            outputs: inner.outputs().iter().map(|o| o.name().into()).collect(),
            inner,
            _folder: folder,
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

    /// Runs the model on `inputs` (by name, any order) and returns the tensors of `outputs`, in the
    /// order asked for; only these are fetched.
    ///
    /// # Errors
    /// When an input is missing, unknown or of another type, an output is unknown or no tensor, or
    /// ONNX Runtime fails.
    pub fn run(
        &mut self,
        inputs: &[(String, Tensor)],
        outputs: &[String],
    ) -> Result<Vec<Tensor>, RuntimeError> {
        self.check(inputs, outputs)?;
        let fed = inputs
            .iter()
            .map(|(name, tensor)| Ok((name.as_str(), values::feed(name, tensor)?)))
            .collect::<Result<Vec<_>, RuntimeError>>()?;
        let mut selected = OutputSelector::no_default();
        for name in outputs {
            selected = selected.with(name);
        }
        let failed = |error: ort::Error| RuntimeError::Run {
            problem: error.to_string(),
        };
        let options = RunOptions::new().map_err(failed)?.with_outputs(selected);
        let found = self.inner.run_with_options(fed, &options).map_err(failed)?;
        found
            .iter()
            .map(|(name, value)| values::fetch(name, &value))
            .collect()
    }

    fn check(&self, inputs: &[(String, Tensor)], outputs: &[String]) -> Result<(), RuntimeError> {
        let value = |what, name: &str, expected: String, found: String| RuntimeError::Value {
            what,
            name: name.into(),
            expected,
            found,
        };
        for spec in &self.inputs {
            let Some((_, tensor)) = inputs.iter().find(|(name, _)| *name == spec.name) else {
                let fed: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
                let expected = "a tensor for it".into();
                return Err(value("input", &spec.name, expected, format!("only {fed:?}")));
            };
            let fits = tensor.dtype == spec.dtype
                && tensor.shape.len() == spec.shape.len()
                && tensor.shape.iter().zip(&spec.shape).all(|(n, s)| s.is_none_or(|s| s == *n));
            if !fits {
                let expected = format!("{} {}", spec.dtype, shape_text(&spec.shape));
                let found = format!("{} {:?}", tensor.dtype, tensor.shape);
                return Err(value("input", &spec.name, expected, found));
            }
        }
        if let Some((name, _)) = inputs
            .iter()
            .find(|(name, _)| self.inputs.iter().all(|spec| spec.name != *name))
        {
            let names: Vec<&str> = self.inputs.iter().map(|spec| spec.name.as_str()).collect();
            let expected = format!("one of the model's inputs {names:?}");
            return Err(value("input", name, expected, "another name".into()));
        }
        if let Some(name) = outputs.iter().find(|name| !self.outputs.contains(name)) {
            let expected = format!("one of the model's outputs {:?}", self.outputs);
            return Err(value("output", name, expected, "another name".into()));
        }
        Ok(())
    }
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
        shape: shape.iter().map(|size| usize::try_from(*size).ok()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runtime of the tests. They fail without a library: nothing would be tested.
    fn start(device: Device) -> Result<Runtime, RuntimeError> {
        Runtime::start(&RuntimeOptions {
            device,
            ..Default::default()
        })
    }

    fn cpu() -> Runtime {
        start(Device::Cpu).expect("the tests need ONNX Runtime: set ORT_DYLIB_PATH to its library")
    }

    fn model(dtype: DataType, op: &str, outputs: &[&str]) -> Model {
        let mut proto = probe_model();
        let graph = proto.graph.as_mut().unwrap();
        let value = |name: &str| {
            let mut value = graph.input[0].clone();
            value.name = Some(name.into());
            value
        };
        let mut infos: Vec<_> = ["x"].iter().chain(outputs).map(|name| value(name)).collect();
        for info in &mut infos {
            let Some(proto::type_proto::Value::TensorType(tensor)) =
                &mut info.r#type.as_mut().unwrap().value
            else {
                panic!("a tensor");
            };
            tensor.elem_type = Some(dtype.code());
            let shape = tensor.shape.as_mut().unwrap();
            shape.dim[0].value = Some(proto::tensor_shape_proto::dimension::Value::DimParam(
                "N".into(),
            ));
        }
        graph.input = vec![infos.remove(0)];
        graph.output = infos;
        graph.node = outputs
            .iter()
            .map(|name| proto::NodeProto {
                op_type: Some(op.into()),
                input: vec!["x".into()],
                output: vec![(*name).into()],
                ..Default::default()
            })
            .collect();
        Model { proto }
    }

    fn floats(values: &[f32]) -> Tensor {
        Tensor::from_f32(&[values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn a_subset_of_the_outputs_comes_in_the_order_asked_for() {
        let model = model(DataType::Float, "Neg", &["a", "b", "c"]);
        let mut session = cpu().session(&model).unwrap();
        assert_eq!(session.outputs(), ["a", "b", "c"]);
        let spec = InputSpec {
            name: "x".into(),
            dtype: DataType::Float,
            shape: vec![None],
        };
        assert_eq!(session.inputs(), [spec]);
        let x = floats(&[1.0, -2.5]);
        let found = session
            .run(&[("x".into(), x)], &["c".into(), "a".into()])
            .unwrap();
        assert_eq!(found, [floats(&[-1.0, 2.5]), floats(&[-1.0, 2.5])]);
    }

    #[test]
    fn every_element_type_goes_there_and_back() {
        let runtime = cpu();
        for code in [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16] {
            let dtype = DataType::from_code(code);
            let mut session = runtime.session(&model(dtype, "Identity", &["y"])).unwrap();
            let size = dtype.size().unwrap();
            let bytes: Vec<u8> = (0..3 * size).map(|i| u8::from(i % size == 0)).collect();
            let x = Tensor {
                dtype,
                shape: vec![3],
                bytes: bytes.into(),
            };
            let found = session.run(&[("x".into(), x.clone())], &["y".into()]);
            assert_eq!(found.unwrap(), [x], "{dtype}");
        }
    }

    #[test]
    fn a_model_opened_from_files_gives_the_same() {
        let runtime = cpu();
        let model = model(DataType::Float, "Neg", &["y"]);
        let mut session = runtime.open_from_files(&model).unwrap();
        let folder = session._folder.as_ref().unwrap().path().to_path_buf();
        let found = session.run(&[("x".into(), floats(&[3.0]))], &["y".into()]);
        assert_eq!(found.unwrap(), [floats(&[-3.0])]);
        drop(session);
        assert!(!folder.exists());
    }

    #[test]
    fn wrong_inputs_and_outputs_are_named() {
        let mut session = cpu().session(&model(DataType::Float, "Neg", &["y"])).unwrap();
        let mut error = |name: &str, tensor: Tensor, output: &str| {
            let result = session.run(&[(name.into(), tensor)], &[output.into()]);
            result.unwrap_err().to_string()
        };
        let text = error("z", floats(&[1.0]), "y");
        assert!(text.contains("input 'x'") && text.contains("\"z\""), "{text}");
        let text = error("x", floats(&[1.0]), "w");
        assert!(text.contains("output 'w'") && text.contains("\"y\""), "{text}");
        let integers = Tensor::from_i64(&[1], &[1]).unwrap();
        let text = error("x", integers, "y");
        assert!(text.contains("float [N]") && text.contains("int64 [1]"), "{text}");
    }

    #[test]
    fn a_model_that_onnx_runtime_refuses_is_an_error() {
        let model = model(DataType::Float, "NoSuchOperator", &["y"]);
        let error = cpu().session(&model).unwrap_err().to_string();
        assert!(error.contains("NoSuchOperator"), "{error}");
    }

    #[test]
    fn cuda_without_a_gpu_is_an_error_and_auto_falls_back() {
        let Err(error) = start(Device::Cuda(0)) else {
            return; // This machine has one.
        };
        let text = error.to_string();
        assert!(text.contains("--device cuda:0 cannot be used"), "{text}");
        let auto = start(Device::Auto).unwrap();
        assert_eq!(auto.device(), "CPU");
        assert!(auto.notes()[0].contains("runs on the CPU"));
    }

    #[test]
    fn another_library_in_one_process_is_an_error() {
        let runtime = cpu();
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join(runtime.library().file_name().unwrap());
        std::fs::copy(runtime.library(), &copy).unwrap();
        let options = RuntimeOptions {
            library: Some(copy),
            ..Default::default()
        };
        let error = Runtime::start(&options).unwrap_err();
        assert!(matches!(error, RuntimeError::SecondLibrary { .. }), "{error}");
    }

    #[test]
    fn device_names() {
        let names = ["auto", "cpu", "cuda", "cuda:2"];
        let devices = [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(2)];
        assert_eq!(names.map(|name| name.parse().unwrap()), devices);
        for bad in ["gpu", "cuda:", "cuda:-1", "cuda:4294967295"] {
            assert!(bad.parse::<Device>().is_err());
        }
    }
}
