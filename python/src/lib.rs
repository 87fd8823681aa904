//! The Python module `onnx_mipp._native`: thin, the package around it has the types.

mod options;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use onnx_mipp::{Event, Model, Observer, Stop};
use pyo3::prelude::*;

/// Python hears of signals this often.
const PAUSE: Duration = Duration::from_millis(50);

#[pymodule]
mod _native {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use onnx_mipp::report::{Sweep, SweepEntry};
    use onnx_mipp::{Pruned, report};
    use pyo3::exceptions::PyRuntimeError;
    use pyo3::prelude::*;
    use pyo3::pybacked::PyBackedBytes;
    use pyo3::types::PyBytes;

    use super::options::{Budgets, Options};
    use super::*;

    pyo3::create_exception!(onnx_mipp, Error, PyRuntimeError);

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("Error", module.py().get_type::<Error>())
    }

    /// A model as Python gives it.
    #[derive(FromPyObject)]
    enum Source {
        Bytes(PyBackedBytes),
        Path(PathBuf),
    }

    impl Source {
        /// An error with the name of the file, where there is one.
        fn named(&self, error: onnx_mipp::Error, options: &Options) -> onnx_mipp::Error {
            match self.path() {
                None => error,
                Some(path) => error.about(path, options.plan_file()),
            }
        }

        /// The file, where there is one.
        fn path(&self) -> Option<&Path> {
            match self {
                Source::Bytes(_) => None,
                Source::Path(path) => Some(path),
            }
        }

        /// What messages about two models call it.
        fn name(&self) -> &Path {
            self.path().unwrap_or(Path::new("a model in memory"))
        }

        /// The result with the name of the file.
        fn told(&self, mut pruned: Pruned) -> Pruned {
            pruned.report.input = self.path().map(|path| path.display().to_string());
            pruned
        }

        /// Bytes of the model's files.
        fn bytes(&self, model: &Model) -> Result<u64, onnx_mipp::Error> {
            let files = self
                .path()
                .map(|path| onnx_mipp::onnx::file_bytes(model, path));
            Ok(files.transpose()?.unwrap_or_else(|| model.byte_size()))
        }

        fn load(&self) -> Result<Model, onnx_mipp::Error> {
            Ok(match self {
                Source::Bytes(bytes) => Model::decode(bytes.to_vec())?,
                Source::Path(path) => Model::load(path)?,
            })
        }
    }

    /// The options are named as those of the command, and so they are in messages.
    pub(super) fn error(error: impl std::fmt::Display) -> PyErr {
        let text = error.to_string();
        let text = onnx_mipp::flags::with_flags(&text);
        Error::new_err(onnx_mipp::shown::message(&text).into_owned())
    }

    /// A pruned model.
    #[pyclass(frozen)]
    struct Outcome(Pruned);

    #[pymethods]
    impl Outcome {
        fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
            py.detach(|| self.0.save(&path)).map_err(error)
        }

        fn encode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
            let bytes = py.detach(|| self.0.model.encode()).map_err(error)?;
            Ok(PyBytes::new(py, &bytes))
        }

        fn plan(&self) -> PyResult<String> {
            report::json(&self.0.plan).map_err(error)
        }

        fn report(&self) -> PyResult<String> {
            report::json(&self.0.report).map_err(error)
        }

        fn html(&self) -> String {
            self.0.report.html()
        }

        fn text(&self) -> String {
            self.0.report.to_string()
        }
    }

    /// `options` are those of the package's function, by name.
    #[pyfunction]
    fn prune(
        py: Python<'_>,
        model: Source,
        options: Options,
        listener: Py<PyAny>,
    ) -> PyResult<Outcome> {
        let stop = Stop::default();
        let run = options.prune(&stop)?.trade_off(true);
        let job = |observer: &dyn Observer| {
            let pruned = model
                .load()
                .and_then(|model| run.run_with(&model, observer));
            pruned.map_err(|error| model.named(error, &options))
        };
        let mut pruned = model.told(watched(py, &stop, Some(listener), job)?);
        if let Some(plan) = options.plan_file() {
            pruned.report.asked = format!("--plan {}", plan.display());
        }
        Ok(Outcome(pruned))
    }

    /// A model at each of the budgets; then all of it as JSON, as a page and as text.
    #[pyfunction]
    fn sweep(
        py: Python<'_>,
        model: Source,
        budgets: Budgets,
        options: Options,
        listener: Py<PyAny>,
    ) -> PyResult<(Vec<Outcome>, String, String, String)> {
        let stop = Stop::default();
        let (run, budgets) = (options.prune(&stop)?.trade_off(true), budgets.all()?);
        let job = |observer: &dyn Observer| {
            let pruned = model
                .load()
                .and_then(|model| run.sweep_with(&model, &budgets, observer));
            pruned.map_err(|error| model.named(error, &options))
        };
        let all = watched(py, &stop, Some(listener), job)?;
        let all: Vec<Pruned> = all.into_iter().map(|pruned| model.told(pruned)).collect();
        let reports = all.iter().map(|pruned| pruned.report.clone());
        let entries = reports.map(|report| SweepEntry { path: None, report });
        let sweep = Sweep {
            entries: entries.collect(),
        };
        let json = report::json(&sweep).map_err(error)?;
        let outcomes = all.into_iter().map(Outcome).collect();
        Ok((outcomes, json, sweep.html(), sweep.to_string()))
    }

    /// What was found, as JSON and as text.
    #[pyfunction]
    fn compare(
        py: Python<'_>,
        original: Source,
        other: Source,
        options: Options,
        listener: Py<PyAny>,
    ) -> PyResult<(String, String)> {
        let stop = Stop::default();
        let run = options.prune(&stop)?;
        let job = |observer: &dyn Observer| {
            let compared = || {
                let (first, second) = (original.load()?, other.load()?);
                let mut found = run.compare_with(&first, &second, observer)?;
                found.original = original.path().map(Path::to_owned);
                found.other = other.path().map(Path::to_owned);
                found.bytes.before = original.bytes(&first)?;
                found.bytes.after = other.bytes(&second)?;
                Ok(found)
            };
            compared()
                .map_err(|error: onnx_mipp::Error| error.between(original.name(), other.name()))
        };
        let found = watched(py, &stop, Some(listener), job)?;
        Ok((report::json(&found).map_err(error)?, found.to_string()))
    }

    /// What was found, as JSON and as text.
    #[pyfunction]
    fn inspect(py: Python<'_>, model: Source, options: Options) -> PyResult<(String, String)> {
        let stop = Stop::default();
        let run = options.prune(&stop)?;
        let job = |_: &dyn Observer| {
            let found = model.load().and_then(|model| run.inspect(&model));
            found.map_err(|error| model.named(error, &options))
        };
        let found = watched(py, &stop, None, job)?;
        Ok((report::json(&found).map_err(error)?, found.to_string()))
    }

    /// Names of the inputs that a caller feeds.
    #[pyfunction]
    fn input_names(py: Python<'_>, model: Source) -> PyResult<Vec<String>> {
        let model = py.detach(|| model.load()).map_err(error)?;
        Ok(model.input_names())
    }

    /// The program.
    #[pyfunction]
    fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
        py.detach(|| onnx_mipp::cli::run(arguments))
    }
}

