//! Loading the library and choosing the device.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use prost::Message;

use super::device::{cuda_advice, probe_model};
use super::locate::library_version;
use super::{Device, RuntimeError, Session, Stop};
use crate::onnx::{self, Model, Tensor};
use crate::outputs::Workspace;

/// Models of this many bytes and more are opened from files: protobuf refuses 2 GB, and ONNX
/// Runtime reads tensors from files beside the model without that limit.
const MEMORY_LIMIT: u64 = (1 << 31) - (1 << 24);

/// Folding constants computes them: a node of a hundred bytes may ask for gigabytes. None that
/// decides a shape is larger. Older versions, which do not know of it, fold all.
const FOLDED_LIMIT: &str = "optimization.constant_folding_max_output_size_in_bytes";
const MOST_FOLDED: &str = "1048576";

/// How to start ONNX Runtime.
#[derive(Debug, Clone, Default)]
pub struct RuntimeOptions {
    /// The library or its folder (--onnxruntime); `None`: the usual places, see
    /// [`super::locate()`].
    pub library: Option<PathBuf>,
    /// Where models run.
    pub device: Device,
    /// Threads within an operator; `None`: one per core that this process may use.
    pub threads: Option<usize>,
    /// Ends the work early.
    pub stop: Stop,
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
    stop: Stop,
    notes: Vec<String>,
}

/// ONNX Runtime allows one library and one environment per process. It stays until the process
/// ends.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

impl Runtime {
    /// What may ask everything that runs here to stop.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Finds and loads the library and makes sure that the device works. Several runtimes may be
    /// started in one process when they use the same library.
    ///
    /// # Errors
    /// When no usable library is found, or a CUDA device is asked for and cannot be used.
    pub fn start(options: &RuntimeOptions) -> Result<Runtime, RuntimeError> {
        let library = super::locate(options.library.as_deref())?;
        let environment = load(&library)?;
        let mut runtime = Runtime {
            version: version(&library),
            environment,
            library,
            cuda: None,
            device: "CPU".into(),
            threads: options.threads.unwrap_or_else(|| {
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
            }),
            stop: options.stop.clone(),
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

    /// The library's version, such as "1.31.1"; "unknown" when its file name does not tell.
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
        self.open(model, self.builder().map_err(open_error)?)
    }

    /// Opens a model for runs beside which other work is done: its threads do not wait busily,
    /// which would take the cores from that work.
    ///
    /// # Errors
    /// As [`Runtime::session`].
    pub fn session_beside(&self, model: &Model) -> Result<Session, RuntimeError> {
        let builder = self.builder().map_err(open_error)?;
        let builder = builder.with_intra_op_spinning(false).map_err(open_error)?;
        self.open(model, builder)
    }

    /// Opens a model for a single run: as it is, without what would only pay off in later runs.
    ///
    /// # Errors
    /// As [`Runtime::session`].
    pub fn session_once(&self, model: &Model) -> Result<Session, RuntimeError> {
        let builder = self.builder().map_err(open_error)?;
        let builder = builder
            .with_optimization_level(GraphOptimizationLevel::Disable)
            .map_err(open_error)?
            .with_prepacking(false)
            .map_err(open_error)?;
        self.open(model, builder)
    }

    /// Opens a model that will not be run, for what ONNX Runtime infers: it folds constants, so
    /// that what is computed from shapes is known, and so are the shapes that follow from that.
    ///
    /// # Errors
    /// As [`Runtime::session`].
    pub fn session_unrun(&self, model: &Model) -> Result<Session, RuntimeError> {
        let builder = self.builder_on(None).map_err(open_error)?;
        let builder = builder
            .with_optimization_level(GraphOptimizationLevel::Level1)
            .map_err(open_error)?
            .with_config_entry(FOLDED_LIMIT, MOST_FOLDED)
            .map_err(open_error)?;
        self.open(model, builder)
    }

    pub(super) fn open(
        &self,
        model: &Model,
        builder: SessionBuilder,
    ) -> Result<Session, RuntimeError> {
        self.commit(model, builder).map_err(|error| match error {
            RuntimeError::Open { problem, .. } if is_old(model) => RuntimeError::Open {
                problem,
                advice: CONVERT,
            },
            error => error,
        })
    }

    fn commit(&self, model: &Model, mut builder: SessionBuilder) -> Result<Session, RuntimeError> {
        if model.byte_size() < MEMORY_LIMIT {
            let bytes = model.encode().map_err(open_error)?;
            let inner = builder.commit_from_memory(&bytes).map_err(open_error)?;
            return Session::new(inner, None, self.stop.clone());
        }
        open_from_files(model, builder, self.stop.clone())
    }

    #[cfg(test)]
    pub(super) fn open_from_files(&self, model: &Model) -> Result<Session, RuntimeError> {
        let builder = self.builder().map_err(open_error)?;
        open_from_files(model, builder, self.stop.clone())
    }

    /// Session options on the device in use.
    pub(super) fn builder(&self) -> ort::Result<SessionBuilder> {
        self.builder_on(self.cuda)
    }

    /// Session options: all of this process's cores within an operator, one operator at a time.
    fn builder_on(&self, cuda: Option<u32>) -> ort::Result<SessionBuilder> {
        let builder = ort::session::Session::builder(&self.environment)?
            .with_intra_threads(self.threads)?
            .with_inter_threads(1)?
            // Threads that wait busily between two runs take the cores from what comes between
            // them.
            .with_config_entry("session.force_spinning_stop", "1")?
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
            let advice = "`onnx-mipp setup --cuda` fetches one with it";
            return Err(format!(
                "the ONNX Runtime library is built without CUDA; {advice}"
            ));
        }
        self.run_probe(id)
            .map_err(|problem| cuda_advice(&self.library, &problem))
    }

