//! What can go wrong between this program and ONNX Runtime.

use std::path::PathBuf;

/// An error of finding, fetching, loading or running ONNX Runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A [`super::Stop`] was used.
    #[error("stopped before it was done, as was asked for; nothing was written")]
    Stopped,
    /// No library in any of the usual places.
    #[error(
        "no ONNX Runtime library found; run `onnx-mipp setup` to fetch it, or name it with \
         `library` PATH or ORT_DYLIB_PATH. Looked in:\n{looked}"
    )]
    NotFound {
        /// The places, one a line.
        looked: String,
    },
    /// A path given by the user that holds no usable library.
    #[error("{origin} names {}, but {problem}; expected {expected}", path.display())]
    BadPath {
        /// The option or variable that gave the path.
        origin: &'static str,
        /// The path as given.
        path: PathBuf,
        /// What was found there.
        problem: String,
        /// What should be there.
        expected: String,
    },
    /// A library that was found but cannot be used.
    #[error(
        "cannot use the ONNX Runtime library {}: {problem}; run `onnx-mipp setup` and name its \
         library with `library`, or name another one", path.display()
    )]
    Load {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        problem: String,
    },
    /// A second library in one process.
    #[error(
        "this process already uses the ONNX Runtime library {}, so {} cannot be loaded too; use one \
         library per process", loaded.display(), asked.display()
    )]
    SecondLibrary {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        asked: PathBuf,
    },
    /// A device name that is none.
    #[error("unknown device '{found}'; expected auto, cpu, cuda or cuda:ID (such as cuda:0)")]
    UnknownDevice {
        /// The text given.
        found: String,
    },
    /// The CUDA device was asked for and cannot be used.
    #[error("`device` cuda:{id} cannot be used with {}: {problem}", library.display())]
    Cuda {
        /// The CUDA device id.
        id: u32,
        /// The ONNX Runtime library in use.
        library: PathBuf,
        /// What is missing and what to do.
        problem: String,
    },
    /// ONNX Runtime refused the model.
    #[error("ONNX Runtime cannot open the model: {problem}; {advice}")]
    Open {
        /// ONNX Runtime's words.
        problem: String,
        /// What to do.
        advice: &'static str,
    },
    /// A run of the model failed.
    #[error("ONNX Runtime failed to run the model: {problem}{advice}")]
    Run {
        /// ONNX Runtime's words, or what did not fit.
        problem: String,
        /// What to do, after a semicolon; nothing where nobody knows.
        advice: &'static str,
    },
    /// A profile that cannot be used.
    #[error(
        "ONNX Runtime's profile cannot be read: {problem}; use the ONNX Runtime that `onnx-mipp \
         setup` fetches, or another budget than `latency`"
    )]
    Profile {
        /// What is wrong with it.
        problem: String,
    },
    /// An input or output that cannot be fed or fetched.
    #[error("{what} '{name}': expected {expected}, found {found}")]
    Value {
        /// "input" or "output".
        what: &'static str,
        /// Its name.
        name: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Fetching the library failed.
    #[error("setup could not {step}: {problem}; {advice}")]
    Setup {
        /// The step that failed.
        step: String,
        /// Why.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// A file or folder of ours that cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}
