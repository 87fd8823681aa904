//! The Python module `onnx_mipp._native`: thin, the package around it has the types.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use onnx_mipp::onnx::{self, Model, OnnxError};
use onnx_mipp::pipeline::{self, Event, Observer};
use onnx_mipp::runtime::Stop;
use pyo3::prelude::*;

/// Python hears of signals this often.
const PAUSE: Duration = Duration::from_millis(50);

#[pymodule]
mod _native {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use pyo3::exceptions::PyRuntimeError;
    use pyo3::prelude::*;
    use pyo3::pybacked::PyBackedBytes;
    use pyo3::types::PyBytes;

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
        fn named(&self, error: pipeline::Error) -> pipeline::Error {
            match self {
                Source::Bytes(_) => error,
                Source::Path(path) => error.about(path, None),
            }
        }

        fn load(&self) -> Result<Model, OnnxError> {
            match self {
                Source::Bytes(bytes) => onnx::decode(bytes.to_vec().into(), None),
                Source::Path(path) => onnx::load(path),
            }
        }
    }

    pub(super) fn error(error: impl std::fmt::Display) -> PyErr {
        let text = error.to_string();
        Error::new_err(onnx_mipp::shown::message(&text).into_owned())
    }

    /// A pruned model.
    #[pyclass(frozen)]
    struct Outcome(pipeline::Pruned);

    #[pymethods]
    impl Outcome {
        fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
            py.detach(|| onnx::save(&self.0.model, &path))
                .map_err(error)
        }

        fn encode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
            let bytes = py.detach(|| self.0.model.encode()).map_err(error)?;
            Ok(PyBytes::new(py, &bytes))
        }

        fn plan(&self) -> PyResult<String> {
            onnx_mipp::report::json(&self.0.plan).map_err(error)
        }

        fn report(&self) -> PyResult<String> {
            onnx_mipp::report::json(&self.0.report).map_err(error)
        }

        fn html(&self) -> String {
            self.0.report.html()
        }

        fn text(&self) -> String {
            self.0.report.to_string()
        }
    }

    /// `batches` are files of calibration data that the caller held in memory.
    #[pyfunction]
    fn prune(
        py: Python<'_>,
        model: Source,
        words: Vec<OsString>,
        batches: Vec<PathBuf>,
        tell: Py<PyAny>,
    ) -> PyResult<Outcome> {
        let (mut options, keep) = onnx_mipp::cli::prune_options(words).map_err(error)?;
        options.trade_off = true;
        if !batches.is_empty() {
            let given = std::mem::take(&mut options.opening.calibration);
            options.opening.calibration = given.with_files(batches).source("data in memory");
        }
        let stop = options.opening.runtime.stop.clone();
        let job = |observer: &dyn Observer| {
            let keep = keep.as_deref();
            let outcome = pipeline::prune_model(model.load()?, &options, keep, observer);
            outcome.map_err(|error| model.named(error))
        };
        let mut outcome = watched(py, &stop, Some(tell), job)?;
        if let Source::Path(path) = &model {
            outcome.report.input = Some(path.display().to_string());
        }
        Ok(Outcome(outcome))
    }

    #[pyfunction]
    fn inspect(py: Python<'_>, model: Source, words: Vec<OsString>) -> PyResult<String> {
        let opening = onnx_mipp::cli::inspect_options(words).map_err(error)?;
        let job = |observer: &dyn Observer| {
            let found = pipeline::inspect(model.load()?, &opening, observer);
            found.map_err(|error| model.named(error))
        };
        let found = watched(py, &opening.runtime.stop, None, job)?;
        onnx_mipp::report::json(&found).map_err(error)
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
    tell: Option<Py<PyAny>>,
    job: impl FnOnce(&dyn Observer) -> Result<T, pipeline::Error> + Send,
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
                    && let Err(error) = Python::attach(|py| hear(py, heard, tell.as_ref()))
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

/// Passes on stages and notes; signals come through as errors.
fn hear(py: Python<'_>, event: Option<Event>, tell: Option<&Py<PyAny>>) -> PyResult<()> {
    py.check_signals()?;
    let line = match event {
        Some(Event::Stage(stage)) => stage.to_owned(),
        Some(Event::Counting { stage, total, what }) => format!("{stage} ({total} {what})"),
        Some(Event::Note(note)) => onnx_mipp::shown::message(&note).into_owned(),
        _ => return Ok(()),
    };
    match tell {
        Some(tell) => tell.call1(py, (line,)).map(drop),
        None => Ok(()),
    }
}