    fn run_probe(&self, id: u32) -> Result<(), String> {
        let mut builder = self.builder_on(Some(id)).map_err(|e| e.to_string())?;
        let bytes = probe_model().encode_to_vec();
        let inner = builder
            .commit_from_memory(&bytes)
            .map_err(|e| e.to_string())?;
        let mut session =
            Session::new(inner, None, self.stop.clone()).map_err(|e| e.to_string())?;
        let x = Tensor::from_f32(&[1], vec![1.0]).map_err(|e| e.to_string())?;
        session
            .run(&[("x".into(), x)], &["y".into()])
            .map(|_| ())
            .map_err(|e| e.to_string())
    }
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
        let environment = builder.build().map_err(|e| e.to_string())?;
        // Whatever fails comes back as an error, which is said once, by us; the library's own log
        // also repeats names of the model as they are.
        if std::env::var_os("ORT_LOG").is_none() {
            environment.set_log_level(LogLevel::Fatal);
        }
        Ok(environment)
    })
    .unwrap_or_else(|_| Err("it is not a working ONNX Runtime library".into()))
    .map_err(bad)?;
    *loaded = Some((key, environment.clone()));
    Ok(environment)
}

/// The version in the library's file name, behind links. The library itself tells it only through
/// calls that are not safe.
fn version(library: &Path) -> String {
    let file = library.canonicalize().unwrap_or_else(|_| library.into());
    let name = file.file_name().and_then(|name| name.to_str());
    match name.and_then(library_version) {
        Some(numbers) if !numbers.is_empty() => {
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            numbers.join(".")
        }
        _ => "unknown".into(),
    }
}

pub(super) fn open_error(error: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::Open {
        problem: error.to_string(),
        advice: "check the model with `check-model` of the onnx package, or take a newer ONNX Runtime",
    }
}

/// The oldest opset that ONNX Runtime runs.
const OLDEST_OPSET: i64 = 7;
const CONVERT: &str = "its opset is older than 7, the oldest that ONNX Runtime runs: convert it first, in \
    Python with onnx.version_converter.convert_version(model, 17), which needs a fixed batch for some operators";

fn is_old(model: &Model) -> bool {
    model.opset("").is_some_and(|opset| opset < OLDEST_OPSET)
}

fn open_from_files(
    model: &Model,
    mut builder: SessionBuilder,
    stop: Stop,
) -> Result<Session, RuntimeError> {
    let folder = Workspace::new().map_err(|source| RuntimeError::Io {
        action: "create a temporary folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let path = folder.path().join("model.onnx");
    onnx::save(model, &path).map_err(open_error)?;
    let inner = builder.commit_from_file(&path).map_err(open_error)?;
    Session::new(inner, Some(folder), stop)
}
