//! Runs the program and Python for the tests, which fail when one of them cannot run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onnx_mipp::runtime::{Device, Runtime, RuntimeOptions};

pub const HELP: &str = "run the tests with `make test`, or set ORT_DYLIB_PATH to an ONNX Runtime \
    library and ONNX_MIPP_PYTHON to a Python with onnx and onnxruntime (requirements-test.txt)";

/// A finished run.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn of(output: Output) -> Run {
        Run {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails unless the run succeeded.
    #[track_caller]
    pub fn done(self) -> Run {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }

    /// Fails unless the run ended with `code` and each of `words` on stderr.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Run {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "no '{word}' in:\n{}", self.err);
        }
        self
    }
}

/// Runs the program. The terminal's width and a GPU of this machine do not matter.
pub fn mipp<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    let program = env!("CARGO_BIN_EXE_onnx-mipp");
    let mut command = Command::new(program);
    command.args(arguments).env_remove("COLUMNS");
    let run = Run::of(command.output().unwrap());
    let lacks_library = run.err.contains("no ONNX Runtime library found");
    assert!(!lacks_library, "{HELP}\n{}", run.err);
    run
}

/// Runs Python with what the tests compare with.
pub fn python<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    let python = std::env::var_os("ONNX_MIPP_PYTHON").map(PathBuf::from);
    let python = python.unwrap_or_else(|| root().join(".venv/bin/python"));
    let output = Command::new(&python).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {}: {e}: {HELP}", python.display()));
    let run = Run::of(output);
    let lacks_module = run.err.contains("ModuleNotFoundError");
    assert!(!lacks_module, "{}: {HELP}\n{}", python.display(), run.err);
    run
}

/// ONNX Runtime in this process.
pub fn runtime() -> Runtime {
    let options = RuntimeOptions {
        device: Device::Cpu,
        ..RuntimeOptions::default()
    };
    Runtime::start(&options).unwrap_or_else(|error| panic!("{HELP}: {error}"))
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

/// Names of the files in a folder, sorted.
pub fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