/// Does a job in a thread of its own without the interpreter's lock, passes on what it tells, and
/// stops it when Python gets a signal.
fn watched<T: Send>(
    py: Python<'_>,
    stop: &Stop,
    listener: Option<Py<PyAny>>,
    job: impl FnOnce(&dyn Observer) -> Result<T, onnx_mipp::Error> + Send,
) -> PyResult<T> {
    py.detach(|| {
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let worker = scope.spawn(move || {
                job(&move |event| {
                    // Nobody listens any more where Python failed.
                    let _ = sender.send(event);
                })
            });
            let mut failed = None;
            loop {
                let heard = match receiver.recv_timeout(PAUSE) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if failed.is_none()
                    && let Err(error) = Python::attach(|py| hear(py, heard, listener.as_ref()))
                {
                    failed = Some(error);
                    stop.stop();
                }
            }
            let done = worker.join();
            match (failed, done) {
                (Some(error), _) => Err(error),
                (None, Ok(done)) => done.map_err(_native::error),
                (None, Err(_)) => Err(_native::error("a fault of the program; please report it")),
            }
        })
    })
}

/// Passes on what is told to a `Progress` of the package; signals come through as errors.
fn hear(py: Python<'_>, event: Option<Event>, listener: Option<&Py<PyAny>>) -> PyResult<()> {
    py.check_signals()?;
    let (Some(event), Some(listener)) = (event, listener) else {
        return Ok(());
    };
    let none = None::<usize>;
    let done = match event {
        Event::Stage(stage) => listener.call_method1(py, "stage", (stage, none, none)),
        Event::Counting { stage, total, what } => {
            listener.call_method1(py, "stage", (stage, total, what))
        }
        Event::Advance(count) => listener.call_method1(py, "advance", (count,)),
        Event::Note(note) => {
            let text = note.to_string();
            let text = onnx_mipp::flags::with_flags(&text);
            listener.call_method1(py, "note", (onnx_mipp::shown::message(&text),))
        }
        _ => return Ok(()),
    };
    done.map(drop)
}
