//! Where the time of a run goes: profiles of ONNX Runtime, OpenVINO and TensorRT.

mod onnxruntime;
mod openvino;
mod tensorrt;

use std::path::{Path, PathBuf};

use crate::regular;

pub use onnxruntime::parse as parse_onnxruntime;

/// Where time goes in one run of a model, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// Time of a whole run.
    pub run: f64,
    /// What ran, in the order of the run: after the runtime's fusions.
    pub kernels: Vec<Kernel>,
}

/// What a runtime runs for one node, or for several that it fused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kernel {
    /// The runtime's name for it; of a fused one the names of its nodes, with other text around
    /// them.
    pub name: String,
    /// Its type, such as `Conv` or `FusedConv`.
    pub op_type: String,
    /// Time in a run, in milliseconds.
    pub milliseconds: f64,
}

/// What stands before the index in the names of a profiled model's nodes, with a slash behind it,
/// so that it can be told where ONNX Runtime makes longer names of them.
const TAG: &str = "onnx-mipp/node/";

/// The name by which the kernels of the node at an index of the main graph are known again.
#[must_use]
pub fn tag(index: usize) -> String {
    format!("{TAG}{index}/")
}

impl Kernel {
    /// The index in its name, if the node was [tagged](tag).
    #[must_use]
    pub fn node(&self) -> Option<usize> {
        let (_, rest) = self.name.split_once(TAG)?;
        rest.split('/').next()?.parse().ok()
    }
}

/// Why a profile cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("{}: cannot read the profile: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// It holds something else.
    #[error(
        "{}: {problem}; give ONNX Runtime's profile, the detailed counters of OpenVINO's benchmark_app, or the profile that \
         TensorRT's trtexec exports", path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// None of its layers is one of the model's.
    #[error(
        "the profile names none of the model's nodes: of its {layers} layers the first is '{first}'; give a profile of \
         this very model"
    )]
    Strange {
        /// Its layers.
        layers: usize,
        /// The name of the first.
        first: String,
    },
}

impl Profile {
    /// Reads a file that a runtime wrote: ONNX Runtime's profiler, OpenVINO's `benchmark_app`
    /// (JSON or CSV), or TensorRT's `trtexec`.
    ///
    /// # Errors
    /// The file cannot be read, or holds no profile of these.
    pub fn load(path: impl AsRef<Path>) -> Result<Profile, ProfileError> {
        let path = path.as_ref();
        let text = regular::text(path).map_err(|error| ProfileError::Io {
            path: path.to_owned(),
            error,
        })?;
        Profile::parse(&text).map_err(|problem| ProfileError::Content {
            path: path.to_owned(),
            problem,
        })
    }

    /// Reads the text of such a file.
    fn parse(text: &str) -> Result<Profile, String> {
        let profile = if openvino::is_table(text) {
            openvino::table(text)?
        } else {
            let json = |error: serde_json::Error| error.to_string();
            match serde_json::from_str(text).map_err(json)? {
                serde_json::Value::Array(entries) if tensorrt::is_profile(&entries) => {
                    tensorrt::parse(entries)?
                }
                serde_json::Value::Array(events) => onnxruntime::read(events)?,
                value => openvino::parse(value)?,
            }
        };
        let is_time = |time: f64| time.is_finite() && time >= 0.0;
        let mut times = profile.kernels.iter().map(|kernel| kernel.milliseconds);
        if !times.all(is_time) || !is_time(profile.run) {
            return Err("it has times that are not from 0 on".to_owned());
        }
        if profile.run <= 0.0 {
            return Err("all of its times are 0".to_owned());
        }
        Ok(profile)
    }

    /// A profile of kernels of which only the sum of their times is known.
    fn of(kernels: Vec<Kernel>) -> Profile {
        let run = kernels.iter().map(|kernel| kernel.milliseconds).sum();
        Profile { run, kernels }
    }
}
